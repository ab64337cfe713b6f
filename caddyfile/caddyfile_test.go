package caddyfile_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddyserver/caddy/v2"
	hostfile "github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/fairwaydb/fairway/caddyfile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type inner struct {
	Size int `json:"size,omitempty"`
}

func (i *inner) options() caddyfile.Options {
	return caddyfile.Options{caddyfile.Int("size", &i.Size, 1, "<connections>", "20", "connections per user")}
}

type outer struct {
	Name     string            `json:"name,omitempty"`
	Globs    []string          `json:"globs,omitempty"`
	Mode     string            `json:"mode,omitempty"`
	Weight   float64           `json:"weight,omitempty"`
	Interval caddy.Duration    `json:"interval,omitempty"`
	Lag      int64             `json:"lag,omitempty"`
	Little   int32             `json:"little,omitempty"`
	Strict   bool              `json:"strict,omitempty"`
	Fallback *bool             `json:"fallback,omitempty"`
	Pool     *inner            `json:"pool,omitempty"`
	Policy   json.RawMessage   `json:"policy,omitempty"`
	Sources  []json.RawMessage `json:"sources,omitempty"`
}

func (o *outer) options() caddyfile.Options {
	return caddyfile.Options{
		caddyfile.String("name", &o.Name, "<name>", "", "what it is called"),
		caddyfile.Strings("globs", &o.Globs, "<glob>...", "", "names of functions"),
		caddyfile.Enum("mode", &o.Mode, []string{"session", "transaction"}, "transaction", "when a connection is lent"),
		caddyfile.Float("weight", &o.Weight, "<number>", "1", "share of the traffic"),
		caddyfile.Duration("interval", &o.Interval, "1s", "time between two probes"),
		caddyfile.Size("lag", &o.Lag, "16MiB", "the most a replica may lag"),
		caddyfile.Size("little", &o.Little, "", "a small number"),
		caddyfile.Bool("strict", &o.Strict, "off", "refuse what is in doubt"),
		caddyfile.Switch("fallback", &o.Fallback, "on", "reads may go to the primary"),
		caddyfile.Nested("pool", func() caddyfile.Options {
			o.Pool = new(inner)
			return o.Pool.options()
		}, "server connections"),
		caddyfile.Guest("policy", &o.Policy, "caddyfiletest.policies", "policy", "good", "chooses"),
		caddyfile.Guests("source", &o.Sources, "caddyfiletest.policies", "source", "", "finds"),
	}
}

type guest struct {
	Arg  string `json:"arg,omitempty"`
	Size int    `json:"size,omitempty"`
}

func (guest) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddyfiletest.policies.good", New: func() caddy.Module { return new(guest) }}
}

func (g *guest) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		g.Arg = d.Val()
	}
	return g.Options().ParseBlock(d, "policy good")
}

func (g *guest) Options() caddyfile.Options {
	return caddyfile.Options{caddyfile.Int("size", &g.Size, 1, "<n>", "", "size")}
}

func init() { caddy.RegisterModule(guest{}) }

func parse(input string) (*outer, error) {
	o := new(outer)
	return o, o.options().ParseDirective(hostfile.NewTestDispenser(input))
}

