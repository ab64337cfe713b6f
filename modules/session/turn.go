package session

import (
	"errors"
	"time"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgsql"
	"github.com/fairwaydb/fairway/modules/pgwire"
	"github.com/fairwaydb/fairway/modules/pool"
	"github.com/fairwaydb/fairway/modules/routing"
)

// request is one turn's input: what to send, replayable as long as it is held in memory.
type request struct {
	class   *pgsql.Class
	query   []byte        // the body of a simple Query, borrowed from the reader; nil for extended messages, which are in Session.batch
	refusal *pgwire.Error // what it must fail with: query is there to make the server fail
	typ     byte          // the message that is streamed from the client; 0 when everything is in memory
	simple  bool          // the turn ends with the request's own ReadyForQuery
	sync    bool          // a batch that ends with Sync
	size    int           // of the body of the message that is streamed
	prepare bool          // a batch that only prepares: it leaves transaction and session as they are
	duplex  bool          // the rest of the segment is fed while the server answers
}

// turn is what is known of the request that runs.
type turn struct {
	sent      int64         // bytes the client's writer had sent when the turn began
	keep      int           // bytes it had collected then: everything beyond belongs to this turn
	started   int64         // in monotonic time
	requested int64         // when the leased server was asked: waiting for it is not its fault
	continues bool          // the segment was open before: part of its implicit transaction has been executed
	fresh     bool          // the server connection that the request is being sent to was leased for it
	replied   bool          // the server has answered something
	latency   time.Duration // from then until its first reply byte
	refused   *pgwire.Error // an error that another backend may not raise; not forwarded
	illness   error         // an error of the server that speaks against the server itself
	stale     bool          // refused for a plan that no longer fits: the same server can run it again
	own       *pgwire.Error // one of our own queries failed
	completed bool          // a statement of the client's completed
	failed    string        // SQLSTATE of the error forwarded last
	rolled    bool          // the last command tag was ROLLBACK
	wentBack  bool          // a command tag was: to a savepoint, or the whole
	committed bool          // a command tag was COMMIT
	probed    []*string     // the row a probe of ours returned
	discarded bool          // a DISCARD ALL completed
	unsaid    uint32        // of reportedNames, those that queries of ours changed, one bit each
	lostName  bool          // a shared statement that was asked for its shape is not there any more
	forgets   bool          // its code may take prepared statements away
	harmless  bool          // the own query that failed has changed nothing on the server connection
	hurry     bool          // a notice or notification came, which a server sends at once
	torn      bool          // a frame was cut off half-way to the client
	beganHere bool          // the deferred BEGIN was sent in this turn
	closed    *pgwire.Error // the server's last words
}

// maxAttempts bounds the times one request is sent.
const maxAttempts = 4

// lostError says that the server connection failed in the middle of a turn.
type lostError struct {
	err    error         // what the socket said
	last   *pgwire.Error // what the server said before, if anything
	unsent bool          // no byte of the request reached the server
}

func (e *lostError) Error() string {
	if e.last != nil {
		return "server connection lost: " + e.last.Error()
	}
	return "server connection lost: " + e.err.Error()
}

func (e *lostError) Unwrap() error {
	if e.last != nil {
		return e.last
	}
	return e.err
}

var errNoTrial = errors.New("no trial request is left for the recovering backend")

// beginTurn forgets the turn before.
func (s *Session) beginTurn() {
	now := monotonic()
	s.turn = turn{sent: s.w.Sent(), keep: s.w.Len(), started: now, requested: now, continues: s.segment}
}

// run does one turn: lease, send, relay, release. A returned error ends the session; everything else was told to the client.
func (s *Session) run(req *request) error {
	s.beginTurn()
	defer s.forgetFacts()
	s.route.Tried, s.forced = s.route.Tried[:0], false
	for attempt := 1; ; attempt++ {
		fresh := !s.lease.held()
		if fresh {
			if err := s.acquire(req.class); err != nil {
				return s.refuse(req, err)
			}
		} else if s.pins != 0 {
			s.labels.route(routing.ReasonPinned).Inc()
		}
		err := s.attempt(req, fresh)
		if err == nil && s.turn.refused == nil {
			return s.finish(req)
		}
		again, err := s.again(req, err, attempt)
		if err != nil || !again {
			return err
		}
	}
}

