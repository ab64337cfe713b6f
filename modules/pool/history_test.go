package pool

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// TestRandomHistories runs random histories in virtual time against what must always hold: the budget, the size, the
// order of service within an identity, that nobody waits who need not, and that no cancel hits the next holder.
func TestRandomHistories(t *testing.T) {
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			h := &history{t: t, v: newServer(t), random: rand.New(rand.NewPCG(seed, 1))}
			h.s = h.v.newSet(t, h.limits())
			h.v.cancel = h.cancel
			for range 150 {
				h.step()
				synctest.Wait()
				h.collect()
				check(t, h.s)
			}
			h.finish()
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		})
	}
}

// history is one random run.
type history struct {
	t      *testing.T
	v      *server
	s      *Set
	random *rand.Rand
	budget int
	aimed  map[uint32]int // cancels in flight, by PID; guarded by v.mu
	queue  []*pending     // in order of arrival
	leased []*Conn
}

type pending struct {
	*attempt
	id     Identity
	cancel context.CancelFunc
}

func (h *history) limits() Limits {
	h.budget = max(h.budget, 2+h.random.IntN(5)) // the peak is compared with the largest
	return Limits{Size: 1 + h.random.IntN(4), MaxServerConnections: h.budget, WaitTimeout: time.Hour, IdleTimeout: time.Minute}
}

func (h *history) step() {
	ids := []Identity{alice, bob, carol}
	switch n := h.random.IntN(20); {
	case n < 8:
		ctx, cancel := context.WithCancel(h.t.Context())
		id := ids[h.random.IntN(len(ids))]
		h.queue = append(h.queue, &pending{attempt: start(ctx, h.s, id), id: id, cancel: cancel})
	case n < 14:
		if i := len(h.leased); i > 0 {
			i = h.random.IntN(i)
			c := h.leased[i]
			h.leased = append(h.leased[:i], h.leased[i+1:]...)
			if h.random.IntN(6) == 0 {
				c.Taint("test")
			}
			c.Release()
		}
	case n < 15:
		if len(h.queue) > 0 {
			h.queue[h.random.IntN(len(h.queue))].cancel()
		}
	case n < 16:
		wait(time.Duration(h.random.IntN(90)) * time.Second)
		h.s.Upkeep(time.Now())
	case n < 17:
		delay := time.Duration(h.random.IntN(3)) * time.Second
		h.v.answer(func(context.Context, Identity) error { pause(delay); return nil })
	case n < 18:
		h.s.Retire()
	default:
		if i := len(h.leased); i > 0 {
			lease := h.leased[h.random.IntN(i)].Lease()
			go func() { _ = lease.Cancel(context.WithoutCancel(h.t.Context())) }()
		}
	}
}

// cancel is a CancelRequest that takes a while.
func (h *history) cancel(_ context.Context, pid uint32, _ []byte) error {
	h.aim(pid, 1)
	pause(2 * time.Second)
	h.aim(pid, -1)
	return nil
}

func (h *history) aim(pid uint32, n int) {
	h.v.mu.Lock()
	defer h.v.mu.Unlock()
	if h.aimed == nil {
		h.aimed = make(map[uint32]int)
	}
	h.aimed[pid] += n
}

// collect takes the connections of those served. Within an identity nobody is served after one who came later.
func (h *history) collect() {
	var left []*pending
	waiting := make(map[Identity]bool)
	for _, a := range h.queue {
		switch {
		case !a.over():
			left = append(left, a)
			waiting[a.id] = true
		case a.err != nil:
			if !errors.Is(a.err, context.Canceled) {
				h.t.Errorf("%v: %v", a.id, a.err)
			}
		default:
			if waiting[a.id] {
				h.t.Errorf("%v: served before one that came earlier", a.id)
			}
			h.v.mu.Lock()
			if h.aimed[a.conn.PID()] > 0 {
				h.t.Errorf("%v: got a connection with a cancel in flight", a.id)
			}
			h.v.mu.Unlock()
			h.leased = append(h.leased, a.conn)
		}
		if a.over() {
			a.cancel()
		}
	}
	h.queue = left
	if _, _, peak, _ := h.v.numbers(); peak > h.budget {
		h.t.Errorf("the server saw %d connections at once, budget %d", peak, h.budget)
	}
}

// finish lets everybody go: all waiters must be served in the end.
func (h *history) finish() {
	h.v.answer(nil)
	for range 2000 {
		wait(time.Second)
		h.collect()
		for _, c := range h.leased {
			c.Release()
		}
		h.leased = nil
		if len(h.queue) == 0 {
			return
		}
	}
	h.t.Errorf("%d waiters are never served", len(h.queue))
}
