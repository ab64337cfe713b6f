package pgsql

import (
	"reflect"
	"strings"
	"testing"
)

func classOf(sql string) *Class { return New(Options{}).ClassifyExact([]byte(sql)) }

func TestTransactionStatements(t *testing.T) {
	type facts struct {
		TxOnly, TxEndOnly, TxEndCommit, SetTxOnly, TxReadOnly, TxReadWrite, Serializable bool
		Isolation                                                                        string
	}
	for sql, want := range map[string]facts{
		"BEGIN":                       {TxOnly: true},
		"begin ;":                     {TxOnly: true},
		"START TRANSACTION READ ONLY": {TxOnly: true, TxReadOnly: true},
		"BEGIN READ WRITE":            {TxOnly: true, TxReadWrite: true},
		"BEGIN READ ONLY, READ WRITE": {TxOnly: true, TxReadWrite: true},
		"BEGIN READ WRITE READ ONLY":  {TxOnly: true, TxReadOnly: true},
		"BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY": {
			TxOnly: true, TxReadOnly: true, Serializable: true, Isolation: "serializable",
		},
		"BEGIN ISOLATION LEVEL READ COMMITTED": {TxOnly: true, Isolation: "read committed"},
		"BEGIN; SELECT 1":                      {},
		"BEGIN; BEGIN":                         {},
		"COMMIT":                               {TxEndOnly: true, TxEndCommit: true},
		"END WORK":                             {TxEndOnly: true, TxEndCommit: true},
		"ROLLBACK":                             {TxEndOnly: true},
		"ABORT":                                {TxEndOnly: true},
		"COMMIT AND CHAIN":                     {},
		"COMMIT PREPARED 'x'":                  {},
		"PREPARE TRANSACTION 'x'":              {},
		"COMMIT; COMMIT":                       {},
		"ROLLBACK TO a":                        {},
		"SET TRANSACTION READ ONLY":            {SetTxOnly: true, TxReadOnly: true},
		"SET TRANSACTION SNAPSHOT 'x'":         {SetTxOnly: true},
		"SET TRANSACTION READ ONLY; SELECT 1":  {TxReadOnly: true},
		"SET LOCAL transaction_read_only = on": {TxReadOnly: true},
		"SET transaction_read_only TO 'no'":    {TxReadWrite: true},
		"SET TRANSACTION ISOLATION LEVEL SERIALIZABLE": {
			SetTxOnly: true, Serializable: true, Isolation: "serializable",
		},
	} {
		c := classOf(sql)
		got := facts{
			c.TxOnly, c.TxEndOnly, c.TxEndCommit, c.SetTxOnly, c.Effects&TxReadOnly != 0, c.TxReadWrite, c.Serializable,
			c.Isolation,
		}
		if got != want {
			t.Errorf("%s\n got %+v\nwant %+v", sql, got, want)
		}
	}
}

