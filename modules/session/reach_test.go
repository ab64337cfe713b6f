package session

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fairwaydb/fairway/modules/cluster"
)

// reachSchema is code that leaves something behind, and what reaches it.
const reachSchema = `
	drop schema if exists reach cascade;
	create schema reach;
	create function reach.become(t text) returns text language plpgsql as $$begin return set_config('reach.tenant', t, false); end$$;
	create function reach.wrapped(t text) returns text language sql stable as $$select reach.become(t)$$;
	create function reach.lock() returns int language plpgsql as $$begin perform pg_advisory_lock(880); return 1; end$$;
	create function reach.any_text(x text) returns int language plpgsql as $$begin execute x; return 1; end$$;
	create function reach.on_sets() returns trigger language plpgsql as $$begin perform reach.wrapped('acme'); return new; end$$;
	create function reach.on_temp() returns trigger language plpgsql as $$begin
		create temp table if not exists seen (id int); insert into seen values (1); return coalesce(new, old); end$$;
	create table reach.plain (a int);
	insert into reach.plain values (1);
	create table reach.sets (a int);
	create trigger x before insert or update on reach.sets for each row execute function reach.on_sets();
	create table reach.temps (a int);
	insert into reach.temps select generate_series(1, 20);
	create trigger x before insert or update or delete on reach.temps for each row execute function reach.on_temp();
	create view reach.over_temps as select * from reach.temps;
	create view reach.locking as select reach.lock() as a;
	create table reach.filled (a int default reach.lock());
	create table reach.ruled (a int);
	create rule r as on insert to reach.ruled do also select reach.become('acme');
	create table reach.dynamic (a int, x text, b int generated always as (a) stored);
	create function reach.on_dynamic() returns trigger language plpgsql as $$begin perform reach.any_text(new.x); return new; end$$;
	create trigger x before insert on reach.dynamic for each row execute function reach.on_dynamic()`

// reachProxy has one server connection, and knows the schema.
func reachProxy(t *testing.T) *proxy {
	p := startProxy(t, pg, onePool)
	if err := pg.Primary().Exec(t.Context(), reachSchema); err != nil {
		t.Fatal(err)
	}
	if err := pg.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.waitCatalog(t)
	return p
}

// reached are questions to the primary for what code has left there.
const (
	tenantLeft = "/* route: primary */ select coalesce(current_setting('reach.tenant', true), '')"
	lockLeft   = "/* route: primary */ select count(*)::text from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
	tempLeft   = "/* route: primary */ select count(*)::text from pg_class where relname = 'seen' and relnamespace = pg_my_temp_schema()"
)

func TestWhatAStatementReachesStaysWithItsSession(t *testing.T) {
	p := reachProxy(t)
	statements := []struct{ sql, pins, left, want string }{
		{"select reach.wrapped('acme')", "settings", tenantLeft, "acme"},
		{"insert into reach.sets values (1)", "settings", tenantLeft, "acme"},
		{"do $$begin insert into reach.sets values (1); end$$", "settings", tenantLeft, "acme"},
		{"insert into reach.ruled values (1)", "settings", tenantLeft, "acme"},
		{"merge into reach.sets s using reach.plain p on s.a = p.a + 99 when not matched then insert values (1)", "settings", tenantLeft, "acme"},
		{"update reach.temps set a = a", "temp", tempLeft, "1"},
		{"update reach.over_temps set a = a", "temp", tempLeft, "1"},
		{"delete from reach.temps where a = (select max(a) from reach.temps)", "temp", tempLeft, "1"},
		{"copy reach.temps from stdin", "temp", tempLeft, "1"},
		{"select * from reach.locking", "advisorylock", lockLeft, "1"},
		{"insert into reach.filled default values", "advisorylock", lockLeft, "1"},
		{"select reach.any_text('lock table reach.plain')", "", lockLeft, "0"},
		{"select reach.any_text('create temp table seen (id int)')", "temp", tempLeft, "1"},
	}
	modes := []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeCacheStatement}
	for i, st := range statements {
		for _, mode := range modes {
			for _, inTx := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d %s %v", i, mode, inTx), func(t *testing.T) {
					a, b := p.connect(t, ""), p.connect(t, "")
					if inTx {
						exec(t, a, "begin", mode)
					}
					if strings.HasPrefix(st.sql, "copy") {
						if _, err := a.PgConn().CopyFrom(t.Context(), strings.NewReader("2\n"), st.sql); err != nil {
							t.Fatal(err)
						}
					} else {
						exec(t, a, st.sql, mode)
					}
					if inTx {
						exec(t, a, "commit", mode)
					}
					listed(t, a, func(i Info) bool { return i.State == stateIdle && strings.Join(i.Pins, ",") == st.pins })
					if got := value[string](t, a, st.left); got != st.want {
						t.Errorf("%s: its own session sees %q, want %q", st.sql, got, st.want)
					}
					if st.pins != "" {
						if err := a.Close(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
					for _, left := range []string{tenantLeft, lockLeft, tempLeft} {
						if got := value[string](t, b, left); got != "" && got != "0" {
							t.Errorf("%s: another session sees %q", st.sql, got)
						}
					}
				})
			}
		}
	}
}

