package session

import (
	"testing"

	"github.com/fairwaydb/fairway/modules/cluster"
)

// TestSettingsThatWereRefusedAreNotBroughtToOtherConnections has a session fail to change settings, and go on on another server
// connection.
func TestSettingsThatWereRefusedAreNotBroughtToOtherConnections(t *testing.T) {
	p := startProxy(t, pg, func(c *cluster.Config, _ *Options) { c.Pool = &cluster.PoolConfig{Size: 2} })
	const simple = "default_query_exec_mode=simple_protocol"
	for name, script := range map[string][]string{
		"alone":                   {"set max_connections = 7"},
		"in a transaction":        {"begin", "set max_connections = 7", "rollback"},
		"undone by a savepoint":   {"begin", "savepoint a", "set max_connections = 7", "rollback to a", "commit"},
		"without the right to it": {"set role pg_monitor", "set log_statement = 'all'"},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := p.connect(t, simple), p.connect(t, simple)
			for _, sql := range script {
				_, _ = a.Exec(t.Context(), sql)
			}
			was := value[int](t, a, "select pg_backend_pid() from pg_class limit 1")
			exec(t, b, "begin")
			if value[int](t, b, "select pg_backend_pid() from pg_class limit 1 for share") != was {
				t.Error("the other session has not taken the server connection")
			}
			if value[int](t, a, "select pg_backend_pid() from pg_class limit 1") == was {
				t.Error("the session is still where it was")
			}
			exec(t, b, "rollback")
		})
	}
}

// TestSettingsOfSuperusersFollowARoleThatMayNotSetThem changes to a role after a setting that the role could not change.
func TestSettingsOfSuperusersFollowARoleThatMayNotSetThem(t *testing.T) {
	p := startProxy(t, pg, func(c *cluster.Config, _ *Options) { c.Pool = &cluster.PoolConfig{Size: 2} })
	const simple = "default_query_exec_mode=simple_protocol"
	a, b := p.connect(t, simple), p.connect(t, simple)
	exec(t, a, "set track_functions = 'all'")
	exec(t, a, "set session authorization pg_monitor")
	exec(t, a, "set role pg_read_all_settings")
	exec(t, b, "begin")
	exec(t, b, "select from pg_class limit 1 for share")
	got := value[string](t, a, "select current_setting('track_functions') || ' ' || current_user || ' ' || session_user")
	if want := "all pg_read_all_settings pg_monitor"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	exec(t, b, "rollback")
}
