package integration_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairwaydb/fairway/modules/pgtest"
)

// writers are clients that insert numbers and remember which of them were acknowledged.
type writers struct {
	stop  atomic.Bool
	done  sync.WaitGroup
	acked atomic.Int64

	mu     sync.Mutex
	rows   []int64        // acknowledged
	unsure map[string]int // errors by SQLSTATE
	text   []string
	last   time.Time // of the last acknowledgement
}

// startWriters starts clients that insert into a table, each its own numbers.
func (s *site) startWriters(t testing.TB, n int, table string) *writers {
	t.Helper()
	w := &writers{unsure: make(map[string]int)}
	t.Cleanup(func() { w.stop.Store(true); w.done.Wait() })
	for k := range n {
		c := s.connect(t, "")
		w.done.Go(func() {
			for i := int64(k); !w.stop.Load(); i += int64(n) {
				_, err := c.Exec(t.Context(), "insert into "+table+" values ($1)", i)
				w.note(i, err)
				if c.IsClosed() {
					return
				}
			}
		})
	}
	return w
}

func (w *writers) note(row int64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.unsure[sqlstate(err)]++
		w.text = append(w.text, err.Error())
		return
	}
	w.rows = append(w.rows, row)
	w.last = time.Now()
	w.acked.Add(1)
}

// flow waits until so many more inserts have been acknowledged.
func (w *writers) flow(t testing.TB, n int64) {
	t.Helper()
	want := w.acked.Load() + n
	await(t, 20*time.Second, "writes flow", func() (string, bool) {
		return fmt.Sprintf("%d acknowledged", w.acked.Load()), w.acked.Load() >= want
	})
}

// TestWritesFollowTheNewPrimary kills the primary under writes and promotes a replica: nobody is told 25006, no insert is
// lost or done twice, and the old primary gets nothing when it comes back, neither as a primary of the past nor as a
// standby.
func TestWritesFollowTheNewPrimary(t *testing.T) {
	s := startSite(t, pgtest.Options{Replicas: 2, SynchronousReplicas: 1}, quickToForget)
	ctx := t.Context()
	s.table(t, "followed", "n bigint")
	w := s.startWriters(t, 10, "followed")
	reads := s.startReader(t, "select count(*) from followed")
	w.flow(t, 200)
	old := s.servers.Primary()
	if err := old.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	heir := s.mostAdvanced(t)
	if err := heir.Promote(ctx); err != nil {
		t.Fatal(err)
	}
	promoted := time.Now()
	w.flow(t, 1)
	if took := time.Since(promoted); took > time.Second {
		t.Errorf("writes flow %v after the new primary answers", took)
	}
	for _, n := range s.servers.Replicas() {
		if n.Running() {
			if err := n.Follow(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.flow(t, 200)

	// The old primary comes back and believes to be one.
	if err := old.Start(ctx); err != nil {
		t.Fatal(err)
	}
	size, err := old.QueryIn(ctx, appRole, "SELECT count(*), pg_is_in_recovery() FROM followed")
	if err != nil {
		t.Fatal(err)
	}
	await(t, 10*time.Second, "the old primary is known and refused", func() (string, bool) {
		v := s.look(t)
		return v.String(), v.backend(old.Name()).Role == "refused" && v.Primary != nil && *v.Primary == heir.Name()
	})
	before := scrape(t)
	w.flow(t, 500)
	if n := s.statements(scrape(t).since(before), old.Name(), ""); n != 0 {
		t.Errorf("the old primary got %v statements", n)
	}
	again, err := old.QueryIn(ctx, appRole, "SELECT count(*), pg_is_in_recovery() FROM followed")
	if err != nil || !slices.Equal(again[0], size[0]) {
		t.Errorf("the old primary had %v, has %v (%v)", size, again, err)
	}

	// It comes back as a standby: it gets reads, and no writes.
	if err := old.Rejoin(ctx); err != nil {
		t.Fatal(err)
	}
	s.awaitReady(t, 2)
	before = scrape(t)
	await(t, 10*time.Second, "the old primary gets reads as a standby", func() (string, bool) {
		w.flow(t, 100)
		n := s.statements(scrape(t).since(before), old.Name(), "read")
		return fmt.Sprintf("%v reads", n), n > 0
	})
	if n := s.statements(scrape(t).since(before), old.Name(), "write"); n != 0 {
		t.Errorf("the old primary got %v writes as a standby", n)
	}
	if errs := reads(); len(errs) != 0 {
		t.Errorf("%d reads failed: %.5s", len(errs), errs)
	}
	s.settle(t, w, "followed")
}

// settle stops the writers and compares what they were told with what is there.
func (s *site) settle(t *testing.T, w *writers, table string) {
	t.Helper()
	w.stop.Store(true)
	w.done.Wait()
	t.Logf("%d acknowledged, errors %v", len(w.rows), w.unsure)
	for code := range w.unsure {
		if code != "08006" && code != "57P01" && code != "57P02" {
			t.Errorf("errors of SQLSTATE %q: %.5q", code, w.text)
		}
	}
	rows, err := s.servers.Primary().QueryIn(t.Context(), appRole, "SELECT n, count(*) FROM "+table+" GROUP BY n")
	if err != nil {
		t.Fatal(err)
	}
	there := make(map[int64]bool, len(rows))
	for _, row := range rows {
		n, _ := strconv.ParseInt(row[0], 10, 64)
		if there[n] = true; row[1] != "1" {
			t.Errorf("row %d is there %s times", n, row[1])
		}
	}
	lost := 0
	for _, n := range w.rows {
		if !there[n] {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d acknowledged inserts are not there", lost)
	}
}

// mostAdvanced waits until the replicas have replayed all they have, and returns the one that has most.
func (s *site) mostAdvanced(t testing.TB) *pgtest.Node {
	t.Helper()
	var best *pgtest.Node
	most := int64(-1)
	for _, n := range s.servers.Replicas() {
		text, err := n.Value(t.Context(), "SELECT (greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0')::bigint")
		if err != nil {
			t.Fatal(err)
		}
		if position, _ := strconv.ParseInt(text, 10, 64); position > most {
			best, most = n, position
		}
	}
	return best
}

// startReader runs a read again and again on a connection of its own, until the function is called that it returns; that
// gives the errors.
func (s *site) startReader(t testing.TB, sql string) func() []error {
	t.Helper()
	c := s.connect(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	var errs []error
	done.Go(func() {
		for ctx.Err() == nil {
			if _, err := c.Exec(context.WithoutCancel(ctx), sql); err != nil {
				errs = append(errs, err)
				if c.IsClosed() {
					return
				}
			}
		}
	})
	stop := func() []error {
		cancel()
		done.Wait()
		return errs
	}
	t.Cleanup(func() { stop() })
	return stop
}
