package session

import (
	"math"
	"strings"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgsql"
	"github.com/fairwaydb/fairway/modules/routing"
)

// ownPrefix begins the names of the settings that are for us. Servers keep them as they keep any setting of that form, so that they
// follow transactions, savepoints, RESET and SHOW as others do.
// See https://www.postgresql.org/docs/current/runtime-config-custom.html
const ownPrefix = "fairway."

const (
	settingRoute       = ownPrefix + "route"
	settingConsistency = ownPrefix + "consistency"
	settingMinLSN      = ownPrefix + "min_lsn"
	settingLSN         = ownPrefix + "lsn" // only SHOW knows it
)

// noLSN is a position that no replica ever has.
const noLSN = cluster.LSN(math.MaxUint64)

// wishes are what the settings of a session say about routing. They are read once for each set of settings, not with each statement.
type wishes struct {
	of          *settings // whose values these are
	began       uint64    // and the version of what the servers set for new sessions
	route       routing.Target
	consistency cluster.Consistency
	consistent  bool        // consistency is set
	minLSN      cluster.LSN // what reads must have; 0 nothing

	readOnly     bool // see defaultReadOnly
	serializable bool // see defaultSerializable
}

// wish returns what the settings in force say. Values nobody understands say nothing; SET refuses them.
func (s *Session) wish() *wishes {
	w := &s.wishes
	if w.of == s.settings && w.began == s.began {
		return w
	}
	*w = wishes{of: s.settings, began: s.began}
	for _, name := range [...]string{settingRoute, settingConsistency, settingMinLSN} {
		value, ok := s.had[name] // ALTER ROLE … SET
		if s.settings.has(name) {
			value, ok = s.settings.value(name), true
		}
		if ok {
			w.take(name, value)
		}
	}
	on, ok := parseBool(s.defaultOf("default_transaction_read_only"))
	w.readOnly = on && ok
	w.serializable = strings.EqualFold(s.defaultOf("default_transaction_isolation"), "serializable")
	return w
}

// defaultReadOnly tells that transactions are READ ONLY unless they say otherwise.
func (s *Session) defaultReadOnly() bool { return s.wish().readOnly }

// defaultSerializable tells that they are SERIALIZABLE, which a standby refuses.
func (s *Session) defaultSerializable() bool { return s.wish().serializable }

// defaultOf is the session's value of a setting, or what ALTER ROLE … SET and the like gave it.
func (s *Session) defaultOf(name string) string {
	if value := s.settings.value(name); value != "" {
		return value
	}
	return s.had[name]
}

// take takes the value of one setting. A position that nobody understands is one that only the primary has.
func (w *wishes) take(name, value string) {
	switch name {
	case settingRoute:
		w.route, _ = routing.ParseTarget(strings.ToLower(value))
	case settingConsistency:
		w.consistency, w.consistent = cluster.ParseConsistency(strings.ToLower(value))
	case settingMinLSN:
		var err error
		if w.minLSN, err = cluster.ParseLSN(value); err != nil && value != "" {
			w.minLSN = noLSN
		}
	}
}

// minLSN is the position that a statement must find on a replica. What a SET asks for that begins a READ ONLY transaction counts for
// the choice of its server, which is made with it.
func (s *Session) minLSN(class *pgsql.Class) cluster.LSN {
	at := s.wish().minLSN
	for i := range class.Settings {
		switch set := &class.Settings[i]; {
		case set.Name != settingMinLSN || set.Reset:
		case set.Known:
			w := wishes{}
			w.take(set.Name, set.Value)
			at = max(at, w.minLSN)
		default:
			at = noLSN
		}
	}
	return at
}

// hint is where the client wants the statement to run: a comment that leads it counts more than fairway.route.
func (s *Session) hint(class *pgsql.Class) routing.Target {
	return hintOf(class, s.standing())
}

// hintOf is where the comment that leads a statement wants it to run, and standing without one.
func hintOf(class *pgsql.Class, standing routing.Target) routing.Target {
	switch class.Route {
	case pgsql.RoutePrimary:
		return routing.TargetPrimary
	case pgsql.RouteReplica:
		return routing.TargetReplica
	}
	return standing
}

// hintFor is the hint for a request: what only fails needs no replica.
func (s *Session) hintFor(class *pgsql.Class) routing.Target {
	if class == refusalClass {
		return routing.TargetAuto
	}
	return s.hint(class)
}

// standing is where the transaction and the settings want statements to run.
func (s *Session) standing() routing.Target {
	if s.tx.open && s.tx.hint != routing.TargetAuto {
		return s.tx.hint
	}
	return s.wish().route
}

// consistency is what reads of the session may miss.
func (s *Session) consistency() cluster.Consistency {
	if w := s.wish(); w.consistent {
		return w.consistency
	}
	return s.cluster.Settings().Consistency
}
