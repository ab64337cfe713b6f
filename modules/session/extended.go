package session

import (
	"encoding/binary"
	"sync"

	"github.com/fairwaydb/fairway/modules/pgsql"
	"github.com/fairwaydb/fairway/modules/pgwire"
)

// batch holds the extended messages gathered since the last Sync or Flush, as they came.
type batch struct {
	frames    []byte
	classes   []*pgsql.Class // of the statements bound or parsed in it
	merged    *pgsql.Class
	binds     bool    // a Bind or a message about a portal is in it: more than preparing
	executes  bool    // an Execute is in it
	describes bool    // a portal is described: the client reads its rows by that
	undo      []reply // what its messages did to the session's statements, for a second attempt

	store *store // what the slices and merged came from; nil while nothing is gathered
}

// store is the memory of a batch while no session needs it: an idle session has none.
type store struct {
	frames  []byte
	classes []*pgsql.Class
	merged  pgsql.Class
	undo    []reply
}

var stores = sync.Pool{New: func() any { return new(store) }}

func (b *batch) waiting() bool { return len(b.frames) > 0 }

// take makes sure that the batch has memory.
func (b *batch) take() {
	if b.store != nil {
		return
	}
	b.store, _ = stores.Get().(*store)
	b.frames, b.classes, b.merged, b.undo = b.store.frames, b.store.classes, &b.store.merged, b.store.undo
}

// reset empties the batch and gives its memory back.
func (b *batch) reset() {
	if b.store == nil {
		return
	}
	clear(b.classes)
	clear(b.undo)
	st := b.store
	st.frames, st.classes, st.undo = b.frames[:0], b.classes[:0], b.undo[:0]
	st.merged = pgsql.Class{Unproven: st.merged.Unproven[:0], Settings: st.merged.Settings[:0]}
	*b = batch{}
	if cap(st.frames) <= gatherLimit { // a large Bind is not kept
		stores.Put(st)
	}
}

// add copies a frame.
func (b *batch) add(typ byte, body []byte) {
	b.take()
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
		if err := s.discard(); err != nil {
			return err
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
	body, err := s.body()
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
	if err := s.discard(); err != nil {
		return err
	}
	if s.skipping && !s.segment {
		// The segment failed without a server: its Sync is ours to answer.
		s.skipping = false
		s.batch.reset()
		s.w.ReadyForQuery(s.status)
		return s.flush()
	}
	s.segmentLost = s.skipping
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
	s.batch.take()
	switch typ {
	case pgwire.MsgParse:
		_, sql, _, err := pgwire.DecodeParse(body)
		if err != nil {
			return fatalFrom(err)
		}
		s.batch.classes = append(s.batch.classes, s.replace(sql, s.classifyExact(sql)).class)
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
			s.batch.describes = s.batch.describes || typ == pgwire.MsgDescribe
		}
	}
	s.batch.add(typ, body)
	return nil
}

// copyAhead gathers data of a COPY that the server has not asked for yet. Where there is no COPY the server ignores them.
func (s *Session) copyAhead(typ byte, n int) error {
	if n > bodyLimit {
		return s.overflow(typ, n)
	}
	body, err := s.body()
	if err != nil {
		return &goneError{err}
	}
	s.batch.add(typ, body)
	if len(s.batch.frames) > gatherLimit {
		return s.overflow(0, 0)
	}
	return nil
}

func (s *Session) classifyExact(sql []byte) *pgsql.Class {
	if s.lexical.unsafe && hasHighBytes(sql) {
		return pgsql.Unparsed()
	}
	if s.lexical.nonConforming {
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
	return b.merge()
}

// merge builds the class of the batch anew, in memory of its own: the classes of statements are shared with other sessions.
func (b *batch) merge() *pgsql.Class {
	b.take()
	m := b.merged
	*m = pgsql.Class{
		Functions: m.Functions[:0], Unproven: m.Unproven[:0], Relations: m.Relations[:0], Operators: m.Operators[:0], Types: m.Types[:0],
		Settings: m.Settings[:0],
	}
	for _, c := range b.classes {
		merge(b.merged, c)
	}
	return b.merged
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
	class := b.merge()
	class.Effects |= pgsql.Write
	return class
}

// overflow begins a duplex turn: the gathered messages and the rest of the segment go to the primary while the server's replies are
// relayed. typ is the message that is too large to be held, 0 when there is none.
func (s *Session) overflow(typ byte, n int) error {
	defer s.batch.reset()
	s.request = request{class: s.batch.strict(), typ: typ, size: n, duplex: true}
	s.segment = true // until its Sync has been read, also when no server takes it
	if s.tx.failed {
		s.refuseFailed(s.request.class)
		return s.endRequest(&s.request)
	}
	return s.run(&s.request)
}
