package session

import (
	"bytes"
	"errors"
	"strings"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgsql"
	"github.com/fairwaydb/fairway/modules/pgwire"
	"github.com/fairwaydb/fairway/modules/pool"
)

// again decides after a failed attempt: true to send the request once more, false when the client was told of the failure.
func (s *Session) again(req *request, err error, attempt int) (bool, error) {
	if s.turn.refused != nil && err == nil {
		return s.elsewhere(req, attempt)
	}
	var lost *lostError
	switch {
	case errors.Is(err, errNoTrial):
		s.route.Tried = append(s.route.Tried, s.lease.member.Backend)
		s.release()
		return true, nil
	case errors.As(err, &lost):
		return s.afterLoss(req, lost, attempt)
	}
	return false, s.refuseOrEnd(req, err)
}

// refuseOrEnd tells the client of an error that ends the request but not the session, and passes on every other.
func (s *Session) refuseOrEnd(req *request, err error) error {
	var e *pgwire.Error
	if errors.As(err, &e) && !e.Fatal && s.lease.held() && s.queue.empty() && s.lease.conn.Status() == 'I' {
		switch {
		case s.pins == 0:
			s.release()
		case s.lease.tainted: // it will be closed, and with it goes what the client has there
			return errPinLost(s.pins, nil)
		}
		return s.refuse(req, e)
	}
	return err
}

// elsewhere repeats a read that one backend refused for a reason of its own. Its error was not forwarded.
func (s *Session) elsewhere(req *request, attempt int) (bool, error) {
	e, b := s.turn.refused, s.lease.member.Backend
	s.w.Truncate(s.turn.keep)
	if attempt >= maxAttempts {
		if s.pins == 0 {
			s.release()
		}
		s.w.Error(e)
		return false, s.endRequest(req)
	}
	if s.turn.stale {
		s.undoBatch()
		return true, nil
	}
	s.route.Tried = append(s.route.Tried, b)
	if refusesWrites(e) || req.prepare {
		s.correct(req, e)
	} else {
		s.labels.retries.conflict.Inc()
	}
	s.release()
	s.undoBatch()
	return true, nil
}

// afterLoss handles the loss of the server connection. A request is sent again only if no byte of it reached a server, or if it is
// an autocommit read of which no reply byte reached the client.
func (s *Session) afterLoss(req *request, lost *lostError, attempt int) (bool, error) {
	s.undoPending(nil)
	inTx := s.turn.continues || s.tx.open && !s.begin.pending() && !req.prepare
	pinned := s.pins
	backend := s.lease.member.Backend
	s.lease.taint("lost")
	s.lease.conn.Close()
	s.release()
	if !s.clientSaw() && attempt < maxAttempts && !inTx && pinned == 0 && req.replayable() && (lost.unsent || s.reads(req.class)) {
		s.w.Truncate(s.turn.keep)
		s.route.Tried = append(s.route.Tried, backend)
		s.labels.retries.lost.Inc()
		s.undoBatch()
		s.segment = false
		return true, nil
	}
	return false, s.reportLoss(req, lost, pinned)
}

// replayable tells whether the request can be sent again: it is still in memory.
func (req *request) replayable() bool { return req.typ == 0 && !req.duplex }

// clientSaw tells whether a byte of this turn's reply has left for the client.
func (s *Session) clientSaw() bool { return s.w.Sent() != s.turn.sent }

// reportLoss tells the client that its server connection is gone.
func (s *Session) reportLoss(req *request, lost *lostError, pinned pgsql.Effects) error {
	if s.turn.torn {
		if s.clientSaw() {
			return lost // half a frame is out: nothing can be said any more
		}
		s.w.Truncate(s.turn.keep)
	}
	if s.wrote || s.mayWrite(req.class) {
		s.mark = cluster.Now()
	}
	s.wrote = false
	s.touched.clear()
	if pinned != 0 {
		return errPinLost(pinned, lost)
	}
	s.w.Error(errLost(req.class, lost))
	if s.tx.open && req.class.Effects&pgsql.TxEnd == 0 {
		s.failTransaction()
	} else {
		s.tx = transaction{}
		s.status = 'I'
	}
	return s.endRequest(req)
}

// refuse answers a request that was not sent to any server.
func (s *Session) refuse(req *request, err error) error {
	var e *pgwire.Error
	if !errors.As(err, &e) {
		return err
	}
	if e.Fatal {
		return e
	}
	if !s.clientSaw() {
		s.w.Truncate(s.turn.keep)
	}
	s.w.Error(e)
	if s.tx.open {
		s.failTransaction()
	}
	return s.endRequest(req)
}

// failTransaction puts the client's transaction in state E without a server: only its end is accepted now.
func (s *Session) failTransaction() {
	s.begin.clear()
	s.tx = transaction{open: true, failed: true}
	s.status = 'E'
}

// endRequest follows an error of ours with what ends the request: ReadyForQuery, or silence until the client's Sync.
func (s *Session) endRequest(req *request) error {
	if req.typ != 0 {
		if err := s.discard(); err != nil {
			return err
		}
	}
	synced := req.simple || req.sync || req.duplex && !s.segment
	s.segment, s.skipping = false, !synced
	if synced {
		s.w.ReadyForQuery(s.status)
	}
	return s.flush()
}

// stalePlan follows the error 0A000 "cached plan must not change result type": the shared statement is to be parsed anew. It returns
// whether the request can run again unseen: nothing of it has been executed or told.
func (s *Session) stalePlan(c *pool.Conn, r reply, e *pgwire.Error) bool {
	if e.Code != pgwire.CodeFeatureNotSupported || r.stmt == nil || !bytes.Contains(e.Raw, []byte("\x00RRevalidateCachedQuery\x00")) {
		return false
	}
	if shared := r.stmt.shared; shared != "" {
		c.Forget(shared)
		stateOf(c).doubt(shared)
	}
	if r.stmt.shape != 0 && !s.batch.describes {
		// The client reads rows by what it was told: it must hear of the change. It will prepare anew, and not on a replica that
		// does not have the change yet.
		s.mark = cluster.Now()
		return false
	}
	return s.unseen()
}

// unseen tells that a request whose shared statement did not do can run again unseen: nothing of it has been executed or told.
func (s *Session) unseen() bool {
	return !s.segment && !s.turn.continues && !s.tx.open && !s.clientSaw() && s.request.replayable() && s.turn.refused == nil &&
		s.request.class.Effects&(pgsql.TxBegin|pgsql.TxEnd) == 0
}

// refusesWrites tells the errors by which a standby refuses what only a primary can do. Some of its own checks are internal errors,
// whose texts are in no other language: transaction IDs, WAL entries and the like are not to be had "during recovery".
func refusesWrites(e *pgwire.Error) bool {
	switch e.Code {
	case pgwire.CodeReadOnlyTransaction, pgwire.CodeFeatureNotSupported, pgwire.CodeObjectNotInPrerequisiteState:
		return true
	case pgwire.CodeInternalError:
		return strings.HasSuffix(e.Message, "during recovery")
	}
	return false
}

// isRecoveryConflict are the SQLSTATEs of a query cancelled because replay needs what it reads.
// See https://www.postgresql.org/docs/current/hot-standby.html#HOT-STANDBY-CONFLICT
func isRecoveryConflict(code string) bool {
	return code == pgwire.CodeSerializationFailure || code == pgwire.CodeDeadlockDetected || code == pgwire.CodeDatabaseDropped
}
