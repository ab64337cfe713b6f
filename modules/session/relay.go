package session

import (
	"bytes"
	"encoding/binary"
	"errors"
	"time"

	"github.com/fairwaydb/fairway/modules/pgsql"
	"github.com/fairwaydb/fairway/modules/pgwire"
	"github.com/fairwaydb/fairway/modules/pool"
)

// goneError says that the client's connection failed.
type goneError struct{ err error }

func (e *goneError) Error() string { return "client connection: " + e.err.Error() }
func (e *goneError) Unwrap() error { return e.err }

// relay passes the server's messages to the client until every expected reply has come. It returns a *lostError when the server
// connection failed and a *goneError when the client's did.
func (s *Session) relay(c *pool.Conn) (err error) {
	defer func() { s.feed.stop(s, err != nil) }()
	for {
		owes := s.feed.owes() // before the queue: what it expects last is seen below
		if !s.answerOurs() {
			if !owes {
				return s.feed.failure()
			}
			if err := s.awaitFeed(); err != nil {
				return err
			}
			continue
		}
		if (owes || s.turn.hurry) && s.w.Len() > 0 && c.R.Buffered() == 0 {
			// The server has flushed and the client may wait for it.
			s.turn.hurry = false
			if err := s.flush(); err != nil {
				return err
			}
		}
		typ, n, err := c.R.Next()
		if err != nil {
			return s.interrupted(&lostError{err: err, last: s.turn.closed})
		}
		if !s.turn.replied {
			s.turn.replied = true
			s.turn.latency = time.Duration(monotonic() - s.turn.requested)
		}
		if err := s.pass(c, typ, n); err != nil {
			return s.interrupted(err)
		}
	}
}

// interrupted returns why the second direction has interrupted a read of the server, and any other error as it is.
func (s *Session) interrupted(err error) error {
	if s.feed.done != nil && isTimeout(err) {
		<-s.feed.done // it is about to end
	}
	if fed := s.feed.failure(); fed != nil {
		return fed
	}
	return err
}

// awaitFeed waits, with nothing expected from the server, until the second direction has sent another message or has ended. What the
// client was answered so far goes out: it may wait for that.
func (s *Session) awaitFeed() error {
	if s.w.Len() > 0 {
		if err := s.flush(); err != nil {
			return err
		}
	}
	select {
	case <-s.queue.pushed:
	case <-s.feed.done:
	}
	return nil
}

// answerOurs writes the replies at the front of the queue that are ours to give. It returns whether the server owes a reply.
func (s *Session) answerOurs() bool {
	for {
		r, ok := s.queue.front()
		if !ok {
			return false
		}
		if r.action != answer {
			return true
		}
		switch r.expect {
		case expectParse:
			s.w.Frame(pgwire.MsgParseComplete, nil)
		case expectClose:
			s.w.Frame(pgwire.MsgCloseComplete, nil)
		}
		s.queue.pop()
	}
}

// pass handles one message of the server.
func (s *Session) pass(c *pool.Conn, typ byte, n int) error {
	r, expected := s.queue.front()
	switch typ {
	case pgwire.MsgDataRow:
		return s.row(c, r)
	case pgwire.MsgReadyForQuery:
		return s.ready(c, r, expected)
	case pgwire.MsgError:
		return s.serverError(c, r, expected)
	case pgwire.MsgNotice:
		if expected && r.action == drop {
			return dropFrame(c)
		}
		return s.notice(c)
	case pgwire.MsgNotification:
		s.turn.hurry = true
		return s.notification(c)
	case pgwire.MsgParameterStatus:
		return s.parameterStatus(c)
	case pgwire.MsgCopyIn:
		if err := s.forward(c); err != nil {
			return err
		}
		if err := s.flush(); err != nil {
			return err
		}
		return s.copyIn(c)
	case pgwire.MsgCommandComplete:
		if expected && r.action == forward {
			if err := s.commandComplete(c, r.cleared != nil); err != nil {
				return err
			}
		}
	case pgwire.MsgPortalSuspended:
		s.turn.completed = s.turn.completed || r.action == forward // what it did so far may have left something
	case pgwire.MsgRowDescription, pgwire.MsgNoData, pgwire.MsgParseComplete, pgwire.MsgBindComplete, pgwire.MsgCloseComplete,
		pgwire.MsgEmptyQuery, pgwire.MsgParameterDescription, pgwire.MsgCopyOut, pgwire.MsgCopyData,
		pgwire.MsgCopyDone, pgwire.MsgFunctionResult:
	default:
		return &lostError{err: pgwire.Errorf(pgwire.CodeProtocolViolation, "unexpected message type %d of %d bytes from the server", typ, n)}
	}
	if !expected {
		return &lostError{err: pgwire.Errorf(pgwire.CodeProtocolViolation, "message type %d of the server answers nothing", typ)}
	}
	var err error
	if r.expect == expectDescribe && r.stmt != nil && r.expect.completes(typ) {
		if err := s.noteShape(c, r, typ); err != nil {
			return err
		}
	}
	switch {
	case r.action == drop:
		err = dropFrame(c)
	case typ == pgwire.MsgCopyData:
		return s.forwardBy(c, (*pgwire.Reader).ForwardRun)
	default:
		err = s.forwardReply(c, r, typ)
	}
	if err == nil && r.expect != expectQuery && r.expect.completes(typ) {
		s.queue.pop()
	}
	return err
}