func TestSettingsAreNamedWithTheirValue(t *testing.T) {
	known := func(name, value string) Setting { return Setting{Name: name, Value: value, Known: true} }
	for sql, want := range map[string][]Setting{
		"SET work_mem = '64MB'":               {known("work_mem", "64MB")},
		"SET Work_Mem TO 64":                  {known("work_mem", "64")},
		"SET a.b = -1.5":                      {known("a.b", "-1.5")},
		"SET enable_sort = FALSE":             {known("enable_sort", "false")},
		`SET search_path = a, "B", 'c"d', ''`: {known("search_path", `a, "B", "c""d", ""`)},
		"SET datestyle = iso, mdy":            {known("datestyle", "iso, mdy")},
		"SET TIME ZONE 'UTC'":                 {known("timezone", "UTC")},
		"SET TIME ZONE DEFAULT":               {{Name: "timezone", Reset: true}},
		"SET NAMES 'latin1'":                  {known("client_encoding", "latin1")},
		"SET ROLE r":                          {known("role", "r")},
		"RESET ROLE":                          {{Name: "role", Reset: true}},
		"SET SESSION AUTHORIZATION 'u'":       {known("session_authorization", "u"), {Name: "role", Reset: true}},
		"RESET SESSION AUTHORIZATION":         {{Name: "session_authorization", Reset: true}, {Name: "role", Reset: true}},
		"SET ROLE r; SET LOCAL SESSION AUTHORIZATION u": {
			known("role", "r"), {Name: "session_authorization", Value: "u", Known: true, Local: true}, {Name: "role", Local: true, Reset: true},
		},
		"SET LOCAL a.b = 'c'":      {{Name: "a.b", Value: "c", Known: true, Local: true}},
		"SET LOCAL a.b TO DEFAULT": {{Name: "a.b", Local: true, Reset: true}},
		"RESET ALL":                {{Reset: true, All: true}},
		"DISCARD ALL":              {{Reset: true, All: true}},
		"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY, NOT DEFERRABLE": {
			known("default_transaction_read_only", "on"), known("default_transaction_deferrable", "off"),
		},
		"SELECT set_config('A.b', 'c', false)":                       {known("a.b", "c")},
		"SELECT set_config('a.b', 'c', 't'::bool)":                   {{Name: "a.b", Value: "c", Known: true, Local: true}},
		"SELECT set_config('a.b', 'c', false) WHERE x":               {{Name: "a.b"}},
		"SELECT set_config('a.b', $1, true)":                         {{Name: "a.b", Local: true, Param: 1}},
		"SELECT set_config('a.b', $2::text, false)":                  {{Name: "a.b", Param: 2}},
		"SELECT set_config('a.b', $1, false) FROM t":                 {{Name: "a.b"}},
		"SELECT set_config('a', set_config('b', 'c', false), false)": {{Name: "a"}, {Name: "b"}},
		"SET a.b = 'c'; SET a.d = 'e'":                               {known("a.b", "c"), known("a.d", "e")},
		"SET a.b = 'caf\xe9'":                                        {{Name: "a.b"}},
	} {
		c := classOf(sql)
		literal := c.ConstDependent || strings.HasPrefix(sql, "DISCARD")
		if !reflect.DeepEqual(c.Settings, want) || c.SettingsUnknown || c.Effects&Settings == 0 || !literal {
			t.Errorf("%s\n got %+v unknown=%t const=%t\nwant %+v", sql, c.Settings, c.SettingsUnknown, c.ConstDependent, want)
		}
	}
}

func TestSettingsThatTheTextDoesNotTell(t *testing.T) {
	for _, sql := range []string{
		"SELECT set_config($1, 'a', false)", "SELECT set_config(a, b, false) FROM t", "SELECT set_config('a')",
		"SELECT set_config(is_local => true, setting_name => 'a', new_value => 'b')",
		"UPDATE pg_settings SET setting = 'b' WHERE name = 'a'", "DO $$ $$", "CALL p()", "EXECUTE q", "no such statement",
		"PREPARE q AS SELECT set_config('a', 'b', false)", "SELECT query_to_xml('SELECT 1', true, true, '')",
	} {
		if c := classOf(sql); !c.SettingsUnknown || c.PlainRead() || c.Pins()&Settings == 0 {
			t.Errorf("%s: settings are thought known", sql)
		}
	}
	for _, sql := range []string{
		"CREATE FUNCTION f() RETURNS int LANGUAGE sql SET a = 'b' RETURN 1", "ALTER ROLE r SET a = 'b'",
		"ALTER SYSTEM SET a = 'b'", "ALTER DATABASE d SET a = 'b'", "EXPLAIN SELECT set_config('a', 'b', false)",
		"CREATE VIEW v AS SELECT set_config('a', 'b', false)",
	} {
		if c := classOf(sql); c.Effects&Settings != 0 || c.SettingsUnknown || c.Settings != nil {
			t.Errorf("%s: changes settings", sql)
		}
	}
}

