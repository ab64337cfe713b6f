package session

import (
	"strings"

	"github.com/fairwaydb/fairway/modules/pgsql"
	"github.com/fairwaydb/fairway/modules/pgwire"
	"github.com/fairwaydb/fairway/modules/pool"
)

// query handles a simple Query of n bytes.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SIMPLE-QUERY
func (s *Session) query(n int) error {
	if s.batch.waiting() {
		return s.runWaiting(n, (*Session).query)
	}
	req := &s.request
	*req = request{simple: true}
	if n > bodyLimit {
		req.class, req.typ = pgsql.Unparsed(), pgwire.MsgQuery
	} else {
		body, err := s.body()
		if err != nil {
			return &goneError{err}
		}
		if len(body) == 0 || body[len(body)-1] != 0 {
			return pgwire.Fatalf(pgwire.CodeProtocolViolation, "invalid string in message")
		}
		req.query = body
		req.class = s.classify(body[:len(body)-1])
		if r := s.replace(body[:len(body)-1], req.class); r.text != "" {
			req.query, req.class, req.refusal = append([]byte(r.text), 0), r.class, r.refusal
		}
		if s.answerHere(req) {
			return s.flush()
		}
	}
	s.statements.unnamed = nil
	return s.run(req)
}

// runWaiting sends extended messages that no Sync followed before the simple one of n bytes that came after them.
func (s *Session) runWaiting(n int, then func(*Session, int) error) error {
	s.batch.add(pgwire.MsgFlush, nil)
	if err := s.runBatch(false); err != nil {
		return err
	}
	if s.skipping {
		return s.discard()
	}
	return then(s, n)
}

// classify says what a text does, by the lexical rules of the session.
func (s *Session) classify(sql []byte) *pgsql.Class {
	if s.lexical.unsafe && hasHighBytes(sql) {
		return pgsql.Unparsed()
	}
	if s.lexical.nonConforming {
		return s.classifier().ClassifyNonConforming(sql)
	}
	return s.classifier().Classify(sql)
}

// functionCall handles the deprecated FunctionCall message: any function may write.
func (s *Session) functionCall(n int) error {
	if s.batch.waiting() {
		return s.runWaiting(n, (*Session).functionCall)
	}
	if n > bodyLimit {
		return pgwire.Fatalf(pgwire.CodeProtocolViolation, "function call of %d bytes is too large", n)
	}
	s.request = request{simple: true, class: pgsql.Unparsed(), typ: pgwire.MsgFunctionCall}
	if s.tx.failed {
		s.refuseFailed(s.request.class)
		return s.endRequest(&s.request)
	}
	return s.run(&s.request)
}

// refuseFailed answers a statement of a transaction that failed without a server. The first one hears why; a COMMIT that has not
// heard of it fails, and with it ends the transaction.
func (s *Session) refuseFailed(class *pgsql.Class) {
	lost := s.tx.lost
	s.tx.lost = nil
	if lost == nil {
		s.w.Error(errInFailedTransaction())
		return
	}
	e := errLost(class, lost)
	e.Hint = "The transaction was rolled back."
	s.w.Error(e)
	if class.Effects&pgsql.TxEnd != 0 {
		s.endLocal()
	}
}

// send writes the request to the leased connection and notes what the server will answer.
func (s *Session) send(req *request, c *pool.Conn) error {
	s.noteClass(req.class)
	st := stateOf(c)
	if s.wrote && st.sequencesOf != s.id {
		st.sequencesOf = 0 // what this session draws is not the other's
	}
	s.noteCode(req, st)
	if !req.simple {
		return s.sendBatch(req, c)
	}
	s.segment = false // its ReadyForQuery ends an open segment too
	c.SetUnnamed(0)
	s.queue.push(reply{expect: expectQuery, refusal: req.refusal, shows: req.class == showClass})
	if req.typ != 0 {
		return s.stream(c)
	}
	c.W.Frame(pgwire.MsgQuery, req.query)
	return nil
}