// notice passes a notice on at once, as a server does. A warning that the server stops or has crashed is its last word to us: the
// connection ends next, and the client may never need to know.
func (s *Session) notice(c *pool.Conn) error {
	body, err := c.R.Body()
	if err != nil {
		return &lostError{err: err}
	}
	e := pgwire.ParseError(body)
	if e.Code == pgwire.CodeAdminShutdown || e.Code == pgwire.CodeCrashShutdown {
		s.turn.closed = e
		return nil
	}
	s.turn.hurry = true
	return s.forward(c)
}

// notification passes a notification on. What the session has sent itself must come from the process that the client was told of.
func (s *Session) notification(c *pool.Conn) error {
	if sender, err := c.R.Peek(4); err != nil {
		return &lostError{err: err}
	} else if len(sender) < 4 || binary.BigEndian.Uint32(sender) != c.PID() {
		return s.forward(c)
	}
	body, err := c.R.Body()
	if err != nil {
		return &lostError{err: err}
	}
	s.w.Begin(pgwire.MsgNotification)
	s.w.Int32(int(s.pid))
	s.w.Bytes(body[4:])
	s.w.End()
	return nil
}

// row handles a row; nothing is to be learned from those of the client.
func (s *Session) row(c *pool.Conn, r reply) error {
	if r.action == drop {
		return s.capture(c, r)
	}
	return s.forwardBy(c, (*pgwire.Reader).ForwardRun)
}

// forward passes the current frame to the client, streamed when it is large.
func (s *Session) forward(c *pool.Conn) error { return s.forwardBy(c, (*pgwire.Reader).Forward) }

func (s *Session) forwardBy(c *pool.Conn, by func(*pgwire.Reader, *pgwire.Writer) error) error {
	collected, sent := s.w.Len(), s.w.Sent()
	err := by(c.R, s.w)
	if err == nil {
		return nil
	}
	s.turn.torn = s.w.Len() != collected || s.w.Sent() != sent
	return s.sideOf(err)
}

// sideOf says which side's failure ended a copy from the server to the client.
func (s *Session) sideOf(err error) error {
	var read *pgwire.ReadError
	if errors.As(err, &read) {
		return &lostError{err: err}
	}
	return &goneError{err}
}

func dropFrame(c *pool.Conn) error {
	if err := c.R.Discard(); err != nil {
		return &lostError{err: err}
	}
	return nil
}

// ready handles ReadyForQuery: the end of a simple query or of an extended segment.
func (s *Session) ready(c *pool.Conn, r reply, expected bool) error {
	body, err := c.R.Body()
	if err != nil || len(body) != 1 || !expected || r.expect != expectQuery && r.expect != expectSync {
		return &lostError{err: pgwire.Errorf(pgwire.CodeProtocolViolation, "ReadyForQuery answers nothing")}
	}
	c.SetStatus(body[0])
	if r.action == forward {
		s.told(c, body[0])
	}
	s.queue.pop()
	if r.own != ownNone {
		if next, ok := s.queue.front(); !ok || next.own == ownNone {
			s.unshield()
			s.tellChanges(c)
		}
	}
	return nil
}

