package session

import (
	"testing"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/routing"
)

// onePool has a single server connection on each backend, so that sessions follow each other on it.
func onePool(c *cluster.Config, _ *Options) { c.Pool = &cluster.PoolConfig{Size: 1} }

func TestRoleSurvivesResetAllAndReachesNobodyElse(t *testing.T) {
	p := startProxy(t, pg, onePool)
	a, b := p.connect(t, "default_query_exec_mode=simple_protocol"), p.connect(t, "default_query_exec_mode=simple_protocol")
	exec(t, a, "drop role if exists alice")
	exec(t, a, "create role alice")
	exec(t, a, "set role alice")
	exec(t, a, "reset all")
	if role := value[string](t, a, "select current_user::text from pg_class limit 1"); role != "alice" {
		t.Errorf("after RESET ALL the role is %s", role)
	}
	if role := value[string](t, b, "select current_user::text from pg_class limit 1"); role == "alice" {
		t.Error("another session runs under the role")
	}
}

func TestSequencesShowNothingOfOtherSessions(t *testing.T) {
	p := startProxy(t, pg, onePool)
	a, b := p.connect(t, "default_query_exec_mode=simple_protocol"), p.connect(t, "default_query_exec_mode=simple_protocol")
	exec(t, a, "drop sequence if exists sq")
	exec(t, a, "create sequence sq")
	exec(t, a, "select nextval('sq')")
	_, err := b.Exec(t.Context(), "select currval('sq')")
	sqlstate(t, err, "55000")
	exec(t, a, "select nextval('sq')")
	_, err = b.Exec(t.Context(), "select lastval()")
	sqlstate(t, err, "55000")
	exec(t, a, "select nextval('sq')")
	exec(t, b, "begin")
	exec(t, b, "select 1")
	_, err = b.Exec(t.Context(), "select lastval()")
	sqlstate(t, err, "55000")
	exec(t, b, "rollback")
	exec(t, b, "begin")
	want := value[int64](t, b, "select nextval('sq')")
	if got := value[int64](t, b, "select currval('sq')"); got != want {
		t.Errorf("currval in the same transaction is %d, not %d", got, want)
	}
	exec(t, b, "commit")
}

func TestWhatAFunctionLeavesBehindReachesNobodyElse(t *testing.T) {
	p := startProxy(t, pg, onePool)
	const simple = "default_query_exec_mode=simple_protocol"
	a, b := p.connect(t, simple), p.connect(t, simple)
	exec(t, a, "create or replace function login(name text) returns text language sql as $$ select set_config('app.u', name, false) $$")
	exec(t, a, "select login('alice')")
	var seen *string
	if err := b.QueryRow(t.Context(), "select current_setting('app.u', true)").Scan(&seen); err != nil || seen != nil && *seen != "" {
		t.Errorf("another session sees %v (%v)", seen, err)
	}
}

func TestStringsAreReadAsTheServerReadsThem(t *testing.T) {
	p := startProxy(t, pg, onePool)
	admin := p.connect(t, "")
	exec(t, admin, "drop role if exists old_style")
	exec(t, admin, "create role old_style login superuser")
	exec(t, admin, "alter role old_style set standard_conforming_strings = off")
	if err := pg.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := p.connect(t, "user=old_style")
	out, err := c.PgConn().Exec(t.Context(), `select 'a\'', pg_advisory_lock(5), pg_is_in_recovery() --'`).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if standby := string(out[0].Rows[0][2]); standby != "f" {
		t.Errorf("on a standby: %s", standby)
	}
}

func TestAReadOnlyPortAnswersAsAStandby(t *testing.T) {
	p := startProxy(t, pg, func(_ *cluster.Config, o *Options) { o.Route = routing.TargetReplica })
	c := p.connect(t, "default_query_exec_mode=simple_protocol")
	_, err := c.Exec(t.Context(), "create table nowhere (a int)")
	sqlstate(t, err, "25006")
}