// stream forwards a message that is too large to be held. The server reads it whole before it answers.
func (s *Session) stream(c *pool.Conn) error {
	if err := forwardToServer(s, c); err != nil {
		return err
	}
	if err := c.W.Flush(); err != nil {
		return &lostError{err: err}
	}
	return nil
}

// noteClass remembers what a request that is about to be sent may do.
func (s *Session) noteClass(class *pgsql.Class) {
	if s.mayWrite(class) {
		s.wrote = true
	}
	s.schema.note(class)
	s.tx.shifted = s.tx.shifted || class.Effects&pgsql.DDL != 0 // a text may have other results than the same one elsewhere
	s.tx.savepoints = s.tx.savepoints || class.Effects&pgsql.Savepoint != 0
	if class.Effects&(pgsql.Settings|pgsql.Discard) != 0 {
		s.noteSettings(class)
	}
}

// answerHere answers what needs no server: a BEGIN alone, which is deferred until the first statement tells where the transaction
// belongs, the end of a transaction of which nothing was sent, and statements of a transaction that failed without a server.
func (s *Session) answerHere(req *request) bool {
	if s.deallocate(req.class) {
		return true
	}
	tag := s.localTag(req.class, req.query)
	if tag == "" {
		return false
	}
	s.statements.unnamed = nil
	if tag == failedTag {
		s.refuseFailed(req.class)
	} else {
		s.w.CommandComplete(tag)
	}
	s.w.ReadyForQuery(s.status)
	s.labels.local.Inc()
	return true
}

// deallocate answers a DEALLOCATE of a statement that the client made by Parse: servers know it by another name, and it is shared.
// In a failed transaction the server must refuse it.
func (s *Session) deallocate(class *pgsql.Class) bool {
	if !s.deallocates(class) {
		return false
	}
	s.statements.set(class.Prepared[0], nil)
	s.statements.unnamed = nil
	s.w.CommandComplete("DEALLOCATE")
	s.w.ReadyForQuery(s.status)
	s.labels.local.Inc()
	return true
}

func (s *Session) deallocates(class *pgsql.Class) bool {
	return deallocatesOne(class) && s.status != 'E' && !s.segment &&
		s.statements.named[class.Prepared[0]] != nil
}

// maxBegin bounds the text kept of a transaction that no server knows of, in bytes.
const maxBegin = 8 << 10

// failedTag stands for the error 25P02 in place of a command tag.
const failedTag = "\x00failed"

// localTag decides whether a statement is answered without a server and returns its command tag, "" if not. body is the text of a
// simple Query with its NUL, or nil for a statement of the extended protocol.
func (s *Session) localTag(class *pgsql.Class, text []byte) string {
	if s.lease.held() {
		return ""
	}
	switch {
	case s.tx.failed && class.TxEndOnly && (s.tx.lost == nil || !class.TxEndCommit):
		s.endLocal()
		return "ROLLBACK"
	case s.tx.failed:
		return failedTag
	case !s.tx.open && len(text) < maxBegin && class.TxOnly:
		s.deferBegin(class, text)
		if isStart(text) {
			return "START TRANSACTION"
		}
		return "BEGIN"
	case s.begin.pending() && len(s.begin.text)+len(text) < maxBegin && class.SetTxOnly && (class.Effects&pgsql.TxReadOnly != 0 || class.TxReadWrite) && len(class.Settings) <= 1:
		s.tx.readOnly = class.Effects&pgsql.TxReadOnly != 0
		s.begin.add(text)
		return "SET"
	case s.begin.pending() && class.TxEndOnly:
		s.endLocal()
		if class.TxEndCommit {
			return "COMMIT"
		}
		return "ROLLBACK"
	}
	return ""
}

