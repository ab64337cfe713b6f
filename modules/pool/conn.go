package pool

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// terminateWait bounds the goodbye to a server that does not read.
const terminateWait = 200 * time.Millisecond

// state is where a Conn is in its life.
type state uint8

const (
	stateLeased    state = iota // in the hands of its dialer, the opener, or a session
	stateIdle                   // in its pool
	stateReturning              // released while a cancel is in flight: in the hands of the canceller
	stateClosed                 // detached; whoever detached it shuts it
)

// String returns the state in lower case.
func (s state) String() string {
	return [...]string{"leased", "idle", "returning", "closed"}[s]
}

// Conn is one server connection, logged in. Its owner (see the package comment) alone may use it, except through a
// Lease; nothing of it may be used after Release.
type Conn struct {
	// R reads what the server says.
	R *pgwire.Reader
	// W collects what the server is told.
	W *pgwire.Writer
	// AppliedSettings belongs to the session package: the settings in force on the connection, nil at first.
	AppliedSettings any

	nc       net.Conn
	identity Identity
	pid      uint32
	key      []byte
	sendStop func(ctx context.Context, pid uint32, key []byte) error // sends the CancelRequest
	ear      ear

	// Kept by the owner.
	params     []pgwire.Param
	applied    string
	unnamed    uint64
	status     byte
	taint      string
	statements statements
	fresh      bool // not idle since it was opened: need not be peeked at

	// Set once, by adopt.
	set        *Set
	pool       *pool
	generation uint64
	opened     time.Time
	jitter     float64 // of the lifetime, -1 … 1

	// guard is the Set's mutex, or own for a connection outside a Set. It guards what follows.
	guard       *sync.Mutex
	own         sync.Mutex
	state       state
	lease       uint64 // number of the current or last lease
	cancels     int    // cancels in flight
	doubtful    bool   // a cancel failed: nobody knows whether it still comes
	interrupted bool
	since       time.Time // idle since
	prev, next  *Conn     // in pool.idle
}

// NewConn makes the Conn a Dialer returns, of a connection that has logged in and reported ReadyForQuery: its status
// is 'I'. r and w are over c. params is what the server reported in ParameterStatus, pid and key its BackendKeyData.
// cancel sends a CancelRequest on a connection of its own and returns nil only after the server has closed that: only
// then the signal has been sent. NewConn owns what it is given. Outside a Set, Release closes the connection.
func NewConn(c net.Conn, r *pgwire.Reader, w *pgwire.Writer, id Identity, pid uint32, key []byte, params []pgwire.Param,
	cancel func(ctx context.Context, pid uint32, key []byte) error,
) *Conn {
	conn := &Conn{R: r, W: w, nc: c, identity: id, pid: pid, key: key, sendStop: cancel, params: params, status: 'I'}
	conn.guard = &conn.own
	conn.lease = 1
	conn.statements.limit = defaultStatementCache
	conn.ear.open(c)
	return conn
}

// Release ends the lease and gives the connection back; the holder forgets it. A connection that is not certainly
// clean is closed, and so is one on which a write has not returned yet. Calling it twice is harmless until the
// connection has been lent again; where that can happen, release through a Lease.
func (c *Conn) Release() {
	c.guard.Lock()
	if c.state != stateLeased {
		c.guard.Unlock()
		return
	}
	c.release()
}

// release ends the lease. The caller holds the lock, release gives it up.
func (c *Conn) release() {
	if c.set == nil {
		c.become(stateClosed)
		c.guard.Unlock()
		c.shut()
		return
	}
	if c.cancels > 0 {
		c.become(stateReturning)
		c.guard.Unlock()
		return
	}
	c.set.end(c)
}

// end is the one place where it is decided what becomes of a connection whose lease is over: closed, given to a pool
// that is overdue, to the first waiter, or parked. The caller holds the mutex, end releases it.
func (s *Set) end(c *Conn) {
	now := time.Now()
	c.since = now
	if c.interrupted {
		c.interrupted = false
		c.listenOn()
	}
	if why := s.unfit(c, now); why != reasonNone {
		s.detach(c, why)
		s.mu.Unlock()
		c.shut()
		s.vacate()
		return
	}
	p := c.pool
	if q := s.overdue(p); q != nil {
		s.detach(c, reasonEvicted)
		q.grant(c)
	} else if w := p.waiters.front; w != nil {
		p.lend(c)
		s.dequeue(w)
		w.serve(c, nil)
	} else {
		p.park(c)
	}
	s.dispatch()
	s.mu.Unlock()
}

