package session

import (
	"github.com/fairwaydb/fairway/modules/pgwire"
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
