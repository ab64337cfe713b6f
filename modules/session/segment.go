package session

import (
	"errors"

	"github.com/fairwaydb/fairway/modules/pgwire"
	"github.com/fairwaydb/fairway/modules/pool"
)

// feedSegment sends the gathered messages and then every further one until Sync. It runs as the second direction.
func feedSegment(s *Session, c *pool.Conn) error {
	if err := s.feedGathered(c); err != nil {
		return err
	}
	if s.request.typ != 0 {
		if err := s.feedLarge(c, s.request.typ, s.request.size); err != nil {
			return err
		}
	}
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
		done, err := s.feedMessage(c, typ, n)
		if err != nil || done {
			return err
		}
	}
}

func (s *Session) feedGathered(c *pool.Conn) error {
	s.segMu.Lock()
	defer s.segMu.Unlock()
	return s.sendFrames(c, s.batch.frames)
}

// copyIn starts the second direction for the data the server has asked for. A Sync that came before the data is ignored by the server:
// the client's next one ends the segment.
func (s *Session) copyIn(c *pool.Conn) error {
	dropped, fed := s.queue.dropSyncs()
	if fed {
		return nil
	}
	if dropped {
		s.segment, s.request.sync = true, false
	}
	return s.feed.start(s, c, feedCopy, true)
}

// feedMessage sends one message of a duplex segment; done is true after its Sync.
func (s *Session) feedMessage(c *pool.Conn, typ byte, n int) (done bool, err error) {
	switch typ {
	case pgwire.MsgTerminate:
		return false, &goneError{errGoodbye}
	case pgwire.MsgQuery, pgwire.MsgFunctionCall:
		return false, pgwire.Fatalf(pgwire.CodeProtocolViolation, "message type %q inside a large extended segment", typ)
	case pgwire.MsgCopyData:
		err = forwardToServer(s, c)
	case pgwire.MsgCopyDone, pgwire.MsgCopyFail:
		s.queue.fed()
		err = forwardToServer(s, c)
	case pgwire.MsgParse, pgwire.MsgBind, pgwire.MsgDescribe, pgwire.MsgExecute, pgwire.MsgClose, pgwire.MsgSync, pgwire.MsgFlush:
		if n > bodyLimit {
			err = s.feedLarge(c, typ, n)
			break
		}
		body, e := s.body()
		if e != nil {
			if isTimeout(e) {
				return false, errStopped
			}
			return false, &goneError{e}
		}
		s.segMu.Lock()
		if typ == pgwire.MsgSync || !s.skipping {
			err = s.sendMessage(c, typ, body)
		}
		s.segMu.Unlock()
	default:
		err = pgwire.Fatalf(pgwire.CodeProtocolViolation, "invalid frontend message type %d", typ)
	}
	if err != nil {
		return false, err
	}
	if typ == pgwire.MsgSync || typ == pgwire.MsgFlush || s.r.Buffered() == 0 {
		if err := c.W.Flush(); err != nil {
			return false, &lostError{err: err}
		}
	}
	return typ == pgwire.MsgSync, nil
}

// feedLarge streams a Bind or CopyData whose body is not held in memory; other messages of that size are refused.
func (s *Session) feedLarge(c *pool.Conn, typ byte, n int) error {
	if typ == pgwire.MsgCopyData {
		return forwardToServer(s, c)
	}
	if typ != pgwire.MsgBind {
		return pgwire.Fatalf(pgwire.CodeProgramLimitExceeded, "message type %q exceeds %d bytes", typ, bodyLimit)
	}
	head, err := s.r.Peek(bindHead)
	if err != nil {
		return &goneError{err}
	}
	portal, rest, ok := pgwire.ParseCString(head)
	name, _, ok2 := pgwire.ParseCString(rest)
	if !ok || !ok2 {
		return pgwire.Fatalf(pgwire.CodeProtocolViolation, "portal and statement names exceed %d bytes", bindHead)
	}
	skip := len(portal) + len(name) + 2
	s.segMu.Lock()
	refusal := s.refreshBound(name, head[skip:])
	server := s.know(c, name)
	if refusal != nil {
		server = refusedName
	}
	c.W.Head(pgwire.MsgBind, len(portal)+len(server)+2+n-skip)
	c.W.Bytes(portal)
	c.W.Byte(0)
	c.W.String(server)
	s.pushBind(portal, name, refusal)
	s.segMu.Unlock()
	if err := s.r.ForwardBody(c.W, skip); err != nil {
		var read *pgwire.ReadError
		if errors.As(err, &read) {
			return &goneError{err}
		}
		return &lostError{err: err}
	}
	return nil
}

// bindHead is how much of a large Bind must hold its two names.
const bindHead = 4096
