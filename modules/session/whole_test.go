package session

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fairwaydb/fairway/modules/cluster"
)

// wholeSessions makes a proxy one of pool mode session with one server connection for each backend.
func wholeSessions(c *cluster.Config, _ *Options) {
	c.Pool = &cluster.PoolConfig{Mode: "session", Size: 1}
}

func TestASessionModeClientKeepsItsServerConnection(t *testing.T) {
	p := startProxy(t, pg, wholeSessions)
	c := p.connect(t, "work_mem=3MB")
	table(t, p, c, "whole", "a int")
	pid := value[int](t, c, "select pg_backend_pid()")
	for _, sql := range []string{
		"set work_mem = '4MB'", "create temp table mine (a int)", "listen whole", "select pg_advisory_lock(77)", "prepare p as select 7 as a",
		"declare h cursor with hold for select generate_series(1, 5)",
	} {
		exec(t, c, sql)
	}
	exec(t, c, "insert into mine values (1)")
	if got := value[string](t, c, "show work_mem"); got != "4MB" {
		t.Errorf("work_mem %s", got)
	}
	if got := value[int](t, c, "execute p", pgx.QueryExecModeSimpleProtocol); got != 7 {
		t.Errorf("execute gave %d", got)
	}
	if value[bool](t, c, "select pg_is_in_recovery() from whole union all select pg_is_in_recovery() limit 1") {
		t.Error("a read ran on a replica")
	}
	exec(t, c, "begin read only")
	if got := value[int](t, c, "select pg_backend_pid() from mine"); got != pid {
		t.Errorf("BEGIN READ ONLY moved from %d to %d", pid, got)
	}
	exec(t, c, "commit")
	exec(t, c, "create temp sequence counter")
	exec(t, c, "select nextval('counter'), nextval('counter')")
	if got := value[int](t, c, "select currval('counter')"); got != 2 {
		t.Errorf("currval %d", got)
	}
	exec(t, c, "reset work_mem")
	if got := value[string](t, c, "show work_mem"); got != "3MB" {
		t.Errorf("work_mem after RESET: %s, not the startup packet's", got)
	}
	exec(t, c, "notify whole, 'hello'")
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Second)
	defer stop()
	if n, err := c.WaitForNotification(ctx); err != nil || n.Payload != "hello" {
		t.Fatalf("notification %v, %v", n, err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}

	next := p.connect(t, "") // waits for the only connection, which is cleaned
	if got := value[int](t, next, "select pg_backend_pid()"); got != pid {
		t.Errorf("the connection was not used again: %d, not %d", got, pid)
	}
	var traces int
	const left = `select (select count(*) from pg_prepared_statements where name = 'p') + (select count(*) from pg_cursors where name = 'h') +
		(select count(*) from pg_locks where locktype = 'advisory' and objid = 77) + (select count(*) from pg_listening_channels()) +
		(select count(*) from pg_class where relname = 'mine' and pg_table_is_visible(oid))`
	if err := next.QueryRow(t.Context(), left).Scan(&traces); err != nil || traces != 0 {
		t.Errorf("%d traces of the client before, %v", traces, err)
	}
	if got := value[string](t, next, "show work_mem"); got != "4MB" { // the default
		t.Errorf("work_mem %s", got)
	}
	exec(t, next, "discard all")
	if got := value[int](t, next, "select pg_backend_pid()", pgx.QueryExecModeSimpleProtocol); got != pid {
		t.Error("DISCARD ALL gave the connection up")
	}
}

func TestASessionModeClientInATransactionLeavesNothing(t *testing.T) {
	p := startProxy(t, pg, wholeSessions)
	c := p.connect(t, "")
	table(t, p, c, "whole_tx", "a int")
	exec(t, c, "begin")
	exec(t, c, "insert into whole_tx values (1)")
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := p.connect(t, "")
	if n := value[int](t, next, "select count(*) from whole_tx"); n != 0 {
		t.Errorf("%d rows", n)
	}
}

func TestASessionModeClientHearsOfTheLossOfItsConnection(t *testing.T) {
	p := startProxy(t, pg, wholeSessions)
	c := p.connect(t, "")
	pid := value[int](t, c, "select pg_backend_pid()")
	if _, err := pg.Primary().Query(t.Context(), "select pg_terminate_backend("+strconv.Itoa(pid)+")"); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := c.Exec(t.Context(), "select 1"); err != nil {
			sqlstate(t, err, "57P01")
			return
		}
	}
}

// One port may be in another mode than the cluster.
func TestAListenerHasItsOwnPoolMode(t *testing.T) {
	whole := cluster.PoolSession
	p := startProxy(t, pg, func(_ *cluster.Config, o *Options) { o.PoolMode = &whole })
	c := p.connect(t, "")
	exec(t, c, "set statement_timeout = '7s'")
	exec(t, c, "create temp table t (a int)")
	if got := value[string](t, c, "show statement_timeout"); got != "7s" {
		t.Errorf("statement_timeout %s", got)
	}
	if got := value[int](t, c, "select count(*) from t"); got != 0 {
		t.Errorf("%d rows", got)
	}
}

func TestSessionModeWaitsForAConnectionAsTransactionModeDoes(t *testing.T) {
	p := startProxy(t, pg, func(c *cluster.Config, o *Options) {
		wholeSessions(c, o)
		c.Pool.WaitTimeout = 300_000_000
	})
	first, second := p.connect(t, ""), p.connect(t, "")
	exec(t, first, "select 1")
	_, err := second.Exec(t.Context(), "select 1")
	sqlstate(t, err, "53300")
	if err := first.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	exec(t, second, "select 1")
}
