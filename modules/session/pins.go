package session

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/fairwaydb/fairway/modules/catalog"
	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgsql"
	"github.com/fairwaydb/fairway/modules/pgwire"
	"github.com/fairwaydb/fairway/modules/pool"
)

// pinCount counts the sessions that hold a server connection of one pool beyond their transaction.
type pinCount struct{ n atomic.Int64 }

func (p *pinCount) add(n int64) { p.n.Add(n) }

type pinKey struct {
	cluster, backend string
	identity         pool.Identity
}

// pinCounts has an entry for each pool that had a pin, until its backend is forgotten.
var pinCounts sync.Map // of *pinCount by pinKey

// dropPins forgets the counts of a backend that has been gone for long.
func dropPins(name, backend string) {
	pinCounts.Range(func(key, count any) bool {
		if k := key.(pinKey); k.cluster == name && k.backend == backend && count.(*pinCount).n.Load() == 0 {
			pinCounts.Delete(key)
		}
		return true
	})
}

func init() { cluster.DropSeriesWith(dropPins) }

// pinned is the count of the pool whose connection the session holds.
func (s *Session) pinned() *pinCount {
	key := pinKey{s.cluster.Name(), s.lease.member.Backend.Name(), s.identity}
	if p, ok := pinCounts.Load(key); ok {
		return p.(*pinCount)
	}
	p, _ := pinCounts.LoadOrStore(key, new(pinCount))
	return p.(*pinCount)
}

// unpin says that nothing holds the connection any more.
func (s *Session) unpin() {
	if s.pins != 0 && !s.whole {
		s.pinned().add(-1)
	}
	s.pins, s.pinsBefore, s.pinDoubt, s.textRan = 0, 0, false, false
}

// mayPin refuses a statement outside a transaction that would pin one connection more than max_pinned allows: the rest of the pool is
// for those who give their connections back.
func (s *Session) mayPin() error {
	set := s.cluster.Settings()
	most := max(int64(float64(set.Pool.Size)*set.MaxPinned), 1)
	if s.pinned().n.Load() < most {
		return nil
	}
	e := pgwire.Errorf(pgwire.CodeTooManyConnections, "too many sessions hold a server connection of backend %s", s.lease.member.Backend.Name())
	e.Detail = "The statement needs to keep one: temporary tables, LISTEN, advisory locks, WITH HOLD cursors and SQL PREPARE live in one server connection."
	e.Hint = "Disconnect idle sessions that use them, or raise size or max_pinned of the pool."
	return e
}

// pinsOf is what a statement may leave on the server connection that holds it to the session: what its wording says, and what the
// catalog says of the code that it reaches. [pgsql.Unknown] among it means that the server is asked afterwards; textRan, that it is
// asked for settings too.
func (s *Session) pinsOf(class *pgsql.Class) (pins pgsql.Effects, textRan bool) {
	facts, pins := s.facts(), class.Pins()
	if class.Call && (facts == nil || facts == catalog.Wording) {
		return pins, false
	}
	if class.Do || class.Call {
		pins &^= pgsql.Unknown | pgsql.Settings
	}
	if facts == nil && s.schema.keeper != nil {
		facts = s.schema.keeper.Facts() // from before the session's own change of the schema: better than none
	}
	left := s.schema.judged.of(facts, class).leaves()
	s.turn.forgets = s.turn.forgets || left&pgsql.Deallocates != 0
	if left&pgsql.SetsSettings != 0 {
		pins |= pgsql.Settings
	}
	// Triggers that run text are not asked for settings: the question costs more than most writes. What fires after a change of the
	// schema the facts do not know.
	byName := class.Do || class.Call || len(class.Unproven) > 0
	textRan = left&pgsql.RunsText != 0 && byName || s.schema.changes && class.Effects&firesCode&^pgsql.DDL != 0
	if left&pgsql.HoldsState != 0 || textRan {
		pins |= pgsql.Unknown
	}
	if left&pgsql.Loads != 0 {
		pins |= pgsql.Load
	}
	return pins, textRan
}

// surePins are those of pinsOf that a statement leaves if it succeeds: what code may hold only an answer of the server tells.
func (s *Session) surePins(class *pgsql.Class) pgsql.Effects {
	pins, _ := s.pinsOf(class)
	if class.Pins()&pgsql.Unknown == 0 || class.Do || class.Call {
		pins &^= pgsql.Unknown
	}
	return pins
}

// doubtful are effects after which the server has to be asked what pins are left: what may have taken a lock or not, what may have
// ended something, and what may have done anything.
const doubtful = pgsql.AdvisoryLock | pgsql.Discard | pgsql.DDL | pgsql.Unknown | pgsql.Savepoint

// notePins remembers what the statements of this turn left on the server connection.
func (s *Session) notePins(class *pgsql.Class) {
	pins, textRan := s.pinsOf(class)
	pins |= s.bound
	s.textRan = s.textRan || textRan
	s.sequences = s.sequences || class.Effects&pgsql.Sequence != 0
	if s.sequences && s.wrote && !s.whole && s.lease.member.Role == cluster.RolePrimary {
		pins |= pgsql.Sequence // what it drew belongs to this connection
	}
	if (s.pins|pins)&^wholeSession != 0 && (class.Effects|pins)&doubtful != 0 {
		s.pinDoubt = true
	}
	if gone := s.pins & class.Ends & pgsql.Sequence; gone != 0 && s.turn.completed {
		if s.pins == gone {
			s.unpin()
		}
		s.pins &^= gone
	}
	if pins == 0 {
		return
	}
	if !s.turn.completed && s.turn.failed == "" && s.lease.conn.Status() != 'I' {
		s.bound = pins // bound now, executed by a later turn
		return
	}
	s.bound = 0
	if !s.turn.completed {
		// A failed statement leaves nothing, except what it drew from sequences, locks taken before it failed and what we do not
		// understand.
		if s.turn.failed == "" {
			return
		}
		if pins&pgsql.Load != 0 && s.pins == 0 && !s.whole {
			s.lease.taint("loaded") // perhaps: it does not end with an error
			pins &^= pgsql.Load
		}
		pins &= pgsql.AdvisoryLock | pgsql.Unknown | pgsql.Load | pgsql.Sequence
	}
	if s.whole {
		s.pins |= pins // nothing is left of them when the connection is cleaned
		return
	}
	if pins != 0 && s.pins == 0 {
		s.pinned().add(1)
	}
	if fresh := pins &^ s.pins; fresh != 0 {
		s.labels.pin(fresh)
	}
	s.pins |= pins
}

