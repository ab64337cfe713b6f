package pgsql

import (
	"slices"

	pgquery "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// walker collects what a parse tree does. It goes through every field of every node, so that nothing at any depth is
// missed, and knows each kind of node by name: see tables.go. The tree is PostgreSQL's own; its nodes are described in
// https://github.com/postgres/postgres/blob/REL_17_STABLE/src/include/nodes/parsenodes.h.
type walker struct {
	class *Class
	opts  *Options
	// seen holds the names that are in the lists of class, each under the first letter of its list.
	seen map[string]bool
	// ctes are the names of WITH in scope.
	ctes []string
	// nested counts the statements around the one at hand.
	nested int
	// quoted counts the statements around that do not run now: definitions, plain EXPLAIN.
	quoted int
	// direct are the calls that surely happen exactly once: the target list of a bare SELECT.
	direct map[*pgquery.FuncCall]bool
	// about: a function of the statement tells about the server. userTable: it names a table of the user.
	about, userTable bool
}

// walk returns the class of a parsed text.
func walk(tree *pgquery.ParseResult, opts *Options) *Class {
	w := &walker{class: &Class{Kind: KindTransaction}, opts: opts, seen: map[string]bool{}}
	c := w.class
	for _, raw := range tree.GetStmts() {
		stmt := raw.GetStmt()
		if stmt.GetNode() == nil {
			w.effect(Unknown)
			continue
		}
		c.Statements++
		w.about, w.userTable = false, false
		w.alone(stmt)
		w.node(stmt)
		if w.about && !w.userTable {
			w.effect(ServerState)
		}
	}
	w.finish()
	return c
}

// column knows the columns of a sequence, which a standby shows up to 32 values ahead: WAL has sequences by that step. A column of a
// table that is named like them goes to the primary too.
func (w *walker) column(n *pgquery.ColumnRef) {
	fields := n.GetFields()
	switch fields[len(fields)-1].GetString_().GetSval() {
	case "last_value", "log_cnt", "is_called":
		w.effect(ServerState)
	}
}

// alone notes the calls of a bare SELECT set_config(…), …: nothing can keep them from happening, once and in order.
func (w *walker) alone(stmt *pgquery.Node) {
	sel := stmt.GetSelectStmt()
	if sel == nil || len(sel.GetFromClause())+len(sel.GetGroupClause())+len(sel.GetDistinctClause()) > 0 ||
		sel.GetWhereClause() != nil || sel.GetHavingClause() != nil || sel.GetLimitCount() != nil ||
		sel.GetLimitOffset() != nil || sel.GetWithClause() != nil {
		return
	}
	direct := map[*pgquery.FuncCall]bool{}
	for _, target := range sel.GetTargetList() {
		call := target.GetResTarget().GetVal().GetFuncCall()
		_, name := functionName(call)
		if b, _ := lookup(name); !b.sets && b.ends == 0 {
			return
		}
		direct[call] = true
	}
	w.direct = direct
}

// finish settles what depends on the whole text.
func (w *walker) finish() {
	c := w.class
	if c.Statements != 1 {
		c.TxOnly, c.TxEndOnly, c.TxEndCommit, c.SetTxOnly, c.Show = false, false, false, false, ""
		c.Call, c.Do = false, false
	}
	if c.Statements == 0 && c.Effects == 0 {
		c.Kind = KindRead
	}
	if c.Kind == KindRead && c.Effects&(Write|RowLock) != 0 {
		c.Kind = KindWrite
	}
	if c.Effects&Unknown != 0 {
		c.SettingsUnknown = true
	}
	c.Serializable = c.Isolation == "serializable"
}

// effect adds effects. What is only quoted does nothing, but may still need the session's own connection.
func (w *walker) effect(e Effects) {
	if w.quoted > 0 {
		e &= Temp | SQLPrepare | Unknown
	}
	w.class.Effects |= e
	w.class.Ends &^= e
}

// ends notes pinning state that is surely gone.
func (w *walker) ends(e Effects) {
	if w.quoted == 0 {
		w.class.Ends |= e
	}
}

// kind raises the kind of the text.
func (w *walker) kind(k Kind) {
	if w.quoted == 0 && k > w.class.Kind {
		w.class.Kind = k
	}
}

func (w *walker) setting(s Setting) {
	w.effect(Settings)
	if w.quoted == 0 {
		w.class.Settings = append(w.class.Settings, s)
	}
}

func (w *walker) settingsUnknown() {
	w.effect(Settings)
	if w.quoted == 0 {
		w.class.SettingsUnknown = true
	}
}

// add puts a name into a list once.
func (w *walker) add(list *[]string, prefix, name string) {
	if !w.seen[prefix+name] {
		w.seen[prefix+name] = true
		*list = append(*list, name)
	}
}

// node walks what is in a Node.
func (w *walker) node(n *pgquery.Node) {
	if n.GetNode() != nil {
		w.message(n.ProtoReflect())
	}
}

func (w *walker) nodes(list []*pgquery.Node) {
	for _, n := range list {
		w.node(n)
	}
}

// quote walks what does not run now.
func (w *walker) quote(m protoreflect.Message) {
	w.quoted++
	w.children(m)
	w.quoted--
}

// message walks one node of any kind.
func (w *walker) message(m protoreflect.Message) {
	name := m.Descriptor().Name()
	if name == "Node" {
		w.children(m)
		return
	}
	if parts[name] {
		if !w.part(m) {
			w.children(m)
		}
		return
	}
	if stmt, ok := statements[name]; ok {
		w.effect(stmt.effects)
		w.kind(stmt.kind)
		if stmt.effects&DDL != 0 { // names and literals are not told apart in all of them
			w.class.ConstDependent = true
		}
		w.code(m)
		w.nested++
		if stmt.quoted {
			w.quote(m)
		} else if !w.dataStatement(m) {
			w.children(m)
		}
		w.nested--
		return
	}
	if w.utility(m) {
		return
	}
	if w.quoted > 0 && name == "VariableSetStmt" { // what a function or a role sets
		return
	}
	w.effect(Unknown)
	w.kind(KindUnknown)
	w.children(m)
}

// children walks the fields of a node, but those named.
func (w *walker) children(m protoreflect.Message, but ...protoreflect.Name) {
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.Message() == nil || slices.Contains(but, field.Name()):
		case field.IsList():
			w.list(value.List())
		default:
			w.message(value.Message())
		}
		return true
	})
}

