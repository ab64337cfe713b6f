package session

import (
	"slices"
	"strings"
	"testing"

	"github.com/fairwaydb/fairway/modules/pgsql"
	"github.com/fairwaydb/fairway/modules/pgwire"
)

func TestDifferenceOfSettings(t *testing.T) {
	for _, c := range []struct {
		name     string
		from, to map[string]string
		sql      string
		safe     bool
	}{
		{"nothing to do", map[string]string{"work_mem": "1MB"}, map[string]string{"work_mem": "1MB"}, "", true},
		{"one more", nil, map[string]string{"work_mem": "1MB"}, "SELECT pg_catalog.set_config('work_mem','1MB',false)", true},
		{"one less", map[string]string{"work_mem": "1MB"}, nil, `RESET "work_mem";`, true},
		{"a qualified name", map[string]string{"app.user": "x"}, nil, `RESET "app"."user";`, false},
		{"another value", map[string]string{"timezone": "UTC"}, map[string]string{"timezone": "GMT"}, "SELECT pg_catalog.set_config('timezone','GMT',false)", true},
		{
			"the session's user before its role", nil,
			map[string]string{"role": "r", "session_authorization": "s"},
			"SELECT pg_catalog.set_config('session_authorization','s',false),pg_catalog.set_config('role','r',false)", false,
		},
		{
			"what only some may set before the role",
			map[string]string{"role": "q"},
			map[string]string{"role": "r", "track_functions": "all"},
			"RESET role;SELECT pg_catalog.set_config('track_functions','all',false),pg_catalog.set_config('role','r',false)", false,
		},
		{
			"the role stays while others change",
			map[string]string{"role": "r"},
			map[string]string{"role": "r", "work_mem": "1MB"},
			"SELECT pg_catalog.set_config('work_mem','1MB',false)", true,
		},
		{"quotes", nil, map[string]string{"a.b": `it's \ it`}, `SELECT pg_catalog.set_config('a.b', E'it''s \\ it',false)`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			sql, safe := difference(newSettings(c.from), newSettings(c.to))
			if sql != c.sql || safe != c.safe {
				t.Errorf("got %s (safe %v), want %s (safe %v)", sql, safe, c.sql, c.safe)
			}
		})
	}
}

func TestSettingsWithTheSameContentHaveTheSameKey(t *testing.T) {
	a := newSettings(map[string]string{"a": "1", "b": "2"})
	two := "2"
	b := noSettings.with(map[string]*string{"b": &two}).with(map[string]*string{"a": new(string)})
	if a.key == b.key {
		t.Error("different values, same key")
	}
	one := "1"
	if b = b.with(map[string]*string{"a": &one}); a.key != b.key {
		t.Errorf("keys %q and %q", a.key, b.key)
	}
	if a.with(map[string]*string{"a": nil, "b": nil}) != noSettings {
		t.Error("nothing left is not noSettings")
	}
}

