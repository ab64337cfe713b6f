package pool

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	alice = Identity{User: "alice", Database: "app"}
	bob   = Identity{User: "bob", Database: "app"}
	carol = Identity{User: "carol", Database: "app"}
)

// server is a scripted backend: it counts its connections and swallows what it is told.
type server struct {
	mu       sync.Mutex
	open     int // connections being opened or open
	peak     int
	dials    int
	reports  []error
	script   func(ctx context.Context, id Identity) error // nil: every dial succeeds at once
	cancel   func(ctx context.Context, pid uint32, key []byte) error
	sessions map[uint32]net.Conn // the server's ends, by PID
	said     map[uint32]string   // what was read from clients that have left
	swallow  sync.WaitGroup
}

// newServer returns a server whose goroutines are waited for at the end of the test.
func newServer(t *testing.T) *server {
	t.Helper()
	v := &server{sessions: make(map[uint32]net.Conn), said: make(map[uint32]string)}
	t.Cleanup(v.swallow.Wait)
	return v
}

// newSet returns a Set over v that is closed at the end of the test. It can be called inside a bubble.
func (v *server) newSet(t *testing.T, l Limits) *Set {
	t.Helper()
	s := NewSet(v, l, MetricsFor("test", t.Name()))
	s.justUsed = 0 // tests are quick: what happens to an idle connection must be noticed at once
	t.Cleanup(s.Close)
	return s
}

// counted is the client's end: it tells the server when its socket has been closed.
type counted struct {
	net.Conn
	once sync.Once
	v    *server
}

func (c *counted) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.v.left)
	return err
}

func (v *server) left() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.open--
}

func (v *server) Dial(ctx context.Context, id Identity) (*Conn, error) {
	v.mu.Lock()
	v.dials++
	v.open++
	v.peak = max(v.peak, v.open)
	pid, script := uint32(v.dials), v.script
	v.mu.Unlock()
	if script != nil {
		if err := script(ctx, id); err != nil {
			v.left()
			return nil, err
		}
	}
	ours, theirs := net.Pipe()
	v.mu.Lock()
	v.sessions[pid] = theirs
	v.mu.Unlock()
	v.swallow.Go(func() {
		all, _ := io.ReadAll(theirs)
		v.mu.Lock()
		v.said[pid] = string(all)
		v.mu.Unlock()
	})
	c := &counted{Conn: ours, v: v}
	return NewConn(c, pgwire.NewReader(c, nil, 4096), pgwire.NewWriter(c, 4096), id, pid, []byte("key"),
		[]pgwire.Param{{Name: "server_version", Value: "17.0"}}, v.sendCancel), nil
}

func (v *server) sendCancel(ctx context.Context, pid uint32, key []byte) error {
	v.mu.Lock()
	f := v.cancel
	v.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(ctx, pid, key)
}

func (v *server) Report(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.reports = append(v.reports, err)
}

// answer sets what the following dials do.
func (v *server) answer(script func(ctx context.Context, id Identity) error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.script = script
}

// refuse makes the following dials fail with err.
func (v *server) refuse(err error) {
	v.answer(func(context.Context, Identity) error { return err })
}

// kill closes the server's end of the connections with these PIDs.
func (v *server) kill(pids ...uint32) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, pid := range pids {
		_ = v.sessions[pid].Close()
	}
}

func (v *server) numbers() (dials, open, peak, reports int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.dials, v.open, v.peak, len(v.reports)
}

func (v *server) expectDials(t *testing.T, want int) {
	t.Helper()
	if dials, _, _, _ := v.numbers(); dials != want {
		t.Errorf("dials: %d, want %d", dials, want)
	}
}

func (v *server) expectOpen(t *testing.T, want int) {
	t.Helper()
	if _, open, _, _ := v.numbers(); open != want {
		t.Errorf("open connections: %d, want %d", open, want)
	}
}

// acquire is Acquire that must succeed.
func acquire(t *testing.T, s *Set, id Identity) *Conn {
	t.Helper()
	c, err := s.Acquire(t.Context(), id)
	if err != nil {
		t.Fatalf("acquire for %s: %v", id.User, err)
	}
	return c
}

// attempt is an Acquire that runs in a goroutine of its own.
type attempt struct {
	done chan struct{}
	conn *Conn
	err  error
	took time.Duration
}

// start begins an Acquire.
func start(ctx context.Context, s *Set, id Identity) *attempt {
	a := &attempt{done: make(chan struct{})}
	began := time.Now()
	go func() {
		defer close(a.done)
		a.conn, a.err = s.Acquire(ctx, id)
		a.took = time.Since(began)
	}()
	return a
}

// over tells whether the attempt has ended. Call it after synctest.Wait.
func (a *attempt) over() bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

// stat returns the Stats of one pool, the zero value if it does not exist.
func stat(s *Set, id Identity) Stats {
	for _, st := range s.Stats() {
		if st.Identity == id {
			return st
		}
	}
	return Stats{}
}

// check verifies what must hold whenever nobody holds the mutex.
func check(t *testing.T, s *Set) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	places, waiting, hungry := 0, 0, 0
	for id, p := range s.mu.pools {
		places += p.open
		if p.opening {
			places++
		}
		waiting += p.waiters.size
		if p.waiters.size > 0 {
			hungry++
			if p.hungry == 0 || s.mu.hungry[p.hungry-1] != p {
				t.Errorf("%v waits but is not listed", id)
			}
			if p.idle.size > 0 {
				t.Errorf("%v has waiters and %d idle connections", id, p.idle.size)
			}
		} else if p.hungry != 0 {
			t.Errorf("%v is listed but does not wait", id)
		}
		if p.unused() {
			t.Errorf("%v is kept for nothing", id)
		}
		if p.open > s.mu.limits.Size {
			t.Errorf("%v has %d connections, limit %d", id, p.open, s.mu.limits.Size)
		}
		last := uint64(0)
		for w := p.waiters.front; w != nil; w = w.next {
			if w.ticket <= last {
				t.Errorf("%v: ticket %d waits behind %d", id, w.ticket, last)
			}
			last = w.ticket
		}
	}
	for _, p := range s.mu.hungry {
		if l := &s.mu.limits; p.mayOpen() && (!l.full(s.mu.total) || s.longestIdle() != nil) {
			t.Errorf("%v waits although there is room", p.id)
		}
	}
	if places > s.mu.total {
		t.Errorf("%d places taken, %d counted", places, s.mu.total)
	}
	if waiting != s.mu.waiting || hungry != len(s.mu.hungry) {
		t.Errorf("%d waiters in %d pools, counted %d in %d", waiting, hungry, s.mu.waiting, len(s.mu.hungry))
	}
}

var errRefused = errors.New("connection refused")
