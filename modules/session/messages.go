package session

import (
	"slices"

	"github.com/fairwaydb/fairway/modules/pgsql"
	"github.com/fairwaydb/fairway/modules/pgwire"
	"github.com/fairwaydb/fairway/modules/pool"
)

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
func (s *Session) sendMessage(c *pool.Conn, typ byte, body []byte) error {
	s.segment = !s.request.prepare
	switch typ {
	case pgwire.MsgParse:
		return s.sendParse(c, body)
	case pgwire.MsgBind:
		return s.sendBind(c, body)
	case pgwire.MsgDescribe:
		kind, name, err := pgwire.DecodeTarget(body)
		if err != nil {
			return fatalFrom(err)
		}
		if kind != 'S' {
			c.W.Frame(typ, body)
			s.queue.push(reply{expect: expectDescribe, stmt: s.latest.of(name)})
			break
		}
		server := s.know(c, name)
		c.W.Begin(pgwire.MsgDescribe)
		c.W.Byte('S')
		c.W.String(server)
		c.W.End()
		s.queue.push(reply{expect: expectDescribe, stmt: s.statements.lookup(name)})
	case pgwire.MsgExecute:
		s.sendExecute(c, body)
	case pgwire.MsgClose:
		return s.sendClose(c, body)
	case pgwire.MsgCopyData:
		c.W.Frame(typ, body)
	case pgwire.MsgCopyDone, pgwire.MsgCopyFail:
		s.queue.fed()
		c.W.Frame(typ, body)
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

// sendBind binds the statement that the client's name stands for. Values that settings of ours cannot have make it fail.
func (s *Session) sendBind(c *pool.Conn, body []byte) error {
	portal, name, rest, err := pgwire.DecodeBind(body)
	if err != nil {
		return fatalFrom(err)
	}
	values := body[rest:]
	refusal := s.refreshBound(name, values)
	server := s.know(c, name)
	if refusal != nil {
		server, values = refusedName, unreadable(values)
	}
	c.W.Begin(pgwire.MsgBind)
	c.W.Bytes(portal)
	c.W.Byte(0)
	c.W.String(server)
	c.W.Bytes(values)
	c.W.End()
	s.pushBind(portal, name, refusal)
	return nil
}

// pushBind expects the reply to a Bind.
func (s *Session) pushBind(portal, name []byte, refusal *pgwire.Error) {
	stmt := s.statements.lookup(name)
	s.queue.push(reply{expect: expectBind, stmt: stmt, refusal: refusal})
	s.latest.portal, s.latest.stmt = append(s.latest.portal[:0], portal...), stmt
	s.noteBound(name)
}

// sendExecute executes a portal.
func (s *Session) sendExecute(c *pool.Conn, body []byte) {
	r := reply{expect: expectExecute}
	if stmt := s.latest.made(body); stmt != nil {
		r.shows = stmt.class == showClass
		if stmt.class.Effects&pgsql.Discard != 0 {
			s.deallocating(c, stmt, &r)
		}
	}
	c.W.Frame(pgwire.MsgExecute, body)
	s.expectNamed(r)
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
		s.refuseTaken(c, prev, sql, types)
		return nil
	}
	if len(s.statements.named) >= maxStatements {
		return pgwire.Fatalf(pgwire.CodeConfigurationLimitExceeded, "the session has %d prepared statements: close or deallocate some", maxStatements)
	}
	stmt := s.newStatement(name, sql, types)
	s.statements.set(stmt.name, stmt)
	r := reply{expect: expectParse, stmt: stmt, named: true, refusal: stmt.refusal}
	switch {
	case !c.Knows(stmt.shared):
		s.learn(c, stmt)
		c.W.Parse(stmt.shared, stmt.text, stmt.types)
		r.known = stmt.shared
	case s.status == 'E':
		// In a failed transaction the server must refuse it: the unnamed statement stands in.
		c.SetUnnamed(unnamedInDoubt)
		c.W.Parse("", stmt.text, stmt.types)
	default:
		r.action = answer
	}
	s.expectNamed(r)
	return nil
}

// taken is an empty statement, made only for its name to be taken: a server connection can be told of it in every state, a failed
// transaction among them.
var taken = &statement{name: "taken", shared: sharedPrefix + "taken", types: []byte{0, 0}}

// refuseTaken makes the server say that a name is taken, after what else is wrong with the text, so that the transaction fails there
// too. Never is the client's text sent under a name that others share: the server may have lost what had that name.
func (s *Session) refuseTaken(c *pool.Conn, prev *statement, sql, types []byte) {
	c.W.Close('S', taken.shared)
	s.queue.push(reply{expect: expectClose, action: drop})
	c.W.Parse(taken.shared, taken.text, taken.types)
	s.queue.push(reply{expect: expectParse, action: drop, stmt: taken})
	c.W.Parse(taken.shared, string(sql), types)
	s.queue.push(reply{expect: expectParse, stmt: &statement{name: prev.name, shared: taken.shared}})
}

// noteBound adds what a statement does that is bound in a duplex turn, whose messages are not all known when it begins.
func (s *Session) noteBound(name []byte) {
	if !s.request.duplex {
		return
	}
	stmt := s.statements.lookup(name)
	if stmt == nil || slices.Contains(s.batch.classes, stmt.class) {
		return
	}
	if s.schema.counts(stmt.class) {
		s.batch.classes = append(s.batch.classes, stmt.class)
	}
	if stmt.class.Effects&pgsql.Settings != 0 {
		s.tx.shifted = true // for what is parsed behind it
	}
}

// newStatement copies what a Parse says.
func (s *Session) newStatement(name, sql, types []byte) *statement {
	stmt := &statement{name: string(name), text: string(sql), types: append([]byte(nil), types...), class: s.classifyExact(sql)}
	s.stand(stmt)
	s.identify(stmt)
	return stmt
}

// identify gives a statement what tells it from others on a server connection.
func (s *Session) identify(stmt *statement) {
	switch {
	case stmt.name == "":
		s.statements.next++
		stmt.id = s.id<<24 | s.statements.next&(1<<24-1)
	case s.tx.shifted || s.whole:
		s.statements.next++
		stmt.shared = ownName(s.id, s.statements.next)
	default:
		stmt.shared = sharedName([]byte(stmt.text), stmt.types, s.settings)
	}
}

// refreshBound brings the statement of a Bind up to date and returns what the Bind must fail with; values are what follows the names.
func (s *Session) refreshBound(name, values []byte) *pgwire.Error {
	stmt := s.statements.lookup(name)
	if stmt == nil {
		return nil
	}
	if stmt.asks != "" && stmt.refusal == nil {
		if refusal := s.refresh(stmt); refusal != nil {
			return refusal
		}
	}
	return s.refuseBound(stmt, values)
}

// parseUnnamed prepares the unnamed statement.
func (s *Session) parseUnnamed(c *pool.Conn, sql, types []byte) {
	stmt := s.statements.unnamed
	prev := stmt
	if !stmt.matches(sql, types) || stmt.class != s.replace(sql, s.classifyExact(sql)).class {
		stmt = s.newStatement(nil, sql, types)
		s.statements.unnamed = stmt
	}
	c.W.Parse("", stmt.text, stmt.types)
	c.SetUnnamed(stmt.id)
	s.expectNamed(reply{expect: expectParse, stmt: stmt, prev: prev, named: true, refusal: stmt.refusal})
}

// expectNamed expects the reply to a message that changes what a client's name stands for.
func (s *Session) expectNamed(r reply) {
	if r.named || r.cleared != nil {
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
		s.forget(c, evicted)
	}
	if st := stateOf(c); st.doubted(stmt.shared) {
		s.forget(c, stmt.shared)
	}
}

// forget makes the server connection give a shared statement up; closing one that it does not have is no error.
func (s *Session) forget(c *pool.Conn, shared string) {
	c.W.Close('S', shared)
	s.queue.push(reply{expect: expectClose, action: drop, known: shared})
}

// unnamedInDoubt says that the server connection may hold the unnamed statement of nobody knows whom.
const unnamedInDoubt = 1<<64 - 1

// dropUnnamed makes sure that the server connection holds no unnamed statement of another session.
func (s *Session) dropUnnamed(c *pool.Conn) {
	if c.Unnamed() == 0 {
		return
	}
	c.SetUnnamed(0)
	c.W.Close('S', "")
	s.queue.push(reply{expect: expectClose, action: drop})
}
