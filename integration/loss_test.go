package integration_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fairwaydb/fairway/modules/pgtest"
)

// deaths are the ways in which servers end.
var deaths = map[string]func(context.Context, *pgtest.Node) error{
	"killed":             func(ctx context.Context, n *pgtest.Node) error { return n.Kill(ctx) },
	"stopped at once":    func(ctx context.Context, n *pgtest.Node) error { return n.Stop(ctx, pgtest.Immediate) },
	"stopped in a hurry": func(ctx context.Context, n *pgtest.Node) error { return n.Stop(ctx, pgtest.Fast) },
}

// running counts the statements with this text that run on a server.
func running(t testing.TB, n *pgtest.Node, text string) int {
	t.Helper()
	count, err := n.Value(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE '%"+text+"%'")
	if err != nil {
		t.Fatal(err)
	}
	number, _ := strconv.Atoi(count)
	return number
}

// started runs something in the background and gives its error.
func started(run func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- run() }()
	return done
}

// TestReadsOutliveTheirReplica ends a replica, in every way, while it runs reads of several clients. A read that stands alone
// and of which nothing has arrived is repeated elsewhere, unseen. After its first row, or in a transaction, the client gets
// one error and its session goes on.
func TestReadsOutliveTheirReplica(t *testing.T) {
	s := startSite(t, pgtest.Options{Replicas: 2}, func(s *site) {
		s.config.PolicyRaw = []byte(`{"policy": "round_robin"}`) // both replicas get reads, whatever they did before
	})
	s.table(t, "lossy", "n int")
	do(t, s.connect(t, ""), "insert into lossy select generate_series(1, 100)")
	if err := s.servers.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, die := range deaths {
		for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeCacheStatement} {
			t.Run(name+", "+mode.String(), func(t *testing.T) { s.loseReads(t, die, mode) })
		}
	}
}

func (s *site) loseReads(t *testing.T, die func(context.Context, *pgtest.Node) error, mode pgx.QueryExecMode) {
	ctx := t.Context()
	trials := s.startReader(t, "select count(*) from lossy") // a replica that came back is healthy again after some reads
	s.awaitReady(t, 2)
	if errs := trials(); len(errs) > 0 {
		t.Errorf("%d reads failed: %v", len(errs), errs[0])
	}
	transaction, streaming := s.connect(t, ""), s.connect(t, "")
	tx, err := transaction.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		t.Fatal(err)
	}
	var port int
	if err := tx.QueryRow(ctx, "select inet_server_port() from lossy limit 1", mode).Scan(&port); err != nil {
		t.Fatal(err)
	}
	nodes := s.servers.Replicas()
	victim := nodes[slices.IndexFunc(nodes, func(n *pgtest.Node) bool { return n.Port() == port })]
	rows := s.streamFrom(t, &streaming, victim, mode)
	naps := make(chan error)
	const napping = 6
	for range napping {
		c := s.connect(t, "")
		go func() { naps <- c.QueryRow(ctx, "select count(*) from lossy, pg_sleep(1)", mode).Scan(new(int)) }()
	}
	await(t, 5*time.Second, "a read runs on "+victim.Name(), func() (string, bool) { return "", running(t, victim, "lossy, pg_sleep(1)") > 0 })
	if err := die(ctx, victim); err != nil {
		t.Fatal(err)
	}

	for range napping {
		if err := <-naps; err != nil {
			t.Errorf("a read of which nothing had arrived: %v", err)
		}
	}
	for rows.Next() {
	}
	wantCode(t, "a read that was half-way", rows.Err(), "57P01", "57P02", "08006")
	if n := value[int](t, streaming, "select count(*) from lossy"); n != 100 {
		t.Errorf("%d rows", n)
	}
	_, err = tx.Exec(ctx, "select count(*) from lossy", mode)
	wantCode(t, "a read in a transaction", err, "57P01", "57P02", "08006")
	if s := transaction.PgConn().TxStatus(); s != 'E' {
		t.Errorf("the transaction's status is %c", s)
	}
	_, err = tx.Exec(ctx, "select 1", mode)
	wantCode(t, "the next one in it", err, "25P02")
	if err := tx.Rollback(ctx); err != nil {
		t.Errorf("rollback: %v", err)
	}
	if n := value[int](t, transaction, "select count(*) from lossy"); n != 100 {
		t.Errorf("%d rows", n)
	}
	if err := victim.Start(ctx); err != nil {
		t.Fatal(err)
	}
}

// streamFrom starts a long read on that server and returns after its first row. The connection may be another one then.
func (s *site) streamFrom(t *testing.T, c **pgx.Conn, n *pgtest.Node, mode pgx.QueryExecMode) pgx.Rows {
	t.Helper()
	for {
		rows, err := (*c).Query(t.Context(), "select inet_server_port(), repeat('x', 1000) from lossy, generate_series(1, 100000)", mode)
		if err != nil {
			t.Fatal(err)
		}
		var port int
		if !rows.Next() || rows.Scan(&port, nil) != nil {
			t.Fatal(rows.Err())
		}
		if port == n.Port() {
			return rows
		}
		_ = (*c).PgConn().Conn().Close() // instead of reading gigabytes
		*c = s.connect(t, "")
	}
}

// TestIdleServerConnectionsDieUnseen ends the server connections that wait in the pool: nobody notices.
func TestIdleServerConnectionsDieUnseen(t *testing.T) {
	shared.table(t, "idle_deaths", "n int")
	clients := make([]*pgx.Conn, 5)
	for i := range clients {
		clients[i] = shared.connect(t, "")
	}
	for round := range 10 {
		for _, n := range shared.servers.Nodes() {
			if _, err := n.Query(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '"+appRole+"'"); err != nil {
				t.Fatal(err)
			}
		}
		for i, c := range clients {
			do(t, c, "insert into idle_deaths values ($1)", i)
			if n := value[int](t, c, "select count(*) from idle_deaths where n = $1", i); n != round+1 {
				t.Fatalf("round %d: client %d sees %d of its inserts", round, i, n)
			}
		}
	}
}

// TestPinnedSessionsEndWithTheirServerConnection ends server connections on which sessions have state: going on would be
// wrong.
func TestPinnedSessionsEndWithTheirServerConnection(t *testing.T) {
	for name, pin := range map[string]string{
		"a temporary table":      "create temp table pinned (n int)",
		"an advisory lock":       "select pg_advisory_lock(4711)",
		"LISTEN":                 "listen pinned",
		"a cursor WITH HOLD":     "declare pinned cursor with hold for select 1",
		"a statement by PREPARE": "prepare pinned as select 1",
	} {
		t.Run(name, func(t *testing.T) {
			c := shared.connect(t, "")
			do(t, c, pin)
			pid := value[int](t, c, "select pg_backend_pid()")
			if err := shared.servers.Primary().Exec(t.Context(), fmt.Sprintf("SELECT pg_terminate_backend(%d, 5000)", pid)); err != nil {
				t.Fatal(err)
			}
			_, err := c.Exec(t.Context(), "select 1")
			if err == nil || !c.IsClosed() {
				t.Fatalf("the session goes on: %v", err)
			}
			if code := sqlstate(err); code != "" && code != "57P01" {
				t.Errorf("the last word was %v", err)
			}
			if err := shared.connect(t, "").Ping(t.Context()); err != nil {
				t.Error(err)
			}
			if strings.Contains(pin, "lock") && !value[bool](t, shared.connect(t, ""), "select pg_try_advisory_xact_lock(4711)") {
				t.Error("the lock is still held")
			}
		})
	}
}
