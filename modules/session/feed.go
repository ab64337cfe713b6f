package session

import (
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/fairwaydb/fairway/modules/pgwire"
	"github.com/fairwaydb/fairway/modules/pool"
)

// feed is the second direction of a duplex turn: a goroutine that reads from the client and writes to the server while the session's
// own goroutine relays the replies. It runs during COPY in and while a request too large to be gathered is sent.
type feed struct {
	done      chan struct{} // closed when the goroutine has ended; nil when none runs
	err       error         // why it ended, nil when it has sent everything; read after done
	finishing bool          // it was interrupted inside a message and finishes that
	copies    bool          // it feeds a COPY, which ends when the server says so
	stopping  atomic.Bool   // stop has been called: a read that is interrupted ends it
	lease     pool.Lease
}

// feeder sends what the client says to the server until the request is complete. It returns errStopped when it was interrupted
// between two messages.
type feeder func(s *Session, c *pool.Conn) error

var errStopped = errors.New("the second direction was stopped")

// start runs f in a goroutine unless one runs already.
func (f *feed) start(s *Session, c *pool.Conn, run feeder, copies bool) error {
	if f.owes() {
		return nil // it goes on: what it reads next belongs to the copy
	}
	if f.done != nil {
		<-f.done // it has sent the end of the COPY before this one
		if f.err != nil {
			return f.err
		}
	}
	if !copies {
		s.queue.announce()
	}
	done := make(chan struct{})
	*f = feed{done: done, lease: c.Lease(), copies: copies}
	go func() {
		defer close(done)
		defer func() {
			if v := recover(); v != nil {
				panics.Inc()
				f.err = pgwire.Fatalf(pgwire.CodeInternalError, "internal error of the load balancer: %v", v)
			}
			if f.err != nil {
				f.lease.Interrupt()
			}
		}()
		f.err = run(s, c)
	}()
	return nil
}

// running tells whether the server must still be listened to because the client is still sending.
func (f *feed) running() bool {
	if f.done == nil {
		return false
	}
	select {
	case <-f.done:
		return false
	default:
		return true
	}
}

// owes tells whether replies may come that are not expected yet, because the second direction is still sending requests.
func (f *feed) owes() bool { return !f.copies && f.running() }

// failure returns why the second direction ended; nil while it runs or when it has sent everything.
func (f *feed) failure() error {
	if f.done == nil || f.running() || errors.Is(f.err, errStopped) {
		return nil
	}
	return f.err
}

// stop interrupts the goroutine at a message boundary and waits for it. After a failure of the relay nobody reads from the server any
// more, so a write to it could block for ever: it is aborted.
func (f *feed) stop(s *Session, failed bool) {
	if f.done == nil {
		return
	}
	if failed {
		f.lease.Abort()
	}
	for {
		select {
		case <-f.done:
			f.done = nil
			f.stopping.Store(false)
			_ = s.conn.SetReadDeadline(time.Time{})
			if s.lease.conn != nil {
				s.lease.conn.Resume()
			}
			return
		default:
			f.stopping.Store(true)
			_ = s.conn.SetReadDeadline(past)
			<-f.done
		}
	}
}

// readsOn tells whether a read of the client that failed is to be tried again: the drain or the watch interrupted it, in the middle
// of a message or of a COPY, and not the one who stops the second direction.
func (s *Session) readsOn(err error) bool {
	if !isTimeout(err) || s.feed.stopping.Load() || s.conn.SetReadDeadline(time.Time{}) != nil {
		return false
	}
	return !s.feed.stopping.Load() // stop sets it before the deadline that was just cleared
}

// body is the client's current message; what interrupts the session between two messages does not end it inside one.
func (s *Session) body() ([]byte, error) {
	for {
		body, err := s.r.Body()
		if err == nil || !s.readsOn(err) {
			return body, err
		}
	}
}

// discard skips the client's current message.
func (s *Session) discard() error {
	for {
		err := s.r.Discard()
		if err == nil {
			return nil
		}
		if !s.readsOn(err) {
			return &goneError{err}
		}
	}
}

// clientFailure is the error of a read of the client: what it did wrong, or that it is gone.
func clientFailure(err error) error {
	var e *pgwire.Error
	if errors.As(err, &e) {
		return e
	}
	return &goneError{err}
}

// past is a deadline that wakes a blocked read at once.
var past = time.Unix(1, 0)

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// feedCopy forwards CopyData until CopyDone or CopyFail.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY
func feedCopy(s *Session, c *pool.Conn) error {
	for {
		typ, n, err := s.r.Next()
		if err != nil {
			if s.readsOn(err) {
				continue
			}
			if isTimeout(err) {
				return errStopped
			}
			return clientFailure(err)
		}
		switch typ {
		case pgwire.MsgCopyData, pgwire.MsgCopyDone, pgwire.MsgCopyFail, pgwire.MsgSync, pgwire.MsgFlush: // the last two are ignored there
		case pgwire.MsgTerminate:
			return &goneError{errGoodbye}
		default:
			return pgwire.Fatalf(pgwire.CodeProtocolViolation, "unexpected message type 0x%02X during COPY from stdin", typ)
		}
		if n > bodyLimit && typ != pgwire.MsgCopyData {
			return pgwire.Fatalf(pgwire.CodeProtocolViolation, "message type %d is too large during COPY", typ)
		}
		if err := forwardToServer(s, c); err != nil {
			return err
		}
		last := typ == pgwire.MsgCopyDone || typ == pgwire.MsgCopyFail
		if last && !s.request.simple {
			c.W.Frame(pgwire.MsgFlush, nil) // else the server keeps its answer until a Sync that we would not read before it
		}
		if last || s.r.Buffered() == 0 {
			if err := c.W.Flush(); err != nil {
				return &lostError{err: err}
			}
		}
		if last {
			return nil
		}
	}
}

// forwardToServer passes the current frame on. A frame begun is finished even when the session interrupts: the server was promised
// its length.
func forwardToServer(s *Session, c *pool.Conn) error {
	for {
		err := s.r.Forward(c.W)
		var read *pgwire.ReadError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &read) && isTimeout(err):
			if s.readsOn(err) {
				continue
			}
			if e := s.conn.SetReadDeadline(time.Now().Add(finishTimeout)); e != nil {
				return &goneError{e}
			}
			if s.feed.finishing {
				return &goneError{err}
			}
			s.feed.finishing = true
		case errors.As(err, &read):
			return &goneError{err}
		default:
			return &lostError{err: err}
		}
	}
}

// finishTimeout bounds the time a client has to finish a message when the turn it belongs to is over.
const finishTimeout = 10 * time.Second
