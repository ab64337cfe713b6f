package session

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairwaydb/fairway/modules/pgtest"
	"github.com/fairwaydb/fairway/modules/pgwire"
)

// greeted is what a server or a proxy says to a startup packet.
type greeted struct {
	negotiated []string          // every NegotiateProtocolVersion
	status     map[string]string // ParameterStatus
	order      []string          // the types of the messages, ParameterStatus once
	key        int               // length of the cancel key
	refusal    *pgwire.Error
}

// greet sends a startup packet and reads until ReadyForQuery or the end.
func greet(t *testing.T, addr string, version uint32, params ...pgwire.Param) greeted {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p := &peer{t: t, conn: conn, r: pgwire.NewReader(conn, nil, 8192), w: pgwire.NewWriter(conn, 8192)}
	p.w.Startup(version, params)
	p.flush()
	g := greeted{status: make(map[string]string)}
	for {
		typ, body := p.frame(20 * time.Second)
		if n := len(g.order); n == 0 || g.order[n-1] != string(typ) {
			g.order = append(g.order, string(typ))
		}
		switch typ {
		case pgwire.MsgNegotiateProtocolVersion:
			g.negotiated = append(g.negotiated, fmt.Sprintf("%q", body))
		case pgwire.MsgParameterStatus:
			name, value, err := pgwire.DecodeParameterStatus(body)
			if err != nil {
				t.Fatal(err)
			}
			g.status[string(name)] = string(value)
		case pgwire.MsgBackendKeyData:
			g.key = len(body) - 4
		case pgwire.MsgError:
			g.refusal = pgwire.ParseError(bytes.Clone(body))
		case pgwire.MsgReadyForQuery, 'X', 0:
			return g
		}
	}
}

// String shows everything two greetings are compared by.
func (g greeted) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "order %s negotiated %s key %d", strings.Join(g.order, ""), g.negotiated, g.key)
	if e := g.refusal; e != nil {
		fmt.Fprintf(&b, " refused: %s %s %q %q %q", e.Severity, e.Code, e.Message, e.Detail, e.Hint)
	}
	names := make([]string, 0, len(g.status))
	for name, value := range g.status {
		names = append(names, name+"="+value)
	}
	slices.Sort(names)
	return b.String() + " " + strings.Join(names, ",")
}

func param(pairs ...string) []pgwire.Param {
	list := []pgwire.Param{{Name: "user", Value: "postgres"}, {Name: "database", Value: "postgres"}}
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, pgwire.Param{Name: pairs[i], Value: pairs[i+1]})
	}
	return list
}

