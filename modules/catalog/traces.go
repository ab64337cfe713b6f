package catalog

import (
	"context"
	_ "embed"
	"fmt"
	"strings"
	"sync"

	"github.com/fairwaydb/fairway/modules/pgsql"
)

// tracesSQL returns what reaches what, bodiesSQL the texts of functions, typesSQL what has to do with types.
var (
	//go:embed traces.sql
	tracesSQL string
	//go:embed bodies.sql
	bodiesSQL string
	//go:embed types.sql
	typesSQL string
)

// builtinTraces are the parameters of tracesSQL in the order of its numbers, and what they stand for.
var builtinTraces = [...]pgsql.Traces{pgsql.SetsSettings, pgsql.RunsText, pgsql.HoldsState, pgsql.Loads}

var leaving = sync.OnceValue(func() []string {
	lists := make([]string, len(builtinTraces))
	for i, t := range builtinTraces {
		lists[i] = array(pgsql.Leaving(t))
	}
	return lists
})

// unread is what code may leave that nobody can read. Nobody minds what it runs: the settings are not known anyway.
const unread = pgsql.SetsSettings | pgsql.HoldsState

// left is what may be left behind by who reads a thing, and by who writes it; of anything but a relation both are the same.
type left struct{ read, write pgsql.Traces }

// leftovers are names with what they may leave behind, each name bare and with its schema. Names that leave nothing are not there.
type leftovers map[string]left

func (l leftovers) add(schema, name string, what left) {
	for _, n := range [...]string{name, schema + "." + name} {
		l.word(n, what)
	}
}

func (l leftovers) word(name string, what left) {
	before := l[name]
	l[name] = left{before.read | what.read, before.write | what.write}
}

// of joins what the names of a list may leave behind.
func (l leftovers) of(list []string, writes bool) (t pgsql.Traces) {
	if len(l) == 0 {
		return 0
	}
	for _, name := range list {
		if writes {
			t |= l[name].write
		} else {
			t |= l[name].read
		}
	}
	return t
}

// hasOne returns the first of the list whose reading leaves something behind, "" for none.
func (l leftovers) hasOne(list []string) string {
	if len(l) == 0 {
		return ""
	}
	for _, name := range list {
		if l[name].read != 0 {
			return name
		}
	}
	return ""
}

// graph is the code of a database and what it reaches.
type graph struct {
	ids   map[string]int32 // of the nodes, by letter and number of the object
	nodes []node
	names map[string]int32 // the last node of the word that stands for it in bodies, plus 1

	schema string // of the row before: most are the same
}

// node is one thing that may reach code.
type node struct {
	key, schema, name string
	traces            pgsql.Traces
	by                []int32 // the nodes that reach it
	next              int32   // the node before of the same word, plus 1; 0 none
}

func (g *graph) node(key string) int32 {
	id, ok := g.ids[key]
	if !ok {
		id = int32(len(g.nodes))
		g.ids[key], g.nodes = id, append(g.nodes, node{key: key})
	}
	return id
}

func (g *graph) edge(from, to int32) {
	n := &g.nodes[to]
	n.by = append(n.by, from)
}

// label gives a node its name. A relation that is written is read too.
func (g *graph) label(key, schema, name string) int32 {
	id := g.node(key)
	if n := &g.nodes[id]; n.name == "" {
		n.schema, n.name = schema, name
		word := firstWord(name)
		n.next, g.names[word] = g.names[word], id+1
	}
	if key[0] == 'w' {
		g.edge(id, g.label("r"+key[1:], schema, name))
	}
	return id
}

// loadTraces adds what code leaves behind.
func (f *Facts) loadTraces(ctx context.Context, q querier) error {
	size := (len(f.reads) + len(f.writes)) / 2
	g := &graph{ids: make(map[string]int32, size), names: make(map[string]int32, size), nodes: make([]node, 0, size)}
	err := q.Query(ctx, "", tracesSQL, leaving(), func(values [][]byte) error { return g.row(values) })
	if err != nil {
		return fmt.Errorf("read what code reaches: %w", err)
	}
	if err := q.Query(ctx, "", bodiesSQL, nil, func(values [][]byte) error { return g.body(values) }); err != nil {
		return fmt.Errorf("read code: %w", err)
	}
	g.spread()
	if err := g.types(ctx, q); err != nil {
		return fmt.Errorf("read what types reach: %w", err)
	}
	f.keep(g)
	return nil
}

// row adds a row of tracesSQL.
func (g *graph) row(values [][]byte) error {
	if len(values) != 5 || len(values[1]) == 0 {
		return fmt.Errorf("catalog: a row of %d columns", len(values))
	}
	kind, key, b := values[0][0], string(values[1]), values[2]
	switch kind {
	case 'n':
		if string(values[3]) != g.schema {
			g.schema = string(values[3])
		}
		schema, name := g.schema, string(values[4])
		id := g.label(key, schema, name)
		switch {
		case string(b) == "u":
			g.nodes[id].traces |= unread
		case len(b) > 0:
			g.nodes[id].traces |= tracesOfExtension(string(b[1:]), schema, name)
		}
	case 'e':
		g.edge(g.node(key), g.node(string(b)))
	case 'd':
		if i := int(b[0] - '1'); i < len(builtinTraces) {
			g.nodes[g.node(key)].traces |= builtinTraces[i]
		}
	}
	return nil
}

