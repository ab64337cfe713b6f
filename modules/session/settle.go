package session

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/fairwaydb/fairway/modules/pgsql"
	"github.com/fairwaydb/fairway/modules/pgwire"
	"github.com/fairwaydb/fairway/modules/pool"
)

// settle asks the server what the settings are that statements of this lease may have changed, whatever rollbacks, savepoints and
// functions made of them, and remembers the answer for the session. Then the connection may be released.
func (s *Session) settle(c *pool.Conn) error {
	names := s.touched.sorted()
	if len(names) > 0 {
		s.turn.probed = nil
		sql := probeSQL(names)
		if s.touched.undone || s.turn.rolled {
			sql = probeUndoneSQL(names)
		}
		s.ownQuery(c, sql, ownProbe)
		c.SetStatus(0)
		err := c.W.Flush()
		if err == nil {
			err = s.relay(c)
		}
		if err != nil || s.turn.own != nil || len(s.turn.probed) != len(names) {
			return s.settleBlind(names)
		}
	}
	s.adopt(c, names, s.turn.probed)
	s.touched.clear()
	if s.pins == 0 {
		s.release()
	}
	return s.flush()
}

// settleBlind follows the loss of the server before it could tell the settings: literals are taken at their word, anything else ends
// the session, for going on could be wrong.
func (s *Session) settleBlind(names []string) error {
	s.undoPending(nil)
	values := make([]*string, len(names))
	for i, n := range names {
		st := s.touched.names[n]
		if !st.Known && !st.Reset || st.Local {
			return pgwire.Fatalf(pgwire.CodeConnectionFailure, "the server connection was lost while setting %q; the session can not be restored", n)
		}
		values[i] = &st.Value
	}
	pinned := s.pins
	if c := s.lease.conn; c != nil {
		s.lease.taint("lost")
		s.adopt(c, names, values)
		c.Close()
	}
	s.touched.clear()
	s.release()
	if pinned != 0 {
		return errPinLost(pinned, nil)
	}
	return s.flush()
}

// adopt makes the values the session's settings; values are those of names, nil where a setting does not exist.
func (s *Session) adopt(c *pool.Conn, names []string, values []*string) {
	applied := appliedSettings(c)
	if s.touched.all && !s.turn.rolled {
		s.settings, applied = s.startup, noSettings
	}
	mine, theirs := make(map[string]*string, len(names)), make(map[string]*string, len(names))
	for i, n := range names {
		mine[n], theirs[n] = values[i], values[i]
		if s.touched.names[n].Reset && !s.turn.rolled {
			// Back to the startup packet's value, which the server connection does not know: the next turn brings it.
			theirs[n], mine[n] = nil, nil
			if s.startup.has(n) {
				v := s.startup.value(n)
				mine[n] = &v
			}
		}
	}
	s.settings = s.settings.with(mine)
	setApplied(c, applied.with(theirs))
}

// restoreStartup gives settings that the open transaction has reset the startup packet's values, which the server connection does not
// know. What becomes of them is asked at its end, as for any other change.
func (s *Session) restoreStartup(c *pool.Conn) {
	if !s.touched.resets() || s.segment || s.request.class.Effects&pgsql.TxEnd != 0 {
		return
	}
	var b strings.Builder
	for _, p := range s.startup.list {
		if st, ok := s.touched.names[p.Name]; ok && st.Reset || !ok && s.touched.all {
			b.WriteString(resetSQL(p.Name, p.Value))
			s.touched.add([]pgsql.Setting{{Name: p.Name, Value: p.Value, Known: true}})
		}
	}
	if b.Len() > 0 {
		s.ownQuery(c, b.String(), ownSettings)
	}
}

// listSettings are those whose value is a list of quoted names: SET would take a constant for a single one.
var listSettings = map[string]struct{}{
	"search_path": {}, "temp_tablespaces": {}, "session_preload_libraries": {}, "local_preload_libraries": {},
}

// resetSQL sets a setting, without a snapshot where that is possible: the transaction may not have taken its own yet.
func resetSQL(name, value string) string {
	if _, ok := listSettings[name]; ok {
		return "SELECT " + settingSQL(name, value) + ";"
	}
	return "SET " + quoteSettingName(name) + " TO " + quoteLiteral(value) + ";"
}