// startupCases are startup packets that a proxy answers as the server does. newest tells those whose answer depends on what the
// newest version of the protocol is.
var startupCases = []struct {
	name    string
	version uint32
	params  []pgwire.Param
	newest  bool
}{
	{"protocol 3.0", 3 << 16, param(), false},
	{"protocol 3.1, which was never released", 3<<16 | 1, param(), true},
	{"protocol 3.2", 3<<16 | 2, param(), true},
	{"protocol 3.3", 3<<16 | 3, param(), true},
	{"the version that tests forward compatibility", 3<<16 | 9999, param(), true},
	{"that version with an option that tests it too", 3<<16 | 9999, param("_pq_.test_protocol_negotiation", ""), true},
	{"a protocol option under 3.0", 3 << 16, param("_pq_.one", "on"), false},
	{"two protocol options under 3.2", 3<<16 | 2, param("_pq_.one", "on", "work_mem", "1MB", "_pq_.two", ""), true},
	{"a protocol option in capitals is a setting", 3 << 16, param("_PQ_.one", "on"), false},
	{"protocol 1", 1 << 16, nil, true},
	{"protocol 2", 2 << 16, param(), true},
	{"protocol 4", 4 << 16, param(), true},
	{"protocol 4 and a minor", 4<<16 | 7, param(), true},
	{"no user", 3 << 16, []pgwire.Param{{Name: "database", Value: "postgres"}}, false},
	{"an unknown version and no user", 3<<16 | 9999, []pgwire.Param{{Name: "_pq_.x", Value: ""}}, true},
	{"an unknown database", 3 << 16, []pgwire.Param{{Name: "user", Value: "postgres"}, {Name: "database", Value: "nowhere"}}, false},

	{"options -c", 3 << 16, param("options", "-c work_mem=2MB -c TimeZone=Asia/Tokyo"), false},
	{"options without a space", 3 << 16, param("options", "-cDateStyle=german"), false},
	{"options --name=value with dashes", 3 << 16, param("options", "--intervalstyle=iso_8601 --standard-conforming-strings=off"), false},
	{"options with escapes", 3 << 16, param("options", `-c application_name=a\ b\\c`), false},
	{"options that end in a backslash", 3 << 16, param("options", `-c application_name=a\`), false},
	{"options with tabs and line breaks", 3 << 16, param("options", "\t-c\n\tDateStyle=sql \v\f"), false},
	{"the switch for European dates", 3 << 16, param("options", "-e"), false},
	{"a switch with its value apart", 3 << 16, param("options", "-S 5000 -e"), false},
	{"switches that share a dash", 3 << 16, param("options", "-ec IntervalStyle=iso_8601"), false},
	{"planner switches", 3 << 16, param("options", "-fs -f h"), false},
	{"a planner switch that is none", 3 << 16, param("options", "-fx"), false},
	{"statistics switches", 3 << 16, param("options", "-tpl -s"), false},
	{"a statistics switch that is none", 3 << 16, param("options", "-tzz"), false},
	{"debug level", 3 << 16, param("options", "-d 2"), false},
	{"a switch for the whole server", 3 << 16, param("options", "-F"), false},
	{"the port as a switch", 3 << 16, param("options", "-p 99"), false},
	{"an unknown switch", 3 << 16, param("options", "-z"), false},
	{"a word that is no switch", 3 << 16, param("options", "-e work_mem=1MB"), false},
	{"-c without a value", 3 << 16, param("options", "-c work_mem"), false},
	{"-- without a value", 3 << 16, param("options", "--work-mem"), false},
	{"-c at the end", 3 << 16, param("options", "-c"), false},
	{"a parameter goes before the same in options", 3 << 16, param("IntervalStyle", "iso_8601", "options", "-c intervalstyle=sql_standard"), false},
	{"the last of two equal parameters", 3 << 16, param("IntervalStyle", "iso_8601", "intervalstyle", "sql_standard"), false},

	{"any setting", 3 << 16, param("timezone", "UTC", "EXTRA_FLOAT_DIGITS", "2", "search_path", `public, "A b"`), false},
	{"an unknown setting", 3 << 16, param("NoSuchSetting", "1"), false},
	{"an unknown setting in options", 3 << 16, param("options", "-c no_such_setting=1"), false},
	{"a custom setting", 3 << 16, param("my.own", "1"), false},
	{"a custom setting with a bad name", 3 << 16, param("my.0wn-x", "1"), false},
	{"a bad value", 3 << 16, param("work_mem", "lots"), false},
	{"a value out of range", 3 << 16, param("work_mem", "1"), false},
	{"a bad value of an enumeration", 3 << 16, param("bytea_output", "octal"), false},
	{"a bad time zone", 3 << 16, param("TimeZone", "Nowhere/There"), false},
	{"a setting of the server's start", 3 << 16, param("max_connections", "5"), false},
	{"a setting of the configuration file", 3 << 16, param("checkpoint_timeout", "5min"), false},
	{"a setting nobody can set", 3 << 16, param("server_version", "1"), false},
	{"the first of two errors counts", 3 << 16, param("zzz", "1", "aaa", "1"), false},
	{"errors in options come first", 3 << 16, param("aaa", "1", "options", "-c zzz=1"), false},
	{"an encoding by another name", 3 << 16, param("client_encoding", "utf-8"), false},
	{"another encoding", 3 << 16, param("client_encoding", "latin1"), false},
	{"an unknown encoding", 3 << 16, param("client_encoding", "klingon"), false},
	{"an application's name", 3 << 16, param("application_name", "report 7"), false},
	{"an application's name with other characters", 3 << 16, param("application_name", "caf\u00e9\x01 \xff"), false},
	{"a role", 3 << 16, param("role", "startup_other"), false},
	{"a role that does not exist", 3 << 16, param("role", "nobody_at_all"), false},
	{"a session authorization", 3 << 16, param("options", "-c session_authorization=startup_other"), false},
	{"a session authorization that does not exist", 3 << 16, param("session_authorization", "nobody_at_all"), false},
	{"replication that is no boolean", 3 << 16, param("replication", "maybe"), false},
	{"replication off", 3 << 16, param("replication", "off"), false},
	{"replication by a prefix of false", 3 << 16, param("replication", "fal"), false},
	{"a superuser's setting by another", 3 << 16, other("log_statement", "all"), false},
	{"a role without membership", 3 << 16, other("role", "postgres"), false},
	{"a session authorization by another", 3 << 16, other("session_authorization", "postgres"), false},
	{"a role's own settings", 3 << 16, other(), false},
	{"a role's own settings, one overridden", 3 << 16, other("application_name", "mine", "datestyle", "iso, ymd"), false},
}

func other(pairs ...string) []pgwire.Param {
	list := param(pairs...)
	list[0].Value = "startup_other"
	return list
}

const startupRoles = `CREATE ROLE startup_other LOGIN; ALTER ROLE startup_other SET DateStyle = 'german';
	ALTER ROLE startup_other SET application_name = 'of the role'`

func TestStartupIsAnsweredAsByPostgreSQL(t *testing.T) {
	newest, err := pgtest.Start(context.WithoutCancel(t.Context()), pgtest.Options{Version: "18.1.0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := newest.Close(); err != nil {
			t.Error(err)
		}
	})
	for name, servers := range map[string]*pgtest.Cluster{"18": newest, "installed": pg} {
		if err := servers.Primary().Exec(t.Context(), startupRoles); err != nil {
			t.Fatal(err)
		}
		if err := servers.WaitCaughtUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := servers.Primary().Exec(context.Background(), "DROP ROLE startup_other"); err != nil {
				t.Error(err)
			}
		})
		p := startProxy(t, servers, nil)
		for _, tt := range startupCases {
			if tt.newest && servers != newest {
				continue
			}
			t.Run(name+"/"+tt.name, func(t *testing.T) {
				want := greet(t, servers.Primary().Addr(), tt.version, tt.params...)
				for _, when := range []string{"first", "second"} { // from a server, from memory
					if got := greet(t, p.addr, tt.version, tt.params...); got.String() != want.String() {
						t.Errorf("%s login\nproxied: %s\ndirect:  %s", when, got, want)
					}
				}
			})
		}
	}
}

// A client of protocol 1 or 2 reads errors in another form.
func TestOldProtocolsAreRefusedInTheirOwnForm(t *testing.T) {
	p := startProxy(t, pg, nil)
	for version, want := range map[uint32]string{
		1 << 16: "EFATAL:  unsupported frontend protocol 1.0: server supports 3.0 to 3.", 2 << 16: "EFATAL:  unsupported frontend protocol 2.0: server supports 3.0 to 3.",
	} {
		for _, addr := range []string{p.addr, pg.Primary().Addr()} {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			w := pgwire.NewWriter(conn, 512)
			w.Startup(version, nil)
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			said, err := io.ReadAll(conn)
			if err != nil || !strings.HasPrefix(string(said), want) || !strings.HasSuffix(string(said), "\n\x00") {
				t.Errorf("%s said %q, %v", addr, said, err)
			}
			_ = conn.Close()
		}
	}
}

func TestCancelKeysOfBothLengths(t *testing.T) {
	p := startProxy(t, pg, nil)
	for version, want := range map[uint32]int{pgwire.Version30: 4, pgwire.Version32: 32} {
		seen := make(map[string]bool)
		for range 20 {
			c := dialVersion(t, p.addr, version)
			if len(c.key) != want || seen[string(c.key)] {
				t.Fatalf("version %x: key of %d bytes, seen before: %v", version, len(c.key), seen[string(c.key)])
			}
			seen[string(c.key)] = true
		}
		c := dialVersion(t, p.addr, version)
		c.w.Query("select pg_sleep(20)")
		c.flush()
		wrong := bytes.Clone(c.key)
		wrong[want-1] ^= 1
		for _, key := range [][]byte{wrong, append(bytes.Clone(c.key), 0)} {
			cancelAt(t, p.addr, c.pid, key)
			if typ, body := c.frame(200 * time.Millisecond); typ != 0 {
				t.Fatalf("a wrong key of %d bytes: %s", len(key), shown(typ, body))
			}
		}
		cancelAt(t, p.addr, c.pid, c.key)
		typ, body := c.frame(10 * time.Second)
		for typ == pgwire.MsgRowDescription {
			typ, body = c.frame(10 * time.Second)
		}
		if typ != pgwire.MsgError || pgwire.ParseError(body).Code != "57014" {
			t.Errorf("version %x: the right key brought %s", version, shown(typ, body))
		}
	}
}

// cancelAt sends a CancelRequest and waits until the other side closes.
func cancelAt(t *testing.T, addr string, pid uint32, key []byte) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	w := pgwire.NewWriter(conn, 512)
	w.CancelRequest(pid, key)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Fatal(err)
	}
}
