package pool

import (
	"context"
	"errors"
	"time"
)

// errCancelLate is what Cancel returns inside the package's metrics when the lease was over; callers see nil.
var errCancelLate = errors.New("the lease is over")

// Lease refers to one lease of a Conn. It is what goroutines other than the holder's keep: a session stores it under
// its own lock for cancel requests. Once the lease is over it does nothing, for whoever holds the connection then: a
// late cancel cannot hit another client's statement. The zero Lease is over.
type Lease struct {
	conn   *Conn
	number uint64
}

// Lease returns a reference to the current lease. Only the holder may call it.
func (c *Conn) Lease() Lease { return Lease{conn: c, number: c.lease} }

// held tells whether the lease lasts. The caller holds the lock.
func (l Lease) held() bool { return l.conn.state == stateLeased && l.conn.lease == l.number }

// Cancel asks the server to cancel what the connection runs, and returns when the server has seen to it. It may be
// called from any goroutine; if the lease is over it does nothing and returns nil. If the holder releases meanwhile,
// the connection is not lent again until Cancel has finished, which then does what Release would have done. A cancel
// of which nobody knows whether it still comes keeps the connection from ever being lent again. Bounded by ctx and by
// Limits.ConnectTimeout.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS
func (l Lease) Cancel(ctx context.Context) error {
	c := l.conn
	if c == nil {
		return nil
	}
	timeout, ok := l.beginCancel()
	if !ok {
		c.metrics().cancelled(errCancelLate)
		return nil
	}
	ctx, stop := context.WithTimeout(ctx, timeout)
	defer stop()
	err := c.sendStop(ctx, c.pid, c.key)
	c.metrics().cancelled(err)

	c.guard.Lock()
	c.cancels--
	c.doubtful = c.doubtful || err != nil
	if c.cancels > 0 || c.state != stateReturning {
		c.guard.Unlock()
		return err
	}
	c.set.end(c)
	return err
}

// beginCancel holds the connection back if the lease lasts, and returns how long the cancel may take.
func (l Lease) beginCancel() (timeout time.Duration, ok bool) {
	c := l.conn
	c.guard.Lock()
	defer c.guard.Unlock()
	if !l.held() || c.sendStop == nil {
		return 0, false
	}
	c.cancels++
	if c.set == nil {
		return defaultConnectTimeout, true
	}
	return c.set.mu.limits.ConnectTimeout, true
}

// Interrupt wakes the holder from a read by a deadline in the past; every read fails with a timeout until the holder
// calls Resume. It may be called from any goroutine, and does nothing if the lease is over.
func (l Lease) Interrupt() {
	c := l.conn
	if c == nil {
		return
	}
	c.guard.Lock()
	defer c.guard.Unlock()
	if l.held() {
		c.interrupted = true
		_ = c.nc.SetReadDeadline(past) // fails on a closed socket only, and that wakes the holder as well
	}
}

// Abort wakes the holder from a read or a write that may block for ever, such as one to a server that has stopped reading:
// both fail from now on, and the connection is not lent again. It may be called from any goroutine, and does nothing if
// the lease is over.
func (l Lease) Abort() {
	c := l.conn
	if c == nil {
		return
	}
	c.guard.Lock()
	defer c.guard.Unlock()
	if l.held() {
		c.doubtful = true
		_ = c.nc.SetDeadline(past) // fails on a closed socket only, and that wakes the holder as well
	}
}

// Resume lets reads block again after an Interrupt. For the holder.
func (c *Conn) Resume() {
	c.guard.Lock()
	defer c.guard.Unlock()
	if c.interrupted {
		c.interrupted = false
		c.listenOn()
	}
}

// Release ends the lease as Conn.Release does; if it is over already it does nothing, whoever holds the connection.
func (l Lease) Release() {
	c := l.conn
	if c == nil {
		return
	}
	c.guard.Lock()
	if !l.held() {
		c.guard.Unlock()
		return
	}
	c.release()
}

// metrics returns those of the Set, nil outside a Set. set never changes while a Lease can refer to the connection.
func (c *Conn) metrics() *Metrics {
	if c.set == nil {
		return nil
	}
	return c.set.metrics
}