func TestOptionWords(t *testing.T) {
	for in, want := range map[string][]string{
		"": nil, "  ": nil, "-c a=b": {"-c", "a=b"}, "-ca=b --c=d": {"-ca=b", "--c=d"}, `-c a=b\ c`: {"-c", "a=b c"}, `a\\b`: {`a\b`},
		"\t-c\n a=b ": {"-c", "a=b"}, `a\`: {"a"},
	} {
		if got := optionWords(in); !slices.Equal(got, want) {
			t.Errorf("%q gives %q, want %q", in, got, want)
		}
	}
}

func TestStartupSettings(t *testing.T) {
	asked, err := startupSettings([]pgwire.Param{
		{Name: "user", Value: "u"}, {Name: "DateStyle", Value: "ISO"}, {Name: "options", Value: "-c work-mem=1MB --datestyle=German"},
	})
	want := []pgwire.Param{{Name: "work_mem", Value: "1MB"}, {Name: "datestyle", Value: "German"}, {Name: "DateStyle", Value: "ISO"}}
	if err != nil || !slices.Equal(asked, want) {
		t.Errorf("got %v, %v", asked, err)
	}
	if set := settingsOf(asked); set.value("datestyle") != "ISO" || set.value("work_mem") != "1MB" || len(set.list) != 2 {
		t.Errorf("in force: %v", set)
	}
	for _, bad := range []string{"-x", "-c", "-c a", "--a", "word", "-e -- word", "-f", "-fz", "-tx", "-d"} {
		if _, err := startupSettings([]pgwire.Param{{Name: "options", Value: bad}}); err == nil || err.Code != pgwire.CodeSyntaxError {
			t.Errorf("options %q: %v", bad, err)
		}
	}
}

func TestApplicationNamesAreCleanedAsTheServerDoes(t *testing.T) {
	long := strings.Repeat("x", 62)
	for _, tt := range []struct{ name, before16, since16 string }{
		{"psql", "psql", "psql"},
		{"caf\u00e9\t", "caf???", `caf\xc3\xa9\x09`},
		{long + "yz", long + "y", long + "y"},
		{long + "\u00e9", long, long},
	} {
		if got := cleanASCII(tt.name, false); got != tt.before16 {
			t.Errorf("%q became %q", tt.name, got)
		}
		if got := cleanASCII(tt.name, true); got != tt.since16 {
			t.Errorf("%q became %q", tt.name, got)
		}
	}
	for version, want := range map[string]int{"15.18 (Debian 15.18-0)": 15, "9.6.1": 9, "18beta1": 18, "": 0} {
		if got := major(version); got != want {
			t.Errorf("%q: %d", version, got)
		}
	}
}

func TestFirstWord(t *testing.T) {
	for in, want := range map[string]string{
		"begin": "begin", " \n\tstart transaction": "start", "-- x\nBEGIN": "BEGIN", "/* a /* b */ c */ end": "end", "/* open": "", "": "", ";;commit;": "commit",
	} {
		if got := string(firstWord([]byte(in))); got != want {
			t.Errorf("%q gives %q", in, got)
		}
	}
}

func TestClassesOfStatementsAreNeverChanged(t *testing.T) {
	shared := &pgsql.Class{Settings: []pgsql.Setting{{Name: "a"}}, Unproven: []string{"f"}}
	other := &pgsql.Class{Settings: []pgsql.Setting{{Name: "b"}}, Unproven: []string{"g"}}
	var b batch
	b.classes = append(b.classes, shared)
	b.strict()
	b.reset()
	b.classes = append(b.classes, other, other)
	b.class()
	if shared.Settings[0].Name != "a" || shared.Unproven[0] != "f" {
		t.Errorf("a class that sessions share became %+v", shared)
	}
}

func TestRepliesOfAFailedSegment(t *testing.T) {
	var q replies
	for _, e := range []expect{expectParse, expectBind, expectSync, expectBind} {
		q.push(reply{expect: e})
	}
	removed, synced := q.failSegment(nil)
	if len(removed) != 2 || !synced {
		t.Errorf("removed %d, Sync %v", len(removed), synced)
	}
	q.pop()
	if removed, synced = q.failSegment(nil); len(removed) != 1 || synced || !q.empty() {
		t.Errorf("removed %d, Sync %v", len(removed), synced)
	}
	for _, e := range []expect{expectExecute, expectSync, expectSync} {
		q.push(reply{expect: e})
	}
	if dropped, fed := q.dropSyncs(); !dropped || fed {
		t.Error("a COPY swallows the Syncs before its data")
	}
	if dropped, _ := q.dropSyncs(); dropped {
		t.Error("there were more Syncs")
	}
	q.push(reply{expect: expectSync})
	q.fed()
	if dropped, fed := q.dropSyncs(); dropped || !fed {
		t.Error("a COPY swallows the Sync behind its data")
	}
}

func FuzzQuoting(f *testing.F) {
	f.Add(`it's`)
	f.Add(`a\'; drop table x; --`)
	f.Add("\\")
	f.Fuzz(func(t *testing.T, s string) {
		q := quoteLiteral(s)
		body, escaped := strings.CutPrefix(q, " E'")
		if !escaped {
			body = strings.TrimPrefix(q, "'")
		}
		var back strings.Builder
		for i := 0; i < len(body); i++ {
			c := body[i]
			if escaped && c == '\\' {
				i++
				back.WriteByte(body[i])
				continue
			}
			if c != '\'' {
				back.WriteByte(c)
				continue
			}
			if i++; i == len(body) {
				break // the end of the constant
			}
			if body[i] != '\'' {
				t.Fatalf("%q ends early in %s", s, q)
			}
			back.WriteByte('\'')
		}
		if back.String() != s {
			t.Errorf("%q became %q through %s", s, back.String(), q)
		}
	})
}

func FuzzRowValues(f *testing.F) {
	f.Add([]byte("\x00\x02\x00\x00\x00\x01a\xff\xff\xff\xff"))
	f.Fuzz(func(_ *testing.T, body []byte) { rowValues(body) })
}

func TestEncodingsInWhichAQuoteMayBePartOfACharacter(t *testing.T) {
	for encoding, safe := range map[string]bool{
		"": true, "UTF8": true, "latin9": true, "EUC_JP": true, "SJIS": false, "Shift-JIS": false, "mskanji": false, "WIN950": false, "gb18030": false,
		"SHIFT_JIS_2004": false, "johab": false,
	} {
		if asciiSafe(encoding) != safe {
			t.Errorf("%q: safe %v", encoding, !safe)
		}
	}
}
