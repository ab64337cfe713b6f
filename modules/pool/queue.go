package pool

import (
	"context"
	"errors"
	"time"
)

// waiter is one Acquire call in the queue. All fields but ready and timer are guarded by the Set's mutex while it is
// queued, and belong to the waiting goroutine from then on. It is used again by later calls: in a busy pool every
// lease begins with a wait.
type waiter struct {
	ready      chan struct{} // capacity 1: written once per wait, after conn or err
	timer      *time.Timer
	pool       *pool
	ticket     uint64 // order of arrival over the whole Set
	conn       *Conn
	err        error
	queued     bool
	prev, next *waiter
}

// serve ends the wait with a connection or an error. The waiter has been taken out of the queue.
func (w *waiter) serve(c *Conn, err error) {
	w.conn, w.err = c, err
	w.ready <- struct{}{}
}

// waitList is the part of the queue that waits for one pool, in order of arrival.
type waitList struct {
	front, back *waiter
	size        int
}

// place is what one Acquire call keeps between waits, so that it does not lose its turn when the connection it was
// given turns out to be dead.
type place struct {
	ticket   uint64
	arrived  time.Time
	deadline time.Time
}

// enqueue adds a waiter for identity id. The caller holds the mutex.
func (s *Set) enqueue(id Identity, at *place) (*waiter, error) {
	if s.mu.waiting >= s.mu.limits.MaxWaiters {
		return nil, ErrTooManyWaiters
	}
	p := s.mu.pools[id]
	if p == nil {
		p = &pool{set: s, id: id}
		s.mu.pools[id] = p
	}
	if at.ticket == 0 {
		s.mu.tickets++
		at.ticket = s.mu.tickets
		at.arrived = time.Now()
		at.deadline = at.arrived.Add(s.mu.limits.WaitTimeout)
	}
	w, ok := s.waiters.Get().(*waiter)
	if !ok {
		w = &waiter{ready: make(chan struct{}, 1)}
	}
	w.pool, w.ticket, w.queued = p, at.ticket, true
	p.waiters.insert(w)
	s.mu.waiting++
	if p.hungry == 0 {
		s.mu.hungry = append(s.mu.hungry, p)
		p.hungry = len(s.mu.hungry)
	}
	s.dispatch()
	return w, nil
}

// insert keeps the list ordered by ticket: at the back, but for a waiter that comes back with the ticket it had.
func (l *waitList) insert(w *waiter) {
	after := l.back
	for after != nil && after.ticket > w.ticket {
		after = after.prev
	}
	w.prev = after
	if after != nil {
		w.next, after.next = after.next, w
	} else {
		w.next, l.front = l.front, w
	}
	if w.next != nil {
		w.next.prev = w
	} else {
		l.back = w
	}
	l.size++
}

// dequeue takes w out of the queue. The caller holds the mutex.
func (s *Set) dequeue(w *waiter) {
	p, l := w.pool, &w.pool.waiters
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		l.front = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		l.back = w.prev
	}
	w.prev, w.next, w.queued = nil, nil, false
	l.size--
	s.mu.waiting--
	if l.size > 0 {
		return
	}
	last := s.mu.hungry[len(s.mu.hungry)-1]
	s.mu.hungry[p.hungry-1], last.hungry = last, p.hungry
	s.mu.hungry[len(s.mu.hungry)-1] = nil
	s.mu.hungry = s.mu.hungry[:len(s.mu.hungry)-1]
	p.hungry = 0
	s.drop(p)
}

// wait blocks until w is served, ctx is done or the deadline of its place has passed. It ends the use of w.
func (s *Set) wait(ctx context.Context, w *waiter, at *place) (*Conn, error) {
	if left := time.Until(at.deadline); w.timer == nil {
		w.timer = time.NewTimer(left)
	} else {
		w.timer.Reset(left)
	}
	var c *Conn
	var err error
	select {
	case <-w.ready:
		c, err = w.conn, w.err
	case <-ctx.Done():
		c, err = s.leave(w, context.Cause(ctx))
	case <-w.timer.C:
		c, err = s.leave(w, ErrWaitTimeout)
	}
	w.timer.Stop()
	*w = waiter{ready: w.ready, timer: w.timer}
	s.waiters.Put(w)
	return c, err
}

// leave takes a waiter out of the queue for reason. Had it been served in the same moment, the connection is given
// back if nobody wants it any more, and used if only the time was up.
func (s *Set) leave(w *waiter, reason error) (*Conn, error) {
	s.mu.Lock()
	queued := w.queued
	if queued {
		s.dequeue(w)
	}
	s.mu.Unlock()
	if queued {
		return nil, reason
	}
	<-w.ready
	if w.conn == nil {
		return nil, w.err
	}
	if errors.Is(reason, ErrWaitTimeout) {
		return w.conn, nil
	}
	w.conn.Release()
	return nil, reason
}

// dispatch grants the room there is in the budget to the pools whose first waiters came first, closing idle
// connections where there is none. The caller holds the mutex. Called after everything that makes room or demand.
func (s *Set) dispatch() {
	for s.mu.waiting > 0 && !s.mu.closed {
		p := s.firstHungry(nil, s.mu.limits.Size)
		if p == nil {
			return
		}
		if !s.mu.limits.full(s.mu.total) {
			s.mu.total++
			p.grant(nil)
			continue
		}
		victim := s.longestIdle()
		if victim == nil {
			return
		}
		s.detach(victim, reasonEvicted)
		p.grant(victim)
	}
}

// firstHungry returns, among the pools other than not that may open and hold fewer than below connections, the one
// whose first waiter came first; nil if there is none. The caller holds the mutex.
func (s *Set) firstHungry(not *pool, below int) *pool {
	var first *pool
	for _, p := range s.mu.hungry {
		if p == not || p.open >= below || !p.mayOpen() {
			continue
		}
		if first == nil || p.waiters.front.ticket < first.waiters.front.ticket {
			first = p
		}
	}
	return first
}

// overdue returns the pool that has a better claim on the place of a connection released by p than p's own waiters:
// the budget is short, it holds less than its share, and its first waiter came before theirs. The caller holds the
// mutex.
func (s *Set) overdue(p *pool) *pool {
	l := &s.mu.limits
	if p.waiters.front == nil || len(s.mu.hungry) < 2 || s.mu.total != l.MaxServerConnections {
		return nil
	}
	q := s.firstHungry(p, l.share(len(s.mu.pools)))
	if q == nil || q.waiters.front.ticket > p.waiters.front.ticket {
		return nil
	}
	return q
}

// longestIdle returns the connection that has been idle for longest, nil if none is idle. The caller holds the mutex.
func (s *Set) longestIdle() *Conn {
	var found *Conn
	for _, p := range s.mu.pools {
		if c := p.idle.back; c != nil && (found == nil || c.since.Before(found.since)) {
			found = c
		}
	}
	return found
}
