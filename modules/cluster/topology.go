package cluster

import "time"

// Role is what a backend is to its cluster.
type Role uint8

// The roles. Only the one primary of a topology has RolePrimary; a backend that
// is not in recovery and was not chosen (an older timeline, a tie, another
// system) has RoleRefused.
const (
	RoleUnknown Role = iota // not probed yet, or its last answer is too old to be trusted
	RolePrimary
	RoleReplica
	RoleRefused
	roleCount
)

// String returns the role as it stands in metrics and logs.
func (r Role) String() string {
	switch r {
	case RolePrimary:
		return "primary"
	case RoleReplica:
		return "replica"
	case RoleRefused:
		return "refused"
	case RoleUnknown, roleCount:
	}
	return "unknown"
}

// State is the health of a backend in one word.
type State uint8

// The states, see "Clusters" in the design notes.
const (
	StateStarting   State = iota // not probed successfully yet: gets no traffic
	StateHealthy                 // serves
	StateDegraded                // serves, but at least half of the turns of the last 30 s failed
	StateFailed                  // circuit open, or refused: another system, an older primary
	StateRecovering              // circuit half-open: serves a few trial requests
	StateLagging                 // too far behind the primary, or still on its old timeline
	StateDraining                // leaving, or drained: no new reads
	stateCount
)

// String returns the state as it stands in metrics and logs.
func (s State) String() string {
	switch s {
	case StateStarting:
		return "starting"
	case StateHealthy:
		return "healthy"
	case StateDegraded:
		return "degraded"
	case StateFailed:
		return "failed"
	case StateRecovering:
		return "recovering"
	case StateLagging:
		return "lagging"
	case StateDraining:
		return "draining"
	case stateCount:
	}
	return "unknown"
}

// Topology is an immutable picture of a cluster. Sessions read it once per
// statement with [Cluster.Topology]; nobody changes it or what it points to.
type Topology struct {
	// Members are the backends by name, those that are draining included.
	Members []*Member

	// Primary is the member that takes writes; nil when there is none now.
	Primary *Member

	// Version counts the changes that matter to routing: members, roles, states
	// and fitness. It does not move when only scores and lag do.
	Version uint64
}

// Member returns the member of that name, nil when there is none.
func (t *Topology) Member(name string) *Member {
	for _, m := range t.Members {
		if m.Backend.name == name {
			return m
		}
	}
	return nil
}

// Member is a backend as it was when the topology was made.
type Member struct {
	// Backend is the living object behind the member.
	Backend *Backend

	Role  Role
	State State

	// Origin is who named the backend. Leaving tells that nobody does any more: it
	// finishes what runs on it.
	Origin  Origin
	Leaving bool

	// Reason says in words why the member is not fit, or what is wrong with it;
	// empty when all is well. It is for people.
	Reason string

	// Fit tells whether the member is a read candidate: a replica on the
	// primary's timeline whose circuit is not open and that is not starting,
	// lagging or draining. The primary is not Fit: routing falls back to it.
	Fit bool

	// Up tells whether the last probe was answered.
	Up bool

	// Score is the health from 0 (worst) to 1, Parts what it is made of.
	Score float64
	Parts Parts

	// Circuit is the state of the circuit breaker.
	Circuit CircuitState

	// Latency is the moving average of the time to the first reply byte; 0
	// while unknown.
	Latency time.Duration

	// LagBytes is the WAL between the primary's insert position and what the
	// replica has replayed, at the time the replica was asked. LagTime is the
	// age of the last transaction it replayed, 0 while LagBytes is.
	LagBytes int64
	LagTime  time.Duration

	// Weight is the configured weight, reduced while a slow start lasts.
	Weight float64

	// Priority is the configured one: policy first takes the lowest.
	Priority int

	// Timeline, SystemID and Incarnation identify the history the server is on,
	// the database system, and the life of its postmaster (its start time).
	Timeline    uint32
	SystemID    uint64
	Incarnation string
}

// Parts are the parts of a health score, each from 0 to 1.
type Parts struct {
	Errors, Latency, Circuit float64
}

// alike tells whether two topologies mean the same for routing.
func (t *Topology) alike(o *Topology) bool {
	if len(t.Members) != len(o.Members) || (t.Primary == nil) != (o.Primary == nil) {
		return false
	}
	if t.Primary != nil && t.Primary.Backend != o.Primary.Backend {
		return false
	}
	for i, m := range t.Members {
		p := o.Members[i]
		if m.Backend != p.Backend || m.Role != p.Role || m.State != p.State || m.Fit != p.Fit ||
			m.Timeline != p.Timeline || m.Incarnation != p.Incarnation || m.Priority != p.Priority {
			return false
		}
	}
	return true
}
