package caddyfile

import (
	"fmt"
	"strings"
)

// Markdown writes the table as documentation: a heading with the path (the
// block's place in the Caddyfile, such as "postgres › cluster"), one row per
// option, then the tables of the nested blocks.
func (o Options) Markdown(path string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "## `%s`\n\n", path)
	b.WriteString("| Option | Default | Meaning |\n|---|---|---|\n")
	for _, row := range o {
		def := row.Default
		if def != "" {
			def = "`" + cell(def) + "`"
		}
		help := row.Help
		if row.Repeat {
			help += " (may be repeated)"
		}
		if row.Guest != "" {
			help += " (a module of `" + row.Guest + ".*`)"
		}
		usage := row.Usage()
		if row.Block != nil {
			usage += " { … }"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", cell(usage), def, cell(help))
	}
	for _, row := range o {
		if row.Block != nil {
			b.WriteString("\n" + row.Block().Markdown(path+" › "+row.Name))
		}
	}
	return b.String()
}

// cell escapes what would end a cell of the table.
func cell(s string) string {
	return strings.ReplaceAll(s, "|", `\|`)
}