func TestParseBlock(t *testing.T) {
	for _, test := range []struct {
		name, input, want string
	}{
		{"no block is the default", "thing", `{}`},
		{"an empty block is the default", "thing {\n}", `{}`},
		{"a word", "thing {\n name a\n}", `{"name":"a"}`},
		{"a list over two lines", "thing {\n globs a b\n globs c\n}", `{"globs":["a","b","c"]}`},
		{"one of a set", "thing {\n mode session\n}", `{"mode":"session"}`},
		{"a number with a fraction", "thing {\n weight 0.5\n}", `{"weight":0.5}`},
		{"a duration in days", "thing {\n interval 1d\n}", `{"interval":86400000000000}`},
		{"a size of 1024", "thing {\n lag 16MiB\n}", `{"lag":16777216}`},
		{"a size of 1000", "thing {\n lag 16MB\n}", `{"lag":16000000}`},
		{"a size without a unit", "thing {\n lag 77\n}", `{"lag":77}`},
		{"a flag alone is on", "thing {\n strict\n}", `{"strict":true}`},
		{"a flag can be switched off", "thing {\n strict off\n fallback off\n}", `{"fallback":false}`},
		{"a switch can be written on", "thing {\n fallback on\n}", `{"fallback":true}`},
		{"a nested block and what follows it", "thing {\n pool {\n  size 3\n }\n name b\n}", `{"name":"b","pool":{"size":3}}`},
		{"a nested option without its block", "thing {\n pool\n name b\n}", `{"name":"b","pool":{}}`},
		{"a guest alone", "thing {\n policy good\n name x\n}", `{"name":"x","policy":{"policy":"good"}}`},
		{"a guest with argument and block", "thing {\n policy good arg {\n  size 2\n }\n name x\n}", `{"name":"x","policy":{"policy":"good","arg":"arg","size":2}}`},
		{"two guests of a list", "thing {\n source good\n source good b\n}", `{"sources":[{"source":"good"},{"source":"good","arg":"b"}]}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			o, err := parse(test.input)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := json.Marshal(o); err != nil || string(got) != test.want {
				t.Errorf("got  %s %v\nwant %s", got, err, test.want)
			}
		})
	}
}

func TestParseBlockErrors(t *testing.T) {
	for _, test := range []struct {
		name, input, want string
	}{
		{"an argument of the directive", "thing x", `thing takes no argument: remove "x", at Testfile:1`},
		{"an unknown option near a known one", "thing {\n nmae a\n}", `unknown option "nmae" in thing; did you mean "name"?, at Testfile:2`},
		{"an unknown option near none", "thing {\n\n zzzzzz a\n}", `unknown option "zzzzzz" in thing; known are: name, globs, mode, weight, interval, lag, little, strict, fallback, pool, policy, source, at Testfile:3`},
		{"a repeated option", "thing {\n name a\n name b\n}", `option "name" is given twice in thing, first on line 2: remove one of them, at Testfile:3`},
		{"no argument", "thing {\n name\n}", `option "name" needs an argument: write "name <name>", at Testfile:2`},
		{"an argument too many", "thing {\n name a b\n}", `option "name" has too many arguments, "b" is superfluous: write "name <name>", at Testfile:2`},
		{"an argument where none belongs", "thing {\n pool a {\n }\n}", `option "pool" takes no argument: remove "a", at Testfile:2`},
		{"a block where none belongs", "thing {\n name a {\n  b c\n }\n}", `option "name" takes no block: write "name <name>", at Testfile:3`},
		{"an unknown value", "thing {\n mode transactoin\n}", `option "mode": unknown value "transactoin"; did you mean "transaction"?, at Testfile:2`},
		{"a bad number", "thing {\n pool {\n  size many\n }\n}", `option "size": "many" is no whole number: write one such as 10, at Testfile:3`},
		{"a number too small", "thing {\n pool {\n  size 0\n }\n}", `option "size": 0 is too small: the least is 1, at Testfile:3`},
		{"a bad fraction", "thing {\n weight much\n}", `option "weight": "much" is no number: write one such as 0.5, at Testfile:2`},
		{"a negative fraction", "thing {\n weight -1\n}", `option "weight": -1 is negative: the least is 0, at Testfile:2`},
		{"a duration without unit", "thing {\n interval 5\n}", `option "interval": "5" has no unit: write "5s" for seconds, "5ms" for milliseconds, at Testfile:2`},
		{"a bad duration", "thing {\n interval soon\n}", `option "interval": "soon" is no duration: write one such as 500ms, 30s, 5m or 1h, at Testfile:2`},
		{"a negative duration", "thing {\n interval -5s\n}", `option "interval": -5s is negative: the least is 0s, at Testfile:2`},
		{"a bad size", "thing {\n lag huge\n}", `option "lag": "huge" is no size: write a number of bytes or one such as 64KiB, 16MiB or 1GiB, at Testfile:2`},
		{"a size out of range", "thing {\n lag 99999999TiB\n}", `option "lag": size "99999999TiB" is out of range: write a number of bytes or one such as 64KiB, 16MiB or 1GiB, at Testfile:2`},
		{"a size too large for its field", "thing {\n little 4GiB\n}", `option "little": 4GiB is too large, at Testfile:2`},
		{"a bad flag", "thing {\n strict maybe\n}", `option "strict": "maybe" is neither on nor off: write "strict on" or "strict off", at Testfile:2`},
		{"an unknown guest", "thing {\n policy god\n}", `unknown module "god" of caddyfiletest.policies; did you mean "good"?, at Testfile:2`},
		{"an error inside a guest", "thing {\n policy good {\n  sise 1\n }\n}", `set up caddyfiletest.policies.good: unknown option "sise" in policy good; did you mean "size"?, at Testfile:3`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := parse(test.input); err == nil || err.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

func TestArityOfOptionalAndRepeatedArguments(t *testing.T) {
	var got []string
	rows := caddyfile.Options{{
		Name: "backend", Args: "<name> <address> [<weight>]", Help: "a server", Repeat: true,
		Block: func() caddyfile.Options { return nil },
		Parse: func(d *caddyfile.Dispenser, args []string) error {
			got = append(got, strings.Join(args, " "))
			return caddyfile.Options(nil).ParseBlock(d, "backend")
		},
	}, {
		Name: "any", Args: "[<word>...]", Repeat: true,
		Parse: func(_ *caddyfile.Dispenser, args []string) error {
			got = append(got, strings.Join(args, "+"))
			return nil
		},
	}}
	err := rows.ParseDirective(hostfile.NewTestDispenser("c {\n backend a b\n backend a b 3 {\n }\n any\n any 1 2 3\n}"))
	if want := []string{"a b", "a b 3", "", "1+2+3"}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	err = rows.ParseDirective(hostfile.NewTestDispenser("c {\n backend a\n}"))
	if want := `option "backend" has too few arguments (1 of 2): write "backend <name> <address> [<weight>]", at Testfile:2`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	err = rows.ParseDirective(hostfile.NewTestDispenser("c {\n backend a b {\n  x\n }\n}"))
	if want := `unknown option "x" in backend: there are none, remove the block, at Testfile:3`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestSizesAreReadAsTheyAreWritten(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "1": 1, "1B": 1, "64KiB": 65536, "16MiB": 1 << 24, "1.5GiB": 3 << 29, "2kB": 2000, "1 GiB": 1 << 30, "2TiB": 2 << 40} {
		if got, err := caddyfile.ParseSize(text); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v, want %d", text, got, err, want)
		}
		if back, err := caddyfile.ParseSize(caddyfile.FormatSize(want)); err != nil || back != want {
			t.Errorf("ParseSize(FormatSize(%d)) = %d, %v", want, back, err)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "NaN", "1e400GiB", "16mib"} {
		if got, err := caddyfile.ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d without an error", text, got)
		}
	}
}

func TestDurationsGoToFieldsOfBothKinds(t *testing.T) {
	var v time.Duration
	rows := caddyfile.Options{caddyfile.Duration("wait", &v, "", "")}
	if err := rows.ParseDirective(hostfile.NewTestDispenser("c {\n wait 90s\n}")); err != nil || v != 90*time.Second {
		t.Errorf("got %v, %v", v, err)
	}
}

func TestMarkdown(t *testing.T) {
	rows := new(outer).options()
	got := append(append(caddyfile.Options(nil), *rows.Find("mode")), *rows.Find("pool"), *rows.Find("source")).Markdown("a")
	want := "## `a`\n\n| Option | Default | Meaning |\n|---|---|---|\n" +
		"| `mode session\\|transaction` | `transaction` | when a connection is lent |\n" +
		"| `pool { … }` |  | server connections |\n" +
		"| `source <name> [<argument>...]` |  | finds (may be repeated) (a module of `caddyfiletest.policies.*`) |\n" +
		"\n## `a › pool`\n\n| Option | Default | Meaning |\n|---|---|---|\n| `size <connections>` | `20` | connections per user |\n" +
		"\n## `a › source good`\n\n| Option | Default | Meaning |\n|---|---|---|\n| `size <n>` |  | size |\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
