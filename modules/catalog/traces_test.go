package catalog

import (
	"testing"

	"github.com/fairwaydb/fairway/modules/pgsql"
)

const (
	sets  = pgsql.SetsSettings
	runs  = pgsql.RunsText | pgsql.HoldsState
	holds = pgsql.HoldsState
	stays = pgsql.Loads
)

// trigger is a table with a trigger, and the function of it.
func trigger(table, function, body string) string {
	return "CREATE TABLE public." + table + " (a int); CREATE FUNCTION public." + function + "() RETURNS trigger LANGUAGE plpgsql AS $$" + body +
		"$$; CREATE TRIGGER x BEFORE INSERT ON public." + table + " FOR EACH ROW EXECUTE FUNCTION public." + function + "()"
}

func TestWhatCodeLeavesBehind(t *testing.T) {
	conn := database(t, "leaves",
		"CREATE TABLE public.t (a int, s text)", "CREATE TABLE public.rowed (a int)", "CREATE EXTENSION pg_trgm SCHEMA public", "CREATE EXTENSION dblink SCHEMA public",
		"CREATE FUNCTION public.nothing() RETURNS void LANGUAGE plpgsql AS 'BEGIN UPDATE t SET a = 1; END'",
		"CREATE FUNCTION public.sets() RETURNS text LANGUAGE sql AS $$SELECT Set_Config('a.b', 'c', false)$$",
		"CREATE FUNCTION public.sets_local() RETURNS text LANGUAGE sql AS $$SELECT set_config('a.b', 'c', true)$$",
		"CREATE FUNCTION public.atomic() RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT set_config('a.b', 'c', false); END",
		"CREATE FUNCTION public.atomic_calls() RETURNS text LANGUAGE sql STABLE BEGIN ATOMIC SELECT public.sets(); END",
		"CREATE FUNCTION public.locks() RETURNS int LANGUAGE sql AS 'SELECT pg_advisory_lock(1); SELECT 1'",
		"CREATE PROCEDURE public.makes() LANGUAGE plpgsql AS 'BEGIN CREATE TEMP TABLE x (a int); END'",
		"CREATE PROCEDURE public.plain() LANGUAGE plpgsql AS 'BEGIN INSERT INTO t VALUES (1); COMMIT; END'",
		"CREATE FUNCTION public.dynamic() RETURNS void LANGUAGE plpgsql AS $$BEGIN EXECUTE 'SELECT 1'; END$$",
		"CREATE FUNCTION public.dynamic_set() RETURNS void LANGUAGE plpgsql AS $$BEGIN EXECUTE format('SET x.y = %L', 1); END$$",
		"CREATE FUNCTION public.unread(text, text, bool) RETURNS text LANGUAGE internal AS 'set_config_by_name'",
		"CREATE FUNCTION public.alias(int, int) RETURNS int LANGUAGE internal AS 'int4pl'",
		"CREATE FUNCTION public.wraps() RETURNS text LANGUAGE sql STABLE AS 'SELECT sets()'",
		"CREATE FUNCTION public.wraps_twice() RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN public.wraps(); END'",
		`CREATE FUNCTION public."Odd Name"() RETURNS int LANGUAGE sql AS 'SELECT locks()'`,
		`CREATE FUNCTION public.wraps_odd() RETURNS int LANGUAGE sql STABLE AS 'SELECT "Odd Name"()'`,
		"CREATE FUNCTION public.connects() RETURNS text LANGUAGE sql STABLE AS $$SELECT dblink_connect('c', '')$$",
		"CREATE FUNCTION public.defaulted(a text DEFAULT set_config('a.b', 'c', false)) RETURNS text LANGUAGE sql STABLE AS 'SELECT $1'",
		"CREATE FUNCTION public.step(int, int) RETURNS int LANGUAGE sql AS 'SELECT locks()'",
		"CREATE AGGREGATE public.sum_locks(int) (SFUNC = public.step, STYPE = int)",
		trigger("triggered", "on_triggered", "BEGIN PERFORM wraps_twice(); RETURN new; END"),
		trigger("harmless", "on_harmless", "BEGIN new.a := set_config('a.b', 'c', true); RETURN new; END"),
		trigger("part_of", "on_part", "BEGIN CREATE TEMP TABLE IF NOT EXISTS seen (a int); RETURN new; END"),
		"CREATE TABLE public.parted (a int) PARTITION BY LIST (a)", "ALTER TABLE public.parted ATTACH PARTITION public.part_of DEFAULT",
		"CREATE VIEW public.v_triggered AS SELECT * FROM public.triggered",
		"CREATE FUNCTION public.writes_triggered() RETURNS void LANGUAGE sql AS 'INSERT INTO triggered VALUES (1)'",
		"CREATE FUNCTION public.reads_triggered() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM triggered'",
		"CREATE VIEW public.v_sets AS SELECT public.sets() FROM public.t",
		"CREATE VIEW public.v_nested AS SELECT * FROM public.v_sets",
		"CREATE VIEW public.v_built_in AS SELECT set_config('a.b', s, false), setseed(a)::text AS s2 FROM public.t",
		"CREATE TABLE public.ruled (a int)", "CREATE RULE r AS ON INSERT TO public.ruled DO ALSO SELECT public.sets()",
		"CREATE TABLE public.ruled_on (a int)", "CREATE RULE r AS ON DELETE TO public.ruled_on DO ALSO INSERT INTO public.triggered VALUES (1)",
		"CREATE TABLE public.filled (a int DEFAULT public.locks(), b text DEFAULT set_config('a.b', 'c', false))",
		"CREATE TABLE public.checked (a int CHECK (a < public.locks()))",
		"CREATE FUNCTION public.twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * locks()'",
		"CREATE TABLE public.computed (a int, b int GENERATED ALWAYS AS (public.twice(a)) STORED)",
		"CREATE TABLE public.indexed (a int)", "CREATE INDEX ON public.indexed (public.twice(a))",
		"CREATE TABLE public.secret (a int)", "CREATE POLICY p ON public.secret FOR SELECT USING (public.sets() <> '')",
		"CREATE TABLE public.audited (a int)", "CREATE POLICY p ON public.audited FOR INSERT WITH CHECK (public.sets() <> '')",
		"CREATE TABLE public.father (a int PRIMARY KEY)", "CREATE TABLE public.child (a int REFERENCES public.father ON DELETE CASCADE)",
		"CREATE TRIGGER x AFTER DELETE ON public.child FOR EACH ROW EXECUTE FUNCTION public.on_triggered()",
		"CREATE FUNCTION public.same(int, text) RETURNS bool LANGUAGE sql AS 'SELECT locks() = 1'",
		"CREATE OPERATOR public.=== (LEFTARG = int, RIGHTARG = text, FUNCTION = public.same)",
		"CREATE FUNCTION public.compares() RETURNS bool LANGUAGE sql STABLE AS $$SELECT 1 OPERATOR(public.===) 'x'$$",
		"CREATE FUNCTION public.positive(int) RETURNS bool LANGUAGE sql AS 'SELECT $1 > locks()'",
		"CREATE DOMAIN public.amount AS int CHECK (public.positive(VALUE))", "CREATE TABLE public.amounts (a public.amount[])",
		"CREATE FUNCTION public.row_locks(public.rowed) RETURNS int LANGUAGE sql STABLE AS 'SELECT locks()'",
	)
	facts, err := load(t.Context(), asker{conn})
	if err != nil {
		t.Fatal(err)
	}
	classifier := pgsql.New(pgsql.Options{ReadFunctions: []string{"public.sets"}})
	for sql, want := range map[string]pgsql.Traces{
		"SELECT nothing()":                  0,
		"SELECT sets()":                     sets,
		"SELECT public.sets()":              0, // read_functions
		"SELECT sets_local()":               0,
		"SELECT atomic()":                   sets,
		"SELECT atomic_calls()":             sets,
		"SELECT locks()":                    holds,
		"CALL makes()":                      holds,
		"CALL plain()":                      0,
		"SELECT dynamic()":                  runs,
		"SELECT dynamic_set()":              sets | runs,
		"SELECT unread('a.b', 'c', false)":  unread,
		"SELECT alias(1, 2)":                0,
		"SELECT similarity('a', 'b')":       0,
		"SELECT wraps()":                    sets,
		"SELECT wraps_twice()":              sets,
		`SELECT "Odd Name"()`:               holds,
		"SELECT wraps_odd()":                holds,
		"SELECT set_limit(0.5)":             stays,
		"SELECT dblink_connect('')":         stays,
		"SELECT dblink('', '')":             0,
		"SELECT connects()":                 stays,
		"SELECT defaulted()":                sets,
		"SELECT sum_locks(a) FROM t":        holds,
		"SELECT * FROM triggered":           0,
		"INSERT INTO triggered SELECT":      sets,
		"UPDATE public.triggered SET a = 1": sets,
		"COPY triggered FROM STDIN":         sets,
		"MERGE INTO triggered x USING t ON x.a = t.a WHEN NOT MATCHED THEN INSERT VALUES (1)": sets,
		"INSERT INTO harmless VALUES (1)":                 0,
		"INSERT INTO part_of VALUES (1)":                  holds,
		"INSERT INTO parted VALUES (1)":                   holds,
		"INSERT INTO v_triggered VALUES (1)":              sets,
		"SELECT * FROM v_triggered":                       0,
		"SELECT writes_triggered()":                       sets,
		"SELECT reads_triggered()":                        0,
		"SELECT * FROM v_sets":                            sets,
		"SELECT * FROM v_nested":                          sets,
		"SELECT * FROM v_built_in":                        sets | stays,
		"INSERT INTO ruled VALUES (1)":                    sets,
		"SELECT * FROM ruled":                             0,
		"DELETE FROM ruled_on":                            sets,
		"INSERT INTO filled DEFAULT VALUES":               sets | holds,
		"SELECT * FROM filled":                            0,
		"INSERT INTO checked VALUES (1)":                  holds,
		"INSERT INTO computed VALUES (1)":                 holds,
		"INSERT INTO indexed VALUES (1)":                  holds,
		"SELECT * FROM secret":                            sets,
		"SELECT * FROM audited":                           0,
		"INSERT INTO audited VALUES (1)":                  sets,
		"DELETE FROM father":                              sets,
		"SELECT * FROM father":                            0,
		"SELECT 1 === 'x'":                                holds,
		"SELECT compares()":                               holds,
		"SELECT 1::amount":                                holds,
		"INSERT INTO amounts VALUES ('{1}')":              holds,
		"SELECT x.row_locks FROM rowed x":                 holds,
		"DO $$BEGIN PERFORM wraps_twice(); END$$":         sets,
		"DO $$BEGIN INSERT INTO parted VALUES (1); END$$": holds,
		"DO $$BEGIN PERFORM * FROM parted; END$$":         0,
		"CREATE TABLE fresh (a int)":                      0,
	} {
		if got := facts.Leaves(classifier.Classify([]byte(sql))); got != want {
			t.Errorf("%s: %b, want %b", sql, got, want)
		}
	}
	for sql, want := range map[string]Verdict{
		"SELECT wraps_twice()": Function, "SELECT public.alias(1, 2)": Function, "SELECT * FROM v_nested": Relation, "SELECT * FROM secret": Relation,
		"SELECT reads_triggered()": Function, "SELECT * FROM triggered": Reads, "SELECT compares()": Function, "SELECT 1": Reads,
	} {
		if got := facts.Judge(classifier.Classify([]byte(sql))); got != want {
			t.Errorf("%s: %v, want %v", sql, got, want)
		}
	}
	do := classifier.Classify([]byte("DO $$BEGIN CREATE TEMP TABLE x (a int); PERFORM sets(); END$$"))
	if got := (*Facts)(nil).Leaves(do); got != holds {
		t.Errorf("without facts: %b", got)
	}
	class := classifier.Classify([]byte("INSERT INTO t SELECT a FROM triggered WHERE a = 1"))
	if n := testing.AllocsPerRun(100, func() { facts.Leaves(class) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestEventTriggersAndCastsOfBuiltInTypesReachManyStatements(t *testing.T) {
	conn := database(t, "leaves_all", "CREATE TABLE public.t (a int)",
		"CREATE FUNCTION public.notes() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN SET a.b = 1; END'",
		"CREATE EVENT TRIGGER x ON ddl_command_end EXECUTE FUNCTION public.notes()",
		"CREATE FUNCTION public.odd(point) RETURNS int LANGUAGE sql AS 'SELECT pg_advisory_lock(1); SELECT 1'",
		"CREATE CAST (point AS int) WITH FUNCTION public.odd(point)")
	facts, err := load(t.Context(), asker{conn})
	if err != nil {
		t.Fatal(err)
	}
	for sql, want := range map[string]pgsql.Traces{"SELECT a FROM t": holds, "CREATE TABLE x (a int)": sets | holds} {
		if got := facts.Leaves(pgsql.New(pgsql.Options{}).Classify([]byte(sql))); got != want {
			t.Errorf("%s: %b, want %b", sql, got, want)
		}
	}
}

func TestTheWordThatStandsForAName(t *testing.T) {
	for name, want := range map[string]string{"f": "f", "Odd Name": "odd", `"x$y`: "x", "===": "===", "ünder_1": "ünder_1", "ÜNDER": "Ünder"} {
		if got := firstWord(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func BenchmarkLeaves(b *testing.B) {
	facts := &Facts{functions: leftovers{"g": {1, 1}}, tables: leftovers{"u": {1, 1}}}
	class := pgsql.New(pgsql.Options{}).Classify([]byte("UPDATE pgbench_accounts SET abalance = 1 WHERE aid = 1"))
	for b.Loop() {
		facts.Leaves(class)
	}
}