// body adds what the words of a body reach.
func (g *graph) body(values [][]byte) error {
	if len(values) != 2 {
		return fmt.Errorf("catalog: a row of %d columns", len(values))
	}
	id, ok := g.ids["f"+string(values[0])]
	if !ok {
		return nil // it is younger than the names: there will be another look
	}
	var words []int32
	code := pgsql.ReadCode(values[1], func(word []byte) {
		for at := g.names[string(word)]; at != 0; at = g.nodes[at-1].next {
			words = append(words, at-1)
		}
	})
	g.nodes[id].traces |= code.Traces
	for _, to := range words {
		if g.nodes[to].key[0] != 'w' || code.Writes {
			g.edge(id, to)
		}
	}
	return nil
}

// spread gives every node what the nodes leave behind that it reaches.
func (g *graph) spread() {
	var open []int32
	for id := range g.nodes {
		if g.nodes[id].traces != 0 {
			open = append(open, int32(id))
		}
	}
	for len(open) > 0 {
		n := g.nodes[open[len(open)-1]]
		open = open[:len(open)-1]
		for _, by := range n.by {
			if more := n.traces &^ g.nodes[by].traces; more != 0 {
				g.nodes[by].traces |= more
				open = append(open, by)
			}
		}
	}
}

// types follows types that leave something behind to what has to do with them. There are rarely any.
func (g *graph) types(ctx context.Context, q querier) error {
	var ids []string
	var traces pgsql.Traces
	for i := range g.nodes {
		if n := &g.nodes[i]; n.traces != 0 && n.key[0] == 't' {
			ids = append(ids, n.key[1:])
			traces |= n.traces
		}
	}
	if len(ids) == 0 {
		return nil
	}
	err := q.Query(ctx, "", typesSQL, []string{array(ids)}, func(values [][]byte) error {
		if len(values) != 3 {
			return fmt.Errorf("catalog: a row of %d columns", len(values))
		}
		g.nodes[g.label(string(values[0]), string(values[1]), string(values[2]))].traces |= traces
		return nil
	})
	if err == nil {
		g.spread()
	}
	return err
}

// keep takes over what was found.
func (f *Facts) keep(g *graph) {
	f.functions, f.tables, f.operations, f.casts, f.words = leftovers{}, leftovers{}, leftovers{}, leftovers{}, leftovers{}
	for i := range g.nodes {
		n := &g.nodes[i]
		if n.traces == 0 {
			continue
		}
		what := left{n.traces, n.traces}
		switch n.key[0] {
		case 'f':
			f.functions.add(n.schema, n.name, what)
		case 'o':
			f.operations.add(n.schema, n.name, what)
		case 't':
			f.casts.add(n.schema, n.name, what)
		case 'r', 'w':
			if n.key[0] == 'w' {
				what.read = 0
			}
			f.tables.add(n.schema, n.name, what)
		case 'e':
			f.changes |= n.traces
		case 'a':
			f.always |= n.traces
		}
		if n.name != "" {
			f.words.word(firstWord(n.name), what)
		}
	}
}

// firstWord returns what [pgsql.ReadCode] makes of the beginning of a name: its first word, or the whole of an operator.
func firstWord(name string) string {
	isWord := func(c byte) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c >= 0x80
	}
	from := 0
	for from < len(name) && !isWord(name[from]) {
		from++
	}
	to := from
	for to < len(name) && isWord(name[to]) {
		to++
	}
	if from == to {
		return name
	}
	return lower(name[from:to])
}

// lower lowers the letters of ASCII.
func lower(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return r >= 'A' && r <= 'Z' }) < 0 {
		return s
	}
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c | 0x20
		}
	}
	return string(b)
}

// Leaves tells what a statement may leave behind in the server connection by the code that it reaches, beyond what its
// wording says. Facts that are nil know only of a DO what its own words tell. It allocates nothing.
func (f *Facts) Leaves(c *pgsql.Class) pgsql.Traces {
	t := c.Code.Traces
	if f == nil {
		return t
	}
	writes := c.Effects&firesCode != 0
	t |= f.always | f.functions.of(c.Functions, writes) | f.tables.of(c.Relations, writes) |
		f.operations.of(c.Operators, writes) | f.casts.of(c.Types, writes) | f.words.of(c.Code.Words, c.Code.Writes)
	if c.Effects&pgsql.DDL != 0 {
		t |= f.changes
	}
	return t
}

// firesCode are the effects with which a statement does more to a relation than read it.
const firesCode = pgsql.Write | pgsql.RowLock | pgsql.DDL | pgsql.CopyIn | pgsql.Unknown
