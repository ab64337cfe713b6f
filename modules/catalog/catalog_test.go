package catalog

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/fairwaydb/fairway/modules/pgsql"
	"github.com/fairwaydb/fairway/modules/pgtest"
)

// servers is the one server of the package's tests.
var servers *pgtest.Cluster

func TestMain(m *testing.M) { os.Exit(run(m)) } //nolint:forbidigo // the main of a test binary

func run(m *testing.M) int {
	ctx := context.Background()
	var err error
	if servers, err = pgtest.Start(ctx, pgtest.Options{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := servers.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// database makes a database of its own with a schema, and returns a connection to it.
func database(t testing.TB, name string, schema ...string) *pgx.Conn {
	t.Helper()
	ctx := context.Background()
	for _, sql := range []string{"DROP DATABASE IF EXISTS " + name, "CREATE DATABASE " + name} {
		if err := servers.Primary().Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	conn, err := pgx.Connect(ctx, servers.ConnString(servers.Primary(), servers.Superuser(), name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(ctx) })
	for _, sql := range schema {
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	if _, err := conn.Exec(ctx, "SET search_path = pg_catalog; SET jit = off"); err != nil {
		t.Fatal(err)
	}
	return conn
}

// asker lets facts be read over pgx.
type asker struct{ conn *pgx.Conn }

func (a asker) Query(ctx context.Context, _, sql string, args []string, row func(values [][]byte) error) error {
	values := make([][]byte, len(args))
	for i := range args {
		values[i] = []byte(args[i])
	}
	r := a.conn.PgConn().ExecParams(ctx, sql, values, nil, nil, nil)
	for r.NextRow() {
		if err := row(r.Values()); err != nil {
			return err
		}
	}
	_, err := r.Close()
	return err
}

func TestWhatTheSchemaAddsToAStatement(t *testing.T) {
	conn := database(t, "schema_adds",
		"CREATE SCHEMA app", "CREATE SCHEMA other",
		"CREATE TABLE t (a int, s text)", "CREATE TABLE app.t2 (a int)",
		"CREATE FUNCTION app.reads(int) RETURNS int LANGUAGE sql STABLE AS 'SELECT $1'",
		"CREATE FUNCTION app.writes(int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT $1'",
		"CREATE FUNCTION app.mixed(int) RETURNS int LANGUAGE sql STABLE AS 'SELECT $1'",
		"CREATE FUNCTION other.mixed(int, int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT $1'",
		"CREATE TABLE rowed (s text)",
		"CREATE FUNCTION app.upper(rowed) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT $1.s'", // stands before the built-in for a row
		"CREATE FUNCTION app.defaulted(a int DEFAULT app.writes(1)) RETURNS int LANGUAGE sql STABLE AS 'SELECT $1'",
		"CREATE FUNCTION app.atomic() RETURNS int LANGUAGE sql STABLE BEGIN ATOMIC SELECT app.writes(1); END",
		"CREATE FUNCTION app.pg_switch_wal(int) RETURNS int LANGUAGE sql STABLE AS 'SELECT $1'",
		"CREATE AGGREGATE app.sum_reads(int) (SFUNC = int4pl, STYPE = int)",
		"CREATE FUNCTION app.step(int, int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT $1'",
		"CREATE AGGREGATE app.sum_writes(int) (SFUNC = app.step, STYPE = int)",
		"CREATE PROCEDURE app.proc() LANGUAGE sql AS 'SELECT 1'",
		"CREATE UNLOGGED TABLE scratch (a int)",
		"CREATE SEQUENCE app.counter",
		"CREATE VIEW v_plain AS SELECT * FROM t",
		"CREATE VIEW v_writes AS SELECT app.writes(a) FROM t",
		"CREATE VIEW v_nested AS SELECT * FROM v_writes",
		"CREATE VIEW v_scratch AS SELECT * FROM scratch",
		"CREATE VIEW v_built_in AS SELECT pg_try_advisory_lock(1), a FROM t",
		"CREATE VIEW v_next AS SELECT nextval('app.counter')",
		"CREATE VIEW v_activity AS SELECT * FROM pg_stat_activity",
		"CREATE VIEW v_random AS SELECT random(), now(), a FROM t",
		"CREATE MATERIALIZED VIEW m_writes AS SELECT app.writes(a) FROM t",
		"CREATE TABLE parent (a int) PARTITION BY LIST (a)",
		"CREATE TABLE child1 PARTITION OF parent FOR VALUES IN (1)",
		"CREATE UNLOGGED TABLE child2 PARTITION OF parent FOR VALUES IN (2)",
		"CREATE TABLE secret (a int)", "ALTER TABLE secret ENABLE ROW LEVEL SECURITY",
		"CREATE POLICY p ON secret FOR SELECT USING (app.writes(a) > 0)",
		"CREATE TABLE audited (a int)", "ALTER TABLE audited ENABLE ROW LEVEL SECURITY",
		"CREATE POLICY p ON audited FOR INSERT WITH CHECK (app.writes(a) > 0)",
		"CREATE FUNCTION app.same(int, text) RETURNS bool LANGUAGE sql VOLATILE AS 'SELECT true'",
		"CREATE OPERATOR app.=== (LEFTARG = int, RIGHTARG = text, FUNCTION = app.same)",
		"CREATE VIEW v_operator AS SELECT a FROM t WHERE a OPERATOR(app.===) s",
		"CREATE FUNCTION app.reads_too(int, text) RETURNS bool LANGUAGE sql STABLE AS 'SELECT true'",
		"CREATE OPERATOR app.==== (LEFTARG = int, RIGHTARG = text, FUNCTION = app.reads_too)",
		"CREATE TYPE pair AS (x int, y int)",
		"CREATE FUNCTION app.pair(text) RETURNS pair LANGUAGE sql VOLATILE AS 'SELECT 1, 2'",
		"CREATE CAST (text AS pair) WITH FUNCTION app.pair(text)",
		"CREATE TABLE pairs (p pair)",
		"CREATE FUNCTION app.a_pair() RETURNS pair LANGUAGE sql STABLE AS 'SELECT 1, 2'",
		"CREATE FUNCTION app.positive(int) RETURNS bool LANGUAGE sql VOLATILE AS 'SELECT $1 > 0'",
		"CREATE DOMAIN checked AS int CHECK (app.positive(VALUE))",
		"CREATE DOMAIN plain AS int CHECK (VALUE > 0)",
		"CREATE FUNCTION app.row_writes(app.t2) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1'",
		"CREATE TABLE filled (a int DEFAULT app.writes(1), b int GENERATED ALWAYS AS IDENTITY, c serial)",
	)
	facts, err := load(t.Context(), asker{conn})
	if err != nil {
		t.Fatal(err)
	}
	classifier := pgsql.New(pgsql.Options{ReadFunctions: []string{"app.allowed_*"}})
	for _, c := range []struct {
		sql  string
		want Verdict
		name string
	}{
		{sql: "SELECT 1"},
		{sql: "SELECT * FROM t"},
		{sql: "SELECT count(*), lower(s) FROM public.t GROUP BY 2"},
		{sql: "SELECT app.reads(1)"},
		{sql: "SELECT reads(1)"},
		{sql: "SELECT app.allowed_one(1)"},
		{"SELECT app.writes(1)", Function, "app.writes"},
		{"SELECT writes(1)", Function, "writes"},
		{"SELECT mixed(1)", Function, "mixed"},
		{sql: "SELECT app.mixed(1)"},
		{"SELECT other.mixed(1, 2)", Function, "other.mixed"},
		{"SELECT upper(rowed) FROM rowed", Function, "upper"},
		{"SELECT missing(1)", Function, "missing"},
		{"SELECT app.defaulted()", Function, "app.defaulted"},
		{"SELECT app.atomic()", Function, "app.atomic"},
		{"SELECT app.pg_switch_wal(1)", Function, "app.pg_switch_wal"},
		{sql: "SELECT app.sum_reads(a) FROM t"},
		{"SELECT app.sum_writes(a) FROM t", Function, "app.sum_writes"},
		{"SELECT * FROM scratch", Relation, "scratch"},
		{"SELECT x FROM app.counter", Relation, "app.counter"},
		{"SELECT * FROM counter", Relation, "counter"},
		{sql: "SELECT * FROM v_plain"},
		{sql: "SELECT * FROM v_random"},
		{"SELECT * FROM v_writes", Relation, "v_writes"},
		{"SELECT * FROM v_nested", Relation, "v_nested"},
		{"SELECT * FROM v_scratch", Relation, "v_scratch"},
		{"SELECT * FROM v_built_in", Relation, "v_built_in"},
		{"SELECT * FROM v_next", Relation, "v_next"},
		{"SELECT * FROM v_activity", Relation, "v_activity"},
		{"SELECT * FROM v_operator", Relation, "v_operator"},
		{sql: "SELECT * FROM m_writes"},
		{"SELECT * FROM parent", Relation, "parent"},
		{sql: "SELECT * FROM child1"},
		{"SELECT * FROM child2", Relation, "child2"},
		{"SELECT * FROM secret", Relation, "secret"},
		{sql: "SELECT * FROM audited"},
		{"SELECT * FROM t WHERE a === s", Expression, "==="},
		{"SELECT * FROM t WHERE a OPERATOR(app.===) s", Expression, "app.==="},
		{sql: "SELECT * FROM t WHERE a ==== s"},
		{"SELECT s::pair FROM t", Expression, "pair"},
		{"SELECT CAST(s AS public.pair[]) FROM t", Expression, "public.pair"},
		{"SELECT * FROM pairs", Relation, "pairs"},
		{"SELECT app.a_pair()", Function, "app.a_pair"},
		{"SELECT a::checked FROM t", Expression, "checked"},
		{sql: "SELECT a::plain FROM t"},
		{"SELECT x.row_writes FROM app.t2 x", Relation, "app.t2"},
		{sql: "SELECT * FROM filled"},
		{sql: "SELECT * FROM pg_class"},
		{sql: "SELECT relname FROM pg_catalog.pg_class WHERE relkind = 'r'"},
		{sql: "WITH scratch AS (SELECT 1) SELECT * FROM scratch"},
		{sql: "COPY t TO STDOUT"},
		{"COPY scratch TO STDOUT", Relation, "scratch"},
	} {
		t.Run(c.sql, func(t *testing.T) {
			class := classifier.Classify([]byte(c.sql))
			got, name := facts.Explain(class)
			if got != c.want || name != c.name {
				t.Errorf("%v %q, want %v %q", got, name, c.want, c.name)
			}
			if class.MaybeRead() || got != Reads {
				return
			}
			t.Errorf("the class is %v: nothing is left to judge", class.Effects)
		})
	}
}

func TestACastBetweenBuiltInTypesThatMayWriteMakesEverythingDoubtful(t *testing.T) {
	conn := database(t, "casts", "CREATE TABLE t (a int)",
		"CREATE FUNCTION public.odd(point) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1'",
		"CREATE CAST (point AS int) WITH FUNCTION public.odd(point)")
	facts, err := load(t.Context(), asker{conn})
	if err != nil {
		t.Fatal(err)
	}
	if got := facts.Judge(pgsql.New(pgsql.Options{}).Classify([]byte("SELECT a FROM t"))); got != Expression {
		t.Errorf("%v", got)
	}
}

func TestNothingKnownIsNoRead(t *testing.T) {
	classifier := pgsql.New(pgsql.Options{})
	for sql, want := range map[string]Verdict{"SELECT 1": Reads, "SELECT * FROM t": NotLoaded, "SELECT f()": NotLoaded, "SELECT lower('A')": NotLoaded} {
		if got := (*Facts)(nil).Judge(classifier.Classify([]byte(sql))); got != want {
			t.Errorf("%s: %v, want %v", sql, got, want)
		}
	}
}

func TestTheSignalMovesWithTheSchema(t *testing.T) {
	conn := database(t, "signals", "CREATE TABLE public.t (a int)")
	before, err := signalOf(t.Context(), asker{conn}, false)
	if err != nil || strings.Count(before, ",") != 13 {
		t.Fatalf("%q, %v", before, err)
	}
	other, err := pgx.Connect(t.Context(), servers.ConnString(servers.Primary(), servers.Superuser(), "signals"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Exec(t.Context(), "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'"); err != nil {
		t.Fatal(err)
	}
	if err := other.Close(t.Context()); err != nil { // it reports at its end
		t.Fatal(err)
	}
	for {
		after, err := signalOf(t.Context(), asker{conn}, false)
		if err != nil {
			t.Fatal(err)
		}
		if after != before {
			return
		}
	}
}

func TestJudgingAllocatesNothing(t *testing.T) {
	facts := &Facts{
		reads: names{"f": {}}, writes: names{"g": {}}, relations: names{"u": {}},
		operators: names{"===": {}}, types: names{"pair": {}},
	}
	class := pgsql.New(pgsql.Options{}).Classify([]byte("SELECT f(a), lower(s) FROM t WHERE a = 1"))
	if n := testing.AllocsPerRun(100, func() { facts.Judge(class) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkJudge(b *testing.B) {
	facts := &Facts{writes: names{"g": {}}, relations: names{"u": {}}}
	class := pgsql.New(pgsql.Options{}).Classify([]byte("SELECT abalance FROM pgbench_accounts WHERE aid = 1"))
	for b.Loop() {
		facts.Judge(class)
	}
}

// BenchmarkLoad reads the facts of a large schema.
func BenchmarkLoad(b *testing.B) {
	conn := database(b, "large")
	for _, step := range []struct {
		n   int
		sql string // of one thing, %[1]s its number
	}{
		{25000, "CREATE FUNCTION public.f%[1]s(int) RETURNS int LANGUAGE sql VOLATILE AS ''SELECT $1''"},
		{25000, "CREATE FUNCTION public.g%[1]s(int) RETURNS int LANGUAGE sql STABLE AS ''SELECT $1''"},
		{20000, "CREATE TABLE public.t%[1]s (a int, b text, c timestamptz, d serial)"},
		{2000, "CREATE VIEW public.v%[1]s AS SELECT a, public.f%[1]s(a), b || now() FROM public.t%[1]s"},
	} {
		for from := 1; from <= step.n; from += 1000 { // the lock table is small
			create := strings.ReplaceAll(step.sql, "%[1]s", "%1$s")
			sql := fmt.Sprintf("DO $do$ BEGIN FOR i IN %d..%d LOOP EXECUTE format('%s', i); END LOOP; END $do$", from, from+999, create)
			if _, err := conn.Exec(b.Context(), sql); err != nil {
				b.Fatal(err)
			}
		}
	}
	if _, err := conn.Exec(b.Context(), "ANALYZE"); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for b.Loop() {
		f, err := load(b.Context(), asker{conn})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(f.Size()), "names")
	}
}
