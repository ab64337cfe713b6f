package session

import (
	"slices"
	"sync"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// expect is what the next reply of a server belongs to.
type expect uint8

const (
	expectQuery    expect = iota // everything up to ReadyForQuery: a simple Query or FunctionCall
	expectParse                  // ParseComplete
	expectBind                   // BindComplete
	expectDescribe               // RowDescription or NoData, for a statement after its ParameterDescription
	expectExecute                // rows, then CommandComplete, EmptyQueryResponse or PortalSuspended
	expectClose                  // CloseComplete
	expectSync                   // ReadyForQuery
)

// action is what happens with a reply.
type action uint8

const (
	forward action = iota // to the client
	drop                  // it answers a message we sent for ourselves
	answer                // the server is not asked: the reply is ours
)

// reply is one expected reply. The queue of them says what every message from the server is for: there are no other flags.
type reply struct {
	expect  expect
	action  action
	own     ownQuery      // which of our own queries a dropped expectQuery answers
	stmt    *statement    // Parse: the statement that exists once ParseComplete has come
	prev    *statement    // Parse, Close, Execute: what the client's name stood for before
	named   bool          // Parse, Close, Execute: the client's name is stmt's or prev's name
	known   string        // Parse: the shared name the server connection learns; Close: the one it forgets
	cleared names         // Execute: the statements of the session that it takes away
	fed     bool          // Execute: the end of the data for its COPY was sent
	shows   bool          // query, Execute: it stands for a SHOW, and so does its command tag
	refusal *pgwire.Error // query, Parse, Bind: the server is made to fail, and this is the error
}

// ownQuery says which query of ours a dropped reply answers.
type ownQuery uint8

const (
	ownNone     ownQuery = iota
	ownSettings          // brings the server connection's settings to the session's
	ownBegin             // the deferred BEGIN
	ownShape             // asks what the rows of a statement look like
	ownProbe             // asks for the values of changed settings
)

// replies is the queue. Two goroutines use it only in a duplex turn: before the first one it is not locked.
type replies struct {
	mu   sync.Mutex
	list []reply
	head int

	pushed chan struct{} // told of every push while the turn is duplex; nil before the first such turn
}

func (q *replies) lock() {
	if q.pushed != nil {
		q.mu.Lock()
	}
}

func (q *replies) unlock() {
	if q.pushed != nil {
		q.mu.Unlock()
	}
}

// borrow gives the queue memory, so that an idle session needs none.
func (q *replies) borrow(list []reply) {
	q.lock()
	if q.head == len(q.list) {
		q.list, q.head = list[:0], 0
	}
	q.unlock()
}

// keptReplies is the longest queue whose memory is kept, in replies.
const keptReplies = 1 << 10

// giveUp takes the memory of an empty queue away and returns it.
func (q *replies) giveUp() (list []reply) {
	q.lock()
	if q.head == len(q.list) {
		if cap(q.list) <= keptReplies {
			list = q.list[:0]
		}
		q.list, q.head = nil, 0
	}
	q.unlock()
	return list
}

func (q *replies) push(r reply) {
	q.lock()
	if q.head == len(q.list) {
		q.list, q.head = q.list[:0], 0
	}
	q.list = append(q.list, r)
	if q.pushed != nil {
		select {
		case q.pushed <- struct{}{}:
		default:
		}
	}
	q.unlock()
}

// announce makes pushes wake the relay. It comes before the second goroutine.
func (q *replies) announce() {
	if q.pushed == nil {
		q.pushed = make(chan struct{}, 1)
	}
}

// front returns the next expected reply; ok is false when nothing is expected.
func (q *replies) front() (r reply, ok bool) {
	q.lock()
	if q.head < len(q.list) {
		r, ok = q.list[q.head], true
	}
	q.unlock()
	return r, ok
}

func (q *replies) pop() {
	q.lock()
	q.list[q.head] = reply{}
	q.head++
	q.unlock()
}

// awaits tells whether the answer to one of our own questions is expected.
func (q *replies) awaits(own ownQuery) bool {
	q.lock()
	defer q.unlock()
	return slices.ContainsFunc(q.list[q.head:], func(r reply) bool { return r.own == own })
}

// pending returns a copy of what is expected.
func (q *replies) pending() []reply {
	q.lock()
	defer q.unlock()
	return slices.Clone(q.list[q.head:])
}

func (q *replies) empty() bool {
	q.lock()
	defer q.unlock()
	return q.head == len(q.list)
}

// reset forgets everything expected: the server connection it came from is gone. The caller has undone what was pending.
func (q *replies) reset() {
	q.lock()
	clear(q.list)
	q.list, q.head = q.list[:0], 0
	q.unlock()
}

// failSegment removes what the server will not answer after an error in an extended segment: everything up to the next Sync. It
// returns the removed replies, the failed one first, and whether a Sync follows.
func (q *replies) failSegment(removed []reply) (list []reply, sync bool) {
	q.lock()
	defer q.unlock()
	for q.head < len(q.list) {
		if q.list[q.head].expect == expectSync {
			return removed, true
		}
		removed = append(removed, q.list[q.head])
		q.head++
	}
	return removed, false
}

// fed notes that the end of COPY data was sent behind the latest Execute.
func (q *replies) fed() {
	q.lock()
	defer q.unlock()
	for i := len(q.list) - 1; i >= q.head; i-- {
		if q.list[i].expect == expectExecute {
			q.list[i].fed = true
			return
		}
	}
}

// dropSyncs removes the Syncs that follow the front, be it behind what we answer ourselves: a server in copy-in mode ignores them. It
// returns whether there were any, and whether the data were all sent before, so that none of that is so.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY
func (q *replies) dropSyncs() (dropped, fed bool) {
	q.lock()
	defer q.unlock()
	if q.head < len(q.list) && q.list[q.head].fed {
		return false, true
	}
	for i := q.head + 1; i < len(q.list); {
		switch {
		case q.list[i].expect == expectSync:
			q.list = append(q.list[:i], q.list[i+1:]...)
			dropped = true
		case q.list[i].action == answer: // the server knows nothing of it
			i++
		default:
			return dropped, false
		}
	}
	return dropped, false
}

// completes tells whether a server message ends the expected reply.
func (e expect) completes(typ byte) bool {
	switch e {
	case expectQuery, expectSync:
		return typ == pgwire.MsgReadyForQuery
	case expectParse:
		return typ == pgwire.MsgParseComplete
	case expectBind:
		return typ == pgwire.MsgBindComplete
	case expectDescribe:
		return typ == pgwire.MsgRowDescription || typ == pgwire.MsgNoData
	case expectExecute:
		return typ == pgwire.MsgCommandComplete || typ == pgwire.MsgEmptyQuery || typ == pgwire.MsgPortalSuspended
	case expectClose:
		return typ == pgwire.MsgCloseComplete
	}
	return false
}
