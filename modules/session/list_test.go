package session

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// listed waits until the session of a connection is shown as wanted.
func listed(t *testing.T, c *pgx.Conn, want func(Info) bool) Info {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var last Info
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-tick.C {
		for _, i := range List() {
			if i.PID == c.PgConn().PID() {
				if last = i; want(i) {
					return i
				}
			}
		}
	}
	t.Fatalf("the session is shown as %+v", last)
	return last
}

func TestSessionsAreListed(t *testing.T) {
	p := startProxy(t, pg, nil)
	c := p.connect(t, "application_name=lister")
	i := listed(t, c, func(i Info) bool { return i.State == stateIdle })
	if i.User != "postgres" || i.Database != "postgres" || i.Application != "lister" || i.Cluster != p.cluster.Name() || i.Client == "" || i.TLS || i.Since.IsZero() {
		t.Errorf("%+v", i)
	}
	if i.Backend != "" || len(i.Pins) != 0 {
		t.Errorf("an idle session holds %q for %v", i.Backend, i.Pins)
	}
	exec(t, c, "create temp table listed_temp (a int)")
	i = listed(t, c, func(i Info) bool { return len(i.Pins) > 0 })
	if !slices.Contains(i.Pins, "temp") || i.Backend != "pg1" {
		t.Errorf("%+v", i)
	}
	tx, err := c.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	listed(t, c, func(i Info) bool { return i.State == stateTx })
	if _, err := tx.Exec(t.Context(), "select 1/0"); err == nil {
		t.Fatal("no error")
	}
	listed(t, c, func(i Info) bool { return i.State == stateFailed })
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := c.Exec(t.Context(), "select pg_sleep(60)")
		ended <- err
	}()
	i = listed(t, c, func(i Info) bool { return i.State == stateActive })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if !Terminate(ctx, i.ID) {
		t.Error("the session was not found")
	}
	if err := <-ended; stateIn(err) != pgwire.CodeQueryCanceled && stateIn(err) != pgwire.CodeAdminShutdown {
		t.Errorf("its statement ended with %v", err)
	}
	if Terminate(ctx, i.ID) {
		t.Error("it is still there")
	}
	if _, err := c.Exec(t.Context(), "select 1"); err == nil {
		t.Error("its client goes on")
	}
}

func TestATerminatedSessionIsToldWhy(t *testing.T) {
	p := startProxy(t, pg, nil)
	for name, setup := range map[string][]string{
		"idle": {"select 1"}, "in a transaction": {"begin", "create temp table terminated (a int)"}, "with a lock": {"select pg_advisory_lock(4711)"},
	} {
		t.Run(name, func(t *testing.T) {
			c := p.connect(t, "")
			for _, sql := range setup {
				exec(t, c, sql)
			}
			i := listed(t, c, func(i Info) bool { return i.State != stateActive })
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if !Terminate(ctx, i.ID) || ctx.Err() != nil {
				t.Fatal("the session did not end")
			}
			if _, err := c.Exec(t.Context(), "select 1"); stateIn(err) != pgwire.CodeAdminShutdown {
				t.Errorf("the client got %v", err)
			}
			other := p.connect(t, "")
			if !value[bool](t, other, "select pg_try_advisory_lock(4711)") {
				t.Error("the lock is still held")
			}
		})
	}
}
