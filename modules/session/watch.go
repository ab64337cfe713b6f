package session

import (
	"errors"
	"time"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgsql"
	"github.com/fairwaydb/fairway/modules/pgwire"
	"github.com/fairwaydb/fairway/modules/pool"
)

// The watch looks at all sessions once per watchInterval; what lasts longer than watchAfter gets its attention.
const (
	watchInterval = 500 * time.Millisecond
	watchAfter    = time.Second
)

var processStart = time.Now()

// monotonic is the time since the process started, in nanoseconds; never 0.
func monotonic() int64 { return int64(time.Since(processStart)) + 1 }

// watchOver is the registry's only goroutine: it runs while there are sessions. Clients that have left while their session waits on a
// server get their statement cancelled; sessions that hold a server connection and are idle begin to listen to it.
func (reg *Registry) watchOver(stop <-chan struct{}) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			for _, s := range reg.overdue(monotonic() - int64(watchAfter)) {
				s.look()
			}
		}
	}
}

// overdue returns the sessions that have waited since before the given time.
func (reg *Registry) overdue(before int64) []*Session {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	var list []*Session
	for _, s := range reg.mu.sessions {
		if t := s.waitsSince.Load(); t != 0 && t < before {
			list = append(list, s)
		} else if t := s.heldSince.Load(); t != 0 && t < before {
			list = append(list, s)
		}
	}
	return list
}

// look attends to one session that waits.
func (s *Session) look() {
	if s.waitsSince.Load() != 0 {
		s.lookAfterClient()
		return
	}
	if s.backendGone() {
		s.evicted.Store(true)
	}
	if s.heldSince.Load() != 0 && s.woken.CompareAndSwap(false, true) {
		_ = s.conn.SetReadDeadline(past)
	}
}

// abandonAfter is how long a server may take to answer the cancel request of a client that has left. It may have a rollback to do.
const abandonAfter = 30 * time.Second

// lookAfterClient cancels the statement of a client that has left, and gives up a server connection whose server does not answer that.
func (s *Session) lookAfterClient() {
	switch left := s.left.Load(); {
	case left == 0 && hungUp(s.raw):
		s.left.Store(monotonic())
		s.reg.watch.Go(func() { s.cancel(errClientLeft) })
	case left != 0 && monotonic()-left > int64(abandonAfter):
		s.mu.Lock()
		lease := s.mu.active
		s.mu.Unlock()
		lease.Abort()
	}
}

// backendGone tells whether the backend whose server connection the session holds has left the cluster, and its drain_timeout is over.
func (s *Session) backendGone() bool {
	s.mu.Lock()
	b := s.mu.backend
	s.mu.Unlock()
	if b == nil {
		return false
	}
	select {
	case <-b.Gone():
		return true
	default:
		return false
	}
}

// nextFrame waits for the client's next message. While a server connection is held, what the server says unasked reaches the client
// in the meantime.
func (s *Session) nextFrame() (typ byte, n int, err error) {
	if stop := s.mustStop(); stop != nil {
		return 0, 0, stop
	}
	s.show()
	if s.lease.held() && s.r.Buffered() == 0 {
		s.heldSince.Store(monotonic())
		if s.pins&pgsql.Listen != 0 {
			s.ear.open(s)
		}
	}
	for {
		typ, n, err = s.r.Next()
		if err == nil || !isTimeout(err) {
			break
		}
		if stop := s.wakeUp(); stop != nil {
			err = stop
			break
		}
	}
	s.heldSince.Store(0)
	if s.ear.done != nil {
		if e := s.afterHearing(s.ear.close(s)); err == nil && e != nil {
			return 0, 0, e
		}
	}
	return typ, n, err
}

// afterHearing handles what ended a held connection while its session was idle; nil when the session may go on.
func (s *Session) afterHearing(err error) error {
	var lost *lostError
	if errors.As(err, &lost) {
		return s.heldLost(lost)
	}
	return err
}

// mustStop returns why the session ends here: somebody asked for it.
func (s *Session) mustStop() error {
	if s.killed.Load() {
		return pgwire.Fatalf(pgwire.CodeAdminShutdown, "terminating connection due to administrator command")
	}
	if s.closing.Load() && s.idle() {
		return errShutdown()
	}
	return nil
}

