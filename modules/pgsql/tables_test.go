package pgsql

import (
	"os"
	"slices"
	"strings"
	"testing"

	pgquery "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/reflect/protoreflect"
)

func TestEachKindOfNodeIsInExactlyOneTable(t *testing.T) {
	tables := map[string]map[protoreflect.Name]bool{
		"parts": parts, "utilities": nameSet(utilityNames), "never": nameSet(neverNames), "statements": {},
	}
	for name := range statements {
		tables["statements"][name] = true
	}
	kinds := map[protoreflect.Name]bool{}
	fields := (&pgquery.Node{}).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		kinds[fields.Get(i).Message().Name()] = true
	}
	for kind := range kinds {
		var in []string
		for table, names := range tables {
			if names[kind] {
				in = append(in, table)
			}
		}
		if len(in) != 1 {
			t.Errorf("%s is in the tables %v", kind, in)
		}
	}
	for table, names := range tables {
		for name := range names {
			if !kinds[name] {
				t.Errorf("%s of %s is no kind of node", name, table)
			}
		}
	}
}

func TestAKindOfNodeThatIsInNoTableIsUnknown(t *testing.T) {
	for _, n := range []*pgquery.Node{
		{Node: &pgquery.Node_Query{Query: &pgquery.Query{}}},
		{Node: &pgquery.Node_PlassignStmt{PlassignStmt: &pgquery.PLAssignStmt{}}},
		{},
	} {
		tree := &pgquery.ParseResult{Stmts: []*pgquery.RawStmt{{Stmt: n}}}
		if c := walk(tree, &Options{}); c.Effects&Unknown == 0 || c.PlainRead() {
			t.Errorf("%v: %s", n, c.Effects)
		}
	}
	sel := &pgquery.SelectStmt{WhereClause: &pgquery.Node{Node: &pgquery.Node_OpExpr{OpExpr: &pgquery.OpExpr{}}}}
	tree := &pgquery.ParseResult{Stmts: []*pgquery.RawStmt{{
		Stmt: &pgquery.Node{Node: &pgquery.Node_SelectStmt{SelectStmt: sel}},
	}}}
	if c := walk(tree, &Options{}); c.Effects&Unknown == 0 {
		t.Error("an unknown node inside a known one is not seen")
	}
}

func TestTheListOfFunctionsIsSortedAndHasNoWriter(t *testing.T) {
	list := strings.Fields(functionsList)
	if !slices.IsSorted(list) || len(slices.Compact(slices.Clone(list))) != len(list) || len(list) < 1900 {
		t.Errorf("%d functions", len(list))
	}
	for _, name := range strings.Fields(writing + connectionState + serverOnly + notReads +
		" currval lastval nextval setval set_config pg_notify pg_advisory_lock dblink query_to_xml lo_import txid_current") {
		if b, ok := lookup(name); ok && b.effects == 0 {
			t.Errorf("%s is taken for a read", name)
		}
	}
	// Nothing on the hand-written lists but what the server's list lacks, or what it is wrong about.
	for _, name := range strings.Fields(recentReads) {
		if slices.Contains(list, name) {
			t.Errorf("%s is on two lists", name)
		}
	}
}

func TestTheQueryOfTheListOfFunctionsIsThere(t *testing.T) {
	sql, err := os.ReadFile("functions.sql")
	if err != nil {
		t.Fatal(err)
	}
	if c := New(Options{}).Classify(sql); !c.PlainRead() {
		t.Errorf("%+v", c)
	}
}
