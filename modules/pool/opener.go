package pool

import (
	"context"
	"math/rand/v2"
	"time"
)

// grant gives p a place in the budget to open a connection in: a free one, counted already, or that of victim, which
// has been detached and is closed first. Starts the opener unless it runs. The caller holds the mutex.
func (p *pool) grant(victim *Conn) {
	p.opening, p.victim = true, victim
	if !p.running {
		p.running = true
		p.set.openers.Go(func() {
			for p.openOne() {
				continue
			}
		})
	}
}

// openOne uses the place granted to p. It returns whether another one has been granted meanwhile; if not, the opener
// has ended.
func (p *pool) openOne() (more bool) {
	s := p.set
	s.mu.Lock()
	victim, generation, timeout := p.victim, s.mu.generation, s.mu.limits.ConnectTimeout
	p.victim = nil
	s.mu.Unlock()

	if victim != nil {
		victim.shut()
	}
	c, err := s.dial(p.id, timeout)
	if err != nil && s.ctx.Err() == nil {
		s.metrics.dialFailed()
		s.dialer.Report(err)
	}

	s.mu.Lock()
	p.opening = false
	if err == nil {
		s.adopt(p, c, generation)
		s.end(c) // to the first waiter, to the idle ones, or closed: as after any lease
	} else {
		s.mu.total--
		p.dialFailed(err)
		s.dispatch()
		s.mu.Unlock()
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	p.running = p.opening
	s.drop(p)
	return p.running
}

// dial opens one connection within timeout.
func (s *Set) dial(id Identity, timeout time.Duration) (*Conn, error) {
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	c, err := s.dialer.Dial(ctx, id)
	if err == nil && c == nil {
		err = errNoConn
	}
	return c, err
}

// dialFailed tells the waiters of p: nothing was sent, so they may try another backend at once. Only while the server is full and
// leased connections can still serve them they wait on, and the next dial is left to Upkeep. The caller holds the mutex.
func (p *pool) dialFailed(err error) {
	p.counts.failed++
	if p.leased() > 0 && passing(err) {
		p.cooling = true
		return
	}
	p.set.failWaiters(p, &DialError{Err: err})
}

// adopt makes c a connection of p, leased to the opener. generation is the one in which its dial began. The caller
// holds the mutex.
func (s *Set) adopt(p *pool, c *Conn, generation uint64) {
	c.guard = &s.mu.Mutex
	c.set, c.pool = s, p
	c.generation = generation
	c.opened = time.Now()
	c.jitter = 2*rand.Float64() - 1
	c.fresh = true
	p.open++
	p.cooling = false
	p.counts.opened++
	s.metrics.opened()
}
