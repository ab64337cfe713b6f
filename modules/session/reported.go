package session

import (
	"slices"
	"strings"
	"sync/atomic"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgwire"
	"github.com/fairwaydb/fairway/modules/pool"
	"github.com/fairwaydb/fairway/modules/routing"
)

// reported is what a client was told of the server's parameters: what the servers say to everybody, which sessions share,
// and where this client was told otherwise.
type reported struct {
	shared map[string]string // never changed; nil before the client is greeted
	own    []pgwire.Param
	since  []pgwire.Param // of what the servers say to everybody: what has changed since the client was greeted
}

// usual returns what the servers say of a parameter to a session that has not set it.
func (r *reported) usual(name string) (value string, ok bool) {
	for i := range r.since {
		if r.since[i].Name == name {
			return r.since[i].Value, true
		}
	}
	value, ok = r.shared[name]
	return value, ok
}

// change notes that they say something else now.
func (r *reported) change(name, value string) {
	for i := range r.since {
		if r.since[i].Name == name {
			r.since[i].Value = value
			return
		}
	}
	r.since = append(r.since, pgwire.Param{Name: name, Value: value})
}

// greeted tells whether the client was told anything.
func (r *reported) greeted() bool { return r.shared != nil }

// value returns what the client was told last of a parameter; ok is false when it was told nothing.
func (r *reported) value(name string) (value string, ok bool) {
	for i := range r.own {
		if r.own[i].Name == name {
			return r.own[i].Value, true
		}
	}
	value, ok = r.shared[name]
	return value, ok
}

// set notes what the client is told from now on.
func (r *reported) set(name, value string) {
	for i := range r.own {
		if r.own[i].Name == name {
			r.own[i].Value = value
			return
		}
	}
	if told, ok := r.shared[name]; !ok || told != value {
		r.own = append(r.own, pgwire.Param{Name: name, Value: value})
	}
}

// report decides what this client is told: what the server said, but for its application's name, which others share the greeting
// with, and for whether the server is a standby, which is the listener's business.
func (s *Session) report(shared map[string]string) {
	s.reported = reported{shared: shared}
	if s.startup.has("application_name") {
		s.reported.set("application_name", s.startup.value("application_name"))
	}
	standby := "off"
	if s.opts.Route == routing.TargetReplica {
		standby = "on"
	}
	s.reported.set("in_hot_standby", standby)
	for _, name := range reportedNames {
		if value, ok := s.reported.value(name); ok {
			s.lexical.note(name, value)
		}
	}
}

// tell passes on what the server reports when the client was told otherwise.
func (s *Session) tell(name, value string) {
	if told, ok := s.reported.value(name); ok && told == value {
		return
	}
	s.reported.set(name, value)
	s.lexical.note(name, value)
	s.w.ParameterStatus(name, value)
}

// said is what a server has reported over one connection.
type said struct {
	base    []string // what it says, of each of reportedNames, to who has set nothing: at the login, and by its configuration since
	changed []uint64 // of newsTotal, when each of these changed; 0 it has not
	looked  bool     // nothing was reported since these were looked at
	news    uint64   // the last of changed
}

// newsTotal counts the changes of configurations that server connections have heard of.
var newsTotal atomic.Uint64

// newSaid is what a connection says that nobody has set anything on.
func newSaid(c *pool.Conn) said {
	base := make([]string, len(reportedNames))
	for i, name := range reportedNames {
		base[i] = c.Param(name)
	}
	return said{base: base, changed: make([]uint64, len(base)), looked: true}
}

// configured tells of the parameters whose values may come from the configuration of a server: what they are may differ between two
// servers, and is then no affair of the client's.
func configured(name string) bool {
	switch name {
	case "in_hot_standby", "is_superuser", "session_authorization":
		return false
	}
	return true
}

