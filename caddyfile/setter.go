package caddyfile

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// Integer is the kind of field that [Int] and [Size] set.
type Integer interface {
	~int | ~int32 | ~int64
}

// String is an option with one word as its value.
func String[T ~string](name string, dst *T, args, def, help string) Option {
	return Option{
		Name: name, Args: args, Default: def, Help: help,
		Parse: func(_ *Dispenser, a []string) error {
			*dst = T(a[0])
			return nil
		},
	}
}

// Strings is an option with one or more words as its value; further lines add
// theirs to the list.
func Strings(name string, dst *[]string, args, def, help string) Option {
	return Option{
		Name: name, Args: args, Default: def, Help: help, Repeat: true,
		Parse: func(_ *Dispenser, a []string) error {
			*dst = append(*dst, a...)
			return nil
		},
	}
}

// Enum is an option whose value is one of the words given.
func Enum[T ~string](name string, dst *T, values []string, def, help string) Option {
	return Option{
		Name: name, Args: strings.Join(values, "|"), Default: def, Help: help,
		Parse: func(d *Dispenser, a []string) error {
			for _, v := range values {
				if a[0] == v {
					*dst = T(v)
					return nil
				}
			}
			return d.Errf("option %q: unknown value %q%s", name, a[0], suggest(a[0], values))
		},
	}
}

// Int is an option whose value is a whole number, no smaller than least.
func Int[T Integer](name string, dst *T, least T, args, def, help string) Option {
	return Option{
		Name: name, Args: args, Default: def, Help: help,
		Parse: func(d *Dispenser, a []string) error {
			n, err := parseInt(d, name, a[0], int64(least))
			if err == nil && int64(T(n)) != n {
				err = d.Errf("option %q: %s is too large", name, a[0])
			}
			if err == nil {
				*dst = T(n)
			}
			return err
		},
	}
}

// Float is an option whose value is a number of 0 or more.
func Float[T ~float64](name string, dst *T, args, def, help string) Option {
	return Option{
		Name: name, Args: args, Default: def, Help: help,
		Parse: func(d *Dispenser, a []string) error {
			f, err := parseFloat(d, name, a[0])
			if err == nil {
				*dst = T(f)
			}
			return err
		},
	}
}

// Duration is an option whose value is a time of 0 or more: a number with a
// unit (ms, s, m, h, d). The field is a caddy.Duration or a time.Duration.
func Duration[T ~int64](name string, dst *T, def, help string) Option {
	return Option{
		Name: name, Args: "<duration>", Default: def, Help: help,
		Parse: func(d *Dispenser, a []string) error {
			v, err := parseDuration(d, name, a[0])
			if err == nil {
				*dst = T(v)
			}
			return err
		},
	}
}

// PositiveDuration is a Duration that cannot be 0.
func PositiveDuration[T ~int64](name string, dst *T, def, help string) Option {
	o := Duration(name, dst, def, help)
	parse := o.Parse
	o.Parse = func(d *Dispenser, args []string) error {
		err := parse(d, args)
		if err == nil && *dst == 0 {
			err = d.Errf("option %q: 0 is not possible: write a duration such as %s", name, def)
		}
		return err
	}
	return o
}

// Size is an option whose value is a number of bytes, see [ParseSize].
func Size[T Integer](name string, dst *T, def, help string) Option {
	return Option{
		Name: name, Args: "<size>", Default: def, Help: help,
		Parse: func(d *Dispenser, a []string) error {
			n, err := parseSize(d, name, a[0])
			if err == nil && int64(T(n)) != n {
				err = d.Errf("option %q: %s is too large", name, a[0])
			}
			if err == nil {
				*dst = T(n)
			}
			return err
		},
	}
}

// Bool is an option that is on when it is written alone or with "on", and off
// with "off".
func Bool[T ~bool](name string, dst *T, def, help string) Option {
	return Option{
		Name: name, Args: "[on|off]", Default: def, Help: help,
		Parse: func(d *Dispenser, a []string) error {
			v, err := parseBool(d, name, a)
			if err == nil {
				*dst = T(v)
			}
			return err
		},
	}
}

// Switch is [Bool] for a field that tells "not written" (nil) from "off": for
// what is on by default.
func Switch(name string, dst **bool, def, help string) Option {
	return Option{
		Name: name, Args: "[on|off]", Default: def, Help: help,
		Parse: func(d *Dispenser, a []string) error {
			v, err := parseBool(d, name, a)
			if err == nil {
				*dst = &v
			}
			return err
		},
	}
}

// Nested is an option without arguments and with a block of its own. The table
// is called at most once while parsing, so that it may make the object it
// fills (a pointer field that stays nil when the option is not written), and
// on an object of its own for the documentation.
func Nested(name string, table func() Options, help string) Option {
	return Option{
		Name: name, Help: help, Block: table,
		Parse: func(d *Dispenser, _ []string) error {
			return table().ParseBlock(d, name)
		},
	}
}

// Guest is an option that names a module of the namespace: name, its own
// arguments, its own block. The field gets the module's JSON with the module's
// name under the key given.
func Guest(name string, dst *json.RawMessage, namespace, key, def, help string) Option {
	return Option{
		Name: name, Args: "<name> [<argument>...]", Default: def, Help: help, Guest: namespace,
		Parse: func(d *Dispenser, a []string) error {
			raw, err := ParseGuest(d, a, namespace, key)
			if err == nil {
				*dst = raw
			}
			return err
		},
	}
}

// Guests is [Guest] for a list: the option may be repeated.
func Guests(name string, dst *[]json.RawMessage, namespace, key, def, help string) Option {
	o := Guest(name, nil, namespace, key, def, help)
	o.Repeat = true
	o.Parse = func(d *Dispenser, a []string) error {
		raw, err := ParseGuest(d, a, namespace, key)
		if err == nil {
			*dst = append(*dst, raw)
		}
		return err
	}
	return o
}

// ParseGuest sets up the guest module that args[0] names and returns its JSON,
// with the name under the key. The dispenser stands at the last of args.
func ParseGuest(d *Dispenser, args []string, namespace, key string) (json.RawMessage, error) {
	for range len(args) - 1 {
		d.Prev()
	}
	var known []string
	for _, m := range caddy.GetModules(namespace) {
		known = append(known, m.ID.Name())
	}
	id := namespace + "." + args[0]
	if _, err := caddy.GetModule(id); err != nil {
		if len(known) == 0 {
			return nil, d.Errf("unknown module %q: this build has none of %s.*", args[0], namespace)
		}
		return nil, d.Errf("unknown module %q of %s%s", args[0], namespace, suggest(args[0], known))
	}
	guest, err := caddyfile.UnmarshalModule(d, id)
	if err != nil {
		return nil, fmt.Errorf("set up %s: %w", id, err)
	}
	return moduleJSON(guest, key, args[0])
}

// moduleJSON is the object's JSON with one more key in front: the module's name.
func moduleJSON(module any, key, name string) (json.RawMessage, error) {
	body, err := json.Marshal(module)
	if err != nil {
		return nil, fmt.Errorf("encode module %s: %w", name, err)
	}
	head, err := json.Marshal(map[string]string{key: name})
	if err != nil {
		return nil, fmt.Errorf("encode module %s: %w", name, err)
	}
	if len(body) <= len("{}") {
		return head, nil
	}
	return append(append(head[:len(head)-1], ','), body[1:]...), nil
}