// attempt sends the request on the leased connection and relays the replies.
func (s *Session) attempt(req *request, fresh bool) error {
	if fresh && !s.tx.open && !s.whole && s.surePins(req.class) != 0 {
		if err := s.mayPin(); err != nil {
			return err
		}
	}
	c, b := s.lease.conn, s.lease.member.Backend
	work, ok := b.BeginTurn()
	if !ok && fresh {
		return errNoTrial
	}
	s.turn.replied, s.turn.latency = false, 0
	s.turn.refused, s.turn.own, s.turn.illness, s.turn.harmless = nil, nil, nil, false
	s.turn.completed, s.turn.failed, s.turn.rolled, s.turn.wentBack, s.turn.committed, s.turn.stale = false, "", false, false, false, false
	s.turn.fresh = fresh
	err := s.exchange(req, c)
	s.turn.fresh = false
	b.EndTurn(work, s.turn.latency, s.failureOf(err))
	return err
}

// failureOf is what the backend's circuit is told: failures of the server, never of the client.
func (s *Session) failureOf(err error) error {
	if err == nil {
		return s.turn.illness
	}
	var lost *lostError
	if errors.As(err, &lost) {
		return lost
	}
	return nil
}

// exchange writes what belongs in front, the request, and relays until every reply has come.
func (s *Session) exchange(req *request, c *pool.Conn) error {
	before := c.W.Sent()
	if err := s.putInFront(c); err != nil {
		return err
	}
	c.SetStatus(0)
	s.turn.replied, s.turn.requested = false, monotonic()
	if err := s.send(req, c); err != nil {
		return err
	}
	if req.replayable() {
		if err := c.W.Flush(); err != nil {
			return &lostError{err: err, unsent: c.W.Sent() == before}
		}
	}
	s.waitsSince.Store(s.turn.requested)
	err := s.relay(c)
	s.waitsSince.Store(0)
	if err == nil && s.turn.own != nil {
		s.lease.taint("own query failed")
		return pgwire.Fatalf(s.turn.own.Code, "the session's state could not be restored on another server: %s", s.turn.own.Message)
	}
	return err
}

// putInFront sends what the connection needs before the request: the session's settings and the deferred BEGIN. Changes that may
// fail on this server are awaited; the others travel in the same write as the request.
func (s *Session) putInFront(c *pool.Conn) error {
	if c.Status() == 'T' {
		if len(s.startup.list) > 0 {
			s.restoreStartup(c)
		}
		if !s.wrote {
			s.forgetSequences(c)
		}
	}
	if c.Status() != 'I' {
		return nil
	}
	if d := s.cluster.Defaults(); d.Version() != s.began {
		s.keepDefaults(d)
	}
	s.cleanFunctions(c)
	if applied := appliedSettings(c); applied != s.settings && applied.key != s.settings.key {
		sql, safe := difference(applied, s.settings)
		s.ownQuery(c, sql, ownSettings)
		setApplied(c, s.settings)
		if !safe {
			if err := s.await(c); err != nil {
				return err
			}
		}
	}
	if err := s.checkShapes(c); err != nil {
		return err
	}
	s.forgetSequences(c)
	if s.begin.pending() && !s.request.prepare {
		s.ownQuery(c, string(s.begin.text), ownBegin)
		s.turn.beganHere = true
	}
	return nil
}

// cleanFunctions takes away what functions whose bodies nobody has read may have left on the server connection for another session:
// settings, locks, temporary tables, notifications, and what PREPARE has made. That takes the shared statements away, too; where code
// is read, a session whose code may PREPARE keeps its connection.
func (s *Session) cleanFunctions(c *pool.Conn) {
	st := stateOf(c)
	if st.functionsOf == 0 || st.functionsOf == s.id {
		return
	}
	clean := "SELECT pg_catalog.pg_advisory_unlock_all();UNLISTEN *;SET SESSION AUTHORIZATION DEFAULT;RESET ALL;CLOSE ALL;DISCARD TEMP;DISCARD SEQUENCES"
	if st.unread {
		clean += ";DEALLOCATE ALL"
		c.ForgetAll()
		st.unread, st.doubtAll = false, false
		clear(st.doubtful)
	}
	s.ownQuery(c, clean, ownSettings)
	st.functionsOf, st.sequencesOf, st.settings = 0, s.id, noSettings
}

