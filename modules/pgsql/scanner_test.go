package pgsql

import (
	"fmt"
	"strings"
	"testing"

	pgquery "github.com/pganalyze/pg_query_go/v6"
)

// lexed returns the tokens of a text, joined by blanks between bars; "!" ends it where there is none.
func lexed(sql string) string {
	l := lexer{src: []byte(sql)}
	var out []string
	for {
		switch l.next() {
		case tokEnd:
			return strings.Join(out, " | ")
		case tokBad:
			return strings.Join(append(out, "!"), " | ")
		}
		out = append(out, sql[l.start:l.end])
	}
}

func TestTextsAreCutIntoPostgreSQLsTokens(t *testing.T) {
	for sql, want := range map[string]string{
		"":                              "",
		" \t\n\r\f":                     "",
		"select a.b":                    "select | a | . | b",
		"é_1$ b":                        "é_1$ | b",
		`"a""b" "c`:                     `"a""b" | !`,
		"'a''b' 'c'":                    "'a''b' | 'c'",
		`'a\' b`:                        `'a\' | b`,
		`E'a\'b' e'\\'`:                 `E'a\'b' | e'\\'`,
		`e'\`:                           "!",
		"'a'\n'b' c":                    "'a'\n'b' | c",
		"'a' -- x\n  'b' c":             "'a' -- x\n  'b' | c",
		"'a' /* x */\n'b'":              "'a' | 'b'",
		"E'a'\n'b\\'c'":                 "E'a'\n'b\\'c'",
		"B'0' x'f' N'a' n 'b'":          "B'0' | x'f' | N | 'a' | n | 'b'",
		`U&'\0041' u&"d" U & 'a' u&b`:   `U&'\0041' | u&"d" | U | & | 'a' | u | & | b`,
		"$$a$b$$ $a$ $$ $b$ $a$ $1 $12": "$$a$b$$ | $a$ $$ $b$ $a$ | $1 | $12",
		"$a":                            "!",
		"$a$b$a":                        "!",
		"$1a":                           "!",
		"a$b$c":                         "a$b$c",
		"1 1.5 .5 1. 1e5 1.5E-3 1e+2":   "1 | 1.5 | .5 | 1. | 1e5 | 1.5E-3 | 1e+2",
		"0x1F 0b01 0o17 1_000 0x_1":     "0x1F | 0b01 | 0o17 | 1_000 | 0x_1",
		"1a":                            "!",
		"1e":                            "!",
		"1_":                            "!",
		"1__0":                          "!",
		"0x":                            "!",
		"0xg":                           "!",
		"1..2":                          "!",
		"a[1:2]":                        "a | [ | 1 | : | 2 | ]",
		"a::b := c .. d => e":           "a | :: | b | := | c | .. | d | => | e",
		"a--b\nc":                       "a | c",
		"a/*b/*c*/d*/e":                 "a | e",
		"a/*b/*c*/":                     "a | !",
		"/**/a/***/b/*/*/c*/d*/e":       "a | b | e",
		"1+-2":                          "1 | + | - | 2",
		"a*-b @-c @- -d":                "a | * | - | b | @- | c | @- | - | d",
		"a<>b!=c<=d->>e":                "a | <> | b | != | c | <= | d | ->> | e",
		"a+/*x*/-b +--c\n1":             "a | + | - | b | + | 1",
		"a ?| b @> c #>> d":             "a | ?| | b | @> | c | #>> | d",
		"a \\ b":                        "a | !",
		"a\x01b":                        "a | !",
		"a\x00":                         "a | !",
		"{":                             "!",
	} {
		if got := lexed(sql); got != want {
			t.Errorf("%q\n got %s\nwant %s", sql, got, want)
		}
	}
}

// theirs returns the tokens of PostgreSQL's own scanner in the form of lexed.
func theirs(sql string) (string, error) {
	result, err := scan(sql)
	if err != nil {
		return "", fmt.Errorf("scan: %w", err)
	}
	var out []string
	for _, token := range result.GetTokens() {
		switch token.GetToken() {
		case pgquery.Token_SQL_COMMENT, pgquery.Token_C_COMMENT:
		default:
			out = append(out, sql[token.GetStart():token.GetEnd()])
		}
	}
	return strings.Join(out, " | "), nil
}

func TestTheScannerAgreesWithPostgreSQLs(t *testing.T) {
	for _, s := range corpus(t) {
		want, err := theirs(s.sql)
		got := lexed(s.sql)
		if err != nil {
			if !strings.HasSuffix(got, "!") {
				t.Errorf("%q\n got %s\nwant an error", s.sql, got)
			}
			continue
		}
		if got != want && !strings.HasSuffix(got, "!") {
			t.Errorf("%q\n got %s\nwant %s", s.sql, got, want)
		}
	}
}

func keyOf(sql string) (string, keyUse) {
	key, _, use := appendKey(nil, []byte(sql))
	return strings.NewReplacer("\x01", "#", "\x02", "$", "\x03", "%").Replace(string(key)), use
}

func TestKeysLeaveOutWhatDoesNotMatter(t *testing.T) {
	for sql, want := range map[string]string{
		"SELECT 1":             "select #",
		" Select\n A  From T ": "select a from t",
		`SELECT "A"`:           `select "A"`,
		"SELECT 'a', E'b\\'', $$c$$, B'1', 1.5e3": "select $,$,$,%,#",
		"SELECT a/*x*/b -- y":                     "select a b",
		"SELECT a FROM t WHERE b IN (1, 2,3)":     "select a from t where b in (#)",
		"b IN ('a')":                              "b in ($)",
		"b IN (1, 'a', 2)":                        "b in (#,$,#)",
		"b IN (-1, +2, 3)":                        "b in (#)",
		"b IN (- 1, 2)":                           "b in (- #,#)",
		"b IN (1, -a)":                            "b in (#,-a)",
		"VALUES (1, 'a'), (2, 'b'), (3, 'c')":     "values (#,$)",
		"VALUES (1, 'a'), (2, NULL), (3, 'c')":    "values (#,$),(#,null),(#,$)",
		"VALUES (1), (2, 3), (4)":                 "values (#)",
		"f(1) + (2)":                              "f(#) + (#)",
		"f(1,)":                                   "f(#,)",
		"f(,1)":                                   "f(,#)",
		"f(1,,1)":                                 "f(#,,#)",
		"f()":                                     "f()",
		"(1)(1)":                                  "(#)(#)",
		"a = $1 AND b=$2":                         "a = $1 and b=$2",
		"a*-1":                                    "a*-#",
		"numeric(10, 2)":                          "numeric(#)",
		"interval '1' day":                        "interval $ day",
		"a[1]":                                    "a[#]",
		"a ; b":                                   "a; b",
		"INSERT INTO t (a , b) VALUES ( 1 , now() )": "insert into t (a,b) values (#,now())",
	} {
		if got, use := keyOf(sql); got != want || use != keyShare {
			t.Errorf("%s\n got %s (%d)\nwant %s", sql, got, use, want)
		}
	}
}

func TestKeysAreNotSharedInDoubt(t *testing.T) {
	for sql, want := range map[string]keyUse{
		`SELECT 'a\b'`:                     keyPrint,
		`SELECT E'a\b'`:                    keyShare,
		"/* route: primary */ SELECT 1":    keyPrint,
		"SELECT 1 -- ROUTE:replica":        keyPrint,
		"/* trace: x route: y */ SELECT 1": keyPrint,
		"/* reroute = 1 : */ SELECT 1":     keyShare,
		"SELECT 'route:'":                  keyShare,
		"SELECT U&'a' UESCAPE '!'":         keyPrint,
		`SELECT U&"a" UESCAPE '!'`:         keyPrint,
		"SELECT N'a'":                      keyPrint,
		"SELECT 'a'\n'b'":                  keyPrint,
		"SELECT 'a' 'b'":                   keyPrint,
		"SELECT 1 2":                       keyPrint,
		"SELECT 0x10":                      keyPrint,
		"SELECT 1_000":                     keyPrint,
		"SELECT\v1":                        keyPrint,
		"SELECT 'a":                        keyNone,
		"SELECT \x01":                      keyNone,
		"SELECT 1a":                        keyNone,
	} {
		if _, use := keyOf(sql); use != want {
			t.Errorf("%q: %d, want %d", sql, use, want)
		}
	}
}

func TestPlaceholdersCannotBeWrittenByAClient(t *testing.T) {
	c := New(Options{})
	c.Classify([]byte("SELECT a FROM t WHERE b = 1"))
	if class := c.Classify([]byte("SELECT a FROM t WHERE b = \x01")); class.Effects != Unknown {
		t.Errorf("got %s", class.Effects)
	}
}

func TestBackslashesFollowStandardConformingStrings(t *testing.T) {
	c := New(Options{})
	for _, test := range []struct{ sql, on, off string }{
		{`SELECT 'a\'; DELETE FROM t; --'`, "read|write", "read"},
		{`SELECT '\'' ; DELETE FROM t --'`, "read", "read|write"},
		{`SELECT 'it\'s' FROM t`, "unknown", "read"},
		{`SELECT 'C:\dir' FROM t`, "read", "read"},
		{`SELECT a FROM t WHERE b LIKE 'x' ESCAPE '\'`, "read", "unknown"},
		{`SELECT N'it\'s'`, "unknown", "read"},
		{`SELECT n 'it\'s'`, "unknown", "read"},
		{`SELECT'it\'s'`, "unknown", "read"},
		{"SELECT 'a'\n'it\\'s'", "unknown", "read"},
		{`SELECT E'it\'s'`, "read", "read"},
		{`SELECT $$\'$$`, "read", "read"},
		{`SELECT U&'\0041'`, "read", "unknown"},
		{`SELECT "a\b" FROM t`, "read", "read"},
		{`SELECT /* \' */ 1`, "read", "read"},
	} {
		if got := c.Classify([]byte(test.sql)).Effects.String(); got != test.on {
			t.Errorf("on: %s: %s, want %s", test.sql, got, test.on)
		}
		if got := c.ClassifyNonConforming([]byte(test.sql)).Effects.String(); got != test.off {
			t.Errorf("off: %s: %s, want %s", test.sql, got, test.off)
		}
	}
	if got := c.ClassifyNonConforming([]byte(`SET a = 'b\\c'`)).Settings[0].Value; got != `b\c` {
		t.Errorf("value %q", got)
	}
	if got := c.Classify([]byte(`SET a = 'b\\c'`)).Settings[0].Value; got != `b\\c` {
		t.Errorf("value %q", got)
	}
}