// pinsEnded follows the end of a transaction: one that was rolled back has undone what it made, and changed no settings. What was drawn
// from sequences stays.
func (s *Session) pinsEnded() {
	if s.pins == 0 || s.whole {
		return
	}
	if s.turn.rolled || s.turn.failed != "" || s.segmentLost {
		s.pinDoubt = true
		if s.pins &^= pgsql.Settings &^ s.pinsBefore; s.pins == 0 {
			s.pins = pgsql.Settings // it is counted
			s.unpin()
		}
	}
	s.pinsBefore = s.pins
}

// askedPins are the pins that a server can be asked for, in the order of pinsSQL.
var askedPins = [...]pgsql.Effects{pgsql.Temp, pgsql.Listen, pgsql.AdvisoryLock, pgsql.HoldCursor, pgsql.SQLPrepare}

// pinsSQL asks what of the session lives in the server connection. Outside a transaction all advisory locks are the session's.
const pinsSQL = `SELECT pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.<>) 0 AND (
 EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())
 OR EXISTS (SELECT FROM pg_catalog.pg_proc WHERE pronamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())
 OR EXISTS (SELECT FROM pg_catalog.pg_type WHERE typnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())),
 EXISTS (SELECT FROM pg_catalog.pg_listening_channels()),
 EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'advisory' AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()),
 EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable),
 EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql)`

// changedSQL is one more question: which settings have been changed and not set back, whoever did. Custom settings that nobody has
// declared are not among them. The user's name follows.
const changedSQL = `, (SELECT pg_catalog.string_agg(name, ',') FROM (SELECT name FROM pg_catalog.pg_settings WHERE source OPERATOR(pg_catalog.=) 'session'
 UNION ALL SELECT 'role' WHERE pg_catalog.current_setting('role') OPERATOR(pg_catalog.<>) 'none'
 UNION ALL SELECT 'session_authorization' WHERE session_user OPERATOR(pg_catalog.<>) `

// questions is what the server is asked when pins are in doubt.
func (s *Session) questions() string {
	if !s.textRan {
		return pinsSQL
	}
	return pinsSQL + changedSQL + quoteLiteral(s.identity.User) + ") s)"
}

// noteChanged remembers the settings that changedSQL has found, and those that were set back: the server is asked what they are. Those
// that the session may have no right to set on another server connection pin instead.
func (s *Session) noteChanged(names *string) (pins pgsql.Effects) {
	doubt := func(name string) {
		if _, known := s.touched.names[name]; !known {
			s.touched.add([]pgsql.Setting{{Name: name}})
		}
	}
	if !s.touched.all {
		for _, p := range s.settings.list {
			doubt(p.Name)
		}
	}
	if names == nil {
		return 0
	}
	for name := range strings.SplitSeq(strings.ToLower(*names), ",") {
		_, known := s.touched.names[name]
		if _, ok := transient[name]; ok || known {
			continue
		}
		if isBuiltin(name) || name == "role" || name == sessionAuthorization {
			doubt(name)
		} else {
			pins = pgsql.Settings
		}
	}
	return pins
}

// askPins asks the server what pins are left. The client has its answer already.
func (s *Session) askPins(c *pool.Conn) error {
	s.pinDoubt = false
	asked := len(askedPins)
	sql := s.questions()
	if s.textRan {
		s.textRan, asked = false, asked+1
	}
	if s.pins == 0 || s.whole {
		return nil
	}
	if err := s.flush(); err != nil {
		return err
	}
	rolled := s.turn.rolled
	s.turn.probed, s.turn.own = nil, nil
	s.ownQuery(c, sql, ownProbe)
	c.SetStatus(0)
	err := c.W.Flush()
	if err != nil {
		err = &lostError{err: err}
	} else {
		err = s.relay(c)
	}
	s.turn.rolled = rolled
	var lost *lostError
	switch {
	case errors.As(err, &lost):
		return s.heldLost(lost)
	case err != nil:
		return err
	case s.turn.own != nil || len(s.turn.probed) != asked:
		s.turn.own = nil
		return nil // they stay
	}
	left := s.pins & (pgsql.Settings | pgsql.Load | pgsql.Sequence)
	for i, pin := range askedPins {
		if v := s.turn.probed[i]; v != nil && *v == "t" {
			left |= pin
		}
	}
	if asked > len(askedPins) {
		left |= s.noteChanged(s.turn.probed[len(askedPins)])
	}
	if s.pins&pgsql.Unknown != 0 {
		stateOf(c).functionsOf = s.id // what a server does not tell is cleaned before another session comes
	}
	if left == 0 {
		s.unpin()
	} else {
		s.labels.pin(left &^ s.pins)
	}
	s.pins, s.pinsBefore = left, left
	return nil
}
