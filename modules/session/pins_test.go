package session

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fairwaydb/fairway/modules/cluster"
)

func TestPinsLeaveAPartOfThePoolToOthers(t *testing.T) {
	p := startProxy(t, pg, func(c *cluster.Config, _ *Options) { c.Pool = &cluster.PoolConfig{Size: 4, MaxPinned: 0.5} })
	a, b, c := p.connect(t, ""), p.connect(t, ""), p.connect(t, "")
	exec(t, a, "create temp table x (a int)")
	exec(t, b, "select pg_advisory_lock(77)")
	_, err := c.Exec(t.Context(), "listen ch")
	sqlstate(t, err, "53300")
	exec(t, c, "select 1") // it goes on
	exec(t, a, "discard all")
	_ = a.DeallocateAll(t.Context())
	exec(t, c, "listen ch")
}

// What lives in one server connection holds the session to it, and no longer.
func TestPinsEndWithWhatTheyWereFor(t *testing.T) {
	p := startProxy(t, pg, nil)
	maker := p.connect(t, "")
	for _, sql := range []string{
		"create table if not exists pinned (a serial)", "drop procedure if exists pin_plain()", "drop procedure if exists pin_temp()",
		"create procedure pin_plain() language plpgsql as 'begin insert into pinned default values; end'",
		"create procedure pin_temp() language plpgsql as 'begin create temp table pin_made (a int); end'",
		"create or replace function pin_sets() returns void language plpgsql as 'begin set pin.x = 1; end'",
		"create or replace function pin_lock() returns void language sql as 'select pg_advisory_lock(991)'",
		"create or replace function pin_writes() returns int language sql as 'insert into pinned default values returning a'",
	} {
		exec(t, maker, sql)
	}
	if err := pg.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.waitCatalog(t)
	for _, c := range []struct {
		name string
		sql  []string
		pins string
	}{
		{"a temporary table", []string{"create temp table pt (a int)"}, "temp"},
		{"dropped again", []string{"create temp table pt (a int)", "drop table pt"}, ""},
		{"two, one dropped", []string{"create temp table pt (a int)", "create temp table pt2 (a int)", "drop table pt"}, "temp"},
		{"that ends with its transaction", []string{"begin", "create temp table pt (a int) on commit drop", "commit"}, ""},
		{"in a transaction that is rolled back", []string{"begin", "create temp table pt (a int)", "rollback"}, ""},
		{"behind a savepoint that is rolled back", []string{"begin", "savepoint a", "create temp table pt (a int)", "rollback to a", "commit"}, ""},
		{"a temporary view", []string{"create temp view pv as select 1"}, "temp"},
		{"discarded", []string{"create temp table pt (a int)", "discard temp"}, ""},
		{"LISTEN", []string{"listen a"}, "listen"},
		{"UNLISTEN of one", []string{"listen a", "listen b", "unlisten a"}, "listen"},
		{"UNLISTEN of all", []string{"listen a", "unlisten *"}, ""},
		{"LISTEN rolled back", []string{"begin", "listen a", "rollback"}, ""},
		{"an advisory lock", []string{"select pg_advisory_lock(990)"}, "advisorylock"},
		{"unlocked", []string{"select pg_advisory_lock(990)", "select pg_advisory_unlock(990)"}, ""},
		{"locked twice, unlocked once", []string{"select pg_advisory_lock(990)", "select pg_advisory_lock(990)", "select pg_advisory_unlock(990)"}, "advisorylock"},
		{"a lock of the transaction", []string{"begin", "select pg_advisory_xact_lock(990)", "commit"}, ""},
		{"a cursor WITH HOLD", []string{"begin", "declare pc cursor with hold for select 1", "commit"}, "holdcursor"},
		{"closed", []string{"begin", "declare pc cursor with hold for select 1", "commit", "close pc"}, ""},
		{"PREPARE", []string{"prepare pp as select 1"}, "sqlprepare"},
		{"DEALLOCATE", []string{"prepare pp as select 1", "deallocate pp"}, ""},
		{"DISCARD ALL", []string{"create temp table pt (a int)", "listen a", "select pg_advisory_lock(990)", "discard all"}, ""},
		{"several", []string{"listen a", "prepare pp as select 1"}, "listen,sqlprepare"},
		{"setseed", []string{"select setseed(0.5)"}, "load"},
		{"a procedure that leaves nothing", []string{"call pin_plain()"}, ""},
		{"one that makes a temporary table", []string{"call pin_temp()"}, "temp"},
		{"DO that leaves nothing", []string{"do $$begin insert into pinned default values; end$$"}, ""},
		{"DO that locks", []string{"do $$begin perform pg_advisory_lock(990); end$$"}, "advisorylock"},
		{"DO that locks and unlocks", []string{"do $$begin perform pg_advisory_lock(990); perform pg_advisory_unlock(990); end$$"}, ""},
		{"DO that sets", []string{"do $$begin set pin.x = 1; end$$"}, "settings"},
		{"DO that sets and is rolled back", []string{"begin", "do $$begin set pin.x = 1; end$$", "rollback"}, ""},
		{"a function that sets", []string{"select pin_sets()"}, "settings"},
		{"a function that locks", []string{"select pin_lock()"}, "advisorylock"},
		{"a function that writes", []string{"select pin_writes()"}, ""},
		{"a statement that nobody understands, and the server neither", []string{"!frobnicate"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := p.connect(t, "")
			for _, sql := range c.sql {
				if sql[0] == '!' {
					if _, err := conn.Exec(t.Context(), sql[1:]); err == nil {
						t.Fatal("no error")
					}
					continue
				}
				exec(t, conn, sql, pgx.QueryExecModeSimpleProtocol)
			}
			listed(t, conn, func(i Info) bool {
				return i.State == stateIdle && strings.Join(i.Pins, ",") == c.pins && (i.Backend == "") == (c.pins == "")
			})
			if err := conn.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestAFailedTryForALockLeavesNoPin(t *testing.T) {
	p := startProxy(t, pg, nil)
	holder, other := p.connect(t, ""), p.connect(t, "")
	exec(t, holder, "select pg_advisory_lock(992)")
	if value[bool](t, other, "select pg_try_advisory_lock(992)") {
		t.Fatal("two sessions have the lock")
	}
	listed(t, other, func(i Info) bool { return i.State == stateIdle && len(i.Pins) == 0 && i.Backend == "" })
	exec(t, holder, "select pg_advisory_unlock(992)")
	if !value[bool](t, other, "select pg_try_advisory_lock(992)") {
		t.Fatal("nobody has the lock")
	}
	listed(t, other, func(i Info) bool { return strings.Join(i.Pins, ",") == "advisorylock" })
}

func TestLastvalWorksOnceASessionHasAskedForIt(t *testing.T) {
	p := startProxy(t, pg, nil)
	exec(t, p.connect(t, ""), "create table if not exists drawn (a serial)")
	a, b := p.connect(t, ""), p.connect(t, "")
	_, err := a.Exec(t.Context(), "select lastval()")
	sqlstate(t, err, "55000")
	for range 3 {
		want := value[int](t, a, "insert into drawn default values returning a")
		exec(t, b, "insert into drawn default values")
		if got := value[int](t, a, "select lastval()"); got != want {
			t.Errorf("lastval is %d, want %d", got, want)
		}
		if got := value[int](t, a, "select currval('drawn_a_seq')"); got != want {
			t.Errorf("currval is %d, want %d", got, want)
		}
	}
	listed(t, a, func(i Info) bool { return strings.Join(i.Pins, ",") == "sequence" })
	exec(t, a, "discard sequences")
	listed(t, a, func(i Info) bool { return len(i.Pins) == 0 && i.Backend == "" })
}

func TestALockTakenByWhatFailedIsFound(t *testing.T) {
	p := startProxy(t, pg, nil)
	a, b := p.connect(t, ""), p.connect(t, "")
	if _, err := a.Exec(t.Context(), "do $$begin perform pg_advisory_lock(993); perform * from no_such_table; end$$"); err == nil {
		t.Fatal("no error")
	}
	listed(t, a, func(i Info) bool { return strings.Join(i.Pins, ",") == "advisorylock" })
	if value[bool](t, b, "select pg_try_advisory_lock(993)") {
		t.Error("two sessions have the lock")
	}
	if err := a.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	exec(t, b, "select pg_advisory_lock(993)")
}

func TestASeedIsNobodyElses(t *testing.T) {
	p := startProxy(t, pg, func(c *cluster.Config, _ *Options) { c.Pool = &cluster.PoolConfig{Size: 2} })
	a, b := p.connect(t, ""), p.connect(t, "")
	exec(t, a, "select setseed(0.5)")
	pid := value[int](t, a, "/* route: primary */ select pg_backend_pid()")
	exec(t, a, "discard all", pgx.QueryExecModeSimpleProtocol)
	if err := a.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if got := value[int](t, b, "/* route: primary */ select pg_backend_pid()"); got == pid {
			t.Fatal("the connection was lent again")
		}
	}
}
