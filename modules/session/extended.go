package session

import (
	"encoding/binary"
	"errors"

	"github.com/fairwaydb/fairway/modules/pgsql"
	"github.com/fairwaydb/fairway/modules/pgwire"
	"github.com/fairwaydb/fairway/modules/pool"
)

// batch holds the extended messages gathered since the last Sync or Flush, as they came.
type batch struct {
	frames   []byte
	classes  []*pgsql.Class // of the statements bound or parsed in it
	merged   pgsql.Class
	binds    bool    // a Bind or a message about a portal is in it: more than preparing
	executes bool    // an Execute is in it
	undo     []reply // what its messages did to the session's statements, for a second attempt
}

func (b *batch) waiting() bool { return len(b.frames) > 0 }

func (b *batch) reset() {
	if cap(b.frames) > gatherLimit {
		b.frames = nil // a large Bind is not kept
	}
	b.frames = b.frames[:0]
	clear(b.classes)
	clear(b.undo)
	b.classes, b.binds, b.executes, b.undo = b.classes[:0], false, false, b.undo[:0]
}

// add copies a frame.
func (b *batch) add(typ byte, body []byte) {
	b.frames = append(b.frames, typ)
	b.frames = binary.BigEndian.AppendUint32(b.frames, uint32(len(body)+4))
	b.frames = append(b.frames, body...)
}

// extended gathers one message of the extended protocol; Sync and Flush send what was gathered.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY
func (s *Session) extended(typ byte, n int) error {
	switch typ {
	case pgwire.MsgSync:
		return s.sync()
	case pgwire.MsgFlush:
		if err := s.r.Discard(); err != nil {
			return &goneError{err}
		}
		if !s.batch.waiting() {
			return nil // replies are flushed at the end of every turn: nothing is held back
		}
		s.batch.add(pgwire.MsgFlush, nil)
		return s.runBatch(false)
	}
	if n > bodyLimit {
		return s.overflow(typ, n)
	}
	body, err := s.r.Body()
	if err != nil {
		return &goneError{err}
	}
	if err := s.gather(typ, body); err != nil {
		return err
	}
	if len(s.batch.frames) > gatherLimit && len(s.batch.frames)-n > gatherLimit {
		return s.overflow(0, 0)
	}
	return nil
}

// sync ends an extended segment.
func (s *Session) sync() error {
	if err := s.r.Discard(); err != nil {
		return &goneError{err}
	}
	if s.skipping && !s.segment {
		// The segment failed without a server: its Sync is ours to answer.
		s.skipping = false
		s.batch.reset()
		s.w.ReadyForQuery(s.status)
		return s.flush()
	}
	s.skipping = false
	if !s.batch.waiting() && !s.segment {
		// A Sync alone touches no server.
		s.w.ReadyForQuery(s.status)
		return s.flush()
	}
	s.batch.add(pgwire.MsgSync, nil)
	return s.runBatch(true)
}

// gather adds a message and what its statement does.
func (s *Session) gather(typ byte, body []byte) error {
	switch typ {
	case pgwire.MsgParse:
		_, sql, _, err := pgwire.DecodeParse(body)
		if err != nil {
			return fatalFrom(err)
		}
		s.batch.classes = append(s.batch.classes, s.classifyExact(sql))
	case pgwire.MsgBind:
		_, name, _, err := pgwire.DecodeBind(body)
		if err != nil {
			return fatalFrom(err)
		}
		s.batch.binds = true
		if !s.batch.parses(name) {
			if stmt := s.statements.lookup(name); stmt != nil {
				s.batch.classes = append(s.batch.classes, stmt.class)
			}
		}
	case pgwire.MsgExecute:
		s.batch.executes, s.batch.binds = true, true
	case pgwire.MsgDescribe, pgwire.MsgClose:
		if len(body) > 0 && body[0] == 'P' {
			s.batch.binds = true
		}
	}
	s.batch.add(typ, body)
	return nil
}