// unfit returns why a connection whose lease is over must not be lent again, or reasonNone. The caller holds the
// mutex.
func (s *Set) unfit(c *Conn, now time.Time) reason {
	l := &s.mu.limits
	switch {
	case c.W.Err() != nil:
		return reasonBroken
	case c.doubtful:
		return reasonCancel
	case c.taint != "":
		return reasonTainted
	case c.status != 'I':
		return reasonStatus
	case c.R.Buffered() > 0 || !c.W.Idle():
		return reasonPending
	case s.mu.closed:
		return reasonShutdown
	case c.generation < s.mu.oldest, c.generation < c.pool.oldest:
		return reasonRetired
	case l.expired(now.Sub(c.opened), c.jitter):
		return reasonLifetime
	case c.pool.open > l.Size, l.MaxServerConnections > 0 && s.mu.total > l.MaxServerConnections:
		return reasonSurplus
	}
	return reasonNone
}

// Close ends the lease and closes the connection, after a Terminate if none of its bytes would end up inside another
// message. For the holder; may be called twice, and Release after it does nothing.
func (c *Conn) Close() {
	c.guard.Lock()
	if c.state != stateLeased {
		c.guard.Unlock()
		return
	}
	s := c.set
	if s == nil {
		c.become(stateClosed)
	} else {
		s.detach(c, reasonClosed)
	}
	c.guard.Unlock()
	c.shut()
	if s != nil {
		s.vacate()
	}
}

// shut says goodbye where that is possible and closes the socket. The caller has detached the connection.
func (c *Conn) shut() {
	if c.status != 0 && c.ear.heard != heardEnd && c.W.Err() == nil && c.W.Idle() {
		if c.nc.SetWriteDeadline(time.Now().Add(terminateWait)) == nil {
			c.W.Terminate()
			_ = c.W.Flush() // the connection is closed either way
		}
	}
	_ = c.nc.Close() // nothing is left to be lost
}

// become changes the state, and is the only one to do so. A wrong move is left out, so that a closed connection stays
// closed. The caller holds the lock.
func (c *Conn) become(to state) {
	switch c.state {
	case stateLeased:
		c.state = to
	case stateIdle:
		if to == stateLeased || to == stateClosed {
			c.state = to
		}
	case stateReturning:
		if to == stateLeased || to == stateIdle || to == stateClosed {
			c.state = to
		}
	case stateClosed:
	}
}

// Taint keeps the connection from being lent again: it is closed at Release. The first reason stays.
func (c *Conn) Taint(reason string) {
	if c.taint == "" {
		c.taint = reason
	}
}

// Tainted returns the reason given to Taint, "" if there is none.
func (c *Conn) Tainted() string { return c.taint }

// SetStatus keeps the transaction status of the last ReadyForQuery: 'I' idle, 'T' in a transaction, 'E' in a failed
// one, 0 while replies are outstanding. Only a connection with status 'I' is lent again.
// See https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-READYFORQUERY
func (c *Conn) SetStatus(b byte) { c.status = b }

// Status returns what SetStatus kept.
func (c *Conn) Status() byte { return c.status }

// Identity returns the user and database the connection is logged in as.
func (c *Conn) Identity() Identity { return c.identity }

// PID returns the process ID of the server process.
func (c *Conn) PID() uint32 { return c.pid }

// Param returns the last value the server reported for a parameter, "" if none.
func (c *Conn) Param(name string) string {
	for i := range c.params {
		if c.params[i].Name == name {
			return c.params[i].Value
		}
	}
	return ""
}

// SetParam keeps a value reported in a ParameterStatus.
func (c *Conn) SetParam(name, value string) {
	for i := range c.params {
		if c.params[i].Name == name {
			c.params[i].Value = value
			return
		}
	}
	c.params = append(c.params, pgwire.Param{Name: name, Value: value})
}

// Applied returns the key of the settings in force on the connection, as kept by SetApplied; "" at first.
func (c *Conn) Applied() string { return c.applied }

// SetApplied keeps the key of the settings in force. It means something to the session package only.
func (c *Conn) SetApplied(key string) { c.applied = key }

// Unnamed returns the session whose unnamed statement the server holds, 0 for nobody.
func (c *Conn) Unnamed() uint64 { return c.unnamed }

// SetUnnamed keeps whose unnamed statement the server holds, 0 for nobody's.
func (c *Conn) SetUnnamed(owner uint64) { c.unnamed = owner }

// Knows tells whether the server connection has the statement, and counts it as used just now.
func (c *Conn) Knows(name string) bool { return c.statements.use(name) }

// Learn notes that the server connection has been sent a Parse for name. It returns the statements dropped in favour
// of it, those unused for longest: the caller sends a Close for each. The slice is valid until the next Learn.
func (c *Conn) Learn(name string) (evicted []string) { return c.statements.learn(name) }

// Forget notes that the server connection does not have the statement (any more).
func (c *Conn) Forget(name string) { c.statements.forget(name) }

// ForgetAll notes that the server connection has no statements: after DISCARD ALL or DEALLOCATE ALL.
func (c *Conn) ForgetAll() { c.statements.forgetAll() }
