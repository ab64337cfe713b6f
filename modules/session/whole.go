package session

import (
	"time"

	"github.com/fairwaydb/fairway/modules/pgsql"
)

// Pool mode session: a client holds one server connection from its first statement until it leaves, so whatever it makes there simply
// stays. Reads run there too, on the primary unless the listener's route says otherwise. When the client leaves, the connection is
// cleaned and lent again.

// wholeSession stands among the pins of such a session; no statement has that effect.
const wholeSession pgsql.Effects = 1 << 31

// pinNames says what a connection was held for.
func pinNames(pins pgsql.Effects) string {
	rest := pins &^ wholeSession
	switch {
	case rest == pins:
		return pins.String()
	case rest == 0:
		return "the session (pool mode session)"
	}
	return "the session (pool mode session), " + rest.String()
}

// recycleTimeout bounds the cleaning of a server connection, which waits for nobody's locks.
const recycleTimeout = 5 * time.Second

// recycle cleans the server connection of a client that has left and gives it back. It returns false when the connection is in no
// state to be cleaned, or could not be: it is to be closed then.
// See https://www.postgresql.org/docs/current/sql-discard.html
func (s *Session) recycle() bool {
	c := s.lease.conn
	if s.pins&pgsql.Load != 0 {
		return false // LOAD and setseed outlive DISCARD ALL
	}
	if c.Status() != 'I' || !s.queue.empty() || s.lease.tainted || s.segment {
		return false
	}
	lease := c.Lease()
	timer := time.AfterFunc(recycleTimeout, lease.Abort)
	defer timer.Stop()
	s.beginTurn()
	s.w.Reset(s.conn)
	s.reported = reported{} // nobody is told any more
	s.ownQuery(c, "DISCARD ALL", ownSettings)
	if err := s.await(c); err != nil {
		s.lease.taint("not cleaned")
		return false
	}
	c.ForgetAll()
	c.SetUnnamed(0)
	c.AppliedSettings = nil // the next one looks anew
	s.touched.clear()
	s.pins &= wholeSession // nothing else is left
	s.release()
	return true
}