func (s *Session) classifyExact(sql []byte) *pgsql.Class {
	if !asciiSafe(s.settings.value("client_encoding")) && hasHighBytes(sql) {
		return pgsql.Unparsed()
	}
	if s.settings.value("standard_conforming_strings") == "off" {
		return s.classifier().ClassifyNonConforming(sql)
	}
	return s.classifier().ClassifyExact(sql)
}

// parses tells whether the batch holds a Parse of that name: its class is there already.
func (b *batch) parses(name []byte) bool {
	for p := b.frames; len(p) > 0; {
		typ, body, rest := nextFrame(p)
		if typ == pgwire.MsgParse {
			if have, _, ok := pgwire.ParseCString(body); ok && string(have) == string(name) {
				return true
			}
		}
		p = rest
	}
	return false
}

// nextFrame splits the first frame off gathered ones.
func nextFrame(p []byte) (typ byte, body, rest []byte) {
	n := int(binary.BigEndian.Uint32(p[1:])) + 1
	return p[0], p[5:n], p[n:]
}

// class is what the whole batch does: the strictest of its statements.
func (b *batch) class() *pgsql.Class {
	if len(b.classes) == 1 {
		return b.classes[0]
	}
	b.merged = pgsql.Class{Unproven: b.merged.Unproven[:0], Settings: b.merged.Settings[:0]}
	for _, c := range b.classes {
		merge(&b.merged, c)
	}
	return &b.merged
}

// runBatch sends what was gathered. synced says that it ends with Sync.
func (s *Session) runBatch(synced bool) error {
	defer s.batch.reset()
	req := &s.request
	*req = request{class: s.batch.class(), sync: synced}
	if s.answerBatch(req) {
		return s.flush()
	}
	switch {
	case !s.batch.binds && !s.lease.held() && !s.segment:
		// Preparing binds nothing: any server can do it, and a Flush need not keep it.
		req.prepare, req.class = true, anyRead
	case !synced && s.batch.executes:
		// The rest of this implicit transaction is not known yet.
		req.class = s.batch.strict()
	}
	return s.run(req)
}

// strict is the class of a batch whose segment goes on: it may do anything that only the primary can.
func (b *batch) strict() *pgsql.Class {
	class := b.class()
	b.merged = *class
	b.merged.Effects |= pgsql.Write
	return &b.merged
}

// overflow begins a duplex turn: the gathered messages and the rest of the segment go to the primary while the server's replies are
// relayed. typ is the message that is too large to be held, 0 when there is none.
func (s *Session) overflow(typ byte, n int) error {
	defer s.batch.reset()
	s.request = request{class: s.batch.strict(), typ: typ, size: n, duplex: true}
	if s.tx.failed {
		s.refuseFailed(s.request.class)
		return s.endRequest(&s.request)
	}
	return s.run(&s.request)
}

// sendBatch writes the gathered messages, with the client's statement names replaced by shared ones, and notes the replies.
func (s *Session) sendBatch(req *request, c *pool.Conn) error {
	if !req.duplex {
		return s.sendFrames(c, s.batch.frames)
	}
	s.segment = true
	return s.feed.start(s, c, feedSegment, false)
}

// sendFrames writes gathered frames.
func (s *Session) sendFrames(c *pool.Conn, frames []byte) error {
	for len(frames) > 0 {
		typ, body, rest := nextFrame(frames)
		if err := s.sendMessage(c, typ, body); err != nil {
			return err
		}
		frames = rest
	}
	return nil
}

