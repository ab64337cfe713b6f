package pgsql

import (
	"regexp"
	"strings"

	pgquery "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// What the body of a function or a DO may leave behind in the server connection, by its words. Both are regular
// expressions that PostgreSQL and Go understand alike, for a body in lower case: the catalog is searched with them too.
const (
	// SetsPattern finds bodies that may change settings.
	SetsPattern = `set_config|(^|;|begin|then|else|loop|[*]/|execute\s*(format\s*[(])?\s*'+)\s*(--[^\n]*\n\s*)*(re)?set\s`
	// HoldsPattern finds those that may leave anything else: locks, temporary relations, LISTEN, cursors, statements.
	HoldsPattern = `advisory_lock|temp|listen|with\s+hold|prepare|execute|setseed|load\s|dblink|copy\s`
)

var (
	setsBody  = regexp.MustCompile(SetsPattern)
	holdsBody = regexp.MustCompile(HoldsPattern)
)

// code looks at statements that run code.
func (w *walker) code(m protoreflect.Message) {
	switch n := m.Interface().(type) {
	case *pgquery.CallStmt:
		w.class.Call = true
	case *pgquery.DoStmt:
		w.doBody(n)
	}
}

// doBody reads the body of a DO.
func (w *walker) doBody(n *pgquery.DoStmt) {
	language, body := "plpgsql", ""
	for _, arg := range n.GetArgs() {
		switch def := arg.GetDefElem(); def.GetDefname() {
		case "language":
			language = def.GetArg().GetString_().GetSval()
		case "as":
			body = strings.ToLower(def.GetArg().GetString_().GetSval())
		}
	}
	w.class.ConstDependent = true
	if language != "plpgsql" {
		return
	}
	w.class.Do, w.class.DoSets, w.class.DoHolds = true, setsBody.MatchString(body), holdsBody.MatchString(body)
}
