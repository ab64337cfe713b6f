// Package pool owns the open server connections of one backend: it dials them in the background, lends each to one
// session at a time, and decides at the end of every lease whether the connection is lent again or closed.
// It never reads or writes a statement, never chooses a backend and never retries: cluster makes one [Set] per
// backend and supplies the [Dialer], session holds the leases.
//
// # Who owns a connection
//
// The [Dialer] until Dial returns, the Set while the connection is idle, the lease holder from [Set.Acquire] to
// [Conn.Release], and a canceller that is still at work when the holder releases: the CancelRequest must have had its
// effect before anybody else uses the connection. Only the owner touches [Conn.R], [Conn.W] and the state kept on the
// Conn. Other goroutines reach a leased connection through a [Lease] alone, which is dead once the lease is over.
//
// # Who is served
//
// Idle connections are lent last in, first out. Sessions that find none queue, with one limit over the whole Set.
// A connection that becomes free goes to the first in the queue for the same identity. Room in the budget
// (max_server_connections) goes to the first in the whole queue that may use it; for that an idle connection of
// another identity is closed. One whose pool holds less than its share of the budget (budget / pools in use) even
// takes the place of a connection that is just being released, if it came before everybody queueing for that one: so
// nobody starves, and pools at their share do not close each other's connections.
//
// # Lock model
//
// One mutex per Set guards its pools, the queue, and the lease state of its connections (each Conn has a pointer to
// it, guard); there is no second lock and hence no order. It is never held over I/O, a Dialer call or a wait.
// The budget counts a connection until its socket has been closed, so the server never sees more than the limit.
package pool

import (
	"context"
)

// Identity says as whom a server connection is logged in: connections are shared only within one identity.
type Identity struct {
	// User is the role that authenticated.
	User string
	// Database is the database connected to.
	Database string
}

// Dialer opens server connections for a Set. It must be safe for concurrent use.
type Dialer interface {
	// Dial connects and logs in, and returns after the first ReadyForQuery. It must return soon after ctx is done.
	// The connection belongs to the caller. A refusal by the server comes back wrapping its *pgwire.Error.
	Dial(ctx context.Context, id Identity) (*Conn, error)
	// Report tells that a dial in the background failed. It is called without locks, before the sessions that waited
	// for the dial learn of it. Dials given up because the Set was closed are not reported.
	Report(err error)
}

// pool holds what a Set keeps per identity. All fields are guarded by the Set's mutex. A pool without connections,
// waiters and opener is dropped from the Set.
type pool struct {
	set     *Set
	id      Identity
	idle    connList // front: used last
	open    int      // connections logged in and not detached: idle and leased
	waiters waitList
	hungry  int // index in Set.mu.hungry plus one, 0: no waiters

	oldest uint64 // generation: older connections are not lent again

	opening bool  // a place of the budget is granted to a dial of this pool
	running bool  // the opener goroutine runs
	victim  *Conn // to be closed by the opener first: its place in the budget is the one granted
	cooling bool  // the last dial failed while leased connections can serve the waiters: not again until Upkeep

	counts counts
}

// counts are the counters of one pool shown by Stats.
type counts struct{ lent, opened, failed uint64 }

// leased is the number of connections in the hands of sessions and cancellers.
func (p *pool) leased() int { return p.open - p.idle.size }

// mayOpen tells whether a dial for the first waiter makes sense, the budget left aside.
func (p *pool) mayOpen() bool {
	return !p.opening && p.waiters.size > 0 && p.open < p.set.mu.limits.Size && (!p.cooling || p.leased() == 0)
}

// unused tells whether nothing is left that would keep the pool.
func (p *pool) unused() bool {
	return p.open == 0 && p.waiters.size == 0 && !p.opening && !p.running
}

// park makes c the idle connection that is lent next.
func (p *pool) park(c *Conn) {
	c.become(stateIdle)
	c.fresh = false
	c.R.Rest()
	p.idle.pushFront(c)
}

// unpark takes the idle connection used last, or returns nil.
func (p *pool) unpark() *Conn {
	c := p.idle.front
	if c != nil {
		p.idle.remove(c)
		p.lend(c)
	}
	return c
}

// lend begins a lease of c.
func (p *pool) lend(c *Conn) {
	c.become(stateLeased)
	c.lease++
	c.statements.limit = p.set.mu.limits.StatementCache
	p.counts.lent++
}

// connList is a doubly linked list through Conn.prev and Conn.next.
type connList struct {
	front, back *Conn
	size        int
}

func (l *connList) pushFront(c *Conn) {
	c.prev, c.next = nil, l.front
	if l.front != nil {
		l.front.prev = c
	} else {
		l.back = c
	}
	l.front = c
	l.size++
}

func (l *connList) remove(c *Conn) {
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		l.front = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	} else {
		l.back = c.prev
	}
	c.prev, c.next = nil, nil
	l.size--
}
