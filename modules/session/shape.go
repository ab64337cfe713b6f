package session

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"strings"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgwire"
	"github.com/fairwaydb/fairway/modules/pool"
)

// A client that has asked what the rows of its prepared statement look like reads them by that answer, be it of the statement or of a
// portal made from it (pgjdbc describes the first one and never again). When their table changes, a
// server answers 0A000 to the next Bind; a server connection that parses the statement anew would not. So before it is parsed in front
// of a Bind that no Describe follows, the connection is asked for the shape of the rows, and the client gets the server's error when
// it has changed.

// latestBind is the portal made last, so that a Describe of it is known to be about its statement.
type latestBind struct {
	portal []byte
	stmt   *statement
}

// of returns the statement of a portal if clients are known to execute it again without another Parse, else nil.
func (b *latestBind) of(portal []byte) *statement {
	if b.stmt == nil || b.stmt.shared == "" || !bytes.Equal(b.portal, portal) {
		return nil
	}
	return b.stmt
}

// made returns the statement of the portal that an Execute names, if that was made last, else nil.
func (b *latestBind) made(execute []byte) *statement {
	if n := len(b.portal); len(execute) <= n || execute[n] != 0 || string(execute[:n]) != string(b.portal) {
		return nil
	}
	return b.stmt
}

var shapeSeed = maphash.MakeSeed()

// rowShape is a hash of the names and types in a RowDescription, or of the type byte of NoData; never 0. ok is false for a malformed
// one.
func rowShape(typ byte, body []byte) (shape uint64, ok bool) {
	var h maphash.Hash
	h.SetSeed(shapeSeed)
	h.WriteByte(typ)
	if typ == pgwire.MsgRowDescription {
		if len(body) < 2 {
			return 0, false
		}
		n := int(binary.BigEndian.Uint16(body))
		body = body[2:]
		for range n {
			name, rest, ok := pgwire.ParseCString(body)
			if !ok || len(rest) < 18 {
				return 0, false
			}
			h.Write(name)
			h.WriteByte(0)
			h.Write(rest[6:10])  // type
			h.Write(rest[12:16]) // its modifier
			body = rest[18:]
		}
	}
	return h.Sum64() | 1, true
}

// noteShape keeps what a Describe of a statement tells the client, or compares what a Describe of ours brings.
func (s *Session) noteShape(c *pool.Conn, r reply, typ byte) error {
	body, err := c.R.Body()
	if err != nil {
		return &lostError{err: err}
	}
	shape, ok := rowShape(typ, body)
	if !ok {
		return &lostError{err: pgwire.Errorf(pgwire.CodeProtocolViolation, "malformed RowDescription")}
	}
	if r.stmt.shared != "" {
		stateOf(c).noteShape(r.stmt.shared, shape)
	}
	switch {
	case r.own == ownNone && r.stmt.shapeless():
	case r.own == ownNone:
		r.stmt.shape = shape
	case shape != r.stmt.shape:
		s.turn.own, s.turn.harmless = s.shapeChanged(), s.turn.own == nil
	}
	return nil
}

// shapeless tells of statements whose rows are what another statement says at the time: servers never compare them.
func (stmt *statement) shapeless() bool {
	switch strings.ToLower(string(firstWord([]byte(stmt.text[:min(len(stmt.text), maxLead)])))) {
	case "fetch", "move", "execute", "show":
		return true
	}
	return false
}

// maxLead is how far a text is read for its first word, in bytes.
const maxLead = 256

// shapeChanged is what a server says when the rows of a prepared statement are no longer what they were. By the name of the routine
// pgjdbc knows that it may prepare the statement again. That must not happen on a replica which does not have the change yet.
func (s *Session) shapeChanged() *pgwire.Error {
	s.mark = cluster.Now()
	e := pgwire.Errorf(pgwire.CodeFeatureNotSupported, "cached plan must not change result type")
	e.Routine = "RevalidateCachedQuery"
	return e
}

// maxShapes bounds what is remembered of one server connection; beyond it everything is asked again.
const maxShapes = 1024

// noteShape remembers the shape of the rows of a shared statement on the connection.
func (st *connState) noteShape(shared string, shape uint64) {
	if st.shapes[shared] == shape {
		return
	}
	if st.shapes == nil || len(st.shapes) >= maxShapes {
		st.shapes = make(map[string]uint64)
	}
	st.shapes[shared] = shape
}

// checkShapes parses the statements that the batch binds and the server connection does not know, and asks for their shape, before
// anything of the client's is sent. Inside a transaction nothing is asked.
func (s *Session) checkShapes(c *pool.Conn) error {
	if s.request.simple || s.request.prepare || s.batch.describes {
		return nil
	}
	asked := false
	for p := s.batch.frames; len(p) > 0; {
		typ, body, rest := nextFrame(p)
		p = rest
		if typ != pgwire.MsgBind {
			continue
		}
		_, name, _, err := pgwire.DecodeBind(body)
		if err != nil {
			return fatalFrom(err)
		}
		stmt := s.statements.lookup(name)
		if stmt == nil || stmt.shape == 0 || stmt.shared == "" {
			continue
		}
		if c.Knows(stmt.shared) {
			switch stateOf(c).shapes[stmt.shared] {
			case stmt.shape:
				continue
			case 0:
			default:
				if !s.queue.empty() {
					if err := s.await(c); err != nil {
						return err
					}
				}
				return s.shapeChanged()
			}
		}
		s.know(c, name)
		c.W.Begin(pgwire.MsgDescribe)
		c.W.Byte('S')
		c.W.String(stmt.shared)
		c.W.End()
		s.queue.push(reply{expect: expectDescribe, action: drop, own: ownShape, stmt: stmt})
		asked = true
	}
	if !asked {
		return nil
	}
	c.W.Sync()
	s.queue.push(reply{expect: expectSync, action: drop, own: ownShape})
	if err := s.await(c); err != nil || !s.turn.lostName {
		return err
	}
	s.turn.lostName = false
	return s.checkShapes(c) // it is parsed this time
}