// told gives the client its ReadyForQuery. A turn that only prepared leaves the transaction open that no server knows of, and its
// failure fails it.
func (s *Session) told(c *pool.Conn, status byte) {
	if !s.request.prepare {
		s.status = status
	} else if s.turn.failed != "" && s.tx.open && s.turn.refused == nil {
		s.failTransaction()
	}
	if s.turn.refused == nil {
		s.tellResets()
		s.tellNews(c)
		s.w.ReadyForQuery(s.status)
	}
}

// commandComplete looks at the command tag for what the session must know; the frame stays to be forwarded. forgotten says that the
// statements it takes away were forgotten when it was sent.
func (s *Session) commandComplete(c *pool.Conn, forgotten bool) error {
	tag, err := c.R.Peek(len("DEALLOCATE ALL\x00"))
	if err != nil {
		return &lostError{err: err}
	}
	s.turn.completed = true
	s.turn.rolled = false
	switch {
	case bytes.HasPrefix(tag, []byte("ROLLBACK")):
		s.turn.rolled, s.turn.wentBack = true, true // to a savepoint, or the whole
	case bytes.HasPrefix(tag, []byte("COMMIT")):
		s.turn.committed = true
	case bytes.HasPrefix(tag, []byte("DISCARD ALL")):
		if !forgotten {
			s.forgetAll(c)
		}
		s.discarded(c)
		if s.pins&pgsql.Load != 0 {
			s.lease.taint("loaded") // LOAD and setseed outlive it
		}
		s.unpin()
	case bytes.HasPrefix(tag, []byte("DEALLOCATE ALL")) && !forgotten:
		s.forgetAll(c)
	}
	return nil
}

// forwardReply passes the current frame on. A SHOW that another statement stood for ends as one.
func (s *Session) forwardReply(c *pool.Conn, r reply, typ byte) error {
	if !r.shows || typ != pgwire.MsgCommandComplete {
		return s.forward(c)
	}
	s.w.CommandComplete("SHOW")
	return dropFrame(c)
}

// forgetAll follows a statement that has destroyed every prepared statement of the server connection.
func (s *Session) forgetAll(c *pool.Conn) {
	c.ForgetAll()
	c.SetUnnamed(0)
	s.statements.clear()
	for _, r := range s.queue.pending() { // parsed behind it in the same pipeline
		if r.expect == expectParse && r.named {
			s.statements.set(r.stmt.name, r.stmt)
		}
		if r.expect == expectParse && r.known != "" {
			c.Learn(r.known)
		}
	}
}

// parameterStatus notes what the server reports and passes it on when the client was told otherwise. Whether a server is a standby
// is not the client's business: in_hot_standby is always off.
func (s *Session) parameterStatus(c *pool.Conn) error {
	body, err := c.R.Body()
	if err != nil {
		return &lostError{err: err}
	}
	name, value, err := pgwire.DecodeParameterStatus(body)
	if err != nil {
		return &lostError{err: err}
	}
	stateOf(c).said.hear(c, string(name), string(value))
	if string(name) == "in_hot_standby" {
		return nil
	}
	if !s.reported.greeted() {
		return nil // the greeting tells everything
	}
	if r, _ := s.queue.front(); r.own == ownSettings {
		s.tellLater(string(name))
		return nil
	}
	if !s.wasReset(string(name)) { // else it is told with the end of the turn
		s.tell(string(name), s.usual(c, string(name), string(value)))
	}
	return nil
}

// capture keeps the row a probe of ours returns; rows of other queries of ours are of no interest.
func (s *Session) capture(c *pool.Conn, r reply) error {
	if r.own != ownProbe {
		return dropFrame(c)
	}
	body, err := c.R.Body()
	if err != nil {
		return &lostError{err: err}
	}
	values, ok := rowValues(body)
	if !ok {
		return &lostError{err: pgwire.Errorf(pgwire.CodeProtocolViolation, "malformed DataRow")}
	}
	s.turn.probed = values
	return nil
}
