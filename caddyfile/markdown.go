package caddyfile

import (
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// Tabled is a guest module whose Caddyfile block is read by a table.
type Tabled interface {
	Options() Options
}

// Markdown writes the table as documentation: a heading with the path (the
// block's place in the Caddyfile, such as "postgres › cluster"), one row per
// option, then the tables of the nested blocks and of the guest modules that are
// [Tabled].
func (o Options) Markdown(path string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "## `%s`\n\n", path)
	if len(o) == 0 {
		b.WriteString("No options.\n")
		return b.String()
	}
	b.WriteString("| Option | Default | Meaning |\n|---|---|---|\n")
	for i := range o {
		b.WriteString(o[i].markdown())
	}
	for _, row := range o {
		if row.Block != nil {
			b.WriteString("\n" + row.Block().Markdown(path+" › "+row.Name))
		}
		for _, m := range guests(row.Guest) {
			if t, ok := m.New().(Tabled); ok {
				b.WriteString("\n" + t.Options().Markdown(path+" › "+row.Name+" "+m.ID.Name()))
			}
		}
	}
	return b.String()
}

// guests returns the modules of a namespace by name, none of the empty one.
func guests(namespace string) []caddy.ModuleInfo {
	if namespace == "" {
		return nil
	}
	return caddy.GetModules(namespace)
}

// markdown writes the option's row.
func (o *Option) markdown() string {
	usage, def, help := o.Usage(), o.Default, o.Help
	if o.Block != nil {
		usage += " { … }"
	}
	if def != "" {
		def = "`" + cell(def) + "`"
	}
	if o.Repeat {
		help += " (may be repeated)"
	}
	if o.Guest != "" {
		help += " (a module of `" + o.Guest + ".*`)"
	}
	return fmt.Sprintf("| `%s` | %s | %s |\n", cell(usage), def, cell(help))
}

// cell escapes what would end a cell of the table.
func cell(s string) string {
	return strings.ReplaceAll(s, "|", `\|`)
}