func TestPinsAndWhatEndsThem(t *testing.T) {
	for sql, want := range map[string][2]Effects{
		"LISTEN a":                               {Listen, 0},
		"UNLISTEN *":                             {0, Listen},
		"UNLISTEN a":                             {0, 0},
		"LISTEN a; UNLISTEN *":                   {0, Listen},
		"UNLISTEN *; LISTEN a":                   {Listen, 0},
		"CLOSE ALL":                              {0, HoldCursor},
		"CLOSE c":                                {0, 0},
		"DEALLOCATE ALL":                         {0, SQLPrepare},
		"DISCARD TEMP":                           {0, Temp},
		"DISCARD SEQUENCES":                      {0, Sequence},
		"DISCARD ALL":                            {0, Temp | Listen | AdvisoryLock | HoldCursor | SQLPrepare | Sequence},
		"SELECT pg_advisory_unlock_all()":        {0, AdvisoryLock},
		"SELECT pg_advisory_unlock_all(), 1":     {0, 0},
		"SELECT pg_advisory_unlock_all() FROM t": {0, 0},
		"SELECT pg_advisory_lock(1)":             {AdvisoryLock, 0},
		"SELECT pg_advisory_xact_lock(1)":        {0, 0},
		"CREATE TEMP TABLE x (a int)":            {Temp, 0},
		"LOAD 'x'":                               {Load, 0},
		"SELECT setseed(0)":                      {Load, 0},
		"PREPARE q AS SELECT 1":                  {SQLPrepare, 0},
		"EXECUTE q":                              {SQLPrepare | Settings, 0},
		"DO $$ $$":                               {Unknown | Settings, 0},
		"SELEC":                                  {Unknown | Settings, 0},
		"SELECT f()":                             {0, 0},
		"INSERT INTO t VALUES (nextval('s'))":    {0, 0},
	} {
		c := classOf(sql)
		if got := [2]Effects{c.Pins(), c.Ends}; got != want {
			t.Errorf("%s: pins %s, ends %s; want %s, %s", sql, got[0], got[1], want[0], want[1])
		}
	}
}

func TestNamesAreFoldedAndNotRepeated(t *testing.T) {
	c := classOf(`SELECT Lower(A), LOWER(b), "Up"(c), s.F(d), db.s.g(e) FROM T, t AS u, S."V", db.s.w,
		(WITH x AS (SELECT 1 FROM x) SELECT * FROM x, y) z`)
	if want := []string{"lower", "Up", "s.f", "s.g"}; !reflect.DeepEqual(c.Functions, want) {
		t.Errorf("functions %v, want %v", c.Functions, want)
	}
	if want := []string{"Up", "s.f", "s.g"}; !reflect.DeepEqual(c.Unproven, want) {
		t.Errorf("unproven %v, want %v", c.Unproven, want)
	}
	if want := []string{"t", "s.V", "s.w", "x", "y"}; !reflect.DeepEqual(c.Relations, want) {
		t.Errorf("relations %v, want %v", c.Relations, want)
	}
}

func TestNamesOfWithAreSeenWhereTheyAreInScope(t *testing.T) {
	for sql, want := range map[string]string{
		"WITH a AS (SELECT 1) SELECT * FROM a":                                 "",
		"WITH a AS (SELECT * FROM a) SELECT * FROM a":                          "a",
		"WITH RECURSIVE a AS (SELECT 1 UNION SELECT * FROM a) TABLE a":         "",
		"WITH a AS (SELECT * FROM b), b AS (SELECT 1) SELECT * FROM a, b":      "b",
		"SELECT * FROM (WITH a AS (SELECT 1) TABLE a) x, a":                    "a",
		"WITH a AS (SELECT 1) INSERT INTO a SELECT * FROM a":                   "a",
		"WITH a AS (SELECT 1) SELECT * FROM s.a":                               "s.a",
		"WITH a AS (SELECT 1) SELECT (SELECT 1 FROM a WHERE EXISTS (TABLE a))": "",
		"WITH a AS (SELECT 1) DELETE FROM t USING a":                           "t",
		"(WITH a AS (SELECT 1) TABLE a) UNION TABLE a":                         "a",
	} {
		if got := strings.Join(classOf(sql).Relations, " "); got != want {
			t.Errorf("%s: %q, want %q", sql, got, want)
		}
	}
}

func TestGlobsOverrideWhatAFunctionIsTakenFor(t *testing.T) {
	c := New(Options{
		ReadFunctions:  []string{"app.get_*", "f", "nextval", "pg_advisory_lock", "["},
		WriteFunctions: []string{"lower", "app.get_and_set", "x?"},
	})
	for sql, plain := range map[string]bool{
		"SELECT app.get_a()":         true,
		"SELECT get_a()":             false,
		"SELECT s.f(), f()":          true,
		"SELECT nextval('s')":        true,
		"SELECT pg_advisory_lock(1)": false,
		"SELECT lower(a) FROM t":     false,
		"SELECT upper(a) FROM t":     true,
		"SELECT app.get_and_set()":   false,
		"SELECT s.x1()":              false,
		"SELECT g()":                 false,
	} {
		if got := c.Classify([]byte(sql)).PlainRead(); got != plain {
			t.Errorf("%s: plain read %t", sql, got)
		}
	}
}

