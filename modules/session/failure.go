package session

import (
	"bytes"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgsql"
	"github.com/fairwaydb/fairway/modules/pgwire"
	"github.com/fairwaydb/fairway/modules/pool"
	"github.com/fairwaydb/fairway/modules/routing"
)

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
		if s.forgetLost(c, r, e) {
			s.turn.lostName = true
			s.segmentFailed(c)
			return nil
		}
		e.Raw = append([]byte(nil), e.Raw...)
		s.turn.own, s.turn.harmless = e, s.turn.own == nil
		s.segmentFailed(c)
		return nil
	}
	switch {
	case refuses(r.refusal, e):
		e = r.refusal
		s.w.Error(e)
	case s.stalePlan(c, r, e), s.forgetLost(c, r, e) && !s.turn.completed && s.unseen(): // else the client may have deallocated it itself
		s.turn.refused, s.turn.stale = e, true
	case s.refusedHere(e):
		s.turn.refused = e
	default:
		s.w.Frame(pgwire.MsgError, clientNames(r, body))
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

// clientNames gives the statement that an error names the name by which the client knows it.
func clientNames(r reply, body []byte) []byte {
	switch {
	case r.expect == expectQuery || r.expect == expectExecute || !bytes.Contains(body, []byte(sharedPrefix)):
		return body
	case r.stmt == nil:
		return bytes.ReplaceAll(body, []byte(foreignPrefix+sharedPrefix), []byte(sharedPrefix))
	}
	if r.stmt.shared != "" {
		body = bytes.ReplaceAll(body, []byte(r.stmt.shared), []byte(r.stmt.name))
	}
	return body
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
		if r.cleared != nil {
			s.statements.named = r.cleared
			if c != nil {
				stateOf(c).doubtAll = true // it has forgotten them already
			}
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
	if s.opts.Route == routing.TargetReplica && refusesWrites(e) {
		return false // a read-only port: the refusal is the answer
	}
	if s.hint(s.request.class) == routing.TargetReplica && !s.request.class.MaybeRead() {
		return false // the client wanted it there, and it is no read by its wording: the refusal is the answer
	}
	if s.request.prepare {
		return true // a replica may not have the table yet: the primary has the last word
	}
	if s.tx.open {
		return false
	}
	own := s.defaultReadOnly() || s.request.class.Effects&pgsql.TxBegin != 0 // the transaction would be read only on the primary too
	return refusesWrites(e) && !own || isRecoveryConflict(e.Code)
}
