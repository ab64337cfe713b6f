package session

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// soon is how long a change of what servers set for new sessions may take to be seen: the monitor's interval, and a slow machine.
const soon = 5 * time.Second

// eventually logs in anew until the check holds.
func eventually(t *testing.T, what string, check func() (said string, ok bool)) {
	t.Helper()
	deadline := time.NewTimer(soon)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		said, ok := check()
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within %v: %s; last: %s", soon, what, said)
		}
	}
}

func TestNewSessionsBeginAsTheServersNowSay(t *testing.T) {
	ctx := t.Context()
	primary := pg.Primary()
	run := func(sql ...string) {
		t.Helper()
		for _, s := range sql {
			if err := primary.Exec(ctx, s); err != nil {
				t.Fatal(err)
			}
		}
	}
	run("CREATE ROLE begins LOGIN", "CREATE DATABASE begins OWNER begins")
	t.Cleanup(func() {
		for _, sql := range []string{
			"ALTER SYSTEM RESET IntervalStyle", "SELECT pg_reload_conf()", "DROP DATABASE begins WITH (FORCE)", "DROP ROLE begins",
		} {
			if err := primary.Exec(context.Background(), sql); err != nil {
				t.Error(err)
			}
		}
	})
	if err := primary.ExecIn(ctx, "begins", "CREATE TABLE t (a int); GRANT SELECT ON t TO begins"); err != nil {
		t.Fatal(err)
	}
	if err := pg.WaitCaughtUp(ctx); err != nil {
		t.Fatal(err)
	}
	p := startProxy(t, pg, nil)
	who := []pgwire.Param{{Name: "user", Value: "begins"}, {Name: "database", Value: "begins"}}
	// One session of the same user that was there before, and that leaves server connections on all backends.
	open := p.connect(t, "user=begins dbname=begins")
	warm := func() {
		for range 20 {
			exec(t, open, "select a from t")
			exec(t, open, "select txid_current()")
		}
	}
	greeting := func(name string) func(want string) {
		return func(want string) {
			t.Helper()
			eventually(t, name+" is reported as "+want, func() (string, bool) {
				got := greet(t, p.addr, pgwire.Version30, who...).status[name]
				return got, got == want
			})
		}
	}
	// in says what new sessions have in force, on the primary and on the replicas.
	in := func(name, want string) {
		t.Helper()
		for _, sql := range []string{"show " + name, "select current_setting('" + name + "'), count(*) from t group by 1 union all select current_setting('" + name + "'), 0"} {
			eventually(t, name+" is "+want, func() (string, bool) {
				for range 6 {
					c := p.connect(t, "user=begins dbname=begins")
					rows, _ := c.Query(ctx, sql, pgx.QueryExecModeSimpleProtocol)
					var got string
					for rows.Next() {
						if v, err := rows.Values(); err == nil {
							got = v[0].(string)
						}
					}
					if err := rows.Err(); err != nil {
						t.Fatal(err)
					}
					_ = c.Close(ctx)
					if got != want {
						return got, false
					}
				}
				return want, true
			})
		}
	}
	warm()
	greeting("DateStyle")("ISO, MDY")
	run("ALTER ROLE begins SET DateStyle = 'SQL, DMY'", "ALTER ROLE begins SET work_mem = '5MB'")
	greeting("DateStyle")("SQL, DMY")
	in("work_mem", "5MB")

	warm()
	run("ALTER DATABASE begins SET TimeZone = 'Asia/Tokyo'", "ALTER ROLE begins IN DATABASE begins SET work_mem = '6MB'")
	greeting("TimeZone")("Asia/Tokyo")
	in("work_mem", "6MB")

	warm()
	run("ALTER ROLE ALL SET lock_timeout = '7s'", "ALTER ROLE begins IN DATABASE begins RESET ALL")
	in("lock_timeout", "7s")
	in("work_mem", "5MB")
	run("ALTER ROLE ALL RESET ALL")
	in("lock_timeout", "0")

	run("ALTER SYSTEM SET IntervalStyle = 'iso_8601'", "SELECT pg_reload_conf()")
	greeting("IntervalStyle")("iso_8601")
	run("ALTER ROLE begins SUPERUSER")
	greeting("is_superuser")("on")
	run("ALTER ROLE begins NOSUPERUSER")
	greeting("is_superuser")("off")
}

