package pool

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// Set is all pools of one backend: one per identity, one budget and one queue over all of them. It is safe for
// concurrent use. Close it when the backend goes.
type Set struct {
	dialer  Dialer
	metrics *Metrics
	ctx     context.Context // the parent of all dials; cancelled by Close
	stop    context.CancelFunc
	openers sync.WaitGroup
	waiters sync.Pool // of *waiter: not queued, to be used again

	justUsed time.Duration // connections released less than this ago are not peeked at for a request that can be repeated

	mu struct {
		sync.Mutex
		limits     Limits
		pools      map[Identity]*pool
		hungry     []*pool // pools with waiters, in no order
		waiting    int     // waiters of all pools
		tickets    uint64  // the last one given to a waiter
		total      int     // the budget in use: connections open, being opened, or detached and not closed yet
		generation uint64  // counts Retire and RetireOnly
		oldest     uint64  // connections of an older generation are not lent again
		closed     bool
	}
}

// NewSet returns an empty Set that opens connections with d. No goroutine runs until the first Acquire. m may be nil.
func NewSet(d Dialer, l Limits, m *Metrics) *Set {
	s := &Set{dialer: d, metrics: m, justUsed: justUsed}
	// A server connection outlives the session that asked for it.
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.mu.pools = make(map[Identity]*pool)
	s.mu.limits = l.complete()
	return s
}

// Acquire lends a server connection for identity id; the caller owns it until Release. It takes the idle one used
// last, else waits for one to be opened or released, in order of arrival.
//
// A connection is peeked at before it is lent: one the server has closed, or has said something unasked on, is closed and
// the next one taken.
//
// Errors: *DialError when none could be opened (nothing was sent, another backend may be tried; also after Close),
// ErrWaitTimeout, ErrTooManyWaiters, or the cause of ctx.
func (s *Set) Acquire(ctx context.Context, id Identity) (*Conn, error) { return s.acquire(ctx, id, 0) }

// AcquireRepeatable is Acquire for a request that is sent again, unseen, when the connection turns out to be dead: one that
// was used just now is lent without being peeked at.
func (s *Set) AcquireRepeatable(ctx context.Context, id Identity) (*Conn, error) {
	return s.acquire(ctx, id, s.justUsed)
}

// acquire is Acquire; connections released less than unheard ago are not peeked at.
func (s *Set) acquire(ctx context.Context, id Identity, unheard time.Duration) (*Conn, error) {
	var at place
	for dead := 0; ; {
		c, w, err := s.take(id, &at)
		if w != nil {
			c, err = s.wait(ctx, w, &at)
			s.metrics.waited(time.Since(at.arrived), err)
		}
		if err != nil {
			return nil, err
		}
		if !c.idled(unheard) {
			return c, nil
		}
		heard := c.listen()
		if heard == heardNothing {
			return c, nil
		}
		if heard == heardEnd {
			dead++
		}
		s.discard(c, heard, dead)
	}
}

// take lends an idle connection or, if there is none, queues.
func (s *Set) take(id Identity, at *place) (*Conn, *waiter, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed {
		return nil, nil, &DialError{Err: ErrClosed}
	}
	if p := s.mu.pools[id]; p != nil {
		if c := p.unpark(); c != nil {
			return c, nil, nil
		}
	}
	w, err := s.enqueue(id, at)
	if err != nil {
		s.metrics.refused(err)
	}
	return nil, w, err
}

// discard closes a connection that peeking found unusable. If it was the last idle one of its pool and others were
// found dead before it, the server has been restarted: all connections of its generation are retired.
func (s *Set) discard(c *Conn, heard heard, dead int) {
	s.mu.Lock()
	burst := dead > 1 && c.pool.idle.size == 0 && c.generation >= s.mu.oldest
	s.detach(c, heard.reason())
	s.mu.Unlock()
	c.shut()
	s.vacate()
	if burst {
		s.Retire()
	}
}

// SetLimits puts l in force at once: idle connections beyond it are closed, leased ones when they are released, and
// waiters are served from new room. Waits that have begun keep their timeout.
func (s *Set) SetLimits(l Limits) {
	s.mu.Lock()
	s.mu.limits = l.complete()
	now := time.Now()
	out := s.sweep(func(c *Conn) reason { return s.outdated(c, now) })
	for excess := s.mu.total - len(out) - s.mu.limits.MaxServerConnections; excess > 0 && s.mu.limits.MaxServerConnections > 0; excess-- {
		c := s.longestIdle()
		if c == nil {
			break
		}
		s.detach(c, reasonSurplus)
		out = append(out, c)
	}
	s.dispatch()
	s.mu.Unlock()
	s.closeAll(out)
}

// Retire ends the life of all connections open now: idle ones are closed at once, leased ones when they are
// released. Called when the server behind the address has become another one: a new incarnation or another role.
func (s *Set) Retire() {
	s.mu.Lock()
	s.mu.generation++
	s.mu.oldest = s.mu.generation
	out := s.sweep(func(*Conn) reason { return reasonRetired })
	s.mu.Unlock()
	s.closeAll(out)
}