// list walks a list of nodes. Names with a schema are such lists; that of temporary objects is looked for in all of
// them.
func (w *walker) list(list protoreflect.List) {
	for i := range list.Len() {
		m := list.Get(i).Message()
		if n, ok := m.Interface().(*pgquery.Node); ok && i == 0 && list.Len() > 1 && isTempSchema(n.GetString_().GetSval()) {
			w.effect(Temp)
		}
		w.message(m)
	}
}

// part handles the parts of statements that mean something by themselves; false: only their children do.
func (w *walker) part(m protoreflect.Message) bool {
	switch n := m.Interface().(type) {
	case *pgquery.A_Const:
		return true
	case *pgquery.RangeVar:
		w.relation(n, false)
		return true
	case *pgquery.FuncCall:
		w.call(n)
	case *pgquery.ColumnRef:
		w.column(n)
	case *pgquery.A_Expr:
		w.named(&w.class.Operators, "o", n.GetName())
	case *pgquery.SubLink:
		w.named(&w.class.Operators, "o", n.GetOperName())
	case *pgquery.SortBy:
		w.named(&w.class.Operators, "o", n.GetUseOp())
	case *pgquery.TypeName:
		w.named(&w.class.Types, "t", n.GetNames())
	case *pgquery.LockingClause:
		w.effect(RowLock)
	case *pgquery.IntoClause:
		w.effect(Write | DDL)
		w.kind(KindDDL)
		w.relation(n.GetRel(), true)
		w.nodes(n.GetOptions())
		return true
	case *pgquery.WithClause:
		w.with(n)
		return true
	}
	return false
}

