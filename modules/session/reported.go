package session

import (
	"strings"
	"sync/atomic"

	"github.com/fairwaydb/fairway/modules/pgwire"
	"github.com/fairwaydb/fairway/modules/pool"
	"github.com/fairwaydb/fairway/modules/routing"
)

// reported is what a client was told of the server's parameters: what the servers say to everybody, which sessions share,
// and where this client was told otherwise.
type reported struct {
	shared map[string]string // never changed; nil before the client is greeted
	own    []pgwire.Param
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

// tellChanges tells what queries of ours have changed, when the last of them has been answered.
func (s *Session) tellChanges(c *pool.Conn) {
	if !s.turn.unsaid {
		return
	}
	s.turn.unsaid = false
	s.tellAll(c, func(string) bool { return false })
}

// newsTotal counts the changes that servers have reported.
var newsTotal atomic.Uint64

// tellNews tells what the server has reported to others since this session looked last: a changed configuration, of which a server
// connection speaks once, to whoever holds it then. Inside a transaction it waits.
func (s *Session) tellNews(c *pool.Conn) {
	if news := stateOf(c).news; news > s.news && c.Status() == 'I' {
		s.news = news
		s.tellAll(c, s.wasReset)
	}
}

// tellAll tells whatever the client was told otherwise.
func (s *Session) tellAll(c *pool.Conn, except func(name string) bool) {
	for _, name := range reportedNames {
		if value := c.Param(name); name != "in_hot_standby" && value != "" && !except(name) {
			s.tell(name, value)
		}
	}
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
	case s.turn.rolled || s.turn.failed != "":
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
