package session

import (
	"bytes"
	"errors"
	"time"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgwire"
	"github.com/fairwaydb/fairway/modules/pool"
	"github.com/fairwaydb/fairway/modules/routing"
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
			if fed := s.feed.failure(); fed != nil {
				return fed
			}
			return &lostError{err: err, last: s.turn.closed}
		}
		if !s.turn.replied {
			s.turn.replied = true
			s.turn.latency = time.Since(s.turn.requested)
		}
		if err := s.pass(c, typ, n); err != nil {
			return err
		}
	}
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
func (s *Session) pass(c *pool.Conn, typ byte, n int) error { //nolint:funlen // one case per message
	r, expected := s.queue.front()
	switch typ {
	case pgwire.MsgDataRow:
		if r.action == drop {
			return s.capture(c, r)
		}
		return s.forward(c)
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
		return s.forward(c)
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
			if err := s.commandComplete(c); err != nil {
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
	if r.action == drop {
		err = dropFrame(c)
	} else {
		err = s.forward(c)
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

// forward passes the current frame to the client, streamed when it is large.
func (s *Session) forward(c *pool.Conn) error {
	collected, sent := s.w.Len(), s.w.Sent()
	err := c.R.Forward(s.w)
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
		s.told(body[0])
	}
	s.queue.pop()
	if r.own != ownNone {
		if next, ok := s.queue.front(); !ok || next.own == ownNone {
			s.unshield()
		}
	}
	return nil
}

// told gives the client its ReadyForQuery. A turn that only prepared leaves the transaction open that no server knows of, and its
// failure fails it.
func (s *Session) told(status byte) {
	if !s.request.prepare {
		s.status = status
	} else if s.turn.failed != "" && s.tx.open && s.turn.refused == nil {
		s.failTransaction()
	}
	if s.turn.refused == nil {
		s.w.ReadyForQuery(s.status)
	}
}

// commandComplete looks at the command tag for what the session must know; the frame stays to be forwarded.
func (s *Session) commandComplete(c *pool.Conn) error {
	tag, err := c.R.Peek(len("DEALLOCATE ALL\x00"))
	if err != nil {
		return &lostError{err: err}
	}
	s.turn.completed = true
	s.turn.rolled = false
	switch {
	case bytes.HasPrefix(tag, []byte("ROLLBACK")):
		s.turn.rolled = true
	case bytes.HasPrefix(tag, []byte("COMMIT")):
		s.turn.committed = true
	case bytes.HasPrefix(tag, []byte("DISCARD ALL")):
		s.forgetAll(c)
		s.unpin()
	case bytes.HasPrefix(tag, []byte("DEALLOCATE ALL")):
		s.forgetAll(c)
	}
	return nil
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
	c.SetParam(string(name), string(value))
	if string(name) == "in_hot_standby" {
		return nil
	}
	if told, ok := s.reported[string(name)]; s.reported == nil || ok && told == string(value) {
		return nil // or not greeted yet: the greeting tells everything
	}
	s.reported[string(name)] = string(value)
	s.lexical.note(string(name), string(value))
	s.w.ParameterStatus(string(name), string(value))
	return nil
}

// serverError handles ErrorResponse. An error of the client's statement is forwarded; the server's last words end the connection; a
// refusal that another backend may not raise is kept back when nothing of the reply has reached the client.
func (s *Session) serverError(c *pool.Conn, r reply, expected bool) error {
	body, err := c.R.Body()
	if err != nil {
		return &lostError{err: err}
	}
	e := pgwire.ParseError(body)
	if e.Fatal || !expected {
		s.turn.closed = e
		return &lostError{err: e, last: e}
	}
	if r.action == drop && r.expect == expectQuery {
		if s.turn.own == nil {
			s.turn.own = e
		}
		return nil
	}
	if own, _ := s.queue.front(); own.action == drop && s.queue.awaits(ownShape) {
		s.turn.own = e
		s.segmentFailed(c)
		return nil
	}
	switch {
	case s.stalePlan(c, r, e):
		s.turn.refused, s.turn.stale = e, true
	case s.refusedHere(e):
		s.turn.refused = e
	case r.dup && e.Code == pgwire.CodeDuplicatePreparedStatement:
		e.Raw = nil
		e.Message = `prepared statement "` + r.stmt.name + `" already exists`
		s.w.Error(e)
	default:
		s.w.Frame(pgwire.MsgError, body)
	}
	s.turn.failed = e.Code
	if cluster.IsFailure(e) {
		s.turn.illness = e
	}
	s.labels.sqlError(e.Code)
	if r.expect == expectQuery || r.expect == expectSync {
		return nil
	}
	s.segmentFailed(c)
	return nil
}

// segmentFailed follows an error in extended messages: the server discards everything up to the next Sync, so what those messages
// would have changed is undone.
func (s *Session) segmentFailed(c *pool.Conn) {
	s.segMu.Lock()
	defer s.segMu.Unlock()
	removed, synced := s.queue.failSegment(s.failed[:0])
	s.undo(c, removed)
	if r := &removed[0]; r.expect == expectParse && r.named && r.stmt.name == "" {
		s.statements.unnamed = nil // a Parse that fails has destroyed it
	}
	s.failed = removed
	clear(s.failed)
	if !synced {
		s.skipping = true
	}
}

// undo takes back what unanswered messages would have done, the latest first. c is nil when the server connection is gone.
func (s *Session) undo(c *pool.Conn, list []reply) {
	for i := len(list) - 1; i >= 0; i-- {
		r := list[i]
		switch {
		case c == nil:
		case r.expect == expectClose && r.known != "":
			stateOf(c).doubt(r.known)
		case r.known != "":
			c.Forget(r.known)
		case r.expect == expectParse && r.stmt.name == "":
			c.SetUnnamed(unnamedInDoubt)
		}
		if r.named {
			s.statements.set(r.name(), r.prev)
		}
	}
}

// undoBatch takes back everything the batch did to the client's names, before it is sent once more.
func (s *Session) undoBatch() {
	s.undo(nil, s.batch.undo)
	s.batch.undo = s.batch.undo[:0]
}

// undoPending undoes everything that is still expected.
func (s *Session) undoPending(c *pool.Conn) {
	s.segMu.Lock()
	defer s.segMu.Unlock()
	for !s.queue.empty() {
		removed, synced := s.queue.failSegment(s.failed[:0])
		s.undo(c, removed)
		s.failed = removed
		clear(s.failed)
		if synced {
			s.queue.pop()
		}
	}
	s.queue.reset()
}

// name is the client's name the reply's message was about.
func (r *reply) name() string {
	if r.stmt != nil {
		return r.stmt.name
	}
	return r.prev.name
}

// refusedHere tells whether an error says something about this backend rather than about the statement, and the statement may run on
// another one unseen: an autocommit read, alone, of which nothing has reached the client.
func (s *Session) refusedHere(e *pgwire.Error) bool {
	if s.turn.refused != nil {
		return true // what follows the first refusal is not forwarded either
	}
	if s.pins != 0 || s.segment || s.turn.continues || s.clientSaw() || !s.request.replayable() || s.lease.member.Role == cluster.RolePrimary {
		return false
	}
	if s.opts.Route == routing.TargetReplica && refusesWrites(e.Code) {
		return false // a read-only port: the refusal is the answer
	}
	if s.request.prepare {
		return true // a replica may not have the table yet: the primary has the last word
	}
	if s.tx.open {
		return false
	}
	return refusesWrites(e.Code) && !s.defaultReadOnly() || isRecoveryConflict(e.Code)
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
