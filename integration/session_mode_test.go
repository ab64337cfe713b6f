package integration_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgtest"
)

// TestSessionModePortBesideATransactionModePort has a program that keeps everything in its session use one port, while the other
// port of the same cluster shares its server connections.
func TestSessionModePortBesideATransactionModePort(t *testing.T) {
	whole := beside(t, "wholesessions", map[string]any{"pool_mode": "session"})
	const program = `
import sys, psycopg
with psycopg.connect(sys.argv[1] + " application_name=keeps", autocommit=True, prepare_threshold=1) as c:
    pid = c.execute("select pg_backend_pid()").fetchone()[0]
    c.execute("listen kept")
    c.execute("create temp table kept (a int)")
    c.execute("prepare kept as select count(*) from kept")
    c.execute("select pg_advisory_lock(4711)")
    c.execute("set work_mem = '7MB'")
    c.execute("do $$ begin perform set_config('my.thing', 'in a function', false); end $$")
    for i in range(5):
        with c.transaction():
            c.execute("insert into kept values (%s)", (i,))
    with psycopg.connect(sys.argv[1], autocommit=True) as other:
        other.execute("notify kept, 'hello'")
        print(other.execute("select pg_try_advisory_lock(4711)").fetchone()[0])
    print([n.payload for n in c.notifies(timeout=10, stop_after=1)])
    print(c.execute("execute kept").fetchone()[0], c.execute("show work_mem").fetchone()[0], c.execute("show my.thing").fetchone()[0])
    print(c.execute("select pg_backend_pid()").fetchone()[0] == pid)
with psycopg.connect(sys.argv[1], autocommit=True) as c:
    print(c.execute("select pg_try_advisory_lock(4711)").fetchone()[0], c.execute("show work_mem").fetchone()[0],
        c.execute("select to_regclass('kept')").fetchone()[0])
`
	want := "False\n['hello']\n5 7MB in a function\nTrue\nTrue 4MB None"
	if got := libpq(t, program, whole.connString(appRole, appRole)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}

	shared.table(t, "both_modes", "a int")
	balanced, kept := shared.connect(t, ""), whole.connect(t, "")
	await(t, 10*time.Second, "a read of the other port is balanced", func() (string, bool) {
		standby := value[bool](t, balanced, "select pg_is_in_recovery() from (select count(*) from both_modes) c")
		return fmt.Sprint(standby), standby
	})
	if value[bool](t, kept, "select pg_is_in_recovery() from (select count(*) from both_modes) c") {
		t.Error("a read in session mode ran on a replica")
	}
}

// TestPgbenchInSessionMode holds as many server connections as there are clients, and gives them all back.
func TestPgbenchInSessionMode(t *testing.T) {
	s := serve(t, "benchwhole", shared.servers, func(s *site) { s.config.Pool = &cluster.PoolConfig{Mode: "session", Size: 4} })
	s.initBench(t)
	host, port, _ := strings.Cut(s.addr, ":")
	for _, mode := range []string{"simple", "extended", "prepared"} {
		out, err := program(t.Context(), t, "pgbench", "-n", "-M", mode, "-c", "4", "-j", "2", "-t", "50", "-h", host, "-p", port,
			"-U", benchRole, benchRole).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "200/200") || !strings.Contains(string(out), "failed transactions: 0") {
			t.Errorf("pgbench -M %s: %v\n%s", mode, err, out)
		}
	}
	// Each of the runs took what the one before had given back: four are enough for all.
	await(t, 10*time.Second, "no more than four server connections", func() (string, bool) {
		n, err := shared.servers.Primary().Value(t.Context(), "select count(*) from pg_stat_activity where usename = '"+benchRole+"' and application_name <> 'pgbench'")
		return n, err == nil && len(n) == 1 && n <= "4"
	})
}

// TestSessionModeAndTheEndOfTheServer restarts the primary under clients of session mode: those who hold a connection are told, as by
// a server, and new ones are served.
func TestSessionModeAndTheEndOfTheServer(t *testing.T) {
	s := startSite(t, pgtest.Options{}, func(s *site) { s.config.Pool = &cluster.PoolConfig{Mode: "session"} })
	held, idle := s.connect(t, ""), s.connect(t, "")
	do(t, held, "select 1")
	if err := s.servers.Primary().Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := held.Exec(t.Context(), "select 1"); sqlstate(err) != "57P01" {
		t.Errorf("the client that held a connection got %v", err)
	}
	do(t, idle, "select 1") // has not had one yet
	do(t, s.connect(t, ""), "select 1")
}
