package session

import (
	"testing"

	"github.com/fairwaydb/fairway/modules/cluster"
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