// named puts the name of an operator or a type into a list. What the grammar itself writes with the schema
// pg_catalog is none of the user's.
func (w *walker) named(list *[]string, prefix string, parts []*pgquery.Node) {
	var schema, name string
	for _, part := range parts {
		schema, name = name, part.GetString_().GetSval()
	}
	switch {
	case name == "" || schema == "pg_catalog":
		return
	case schema != "":
		name = schema + "." + name
	}
	w.add(list, prefix, name)
}

// with walks the queries of WITH and leaves their names in scope. A query of WITH RECURSIVE sees all of them, one of
// plain WITH those before it: WITH t AS (SELECT … FROM t) reads the table t.
func (w *walker) with(n *pgquery.WithClause) {
	if n.GetRecursive() {
		for _, cte := range n.GetCtes() {
			w.ctes = append(w.ctes, cte.GetCommonTableExpr().GetCtename())
		}
	}
	for _, cte := range n.GetCtes() {
		w.node(cte)
		if !n.GetRecursive() {
			w.ctes = append(w.ctes, cte.GetCommonTableExpr().GetCtename())
		}
	}
}

// relation notes a relation. The target of a statement is never a name of WITH.
func (w *walker) relation(r *pgquery.RangeVar, target bool) {
	if r == nil {
		return
	}
	schema, name := r.GetSchemaname(), r.GetRelname()
	if schema == "" && !target && slices.Contains(w.ctes, name) {
		return
	}
	if r.GetRelpersistence() == "t" {
		w.effect(Temp)
	}
	switch relationOf(schema, name) {
	case userRelation:
		w.userTable = true
	case tempRelation:
		w.userTable = true
		w.effect(Temp)
	case aboutRelation:
		w.effect(ServerState)
		if target && name == "pg_settings" { // a rule makes UPDATE pg_settings a set_config
			w.settingsUnknown()
		}
	case sequencesRelation:
		w.effect(ServerState)
	case catalogRelation:
	}
	if schema != "" {
		name = schema + "." + name
	}
	w.add(&w.class.Relations, "r", name)
}

// call notes a function call. A function can also be called as if it were a column, SELECT t.f FROM t: only the
// catalog tells that from a column.
func (w *walker) call(n *pgquery.FuncCall) {
	schema, name := functionName(n)
	full := name
	if schema != "" {
		full = schema + "." + name
	}
	listed := matches(w.opts.ReadFunctions, schema, name)
	if !listed {
		w.add(&w.class.Functions, "f", full)
	}
	if isTempSchema(schema) {
		w.effect(Temp)
	}
	if matches(w.opts.WriteFunctions, schema, name) {
		w.effect(Write)
		return
	}
	var b builtin
	known := false
	if schema == "" || schema == "pg_catalog" {
		b, known = lookup(name)
	}
	switch {
	case known && (!listed || b.effects&(pinEffects|Settings|Discard) != 0):
		w.effect(b.effects)
		w.about = w.about || b.about && w.quoted == 0
		if w.direct[n] {
			w.ends(b.ends)
		}
		if b.sets {
			w.setConfig(n)
		}
	case listed || w.quoted > 0:
	default:
		w.add(&w.class.Unproven, "u", full)
	}
}

// dataStatement walks the statements that have a WITH clause in the order of scope. It reports whether m is one.
func (w *walker) dataStatement(m protoreflect.Message) bool {
	scope := len(w.ctes)
	switch n := m.Interface().(type) {
	case *pgquery.SelectStmt:
		if n.GetWithClause() == nil {
			return false
		}
		w.with(n.GetWithClause())
	case *pgquery.InsertStmt:
		w.with(n.GetWithClause())
		w.relation(n.GetRelation(), true)
	case *pgquery.UpdateStmt:
		w.with(n.GetWithClause())
		w.relation(n.GetRelation(), true)
	case *pgquery.DeleteStmt:
		w.with(n.GetWithClause())
		w.relation(n.GetRelation(), true)
	case *pgquery.MergeStmt:
		w.with(n.GetWithClause())
		w.relation(n.GetRelation(), true)
	default:
		return false
	}
	w.children(m, "with_clause", "relation")
	w.ctes = w.ctes[:scope]
	return true
}
