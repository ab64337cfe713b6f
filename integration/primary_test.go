package integration_test

import (
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/caddyserver/caddy/v2"

	"github.com/fairwaydb/fairway/modules/pgtest"
)

// TestThePrimaryDies restarts, stops and kills the primary of one site, again and again, in every situation of a client.
// The subtests follow each other.
func TestThePrimaryDies(t *testing.T) {
	s := startSite(t, pgtest.Options{Replicas: 2}, func(s *site) { s.config.FailoverWait = caddy.Duration(4 * time.Second) })
	s.table(t, "primary_dies", "n int")
	t.Run("restarted between two transactions, nobody notices", s.restartBetweenTransactions)
	t.Run("killed while idle, a write waits for its start", s.killWhileIdle)
	t.Run("stopped, reads go on and writes get 57P03 after failover_wait", s.writeWithoutPrimary)
	t.Run("dead in a transaction, which can only be rolled back", s.dieInTransaction)
	t.Run("killed in a statement, which is never sent again", func(t *testing.T) { s.dieInCommit(t, "insert into primary_dies values (77)", "") })
	t.Run("killed in COMMIT, which is never sent again", func(t *testing.T) {
		s.dieInCommit(t, "commit", "begin; insert into primary_dies values (78)")
	})
}

// restartBetweenTransactions restarts the primary while clients are between two transactions.
func (s *site) restartBetweenTransactions(t *testing.T) {
	ctx := t.Context()
	clients := []*pgx.Conn{s.connect(t, ""), s.connect(t, ""), s.connect(t, "")}
	insert := func(c *pgx.Conn, n int) {
		t.Helper()
		err := pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "insert into primary_dies values ($1)", n)
			return err
		})
		if err != nil {
			t.Errorf("transaction %d: %v", n, err)
		}
	}
	for n := range 3 {
		for _, c := range clients {
			insert(c, n)
		}
		if err := s.servers.Primary().Restart(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range clients {
		insert(c, 3)
	}
	if n := value[int](t, clients[0], "select count(*) from primary_dies"); n != 12 {
		t.Errorf("%d rows, want 12", n)
	}
}

func (s *site) killWhileIdle(t *testing.T) {
	c, primary := s.connect(t, ""), s.servers.Primary()
	do(t, c, "insert into primary_dies values (4)")
	if err := primary.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	starting := started(func() error {
		<-time.After(time.Second) // so long the insert below waits
		return primary.Start(t.Context())
	})
	do(t, c, "insert into primary_dies values (5)")
	if err := <-starting; err != nil {
		t.Fatal(err)
	}
	if n := value[int](t, c, "select count(*) from primary_dies where n >= 4"); n != 2 {
		t.Errorf("%d rows, want 2", n)
	}
}

func (s *site) writeWithoutPrimary(t *testing.T) {
	ctx, primary := t.Context(), s.servers.Primary()
	writer, reader := s.connect(t, ""), s.connect(t, "")
	do(t, writer, "select 1")
	s.awaitCaughtUp(t)
	before := value[int](t, reader, "select count(*) from primary_dies")
	if err := primary.Stop(ctx, pgtest.Fast); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	failing := started(func() error {
		_, err := writer.Exec(ctx, "insert into primary_dies values (6)")
		return err
	})
	reads := 0
	for waiting := true; waiting; reads++ {
		if n := value[int](t, reader, "select count(*) from primary_dies"); n != before {
			t.Fatalf("%d rows, want %d", n, before)
		}
		select {
		case err := <-failing:
			wantCode(t, "a write without a primary", err, "57P03")
			waiting = false
		default:
		}
	}
	if took := time.Since(began); took < 3*time.Second || took > 8*time.Second {
		t.Errorf("the write failed after %v, failover_wait is 4s", took)
	}
	if reads < 100 {
		t.Errorf("only %d reads meanwhile", reads)
	}
	if err := primary.Start(ctx); err != nil {
		t.Fatal(err)
	}
	do(t, writer, "insert into primary_dies values (7)")
}

// awaitCaughtUp waits until all replicas have what the primary has.
func (s *site) awaitCaughtUp(t testing.TB) {
	t.Helper()
	if err := s.servers.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (s *site) dieInTransaction(t *testing.T) {
	ctx, primary := t.Context(), s.servers.Primary()
	for name, die := range deaths {
		c, idle := s.connect(t, ""), s.connect(t, "")
		do(t, idle, "select 1")
		for _, client := range []*pgx.Conn{c, idle} {
			do(t, client, "begin")
			do(t, client, "insert into primary_dies values (8)")
		}
		// One is in a statement, one is idle in its transaction.
		napping := started(func() error {
			_, err := c.Exec(ctx, "select pg_sleep(20) as in_transaction")
			return err
		})
		await(t, 5*time.Second, "the statement runs", func() (string, bool) { return "", running(t, primary, "pg_sleep(20) as in_transaction") == 1 })
		if err := die(ctx, primary); err != nil {
			t.Fatal(err)
		}
		wantCode(t, name+": the statement that ran", <-napping, "08006", "57P01", "57P02")
		_, err := idle.Exec(ctx, "insert into primary_dies values (8)")
		wantCode(t, name+": the next statement of an idle transaction", err, "08006", "57P01", "57P02")
		for _, client := range []*pgx.Conn{c, idle} {
			if s := client.PgConn().TxStatus(); s != 'E' {
				t.Fatalf("%s: status %c", name, s)
			}
			_, err := client.Exec(ctx, "select 1")
			wantCode(t, name+": a statement after that", err, "25P02")
		}
		if tag := do(t, c, "rollback"); tag.String() != "ROLLBACK" {
			t.Errorf("%s: rollback gave %s", name, tag)
		}
		if tag := do(t, idle, "commit"); tag.String() != "ROLLBACK" {
			t.Errorf("%s: commit gave %s", name, tag)
		}
		if err := primary.Start(ctx); err != nil {
			t.Fatal(err)
		}
		for _, client := range []*pgx.Conn{c, idle} {
			if n := value[int](t, client, "select count(*) from primary_dies where n = 8"); n != 0 {
				t.Errorf("%s: %d rows of a lost transaction", name, n)
			}
		}
	}
}

// dieInCommit kills the primary while it waits for a standby to confirm a commit: whether it has happened only the server
// knows. It must neither be told as success nor be done twice.
func (s *site) dieInCommit(t *testing.T, sql, before string) {
	ctx, primary := t.Context(), s.servers.Primary()
	c := s.connect(t, "")
	if before != "" {
		do(t, c, before)
	}
	wait := func(standby string) {
		t.Helper()
		if err := primary.Exec(ctx, "ALTER SYSTEM SET synchronous_standby_names = '"+standby+"'"); err != nil {
			t.Fatal(err)
		}
		if _, err := primary.Query(ctx, "SELECT pg_reload_conf()"); err != nil {
			t.Fatal(err)
		}
	}
	defer wait("")
	wait("nobody")
	await(t, 5*time.Second, "commits wait", func() (string, bool) {
		v, err := primary.Value(ctx, "SHOW synchronous_standby_names")
		return fmt.Sprint(v, err), v == "nobody"
	})
	committing := started(func() error {
		_, err := c.Exec(ctx, sql)
		return err
	})
	await(t, 5*time.Second, "the commit waits", func() (string, bool) {
		n, err := primary.Value(ctx, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
		return fmt.Sprint(n, err), n == "1"
	})
	if err := primary.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	err := <-committing
	wantCode(t, "a commit without an answer", err, "08006")
	var e *pgconn.PgError
	if errors.As(err, &e) && e.Hint == "" && e.Detail == "" {
		t.Errorf("nothing says that the outcome is unknown: %+v", e)
	}
	if s := c.PgConn().TxStatus(); s != 'I' {
		t.Errorf("status %c", s)
	}
	if err := primary.Start(ctx); err != nil {
		t.Fatal(err)
	}
	// Read at once: the session must not see a state before its own write, if that has happened.
	rows := value[int](t, c, "select count(*) from primary_dies where n in (77, 78)")
	if n, err := primary.QueryIn(ctx, appRole, "SELECT count(*), (SELECT count(*) FROM primary_dies WHERE n IN (77, 78)) FROM primary_dies"); err != nil || n[0][1] != strconv.Itoa(rows) {
		t.Errorf("the session sees %d rows, the primary has %v (%v)", rows, n, err)
	}
	if rows != 1 {
		t.Errorf("%d rows: the commit was in the primary's log when it died, once", rows)
	}
	wait("")
	await(t, 5*time.Second, "commits do not wait", func() (string, bool) {
		v, err := primary.Value(ctx, "SHOW synchronous_standby_names")
		return fmt.Sprint(v, err), v == ""
	})
	do(t, c, "delete from primary_dies where n in (77, 78)")
}