func TestTextsTooDeepForTheParserAreUnknown(t *testing.T) {
	c := New(Options{})
	nest := func(before, open, middle, shut, after string) func(n int) string {
		return func(n int) string {
			return before + strings.Repeat(open, n) + middle + strings.Repeat(shut, n) + after
		}
	}
	for name, text := range map[string]func(int) string{
		"parentheses": nest("SELECT ", "(", "1", ")", ""),
		"calls":       nest("SELECT ", "abs(", "1", ")", ""),
		"subqueries":  nest("SELECT ", "(SELECT ", "1", ")", ""),
		"from":        nest("SELECT 1 ", "FROM (SELECT 1 ", "", ") x", ""),
		"with":        nest("", "WITH x AS (", "SELECT 1", ") SELECT 1", ""),
		"arrays":      nest("SELECT ARRAY", "[", "1", "]", ""),
		"plus":        nest("SELECT 1", " + 1", "", "", ""),
		"casts":       nest("SELECT 1", "::int", "", "", ""),
		"not":         nest("SELECT ", "NOT ", "true", "", ""),
		"minus":       nest("SELECT ", "- ", "1", "", ""),
		"between":     nest("SELECT ", "a BETWEEN 1 AND NOT ", "b", "", ""),
		"case":        nest("SELECT ", "CASE WHEN a AND b THEN - ", "1", " END", ""),
		"is":          nest("SELECT a", " IS NULL", "", "", ""),
		"collate":     nest("SELECT a", ` COLLATE "C"`, "", "", ""),
		"zone":        nest("SELECT a", " AT TIME ZONE b", "", "", ""),
		"operator":    nest("SELECT a", " OPERATOR(pg_catalog.+) b", "", "", ""),
		"union":       nest("SELECT 1", " UNION ALL SELECT a, b", "", "", ""),
		"join":        nest("SELECT 1 FROM a", " JOIN b ON c AND d", "", "", ""),
		"in":          nest("SELECT a", " IN (1)", "", "", ""),
	} {
		if got := c.Classify([]byte(text(2 * maxNesting))).Effects; got != Unknown {
			t.Errorf("%s: %s when twice as deep as allowed", name, got)
		}
		if got := c.Classify([]byte(text(maxNesting / 4))).Effects; got&Unknown != 0 && name != "in" && name != "is" {
			t.Errorf("%s: %s when a quarter as deep as allowed", name, got)
		}
		// At the bound the parser must not run out of stack.
		c.Classify([]byte(text(maxNesting - 10)))
		c.Classify([]byte(text(maxNesting/2 - 10)))
		c.Classify([]byte(text(maxNesting/3 - 10)))
	}
}

