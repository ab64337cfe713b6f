package session

import (
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestResetInATransactionBringsBackTheStartupPacketsValue(t *testing.T) {
	p := startProxy(t, pg, onePool)
	const options = "work_mem=3MB search_path='\"$user\", \"A b\", public' my.own=mine"
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeCacheStatement} {
		c := p.connect(t, options+" default_query_exec_mode=simple_protocol")
		show := func(name, want string) {
			t.Helper()
			if got := value[string](t, c, "select current_setting('"+name+"')", mode); got != want {
				t.Errorf("%s is %q, not %q", name, got, want)
			}
		}
		const path = `"$user", "A b", public`
		for _, end := range []string{"commit", "rollback"} {
			for _, reset := range []string{"reset work_mem; reset search_path; reset my.own", "reset all", "set work_mem to default; set search_path to default; set my.own to default"} {
				exec(t, c, "set work_mem = '5MB'")
				exec(t, c, "begin")
				exec(t, c, reset)
				exec(t, c, "set transaction isolation level read committed")
				exec(t, c, "set work_mem = '4MB'")
				exec(t, c, "set search_path = pg_catalog")
				exec(t, c, "select 1")
				exec(t, c, reset)
				show("work_mem", "3MB")
				show("search_path", path)
				show("my.own", "mine")
				exec(t, c, "savepoint s")
				exec(t, c, "set work_mem = '6MB'")
				show("work_mem", "6MB")
				exec(t, c, "rollback to s")
				show("work_mem", "3MB")
				exec(t, c, end)
				if end == "commit" {
					show("work_mem", "3MB")
				} else {
					show("work_mem", "5MB")
				}
				show("search_path", path)
				show("my.own", "mine")
			}
		}
		exec(t, c, "begin")
		exec(t, c, "reset work_mem")
		show("work_mem", "3MB")
		exec(t, c, "commit")
		other := p.connect(t, "default_query_exec_mode=simple_protocol")
		if got := value[string](t, other, "show work_mem"); got != "4MB" {
			t.Errorf("another client has %s", got)
		}
	}
}