// wakeUp handles a read of the client that was interrupted: by the drain, by the watch or by the ear.
func (s *Session) wakeUp() error {
	if err := s.conn.SetReadDeadline(time.Time{}); err != nil {
		return &goneError{err}
	}
	if s.ear.ended() {
		if err := s.afterHearing(s.ear.close(s)); err != nil {
			return err
		}
	}
	if stop := s.mustStop(); stop != nil {
		return stop
	}
	if s.evicted.Swap(false) && s.lease.held() {
		return errEvicted()
	}
	if s.woken.Swap(false) && s.lease.held() {
		s.ear.open(s)
	}
	return nil
}

// idle tells whether ending the session now interrupts nothing: no transaction, no request half read.
func (s *Session) idle() bool {
	return s.status == 'I' && !s.segment && !s.skipping && !s.batch.waiting() && s.r.Buffered() == 0
}

// ear listens to a held server connection while its client is silent: what the server says unasked, such as a notification or its
// last words, is passed on at once.
type ear struct {
	done  chan struct{}
	err   error
	lease pool.Lease
}

// open starts listening. The goroutine owns the connection's reading side and the client's writing side until close.
func (e *ear) open(s *Session) {
	if e.done != nil || !s.lease.held() {
		return
	}
	c := s.lease.conn
	done := make(chan struct{})
	e.done, e.lease = done, c.Lease()
	go func() {
		defer close(done)
		defer func() {
			if v := recover(); v != nil {
				panics.Inc()
				e.err = pgwire.Fatalf(pgwire.CodeInternalError, "internal error of the load balancer: %v", v)
				_ = s.conn.SetReadDeadline(past)
			}
		}()
		e.err = s.listen(c)
		if e.err != nil && !isTimeout(e.err) {
			_ = s.conn.SetReadDeadline(past) // wakes the session
		}
	}()
}

// listen passes on what the server says unasked, until it is interrupted (a timeout error) or the connection ends.
func (s *Session) listen(c *pool.Conn) error {
	for {
		typ, _, err := c.R.Next()
		if err != nil {
			if isTimeout(err) {
				return err
			}
			return &lostError{err: err, last: s.turn.closed}
		}
		switch typ {
		case pgwire.MsgNotification:
			err = s.notification(c)
		case pgwire.MsgNotice:
			err = s.notice(c)
		case pgwire.MsgParameterStatus:
			err = s.parameterStatus(c)
		case pgwire.MsgError:
			return s.lastWords(c)
		default:
			return &lostError{err: pgwire.Errorf(pgwire.CodeProtocolViolation, "message type %d came unasked", typ)}
		}
		if err != nil {
			return err
		}
		if c.R.Buffered() == 0 {
			if err := s.flush(); err != nil {
				return err
			}
		}
	}
}

// lastWords is the error by which a server ends an idle connection.
func (s *Session) lastWords(c *pool.Conn) error {
	body, err := c.R.Body()
	if err != nil {
		return &lostError{err: err}
	}
	e := pgwire.ParseError(body)
	return &lostError{err: e, last: e}
}

// ended tells whether the ear has stopped by itself.
func (e *ear) ended() bool {
	if e.done == nil {
		return false
	}
	select {
	case <-e.done:
		return true
	default:
		return false
	}
}

// close stops listening and returns what ended the connection meanwhile.
func (e *ear) close(s *Session) error {
	if e.done == nil {
		return nil
	}
	e.lease.Interrupt()
	<-e.done
	e.done = nil
	s.lease.conn.Resume()
	if isTimeout(e.err) && !errors.As(e.err, new(*goneError)) {
		return nil
	}
	return e.err
}

// heldLost handles the loss of a held connection between two requests. What was pinned ends the session; a transaction is failed,
// and its next statement says why.
func (s *Session) heldLost(lost *lostError) error {
	pins, inTx := s.pins, s.status != 'I'
	s.lease.taint("lost")
	s.undoPending(nil)
	s.lease.conn.Close()
	s.release()
	wrote, failed := s.wrote, s.segment && !s.skipping
	s.skipping = s.skipping || s.segment
	s.segment, s.wrote = false, false
	s.touched.clear()
	if pins != 0 {
		return errPinLost(pins, lost)
	}
	s.tx = transaction{}
	if inTx {
		s.failTransaction()
		s.tx.lost = lost
	}
	if !failed {
		return nil
	}
	// The client has not sent its Sync yet: the segment fails now, and only this error tells.
	s.tx.lost = nil
	if wrote {
		s.mark = cluster.Now()
	}
	s.w.Error(errLost(pgsql.Unparsed(), lost))
	return s.flush()
}