// transient are the settings of one transaction: they need no memory after it.
var transient = map[string]struct{}{
	"transaction_isolation": {}, "transaction_read_only": {}, "transaction_deferrable": {}, "transaction_snapshot": {},
}

// noteSettings remembers which settings the statements of a request may change.
func (s *Session) noteSettings(class *pgsql.Class) {
	s.tx.shifted = s.tx.shifted || class.SettingsUnknown
	s.touched.undone = s.touched.undone || s.tx.savepoints
	for i := range class.Settings {
		if class.Settings[i].Name == "synchronous_commit" {
			s.asyncCommit = true // perhaps for one transaction only: the marks can not tell
		}
		if slices.Contains(parseSettings[:], class.Settings[i].Name) || class.Settings[i].All {
			s.tx.shifted = true
		}
		if s.whole && !class.Settings[i].Reset {
			continue // it is where it was made; only what goes back to the startup packet's value must be brought there
		}
		if _, ok := transient[class.Settings[i].Name]; !ok && !class.Settings[i].Local {
			identity := s.identitySettings()
			s.touched.add(class.Settings[i : i+1])
			if class.Settings[i].All {
				s.touched.add(identity) // RESET ALL leaves them alone, and DISCARD ALL can be asked
			}
		}
	}
}

// discarded follows a DISCARD ALL, which is committed at once: no failure of what comes behind it in a pipeline brings settings back.
func (s *Session) discarded(c *pool.Conn) {
	s.settings, s.touched.all, s.turn.discarded = s.startup, false, true
	setApplied(c, noSettings)
}

// identitySettings are the settings that say who the session is, as far as it has changed them: RESET ALL does not touch them.
// See https://www.postgresql.org/docs/current/sql-reset.html
func (s *Session) identitySettings() (list []pgsql.Setting) {
	for _, name := range [...]string{"role", "session_authorization"} {
		if _, ok := s.touched.names[name]; ok || s.settings.has(name) {
			list = append(list, pgsql.Setting{Name: name})
		}
	}
	return list
}

// connState is what a session leaves on a server connection for the next one to find.
type connState struct {
	settings    *settings
	functionsOf uint64              // the session that last ran functions of which nobody knows what they leave behind
	unread      bool                // nobody has read them: they may have made prepared statements
	sequencesOf uint64              // the session whose sequence values currval and lastval would show
	shapes      map[string]uint64   // of the rows of shared statements, as last described here
	doubtful    map[string]struct{} // shared statements that the server may still have although it was to forget them
	doubtAll    bool                // so may be all that the connection does not count as known
	said        said                // what the server has reported
	queue       []reply             // the memory of the queue of whoever holds the connection; empty
}

// doubt notes that the server may still have a statement that the connection does not count as known.
func (st *connState) doubt(shared string) {
	if st.doubtful == nil {
		st.doubtful = make(map[string]struct{})
	}
	st.doubtful[shared] = struct{}{}
}

// doubted tells whether the server may have the statement, and forgets the doubt: the caller closes it.
func (st *connState) doubted(shared string) bool {
	_, ok := st.doubtful[shared]
	delete(st.doubtful, shared)
	return ok || st.doubtAll
}

func stateOf(c *pool.Conn) *connState {
	st, ok := c.AppliedSettings.(*connState)
	if !ok {
		st = &connState{settings: noSettings, said: newSaid(c)}
		c.AppliedSettings = st
	}
	return st
}

func appliedSettings(c *pool.Conn) *settings     { return stateOf(c).settings }
func setApplied(c *pool.Conn, applied *settings) { stateOf(c).settings = applied }

// rowValues decodes a DataRow of text values; NULL is nil.
func rowValues(body []byte) ([]*string, bool) {
	if len(body) < 2 {
		return nil, false
	}
	n := int(binary.BigEndian.Uint16(body))
	body = body[2:]
	values := make([]*string, n)
	for i := range values {
		if len(body) < 4 {
			return nil, false
		}
		size := int32(binary.BigEndian.Uint32(body))
		body = body[4:]
		if size < 0 {
			continue
		}
		if int(size) > len(body) {
			return nil, false
		}
		v := string(body[:size])
		values[i], body = &v, body[size:]
	}
	return values, true
}
