// Package catalog completes what a statement's wording tells with what the schema of its database tells: which functions
// only read, which views, policies, operators and casts reach functions that do not, which relations a standby cannot
// read. It owns one [Keeper] per database in use, which reads the system catalogs of the primary and publishes them as
// immutable [Facts]; it decides nothing about backends. Routing joins the facts with the class of a statement, so a
// change of the schema invalidates no parse.
//
// The names of a statement are looked up without its search_path: a name is harmless only if everything it could stand
// for is. Rules: https://www.postgresql.org/docs/current/catalogs.html and
// https://www.postgresql.org/docs/current/xfunc-volatility.html.
package catalog

import (
	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgsql"
)

// Verdict is what the schema adds to a statement that by its wording may be a plain read.
type Verdict uint8

// The verdicts.
const (
	// Reads: nothing it names does more than read, and a standby can read it.
	Reads Verdict = iota
	// NotLoaded: nobody knows yet.
	NotLoaded
	// Function: it calls a function that may write, or one that does not exist.
	Function
	// Relation: it reads a relation that a standby cannot read, or one that reaches a function that may write.
	Relation
	// Expression: an operator, a type or a cast of it reaches a function that may write.
	Expression
)

// String returns the verdict as it stands in explanations.
func (v Verdict) String() string {
	switch v {
	case Reads:
		return "reads"
	case NotLoaded:
		return "not loaded"
	case Function:
		return "function"
	case Relation:
		return "relation"
	case Expression:
		return "expression"
	}
	return "unknown"
}

// Wording are facts that leave every statement to its wording: only functions that nobody has vouched for are doubted.
var Wording = &Facts{}

// names is a set of names, each bare and with its schema.
type names map[string]struct{}

func (n names) add(schema, name string) {
	n[name] = struct{}{}
	n[schema+"."+name] = struct{}{}
}

func (n names) has(name string) bool {
	_, ok := n[name]
	return ok
}

// hasOne returns the first of the list that is in the set, "" for none.
func (n names) hasOne(list []string) string {
	if len(n) == 0 {
		return ""
	}
	for _, name := range list {
		if n.has(name) {
			return name
		}
	}
	return ""
}

// Facts are what is known of the schema of one database at one time. They never change.
type Facts struct {
	// Since is when the question was sent that they answer: all that was committed before is in them.
	Since cluster.Mark

	reads     names // functions outside pg_catalog that only read, in every overload
	writes    names // functions outside pg_catalog of which one overload does not
	relations names // not to be read on a standby
	operators names // that reach a function that may write
	types     names // whose input, output, checks or casts do
	all       bool  // any expression may: a cast between built-in types does

	// What code leaves behind in the server connection, by the name that stands for it.
	functions  leftovers
	tables     leftovers
	operations leftovers
	casts      leftovers
	words      leftovers    // any of these, by the words of a body
	changes    pgsql.Traces // every change of the schema
	always     pgsql.Traces // every statement
}

// Judge tells whether a statement of that class does more than its wording shows. It is meant for classes of which
// [pgsql.Class.MaybeRead] is true. Facts may be nil: nothing is known yet. It allocates nothing.
func (f *Facts) Judge(c *pgsql.Class) Verdict {
	v, _ := f.Explain(c)
	return v
}

// Explain is [Facts.Judge] with the name that decided, "" when none did.
func (f *Facts) Explain(c *pgsql.Class) (Verdict, string) {
	if f == nil {
		if len(c.Functions)+len(c.Unproven)+len(c.Relations) > 0 {
			return NotLoaded, ""
		}
		return Reads, ""
	}
	for _, name := range c.Unproven {
		if !f.reads.has(name) {
			return Function, name
		}
	}
	if name := f.writes.hasOne(c.Functions); name != "" {
		return Function, name
	}
	if name := f.relations.hasOne(c.Relations); name != "" {
		return Relation, name
	}
	if name := f.operators.hasOne(c.Operators); name != "" {
		return Expression, name
	}
	if name := f.types.hasOne(c.Types); name != "" {
		return Expression, name
	}
	if f.all {
		return Expression, "cast"
	}
	return f.leaver(c)
}

// leaver finds what leaves something behind in the server connection although it only reads. It is not for a standby: the
// session may be held there, and it may want to write.
func (f *Facts) leaver(c *pgsql.Class) (Verdict, string) {
	if name := f.functions.hasOne(c.Functions); name != "" {
		return Function, name
	}
	if name := f.tables.hasOne(c.Relations); name != "" {
		return Relation, name
	}
	if name := f.operations.hasOne(c.Operators); name != "" {
		return Expression, name
	}
	if name := f.casts.hasOne(c.Types); name != "" {
		return Expression, name
	}
	return Reads, ""
}

// Size returns how many names the facts hold.
func (f *Facts) Size() int {
	if f == nil {
		return 0
	}
	return len(f.reads) + len(f.writes) + len(f.relations) + len(f.operators) + len(f.types) +
		len(f.functions) + len(f.tables) + len(f.operations) + len(f.casts) + len(f.words)
}
