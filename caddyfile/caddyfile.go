// Package caddyfile reads the blocks of a Caddyfile by a table of options.
//
// Every module of Fairway that has a Caddyfile block declares one row per
// option: its name, its arguments, its default, one line of help and the place
// its value goes to. The table alone decides what is refused: an unknown
// option (the nearest known one is named), a repeated one, missing or
// superfluous arguments, a value of the wrong kind, a block where none belongs.
// Each error names file and line and says what to write instead. The same
// table yields the documentation (see [Options.Markdown]).
//
// The package is a leaf: it imports Caddy and nothing of Fairway, and only the
// config files of the other packages import it.
package caddyfile

import (
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// Dispenser is Caddy's token dispenser, so that a config file needs to import
// only one package called caddyfile.
type Dispenser = caddyfile.Dispenser

// Unmarshaler is what a guest module implements to be set up by a Caddyfile.
type Unmarshaler = caddyfile.Unmarshaler

// Option is one row of a block's table.
type Option struct {
	// Name is the word the option's line begins with.
	Name string

	// Args describes the arguments, and is the rule how many are taken:
	// "<name> <address>" takes two, "<name> [<weight>]" one or two,
	// "<glob>..." one or more, "[<glob>...]" any number, "" none. Words
	// without brackets are counted as required arguments.
	Args string

	// Default is what holds when the option is not written, for the
	// documentation only.
	Default string

	// Help says in one line what the option does, with its unit.
	Help string

	// Repeat allows the option more than once in a block.
	Repeat bool

	// Block returns the table of the option's own block, of an object made for
	// the occasion: it serves the documentation. Nil when the option takes no
	// block; a block is an error then.
	Block func() Options

	// Guest is the namespace of the modules that the first argument names; the
	// module reads the rest of the line and its block itself.
	Guest string

	// Parse stores the value. The dispenser stands at the last argument, or at
	// the option's name when there is none, so that d.Errf names the line; args
	// has as many elements as Args allows. When Block is set, Parse must read
	// the block ([Options.ParseBlock]).
	Parse func(d *Dispenser, args []string) error
}

// Options is the table of a block, in the order of the documentation.
type Options []Option

// ParseDirective reads a directive and its block: the dispenser stands in
// front of the directive's name. It is what UnmarshalCaddyfile of a module
// without arguments calls; superfluous arguments are an error.
func (o Options) ParseDirective(d *Dispenser) error {
	if !d.Next() {
		return d.EOFErr()
	}
	name := d.Val()
	if d.NextArg() {
		return d.Errf("%s takes no argument: remove %q", name, d.Val())
	}
	return o.ParseBlock(d, name)
}

// ParseBlock reads the block that may follow on the current line. The
// dispenser stands at the last token in front of the opening brace. No block,
// and an empty one, change nothing. What names the thing configured, for the
// messages: "cluster main".
func (o Options) ParseBlock(d *Dispenser, what string) error {
	return o.parseBlock(d, what, make(map[string]int))
}

// parseBlock is ParseBlock with the lines on which options were seen already.
func (o Options) parseBlock(d *Dispenser, what string, seen map[string]int) error {
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		option := o.Find(name)
		if option == nil {
			return o.unknown(d, what, name)
		}
		if line, ok := seen[name]; ok && !option.Repeat {
			return d.Errf("option %q is given twice in %s, first on line %d: remove one of them", name, what, line)
		}
		seen[name] = d.Line()
		if err := option.parse(d); err != nil {
			return err
		}
	}
	return nil
}

// Find returns the row of that name, nil when there is none.
func (o Options) Find(name string) *Option {
	for i := range o {
		if o[i].Name == name {
			return &o[i]
		}
	}
	return nil
}

func (o Options) names() []string {
	names := make([]string, len(o))
	for i := range o {
		names[i] = o[i].Name
	}
	return names
}

func (o Options) unknown(d *Dispenser, what, name string) error {
	if len(o) == 0 {
		return d.Errf("unknown option %q in %s: there are none, remove the block", name, what)
	}
	return d.Errf("unknown option %q in %s%s", name, what, suggest(name, o.names()))
}

// Usage is the option as one writes it: name and arguments.
func (o *Option) Usage() string {
	return strings.TrimSpace(o.Name + " " + o.Args)
}

// parse reads one option; the dispenser stands at its name.
func (o *Option) parse(d *Dispenser) error {
	args := d.RemainingArgs()
	low, high := arity(o.Args)
	switch {
	case high == 0 && len(args) > 0:
		return d.Errf("option %q takes no argument: remove %q", o.Name, args[0])
	case len(args) < low && len(args) == 0:
		return d.Errf("option %q needs an argument: write %q", o.Name, o.Usage())
	case len(args) < low:
		return d.Errf("option %q has too few arguments (%d of %d): write %q", o.Name, len(args), low, o.Usage())
	case high >= 0 && len(args) > high:
		return d.Errf("option %q has too many arguments, %q is superfluous: write %q", o.Name, args[high], o.Usage())
	}
	if err := o.Parse(d, args); err != nil {
		return err
	}
	if o.Block == nil && o.Guest == "" && d.NextBlock(d.Nesting()) {
		return d.Errf("option %q takes no block: write %q", o.Name, o.Usage())
	}
	return nil
}

// arity reads from the description how many arguments an option takes; high is
// -1 when there is no limit.
func arity(args string) (low, high int) {
	for arg := range strings.FieldsSeq(args) {
		if !strings.HasPrefix(arg, "[") {
			low++
		}
		if high >= 0 {
			high++
		}
		if strings.HasSuffix(strings.TrimSuffix(arg, "]"), "...") {
			high = -1
		}
	}
	return low, high
}