func TestLongTextsThatAreFlatAreParsed(t *testing.T) {
	list := func(item, separator string) string {
		return strings.Repeat(item+separator, 5000) + item
	}
	c := New(Options{})
	for name, test := range map[string]struct {
		sql  string
		want Effects
	}{
		"list":   {"SELECT a FROM t WHERE b IN (" + list("1", ", ") + ")", Read},
		"or":     {"SELECT a FROM t WHERE " + list("b = 1", " OR "), Read},
		"and":    {"SELECT a FROM t WHERE " + list("b + c < 1", " AND "), Read},
		"rows":   {"INSERT INTO t VALUES " + list("(-1, 'a' || b, now())", ", "), Write | Read},
		"when":   {"UPDATE t SET a = CASE " + list("WHEN b = 1 THEN c + 2", " ") + " ELSE 0 END", Write},
		"script": {list("UPDATE t SET a = a + 1 WHERE b = 2", "; "), Write},
		"select": {"SELECT " + list("a + b * c - d", ", ") + " FROM t", Read},
	} {
		if got := c.Classify([]byte(test.sql)).Effects; got != test.want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestTextsOverTheLimitAreKnownOnlyIfTheyAreOnePlainInsertOrCopy(t *testing.T) {
	c := New(Options{ParseLimit: 8})
	for sql, want := range map[string]Effects{
		"INSERT INTO t VALUES (1, 'a', $1, NULL, -1.5, true, DEFAULT)":    Write,
		"insert into S.t (a, \"B\") values (1, E'a\\'b'), ($$c$$, x'1');": Write,
		"INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING":                 Write,
		"COPY t FROM STDIN":                                            Write | CopyIn,
		"COPY s.t (a) FROM STDIN WITH (FORMAT csv)":                    Write | CopyIn,
		"INSERT INTO t VALUES (f())":                                   Unknown,
		"INSERT INTO t VALUES (nextval('s'))":                          Unknown,
		"INSERT INTO t SELECT * FROM u":                                Unknown,
		"INSERT INTO t VALUES (1); DELETE FROM u":                      Unknown,
		"INSERT INTO t VALUES (1) RETURNING f()":                       Unknown,
		"INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 1": Unknown,
		"INSERT INTO pg_temp.t VALUES (1)":                             Unknown,
		`INSERT INTO t VALUES ('a\')`:                                  Unknown,
		"INSERT INTO t VALUES (- a)":                                   Unknown,
		"INSERT INTO t VALUES (1":                                      Unknown,
		"INSERT INTO":                                                  Unknown,
		"INSERT INTO t (a VALUES (1)":                                  Unknown,
		"COPY t TO STDOUT":                                             Unknown,
		"COPY t FROM '/x'":                                             Unknown,
		"COPY t FROM STDIN; SELECT 1":                                  Unknown,
		"COPY t FROM STDIN 'a":                                         Unknown,
		"SELECT 1, 2, 3":                                               Unknown,
		"WITH a AS (SELECT 1) INSERT INTO t VALUES (1)":                Unknown,
	} {
		for _, class := range []*Class{c.Classify([]byte(sql)), c.ClassifyExact([]byte(sql))} {
			if class.Effects != want {
				t.Errorf("%s: %s, want %s", sql, class.Effects, want)
			}
		}
	}
	if got := c.Classify([]byte(`/* route: primary */ INSERT INTO S."T" VALUES (1)`)); got.Relations[0] != "s.T" ||
		got.Route != "primary" || got.Statements != 1 || got.PlainRead() {
		t.Errorf("%+v", got)
	}
	if c.Stats().Entries != 0 {
		t.Error("a text over the limit is remembered")
	}
}

func TestBytesThatAreNotTextAreUnderstoodOrUnknown(t *testing.T) {
	for sql, want := range map[string]Effects{
		"SELECT 'caf\xe9' FROM t":            Read,
		"SELECT caf\xe9 FROM t\xff":          Read,
		"DELETE FROM t WHERE a = '\xc3\x28'": Write,
		"SELECT 1\x00; DELETE FROM t":        Unknown,
		"\x00":                               Unknown,
		"SELECT '\x00'":                      Unknown,
		"\xff":                               Unknown,
		"\xef\xbb\xbfSELECT 1":               Unknown,
	} {
		if got := classOf(sql).Effects; got != want {
			t.Errorf("%q: %s, want %s", sql, got, want)
		}
	}
}