// lookAt finds out what has changed in the configuration of the server, while the settings in force are those of the session: of what it
// has set itself, or is about to, nothing can be told.
func (s *Session) lookAt(c *pool.Conn) {
	sd := &stateOf(c).said
	if sd.looked || s.touched.all || s.turn.discarded {
		return
	}
	sd.looked = true
	for i, name := range reportedNames {
		value, setting := c.Param(name), strings.ToLower(name)
		if value == sd.base[i] || !configured(name) || s.settings.has(setting) {
			continue
		}
		if _, ok := s.touched.names[setting]; ok {
			sd.looked = false // the next turn can tell
			continue
		}
		sd.base[i] = value
		sd.news = newsTotal.Add(1)
		sd.changed[i] = sd.news
	}
}

// hear notes a parameter that the server reports.
func (sd *said) hear(c *pool.Conn, name, value string) {
	if c.Param(name) != value {
		sd.looked = false
		c.SetParam(name, value)
	}
}

// tellChanges tells what queries of ours have changed, when the last of them has been answered. What they set back is as the server is
// configured: that differs between servers, and the client keeps what it was told.
func (s *Session) tellChanges(c *pool.Conn) {
	if !s.tx.open || s.begin.pending() {
		s.lookAt(c)
	}
	if s.turn.unsaid == 0 {
		return
	}
	for i, name := range reportedNames {
		if s.turn.unsaid&(1<<i) == 0 {
			continue
		}
		setting := strings.ToLower(name)
		if _, touched := s.touched.names[setting]; touched || !configured(name) || s.settings.has(setting) {
			s.tell(name, c.Param(name))
		}
	}
	s.turn.unsaid = 0
}

// tellLater notes that a query of ours has changed a parameter: the next one may undo it.
func (s *Session) tellLater(name string) {
	if i := slices.Index(reportedNames, name); i >= 0 {
		s.turn.unsaid |= 1 << i
	}
}

// tellNews tells what the server has reported to others since this session looked last: a changed configuration, of which a server
// connection speaks once, to whoever holds it then. Inside a transaction it waits.
func (s *Session) tellNews(c *pool.Conn) {
	if c.Status() != 'I' {
		return
	}
	st := stateOf(c)
	if st.functionsOf == 0 {
		s.lookAt(c)
	}
	if st.said.news <= s.news {
		return
	}
	for i, name := range reportedNames {
		if st.said.changed[i] <= s.news {
			continue
		}
		setting := strings.ToLower(name)
		s.reported.change(name, st.said.base[i])
		if _, touched := s.touched.names[setting]; !touched && !s.settings.has(setting) && !s.wasReset(name) {
			s.tell(name, c.Param(name))
		}
	}
	s.news = st.said.news
}

// usual is what the client is told when the server reports a value: a setting that goes back, on a replica, to how that is configured
// is for the client as it was told before.
func (s *Session) usual(c *pool.Conn, name, value string) string {
	i := slices.Index(reportedNames, name)
	if i < 0 || !configured(name) || s.lease.member.Role != cluster.RoleReplica || s.opts.Route != routing.TargetAuto || stateOf(c).said.base[i] != value {
		return value
	}
	setting := strings.ToLower(name)
	if st, ok := s.touched.names[setting]; s.settings.has(setting) || ok && !st.Reset && !s.turn.rolled && s.turn.failed == "" {
		return value
	}
	if told, ok := s.reported.usual(name); ok && name != "application_name" {
		return told
	}
	return value
}

// wasReset tells whether the turn has set a setting back that the startup packet had. It takes a server to its own default, but the
// session to what it asked for: that is brought to the server by the next turn.
func (s *Session) wasReset(name string) bool {
	if len(s.startup.list) == 0 {
		return false
	}
	setting := strings.ToLower(name)
	st, ok := s.touched.names[setting]
	switch {
	case s.turn.discarded && !ok:
		return s.startup.has(setting)
	case s.undone():
		return false
	}
	return (ok && st.Reset || !ok && s.touched.all) && s.startup.has(setting)
}

// tellResets tells what was set back to a value of the startup packet.
func (s *Session) tellResets() {
	if !s.touched.resets() && !s.turn.discarded {
		return
	}
	for _, name := range reportedNames {
		value, ok := s.reported.shared[name]
		if !ok || !s.wasReset(name) {
			continue // or this version does not report it
		}
		if name == "application_name" { // whose value the shared greeting leaves out
			value = s.startup.value(name)
		}
		s.tell(name, value)
	}
}