func TestSettingsOfTextThatCodeRunsFollowTheSession(t *testing.T) {
	p := reachProxy(t)
	for i, run := range []string{"select reach.any_text(%s)", "do $x$begin execute %s; end$x$"} {
		a, b := p.connect(t, "application_name=was"), p.connect(t, "")
		for _, text := range []string{"set work_mem = 4321", "set application_name = is", "set reach.tenant = acme", "set role pg_monitor"} {
			exec(t, a, fmt.Sprintf(run, "substr('x"+text+"', 2)"))
		}
		const show = "/* route: primary */ select current_setting('work_mem') || ' ' || current_setting('application_name') || ' ' || coalesce(current_setting('reach.tenant', true), '') || ' ' || current_user"
		if got := value[string](t, b, show); got != "4MB   postgres" {
			t.Errorf("%d: another session sees %q", i, got)
		}
		if got := value[string](t, a, show); got != "4321kB is  pg_monitor" {
			t.Errorf("%d: its own session sees %q", i, got)
		}
		exec(t, a, "begin")
		exec(t, a, "reset role")
		exec(t, a, fmt.Sprintf(run, "substr('xreset work_mem', 2)"))
		exec(t, a, "rollback")
		if got := value[string](t, a, show); got != "4321kB is  pg_monitor" {
			t.Errorf("%d: after a rollback its own session sees %q", i, got)
		}
		exec(t, a, "reset role")
		exec(t, a, fmt.Sprintf(run, "substr('xreset work_mem', 2)"))
		exec(t, b, "select 1")
		if got := value[string](t, a, show); got != "4MB is  postgres" {
			t.Errorf("%d: after a reset its own session sees %q", i, got)
		}
	}
}

func TestSettingsOfTextThatATriggerRunsReachNobodyElse(t *testing.T) {
	p := reachProxy(t)
	a, b := p.connect(t, ""), p.connect(t, "")
	for _, text := range []string{"set work_mem = 4321", "set reach.tenant = acme", "set role pg_monitor"} {
		exec(t, a, "insert into reach.dynamic values (1, $1)", text)
		listed(t, a, func(i Info) bool { return i.State == stateIdle && i.Backend == "" })
		if got := value[string](t, b, "/* route: primary */ select current_setting('work_mem') || coalesce(current_setting('reach.tenant', true), '') || current_user"); got != "4MBpostgres" {
			t.Errorf("%s: another session sees %q", text, got)
		}
	}
}

func TestATriggerOfATemporaryTableLeavesNothing(t *testing.T) {
	p := reachProxy(t)
	a, b := p.connect(t, ""), p.connect(t, "")
	for _, sql := range []string{
		"create temp table mine (a int)", "create trigger x before insert on mine for each row execute function reach.on_sets()",
		"insert into mine values (1)", "discard temp",
	} {
		exec(t, a, sql, pgx.QueryExecModeSimpleProtocol)
	}
	listed(t, a, func(i Info) bool { return i.State == stateIdle && i.Backend == "" })
	if got := value[string](t, b, tenantLeft); got != "" {
		t.Errorf("another session sees %q", got)
	}
}