// sendMessage writes one message of the extended protocol for the client.
func (s *Session) sendMessage(c *pool.Conn, typ byte, body []byte) error { //nolint:funlen // one case per message
	s.segment = !s.request.prepare
	switch typ {
	case pgwire.MsgParse:
		return s.sendParse(c, body)
	case pgwire.MsgBind:
		portal, name, rest, err := pgwire.DecodeBind(body)
		if err != nil {
			return fatalFrom(err)
		}
		server := s.know(c, name)
		c.W.Begin(pgwire.MsgBind)
		c.W.Bytes(portal)
		c.W.Byte(0)
		c.W.String(server)
		c.W.Bytes(body[rest:])
		c.W.End()
		s.queue.push(reply{expect: expectBind})
	case pgwire.MsgDescribe:
		kind, name, err := pgwire.DecodeTarget(body)
		if err != nil {
			return fatalFrom(err)
		}
		if kind != 'S' {
			c.W.Frame(typ, body)
		} else {
			server := s.know(c, name)
			c.W.Begin(pgwire.MsgDescribe)
			c.W.Byte('S')
			c.W.String(server)
			c.W.End()
		}
		s.queue.push(reply{expect: expectDescribe})
	case pgwire.MsgExecute:
		c.W.Frame(typ, body)
		s.queue.push(reply{expect: expectExecute})
	case pgwire.MsgClose:
		return s.sendClose(c, body)
	case pgwire.MsgSync:
		s.segment = false
		c.W.Sync()
		s.queue.push(reply{expect: expectSync})
	case pgwire.MsgFlush:
		if s.request.prepare {
			c.W.Sync()
			s.queue.push(reply{expect: expectSync, action: drop})
			break
		}
		c.W.Frame(typ, body)
	}
	return nil
}

// sendClose closes a portal at the server. A statement is only forgotten by the session: other sessions may use it.
func (s *Session) sendClose(c *pool.Conn, body []byte) error {
	kind, name, err := pgwire.DecodeTarget(body)
	if err != nil {
		return fatalFrom(err)
	}
	if kind != 'S' {
		c.W.Frame(pgwire.MsgClose, body)
		s.queue.push(reply{expect: expectClose})
		return nil
	}
	prev := s.statements.set(string(name), nil)
	s.expectNamed(reply{expect: expectClose, action: answer, prev: prev, named: prev != nil})
	return nil
}

// sendParse makes the client's name stand for a statement. A server connection that knows the statement is not asked again.
func (s *Session) sendParse(c *pool.Conn, body []byte) error {
	name, sql, types, err := pgwire.DecodeParse(body)
	if err != nil {
		return fatalFrom(err)
	}
	if len(name) == 0 {
		s.parseUnnamed(c, sql, types)
		return nil
	}
	if prev := s.statements.named[string(name)]; prev != nil {
		// Taken: the server is made to say so, so that the transaction fails there too.
		server := s.know(c, name)
		c.W.Parse(server, prev.text, prev.types)
		s.queue.push(reply{expect: expectParse, dup: true, stmt: prev})
		return nil
	}
	stmt := s.newStatement(name, sql, types)
	s.statements.set(stmt.name, stmt)
	r := reply{expect: expectParse, stmt: stmt, named: true}
	switch {
	case !c.Knows(stmt.shared):
		s.learn(c, stmt)
		c.W.Parse(stmt.shared, stmt.text, stmt.types)
		r.known = stmt.shared
	case s.status == 'E':
		// In a failed transaction the server must refuse it: the unnamed statement stands in.
		c.SetUnnamed(0)
		c.W.Parse("", stmt.text, stmt.types)
	default:
		r.action = answer
	}
	s.expectNamed(r)
	return nil
}

// newStatement copies what a Parse says.
func (s *Session) newStatement(name, sql, types []byte) *statement {
	stmt := &statement{name: string(name), text: string(sql), types: append([]byte(nil), types...), class: s.classifyExact(sql)}
	if len(name) == 0 {
		s.statements.next++
		stmt.id = s.id<<24 | s.statements.next&(1<<24-1)
		return stmt
	}
	stmt.shared = sharedName(sql, types, s.settings)
	return stmt
}