// forgetSequences makes sure that currval and lastval do not show what other sessions drew on the server connection. It is called when
// this session can not have drawn anything there since it leased it.
func (s *Session) forgetSequences(c *pool.Conn) {
	reads := s.whole || s.request.class.Effects&pgsql.Sequence != 0
	if reads && !s.sequences {
		s.sequences = true
	}
	reads = reads || s.request.duplex // nobody knows what comes late
	begins := s.begin.pending() && !s.request.prepare || s.request.class.Effects&pgsql.TxBegin != 0
	draws := s.sequences && (begins || s.mayWrite(s.request.class)) // it will be asked what it drew
	if !reads && !draws {
		return // a session that never asked may see them at its first question inside a transaction that wrote; none later
	}
	if st := stateOf(c); st.sequencesOf != s.id {
		s.ownQuery(c, "DISCARD SEQUENCES", ownSettings)
		st.sequencesOf = s.id
	}
}

// ownQuery puts a query of ours before the client's; its replies are dropped.
func (s *Session) ownQuery(c *pool.Conn, sql string, why ownQuery) {
	c.W.Query(sql)
	c.SetUnnamed(0) // a simple Query destroys the unnamed statement
	s.queue.push(reply{expect: expectQuery, action: drop, own: why})
	s.shield()
}

// await flushes and relays what is expected so far. It returns an error when a query of ours failed: nothing of the client's was sent.
func (s *Session) await(c *pool.Conn) error {
	c.SetStatus(0)
	if err := c.W.Flush(); err != nil {
		return &lostError{err: err, unsent: true}
	}
	if err := s.relay(c); err != nil {
		var lost *lostError
		if errors.As(err, &lost) {
			lost.unsent = true
		}
		return err
	}
	if s.turn.own != nil {
		e := clientError(s.turn.own)
		if s.turn.harmless {
			return s.turn.own
		}
		s.lease.taint("settings refused")
		return e
	}
	return nil
}

// finish ends a turn whose replies have all come: the state of the transaction decides whether the connection is released.
func (s *Session) finish(req *request) error {
	c := s.lease.conn
	s.observe(req.class)
	if s.whole {
		s.pins |= wholeSession
	}
	if req.prepare {
		return s.finishPrepare(req, c)
	}
	if req.duplex {
		req.class = s.batch.strict() // with what came after the turn had begun
		s.schema.judged = judged{}   // the class is another one, at the same place
		s.noteClass(req.class)
	}
	s.notePins(req.class)
	if s.turn.forgets {
		forgetStatements(c)
	}
	if s.turn.beganHere {
		s.begin.clear()
	}
	if s.turn.committed && s.wrote {
		s.mark = cluster.Now() // whatever a ROLLBACK after it undoes
	}
	if s.turn.wentBack && (c.Status() != 'I' || !s.turn.rolled) && s.touched.resets() {
		s.touched.doubt(s.settings) // of what it was before; a reset that comes later is none
	}
	if s.segment {
		return s.flush() // more of the same implicit transaction may come
	}
	if c.Status() != 'I' {
		s.tx.open = true
		return s.flush()
	}
	s.tx = transaction{}
	s.pinsEnded()
	if s.wrote {
		if !s.turn.rolled {
			s.mark = cluster.Now()
		}
		s.wrote = false
	}
	s.schema.ended()
	if s.undone() {
		s.turn.rolled = true // what the failed transaction reset is set again
		if s.touched.resets() && (s.turn.failed != "" || s.segmentLost) {
			s.lease.taint("reset undone")
		}
	}
	s.segmentLost = false
	if s.pinDoubt {
		if err := s.askPins(c); err != nil || !s.lease.held() {
			return err
		}
	}
	if !s.touched.none() {
		if err := s.flush(); err != nil {
			return err
		}
		return s.settle(c)
	}
	if s.pins == 0 {
		s.release()
	}
	return s.flush()
}

// finishPrepare ends a turn that only prepared. Its connection goes back at once, even when a deferred BEGIN waits for the first
// statement.
func (s *Session) finishPrepare(req *request, c *pool.Conn) error {
	s.skipping = !req.sync && s.turn.failed != ""
	if s.skipping && s.tx.open {
		s.failTransaction()
	}
	if s.pins == 0 && c.Status() == 'I' {
		s.release()
	}
	return s.flush()
}

// flush sends what is collected for the client.
func (s *Session) flush() error {
	if err := s.w.Flush(); err != nil {
		return &goneError{err}
	}
	return nil
}