// deferBegin opens a transaction that no server knows of yet.
func (s *Session) deferBegin(class *pgsql.Class, text []byte) {
	s.begin.add(text)
	hint := s.hint(class)
	s.tx = transaction{
		open: true, hint: hint, serializable: class.Serializable || class.Isolation == "" && s.defaultSerializable(),
		readOnly: class.Effects&pgsql.TxReadOnly != 0 || s.defaultReadOnly() && !class.TxReadWrite,
	}
	s.status = 'T'
}

// endLocal ends a transaction no server knows of.
func (s *Session) endLocal() {
	s.begin.clear()
	s.tx = transaction{}
	s.status = 'I'
}

// deferredBegin is the text that opens a transaction at a server, kept until its first statement.
type deferredBegin struct {
	text []byte
}

func (b *deferredBegin) pending() bool { return len(b.text) > 0 }

// add borrows text; the NUL that may end it is not kept.
func (b *deferredBegin) add(text []byte) {
	for len(text) > 0 && (text[len(text)-1] == 0 || text[len(text)-1] == ';') {
		text = text[:len(text)-1]
	}
	if len(b.text) > 0 {
		b.text = append(b.text, "\n;"...) // the line break ends a comment
	}
	b.text = append(b.text, text...)
}

func (b *deferredBegin) clear() { b.text = b.text[:0] }

// isStart tells START TRANSACTION from BEGIN, whose command tags differ. Leading white space and comments are passed over.
func isStart(text []byte) bool {
	word := firstWord(text)
	return len(word) >= 5 && (word[0] == 's' || word[0] == 'S')
}

// firstWord returns the first word of a text after white space and comments.
func firstWord(b []byte) []byte {
	for {
		switch {
		case len(b) > 0 && (b[0] == ' ' || b[0] >= '\t' && b[0] <= '\r' || b[0] == ';'):
			b = b[1:]
		case len(b) > 1 && b[0] == '-' && b[1] == '-':
			for len(b) > 0 && b[0] != '\n' && b[0] != '\r' {
				b = b[1:]
			}
		case len(b) > 1 && b[0] == '/' && b[1] == '*':
			b = skipComment(b)
		default:
			n := 0
			for n < len(b) && (b[n]|0x20 >= 'a' && b[n]|0x20 <= 'z') {
				n++
			}
			return b[:n]
		}
	}
}

// skipComment passes over a block comment, which nests.
func skipComment(b []byte) []byte {
	depth := 0
	for i := 0; i+1 < len(b); i++ {
		switch {
		case b[i] == '/' && b[i+1] == '*':
			depth++
			i++
		case b[i] == '*' && b[i+1] == '/':
			depth--
			i++
			if depth == 0 {
				return b[i+1:]
			}
		}
	}
	return nil
}

// lexical is how the server reads a text, by what it has reported: whoever set it, the session, its role or the server's configuration.
type lexical struct {
	nonConforming bool // standard_conforming_strings is off
	unsafe        bool // client_encoding has characters with bytes that look like ASCII
}

func (l *lexical) note(name, value string) {
	switch name {
	case "standard_conforming_strings":
		l.nonConforming = value == "off"
	case "client_encoding":
		l.unsafe = !asciiSafe(value)
	}
}

// asciiSafe tells whether bytes below 0x80 always mean ASCII in an encoding; they do not in those where a character's second byte may
// be a quote or a backslash. See https://www.postgresql.org/docs/current/multibyte.html
func asciiSafe(encoding string) bool {
	switch encoding {
	case "", "UTF8", "utf8", "UTF-8", "utf-8", "LATIN1", "SQL_ASCII":
		return true
	}
	// PostgreSQL looks names up by their letters and digits alone.
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r | 0x20
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			return r
		}
		return -1
	}, encoding)
	switch name {
	case "sjis", "shiftjis", "mskanji", "win932", "windows932", "shiftjis2004", "big5", "win950", "windows950", "gbk", "win936", "windows936",
		"gb18030", "uhc", "win949", "windows949", "johab":
		return false
	}
	return true
}

func hasHighBytes(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return true
		}
	}
	return false
}