// Only the identities whose sessions begin otherwise lose their server connections.
func TestOthersKeepTheirServerConnections(t *testing.T) {
	ctx := t.Context()
	p := startProxy(t, pg, nil)
	c := p.connect(t, "")
	before := value[int](t, c, "select pg_backend_pid() for update")
	seen := p.cluster.Beginnings()
	if err := pg.Primary().Exec(ctx, "CREATE ROLE other_one LOGIN"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pg.Primary().Exec(context.Background(), "DROP ROLE other_one"); err != nil {
			t.Error(err)
		}
	})
	if err := pg.Primary().Exec(ctx, "ALTER ROLE other_one SET work_mem = '5MB'"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the change is seen", func() (string, bool) {
		now := p.cluster.Beginnings()
		return strconv.FormatUint(now, 10), now > seen
	})
	if after := value[int](t, c, "select pg_backend_pid() for update"); after != before {
		t.Errorf("the server connection changed from %d to %d", before, after)
	}
}

func TestOpenSessionsKeepWhatTheyBeganWith(t *testing.T) {
	ctx := t.Context()
	run := func(sql ...string) {
		t.Helper()
		for _, s := range sql {
			if err := pg.Primary().Exec(ctx, s); err != nil {
				t.Fatal(err)
			}
		}
	}
	run("CREATE ROLE keeps LOGIN", "ALTER ROLE keeps SET work_mem = '5MB'", "ALTER ROLE keeps SET log_min_duration_statement = '1h'")
	t.Cleanup(func() {
		if err := pg.Primary().Exec(context.Background(), "DROP ROLE keeps"); err != nil {
			t.Error(err)
		}
	})
	if err := pg.WaitCaughtUp(ctx); err != nil {
		t.Fatal(err)
	}
	p := startProxy(t, pg, nil)
	eventually(t, "the defaults are known", func() (string, bool) {
		version := p.cluster.Defaults().Version()
		return strconv.FormatUint(version, 10), version != 0
	})
	c := p.connect(t, "user=keeps default_query_exec_mode=simple_protocol lock_timeout=9s")
	exec(t, c, "set enable_seqscan = off")
	seen := p.cluster.Beginnings()
	run("ALTER ROLE keeps SET work_mem = '6MB'", "ALTER ROLE keeps SET search_path = 'elsewhere'", "ALTER ROLE keeps SET lock_timeout = '1s'",
		"ALTER ROLE keeps SET enable_seqscan = on", "ALTER ROLE keeps RESET log_min_duration_statement")
	eventually(t, "the change is in force for new sessions", func() (string, bool) {
		n := p.connect(t, "user=keeps default_query_exec_mode=simple_protocol")
		defer n.Close(ctx)
		got := value[string](t, n, "show search_path") + value[string](t, n, "show work_mem") + value[string](t, n, "show lock_timeout")
		return got, got == "elsewhere6MB1s" && p.cluster.Beginnings() > seen
	})
	for name, want := range map[string]string{"work_mem": "5MB", "search_path": `"$user", public`, "lock_timeout": "9s", "enable_seqscan": "off"} {
		if got := value[string](t, c, "show "+name); got != want {
			t.Errorf("%s is %s, not %s", name, got, want)
		}
	}
	exec(t, c, "reset all")
	for name, want := range map[string]string{"work_mem": "5MB", "search_path": `"$user", public`, "lock_timeout": "9s", "enable_seqscan": "on"} {
		if got := value[string](t, c, "show "+name); got != want {
			t.Errorf("after RESET ALL %s is %s, not %s", name, got, want)
		}
	}
}