func TestAnUnprovenFunctionIsInDoubtAndNotAWrite(t *testing.T) {
	c := classOf("SELECT f(a) FROM t")
	if c.PlainRead() || !c.MaybeRead() || !c.MayWrite() || c.Effects != Read {
		t.Errorf("got %+v", c)
	}
	if c = classOf("UPDATE t SET a = f(a)"); c.MaybeRead() || !c.MayWrite() {
		t.Errorf("got %+v", c)
	}
}

func TestTheRouteHintIsTheLeadingComments(t *testing.T) {
	for sql, want := range map[string]string{
		"/* route: primary */ SELECT 1":                 "primary",
		"/*route:replica*/SELECT 1":                     "replica",
		" -- route: Replica\n SELECT 1":                 "replica",
		"/* app */ /* ROUTE: PRIMARY */ SELECT 1":       "primary",
		"SELECT 1 /* route: primary */":                 "",
		"/* route: elsewhere */ SELECT 1":               "",
		"/* see route: primary */ SELECT 1":             "",
		"/* route: primary */ INSERT INTO t VALUES (1)": "primary",
		"/* route: primary */ no such statement":        "primary",
	} {
		c := New(Options{})
		for range 2 {
			for _, class := range []*Class{c.Classify([]byte(sql)), c.ClassifyExact([]byte(sql))} {
				if class.Route != want || want != "" && !class.ConstDependent {
					t.Errorf("%s: route %q, want %q", sql, class.Route, want)
				}
			}
			if class := c.Classify([]byte("SELECT 1")); class.Route != "" {
				t.Errorf("the hint of %q is on another text", sql)
			}
		}
	}
}

func TestPreparedAndShownNames(t *testing.T) {
	for sql, want := range map[string]string{
		"PREPARE a AS SELECT 1": "a", "EXECUTE A(1)": "a", `DEALLOCATE "B"`: "B", "DEALLOCATE ALL": "",
		"EXPLAIN ANALYZE EXECUTE a": "a", "PREPARE a AS SELECT 1; EXECUTE a; EXECUTE b": "a b",
	} {
		if got := strings.Join(classOf(sql).Prepared, " "); got != want {
			t.Errorf("%s: %q, want %q", sql, got, want)
		}
	}
	for sql, want := range map[string]string{
		"SHOW ALL": "all", "SHOW Search_Path": "search_path", "SHOW TIME ZONE": "timezone", "SHOW SESSION AUTHORIZATION": "session_authorization",
		"SHOW a; SELECT 1": "", "SHOW fairway.lsn": "fairway.lsn",
	} {
		if got := classOf(sql).Show; got != want {
			t.Errorf("%s: %q, want %q", sql, got, want)
		}
	}
}

func TestFingerprintsDifferOnlyWithTheStatement(t *testing.T) {
	c := New(Options{})
	same := []string{
		"SELECT a FROM t WHERE b = 1", "select a  from t where b = 'x'; "[:29], "SELECT a FROM t /* c */ WHERE b = 22",
		"SELECT a FROM t WHERE b = 1 -- d",
	}
	same[1] = "select a  from t\nwhere b = 3"
	want := c.Classify([]byte(same[0])).Fingerprint
	for _, sql := range same {
		if got := c.ClassifyExact([]byte(sql)).Fingerprint; got != want {
			t.Errorf("%s has another fingerprint", sql)
		}
	}
	for _, sql := range []string{"SELECT a FROM t WHERE c = 1", "SELECT a FROM t", "garbage", ""} {
		if c.ClassifyExact([]byte(sql)).Fingerprint == want {
			t.Errorf("%s has the same fingerprint", sql)
		}
	}
	if want != fingerprint([]byte("select a from t where b = \x01")) || want == 0 {
		t.Error("the fingerprint is not that of the key")
	}
}

func TestNamesOfEffectsAndKinds(t *testing.T) {
	if got := (Read | RowLock).String(); got != "read|rowlock" {
		t.Error(got)
	}
	if Effects(0).String() != "none" || Unknown.String() != "unknown" || 1<<(len(effectNames)-1) != Unknown {
		t.Error("the names of the effects do not fit the constants")
	}
	seen := map[string]bool{}
	for k := KindTransaction; k <= KindUnknown; k++ {
		seen[k.String()] = true
	}
	if len(seen) != 8 || Kind(99).String() != "unknown" {
		t.Errorf("kinds %v", seen)
	}
}
