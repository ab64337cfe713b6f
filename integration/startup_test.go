package integration_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// libpq runs a program with psycopg, which brings the newest libpq along; what it prints is returned.
func libpq(t *testing.T, program string, args ...string) string {
	t.Helper()
	path := os.Getenv("FAIRWAY_PYTHON")
	if path == "" {
		var err error
		if path, err = filepath.Abs("../.build/venv/bin/python"); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), path, append([]string{"-c", program}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v (run `make .build/venv/ready`, or set FAIRWAY_PYTHON to an interpreter with psycopg):\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// beside serves the shared servers on one more address, with options of the handler.
func beside(t *testing.T, name string, handler map[string]any) *site {
	t.Helper()
	return serve(t, name, shared.servers, func(s *site) { s.handler = handler })
}

// several is a connection string that names several sites.
func several(attributes string, sites ...*site) string {
	var hosts, ports []string
	for _, s := range sites {
		ip, port, _ := net.SplitHostPort(s.addr)
		hosts, ports = append(hosts, ip), append(ports, port)
	}
	return fmt.Sprintf("host=%s port=%s user=%s dbname=%s sslmode=disable target_session_attrs=%s",
		strings.Join(hosts, ","), strings.Join(ports, ","), appRole, appRole, attributes)
}

// TestLibpqOfEachProtocolVersion logs in, cancels and logs out with the newest libpq.
func TestLibpqOfEachProtocolVersion(t *testing.T) {
	const program = `
import sys, threading, psycopg
for version, full in (("3.0", 30000), ("3.2", 30002), ("latest", 30002)):
    with psycopg.connect(sys.argv[1] + " max_protocol_version=" + version, autocommit=True) as c:
        assert c.pgconn.full_protocol_version == full, c.pgconn.full_protocol_version
        timer = threading.Timer(0.3, c.cancel_safe)
        timer.start()
        try:
            c.execute("select pg_sleep(20)")
            print("not cancelled")
        except psycopg.errors.QueryCanceled:
            print(version)
        timer.join()
`
	if got := libpq(t, program, shared.connString(appRole, appRole)); got != "3.0\n3.2\nlatest" {
		t.Errorf("got %s", got)
	}
}

// TestLibpqChoosesAmongPorts gives libpq several addresses and lets it find the one it wants.
func TestLibpqChoosesAmongPorts(t *testing.T) {
	replica := beside(t, "readonly", map[string]any{"route": "replica"})
	primary := beside(t, "primaryonly", map[string]any{"route": "primary"})
	const program = `
import sys, psycopg
with psycopg.connect(sys.argv[1]) as c:
    print(c.info.port, c.info.parameter_status("in_hot_standby"), c.execute("show transaction_read_only").fetchone()[0])
`
	for _, tt := range []struct {
		attributes string
		sites      []*site
		want       *site
	}{
		{"any", []*site{replica, shared}, replica},
		{"read-write", []*site{replica, shared}, shared},
		{"primary", []*site{replica, primary}, primary},
		{"read-only", []*site{shared, replica}, replica},
		{"standby", []*site{primary, replica}, replica},
		{"prefer-standby", []*site{shared, replica}, replica},
		{"prefer-standby", []*site{shared, primary}, shared},
	} {
		_, port, _ := net.SplitHostPort(tt.want.addr)
		want := port + " off off"
		if tt.want == replica {
			want = port + " on on"
		}
		if got := libpq(t, program, several(tt.attributes, tt.sites...)); got != want {
			t.Errorf("%s: got %s, want %s", tt.attributes, got, want)
		}
	}
	c := replica.connect(t, "")
	if !value[bool](t, c, "select pg_is_in_recovery()") {
		t.Error("not on a standby")
	}
	if _, err := c.Exec(t.Context(), "create table nowhere (a int)"); sqlstate(err) != "25006" {
		t.Errorf("a write on a read-only port: %v", err)
	}
	if value[bool](t, primary.connect(t, ""), "select pg_is_in_recovery()") {
		t.Error("on a standby")
	}
}

// TestStartupOptionsOfLibpq asks for settings in every way libpq has.
func TestStartupOptionsOfLibpq(t *testing.T) {
	const program = `
import sys, os, psycopg
os.environ["PGOPTIONS"] = "-c work_mem=3MB"
def show(extra, *names):
    with psycopg.connect(sys.argv[1] + " " + extra) as c:
        print(*(c.execute("show " + n).fetchone()[0] for n in names))
show("", "work_mem")
show("options='-c work_mem=4MB --statement-timeout=7s'", "work_mem", "statement_timeout")
show("client_encoding=latin1 application_name=here", "client_encoding", "application_name")
for bad in ("-c nothing_such=1", "-c work_mem=much", "-c port=1"):
    try:
        psycopg.connect(sys.argv[1] + " options='" + bad + "'")
    except psycopg.OperationalError as e:
        print(str(e).split("FATAL:")[1].strip().splitlines()[0])
`
	want := strings.Join([]string{
		"3MB", "4MB 7s", "LATIN1 here", `unrecognized configuration parameter "nothing_such"`, `invalid value for parameter "work_mem": "much"`,
		`parameter "port" cannot be changed without restarting the server`,
	}, "\n")
	if got := libpq(t, program, shared.connString(appRole, appRole)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
