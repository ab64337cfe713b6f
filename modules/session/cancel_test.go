package session

import (
	"context"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// A cancel that comes while a query of ours runs waits for its end: a BEGIN that was cancelled would leave the statement behind it
// without its transaction.
func TestACancelWaitsForOurOwnQueries(t *testing.T) {
	p := startProxy(t, pg, nil)
	c := p.connect(t, "")
	exec(t, c, "begin")
	exec(t, c, "select 1")
	sessions.mu.Lock()
	s := sessions.mu.byPID[c.PgConn().PID()]
	sessions.mu.Unlock()
	s.shield()
	if err := c.PgConn().CancelRequest(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	later := s.mu.later
	s.mu.Unlock()
	if !later {
		t.Fatal("the cancel was not kept back")
	}
	s.unshield() // sends it to an idle server, which ignores it
	exec(t, c, "select 1")
	exec(t, c, "commit")
}

func TestAClientThatWaitsInTheQueueCanBeCancelled(t *testing.T) {
	p := startProxy(t, pg, onePool)
	holder, waiter := p.connect(t, ""), p.connect(t, "")
	exec(t, holder, "begin")
	exec(t, holder, "select 1")
	done := make(chan error, 1)
	go func() {
		_, err := waiter.Exec(context.Background(), "select 1 for update")
		done <- err
	}()
	for {
		if err := waiter.PgConn().CancelRequest(t.Context()); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-done:
			sqlstate(t, err, "57014")
			exec(t, holder, "commit")
			exec(t, waiter, "select 1 for update")
			return
		default:
		}
	}
}

func TestAClientThatLeavesHasItsStatementCancelled(t *testing.T) {
	p := startProxy(t, pg, nil)
	c, watcher := p.connect(t, ""), p.connect(t, "")
	ctx, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer stop()
	conn := c.PgConn().Conn()
	go func() {
		<-ctx.Done()
		_ = conn.Close()
	}()
	_, _ = c.Exec(context.Background(), "select pg_sleep(60), 'left' for update")
	const running = "select count(*) from pg_stat_activity where state = 'active' and query like '%''left'' for update'"
	deadline := time.Now().Add(5 * time.Second)
	for value[int](t, watcher, running) > 0 {
		if time.Now().After(deadline) {
			t.Fatal("still runs")
		}
	}
}

// TestASessionWithoutClientDoesNotWaitForAServerForEver: a server process that is stopped answers neither the statement nor the cancel
// request.
func TestASessionWithoutClientDoesNotWaitForAServerForEver(t *testing.T) {
	p := startProxy(t, pg, nil)
	c := dialPeer(t, p.addr)
	frozen, err := strconv.Atoi(c.ask(false, "select pg_backend_pid() for update"))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(frozen, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(frozen, syscall.SIGCONT) })
	left := c.session()
	c.say("Q select 1 for update")
	c.flush()
	_ = c.conn.Close()
	until(t, "the client is missed", func() bool { return left.left.Load() != 0 })
	left.left.Store(monotonic() - int64(abandonAfter) - 1) // as if it had been a while
	until(t, "the session ends", func() bool {
		sessions.mu.Lock()
		defer sessions.mu.Unlock()
		for _, s := range sessions.mu.sessions {
			if s == left {
				return false
			}
		}
		return true
	})
}