// RetireOnly does the same for the identities that which picks, and leaves the others alone. Called when what the server
// sets for new sessions of theirs has changed. New connections are opened as sessions want them, one at a time for each
// identity.
func (s *Set) RetireOnly(which func(Identity) bool) {
	s.mu.Lock()
	s.mu.generation++
	picked := make(map[*pool]bool)
	for id, p := range s.mu.pools {
		if which(id) {
			p.oldest = s.mu.generation
			picked[p] = true
		}
	}
	out := s.sweep(func(c *Conn) reason {
		if picked[c.pool] {
			return reasonRetired
		}
		return reasonNone
	})
	s.mu.Unlock()
	s.closeAll(out)
}

// Upkeep closes connections that have been idle or alive for too long, and lets pools whose last dial failed try
// again. To be called about once a second with the current time.
func (s *Set) Upkeep(now time.Time) {
	s.mu.Lock()
	for _, p := range s.mu.pools {
		p.cooling = false
	}
	out := s.sweep(func(c *Conn) reason { return s.outdated(c, now) })
	s.dispatch()
	s.mu.Unlock()
	s.closeAll(out)
}

// Close closes the idle connections, fails all waiters and later Acquires with a DialError wrapping ErrClosed, gives
// up running dials and returns when their goroutines have ended. Leased connections are closed when they are
// released. It may be called more than once.
func (s *Set) Close() {
	s.mu.Lock()
	s.mu.closed = true
	s.stop()
	for len(s.mu.hungry) > 0 {
		s.failWaiters(s.mu.hungry[0], &DialError{Err: ErrClosed})
	}
	out := s.sweep(func(*Conn) reason { return reasonShutdown })
	s.mu.Unlock()
	s.closeAll(out)
	s.openers.Wait()
}

// Stats describes one pool at one moment.
type Stats struct {
	Identity Identity
	// Open connections are Idle or InUse; Opening is 1 while a dial runs; Waiting sessions queue.
	Open, Idle, InUse, Waiting, Opening int
	// Lent, Opened and Failed (dials) are counted since the pool came into being. A pool without connections and
	// waiters ceases to exist.
	Lent, Opened, Failed uint64
}

// Stats returns a snapshot of all pools, sorted by user and database.
func (s *Set) Stats() []Stats {
	s.mu.Lock()
	out := make([]Stats, 0, len(s.mu.pools))
	for _, p := range s.mu.pools {
		st := Stats{
			Identity: p.id, Open: p.open, Idle: p.idle.size, InUse: p.leased(), Waiting: p.waiters.size,
			Lent: p.counts.lent, Opened: p.counts.opened, Failed: p.counts.failed,
		}
		if p.opening {
			st.Opening = 1
		}
		out = append(out, st)
	}
	s.mu.Unlock()
	slices.SortFunc(out, func(a, b Stats) int {
		return cmp.Or(cmp.Compare(a.Identity.User, b.Identity.User), cmp.Compare(a.Identity.Database, b.Identity.Database))
	})
	return out
}

// failWaiters ends the wait of everybody who queues for p. The caller holds the mutex.
func (s *Set) failWaiters(p *pool, err error) {
	for w := p.waiters.front; w != nil; w = p.waiters.front {
		s.dequeue(w)
		w.serve(nil, err)
	}
}

// outdated returns why an idle connection should be closed, or reasonNone. The caller holds the mutex.
func (s *Set) outdated(c *Conn, now time.Time) reason {
	l := &s.mu.limits
	switch {
	case c.pool.open > l.Size:
		return reasonSurplus
	case l.expired(now.Sub(c.opened), c.jitter):
		return reasonLifetime
	case l.IdleTimeout > 0 && now.Sub(c.since) >= l.IdleTimeout:
		return reasonIdle
	}
	return reasonNone
}

// sweep detaches the idle connections for which verdict gives a reason, those idle for longest first, and returns
// them to be closed. The caller holds the mutex.
func (s *Set) sweep(verdict func(*Conn) reason) (out []*Conn) {
	for _, p := range s.mu.pools {
		for c := p.idle.back; c != nil; {
			next := c.prev
			if r := verdict(c); r != reasonNone {
				s.detach(c, r)
				out = append(out, c)
			}
			c = next
		}
	}
	return out
}

// closeAll closes detached connections and gives their places in the budget back one by one.
func (s *Set) closeAll(conns []*Conn) {
	for _, c := range conns {
		c.shut()
		s.vacate()
	}
}

// detach takes an idle or leased connection out of its pool: the caller shuts it and calls vacate afterwards. The
// caller holds the mutex. The only way out of a pool.
func (s *Set) detach(c *Conn, why reason) {
	p := c.pool
	if c.state == stateIdle {
		p.idle.remove(c)
	}
	c.become(stateClosed)
	p.open--
	s.metrics.closed(why)
	s.drop(p)
}

// vacate gives the place of a connection that has been shut to the next in the queue.
func (s *Set) vacate() {
	s.mu.Lock()
	s.mu.total--
	s.dispatch()
	s.mu.Unlock()
}

// drop removes a pool that is not used any more. The caller holds the mutex.
func (s *Set) drop(p *pool) {
	if p.unused() {
		delete(s.mu.pools, p.id)
	}
}