func TestASessionIsNotHeldWhereItCannotWrite(t *testing.T) {
	p := reachProxy(t)
	for range 6 {
		a := p.connect(t, "")
		exec(t, a, "select reach.wrapped('acme')")
		exec(t, a, "insert into reach.plain values (1)")
		if err := a.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestALoginIsNotGreetedWithWhatCodeLeft(t *testing.T) {
	p := reachProxy(t)
	a := p.connect(t, "")
	exec(t, a, "select reach.any_text('set TimeZone = ''Asia/Tokyo''')")
	listed(t, a, func(i Info) bool { return i.State == stateIdle && i.Backend == "" })
	if got := p.connect(t, "lock_timeout=7s").PgConn().ParameterStatus("TimeZone"); got == "Asia/Tokyo" {
		t.Errorf("a new client is told that its time zone is %s", got)
	}
	if got := value[string](t, a, "show timezone"); got != "Asia/Tokyo" {
		t.Errorf("its own session is in %s", got)
	}
}

func TestCodeMadeInTheSameTransactionIsReckonedWith(t *testing.T) {
	p := reachProxy(t)
	a, b := p.connect(t, ""), p.connect(t, "")
	exec(t, a, "begin")
	exec(t, a, "create trigger y before insert on reach.plain for each row execute function reach.on_temp()")
	exec(t, a, "create trigger z before insert on reach.plain for each row execute function reach.on_sets()")
	exec(t, a, "insert into reach.plain values (1)")
	exec(t, a, "commit")
	listed(t, a, func(i Info) bool { return strings.Join(i.Pins, ",") == "temp" })
	exec(t, a, "discard temp")
	listed(t, a, func(i Info) bool { return i.State == stateIdle && len(i.Pins) == 0 })
	if got := value[string](t, b, tenantLeft); got != "" {
		t.Errorf("another session sees %q", got)
	}
}

func TestWhatComesLateInALongPipelineCounts(t *testing.T) {
	p := reachProxy(t)
	a, b := p.connect(t, ""), p.connect(t, "")
	batch := &pgx.Batch{}
	filler := "select '" + strings.Repeat("x", 7000) + "' || $1"
	for i := range 20 {
		batch.Queue(filler, fmt.Sprint(i))
	}
	batch.Queue("insert into reach.temps values (1)")
	batch.Queue("select reach.wrapped($1)", "late")
	for i := range 20 {
		batch.Queue(filler, fmt.Sprint(i))
	}
	if err := a.SendBatch(t.Context(), batch).Close(); err != nil {
		t.Fatal(err)
	}
	listed(t, a, func(i Info) bool { return strings.Join(i.Pins, ",") == "settings,temp" })
	if got := value[string](t, a, tenantLeft); got != "late" {
		t.Errorf("its own session sees %q", got)
	}
	if err := a.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, left := range []string{tenantLeft, tempLeft} {
		if got := value[string](t, b, left); got != "" && got != "0" {
			t.Errorf("another session sees %q", got)
		}
	}
}

func TestAConnectionWithWhatNothingCleansIsClosed(t *testing.T) {
	p := startProxy(t, pg, onePool)
	maker := p.connect(t, "")
	exec(t, maker, "create extension if not exists dblink")
	exec(t, maker, "create extension if not exists pg_trgm")
	exec(t, maker, "create or replace function reach_remote(c text) returns text language sql stable as $$select dblink_connect('r', c)$$")
	exec(t, maker, "create or replace function reach_seed() returns void language plpgsql as $$begin perform setseed(0.5); end$$")
	p.waitCatalog(t)
	remote := fmt.Sprintf("host=127.0.0.1 port=%d user=%s password=%s dbname=postgres", pg.Primary().Port(), pg.Superuser(), pg.Password())
	for _, sql := range []string{"select dblink_connect('r', '" + remote + "')", "select reach_remote('" + remote + "')", "select set_limit(0.7)", "select reach_seed()"} {
		a, b := p.connect(t, ""), p.connect(t, "")
		exec(t, a, sql)
		pid := value[int](t, a, "/* route: primary */ select pg_backend_pid()")
		listed(t, a, func(i Info) bool { return strings.Join(i.Pins, ",") == "load" })
		if strings.Contains(sql, "remote") {
			if got := value[int](t, a, "select x from dblink('r', 'select 7') as y(x int)"); got != 7 {
				t.Errorf("%d over the remote connection", got)
			}
		}
		if err := a.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := value[int](t, b, "/* route: primary */ select pg_backend_pid()"); got == pid {
			t.Error("the server connection was lent again")
		}
		if err := b.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// With the catalog off nothing follows, and nothing reaches anybody else.
func TestWithTheCatalogOffWhatTriggersLeaveIsCleaned(t *testing.T) {
	reachProxy(t)
	p := startProxy(t, pg, func(c *cluster.Config, o *Options) { onePool(c, o); c.Catalog = "off" })
	for _, sql := range []string{"insert into reach.sets values (1)", "update reach.temps set a = a", "insert into reach.filled default values"} {
		a, b := p.connect(t, ""), p.connect(t, "")
		exec(t, a, sql)
		listed(t, a, func(i Info) bool { return i.State == stateIdle && i.Backend == "" })
		for _, left := range []string{tenantLeft, lockLeft, tempLeft} {
			if got := value[string](t, b, left); got != "" && got != "0" {
				t.Errorf("%s: another session sees %q", sql, got)
			}
		}
	}
}