// parseUnnamed prepares the unnamed statement.
func (s *Session) parseUnnamed(c *pool.Conn, sql, types []byte) {
	stmt := s.statements.unnamed
	prev := stmt
	if !stmt.matches(sql, types) || stmt.class != s.classifyExact(sql) {
		stmt = s.newStatement(nil, sql, types)
		s.statements.unnamed = stmt
	}
	c.W.Parse("", stmt.text, stmt.types)
	c.SetUnnamed(stmt.id)
	s.expectNamed(reply{expect: expectParse, stmt: stmt, prev: prev, named: true})
}

// expectNamed expects the reply to a message that changes what a client's name stands for.
func (s *Session) expectNamed(r reply) {
	if r.named {
		s.batch.undo = append(s.batch.undo, r)
	}
	s.queue.push(r)
}

// know makes sure that the server connection knows the client's statement, with a Parse in front if it does not, and returns the
// name to use there. A name nobody prepared is sent as it is: the server raises 26000.
func (s *Session) know(c *pool.Conn, name []byte) string {
	stmt := s.statements.lookup(name)
	if stmt == nil {
		if len(name) == 0 {
			s.dropUnnamed(c)
		}
		return foreignName(string(name))
	}
	if stmt.shared == "" {
		if c.Unnamed() != stmt.id {
			c.W.Parse("", stmt.text, stmt.types)
			c.SetUnnamed(stmt.id)
			s.queue.push(reply{expect: expectParse, action: drop, stmt: stmt})
		}
		return ""
	}
	if !c.Knows(stmt.shared) {
		s.learn(c, stmt)
		c.W.Parse(stmt.shared, stmt.text, stmt.types)
		s.queue.push(reply{expect: expectParse, action: drop, stmt: stmt, known: stmt.shared})
	}
	return stmt.shared
}

// learn notes that the server connection is about to know a statement and closes those it has too many of.
func (s *Session) learn(c *pool.Conn, stmt *statement) {
	for _, evicted := range c.Learn(stmt.shared) {
		c.W.Close('S', evicted)
		s.queue.push(reply{expect: expectClose, action: drop})
	}
}

// dropUnnamed makes sure that the server connection holds no unnamed statement of another session.
func (s *Session) dropUnnamed(c *pool.Conn) {
	if c.Unnamed() == 0 {
		return
	}
	c.SetUnnamed(0)
	c.W.Close('S', "")
	s.queue.push(reply{expect: expectClose, action: drop})
}

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
			if isTimeout(err) {
				return errStopped
			}
			return &goneError{err}
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

// feedMessage sends one message of a duplex segment; done is true after its Sync.
func (s *Session) feedMessage(c *pool.Conn, typ byte, n int) (done bool, err error) {
	switch typ {
	case pgwire.MsgTerminate:
		return false, &goneError{errGoodbye}
	case pgwire.MsgQuery, pgwire.MsgFunctionCall:
		return false, pgwire.Fatalf(pgwire.CodeProtocolViolation, "message type %q inside a large extended segment", typ)
	case pgwire.MsgCopyData, pgwire.MsgCopyDone, pgwire.MsgCopyFail:
		err = forwardToServer(s, c)
	case pgwire.MsgParse, pgwire.MsgBind, pgwire.MsgDescribe, pgwire.MsgExecute, pgwire.MsgClose, pgwire.MsgSync, pgwire.MsgFlush:
		if n > bodyLimit {
			err = s.feedLarge(c, typ, n)
			break
		}
		body, e := s.r.Body()
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

// feedLarge streams a Bind whose body is not held in memory; other messages of that size are refused.
func (s *Session) feedLarge(c *pool.Conn, typ byte, n int) error {
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
	server := s.know(c, name)
	c.W.Head(pgwire.MsgBind, len(portal)+len(server)+2+n-skip)
	c.W.Bytes(portal)
	c.W.Byte(0)
	c.W.String(server)
	s.queue.push(reply{expect: expectBind})
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
