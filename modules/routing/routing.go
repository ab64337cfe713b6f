// Package routing decides which backend runs a statement. It owns no state of
// its own but that of the policies, waits for nothing and talks to nobody: it
// joins what a statement does (pgsql, catalog) with what is known of the backends
// (cluster) and returns a choice with its reason. Session calls it, once for each
// lease.
//
// The rule behind all choices: when in doubt, the primary.
package routing

import (
	"errors"

	"github.com/fairwaydb/fairway/modules/catalog"
	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgsql"
)

var (
	// ErrNoPrimary tells that the request needs the primary and there is none
	// now, or it was tried already. The session waits for [cluster.Cluster.Changed]
	// up to failover_wait.
	ErrNoPrimary = errors.New("cluster has no primary")

	// ErrNoReplica tells that the request must run on a replica and none is fit:
	// all are out, lagging, tried already, or behind the session's own writes.
	ErrNoReplica = errors.New("cluster has no fit replica")
)

// Target says where statements run, whatever they do.
type Target uint8

// The targets.
const (
	TargetAuto    Target = iota // by what the statement does: the default
	TargetPrimary               // always on the primary
	TargetReplica               // always on a replica
)

// String returns the word of the configuration and of fairway.route.
func (t Target) String() string {
	switch t {
	case TargetPrimary:
		return "primary"
	case TargetReplica:
		return "replica"
	case TargetAuto:
	}
	return "auto"
}

// ParseTarget reads the word of the configuration and of fairway.route.
func ParseTarget(s string) (Target, bool) {
	switch s {
	case "auto":
		return TargetAuto, true
	case "primary":
		return TargetPrimary, true
	case "replica":
		return TargetReplica, true
	}
	return TargetAuto, false
}

// Request is what a session asks for. It is the session's and is used again for
// its next statement, so that a choice allocates nothing.
type Request struct {
	// Class is what the statement does, nil when nothing is known: primary.
	Class *pgsql.Class

	// Facts are what the schema of the session's database adds to the class, nil when
	// nothing is known yet.
	Facts *catalog.Facts

	// Route overrides the class: the listener says so.
	Route Target

	// Strict tells that a route to a replica does not fall back to the primary:
	// more than this statement is to run there.
	Strict bool

	// Hint overrides the class where Route does not: the client says so. Reads fall
	// back to the primary as others do; what is no read has the replica or nothing.
	Hint Target

	// Mark is when the session's last turn that may have written ended, 0 when it
	// has not written. ExactFlush tells that those turns waited for their commit
	// to be flushed, see [cluster.Backend.CaughtUp].
	Mark       cluster.Mark
	ExactFlush bool

	// Consistency is what reads may miss. Strong ones run on the primary: a replica
	// may show a commit that the primary does not show yet.
	Consistency cluster.Consistency

	// MinLSN is the position that reads must have, whatever Consistency says; 0: any.
	MinLSN cluster.LSN

	// ExplicitTx tells that the statement opens or continues an explicit
	// transaction, ReadOnlyTx that this transaction is read only.
	ExplicitTx, ReadOnlyTx bool

	// Tried are the backends that could not be reached for this statement: they
	// are not chosen again.
	Tried []*cluster.Backend

	// Scratch is working memory of Pick, grown at need.
	Scratch []*cluster.Member
}

// Choice is where a statement runs, and why.
type Choice struct {
	Member *cluster.Member
	Reason Reason
}

// demander is the part of a cluster that Pick acts on.
type demander interface{ Demand() }

// Pick chooses the backend for a request. The error is [ErrNoPrimary] or
// [ErrNoReplica]. Pick never blocks and, once r.Scratch has grown, never
// allocates; it is safe for concurrent use with different requests.
func Pick(c *cluster.Cluster, t *cluster.Topology, r *Request) (Choice, error) {
	return pick(c, policyOf(c), t, r)
}

// pick is Pick for a policy.
func pick(c demander, policy Policy, t *cluster.Topology, r *Request) (Choice, error) {
	switch r.Route {
	case TargetPrimary:
		return primary(t, r, ReasonRoute)
	case TargetReplica:
		return replica(c, policy, t, r)
	case TargetAuto:
	}
	switch r.Hint {
	case TargetPrimary:
		return primary(t, r, ReasonRoute)
	case TargetReplica:
		return hinted(c, policy, t, r)
	case TargetAuto:
	}
	reason := reasonOf(r)
	if !reason.reads() {
		return primary(t, r, reason)
	}
	return read(c, policy, t, r, reason)
}

// primary chooses the primary for a reason.
func primary(t *cluster.Topology, r *Request, reason Reason) (Choice, error) {
	if t.Primary == nil || r.tried(t.Primary.Backend) {
		return Choice{}, ErrNoPrimary
	}
	return Choice{Member: t.Primary, Reason: reason}, nil
}

// read chooses among the replicas and falls back to the primary.
func read(c demander, policy Policy, t *cluster.Topology, r *Request, reason Reason) (Choice, error) {
	fit := r.candidates(t)
	switch {
	case len(r.Scratch) > 0:
		return Choice{Member: one(policy, r.Scratch), Reason: reason}, nil
	case fit > 0:
		return primary(t, r, r.behind(c))
	case !fallsBack(policy):
		return Choice{}, ErrNoReplica
	}
	return primary(t, r, ReasonNoReplica)
}

// replica chooses among the replicas because the route says so. Only a plain
// read, or one in a read only transaction, falls back to the primary: nothing
// that could write runs there.
func replica(c demander, policy Policy, t *cluster.Topology, r *Request) (Choice, error) {
	fit := r.candidates(t)
	if len(r.Scratch) > 0 {
		return Choice{Member: one(policy, r.Scratch), Reason: ReasonRoute}, nil
	}
	reason := ReasonNoReplica
	switch {
	case r.Strict, fit == 0 && !fallsBack(policy):
		return Choice{}, ErrNoReplica
	case fit > 0:
		reason = r.behind(c)
	}
	if !reasonOf(r).reads() {
		return Choice{}, ErrNoReplica
	}
	return primary(t, r, reason)
}

// hinted chooses among the replicas because the client says so.
func hinted(c demander, policy Policy, t *cluster.Topology, r *Request) (Choice, error) {
	if r.Class != nil && (r.Class.MaybeRead() || r.ReadOnlyTx) {
		return read(c, policy, t, r, ReasonRoute)
	}
	// The replica decides about what is no read: most likely it refuses.
	consistency, minLSN := r.Consistency, r.MinLSN
	r.Consistency, r.MinLSN = cluster.ConsistencyEventual, 0
	r.candidates(t)
	r.Consistency, r.MinLSN = consistency, minLSN
	if len(r.Scratch) == 0 {
		return Choice{}, ErrNoReplica
	}
	return Choice{Member: one(policy, r.Scratch), Reason: ReasonRoute}, nil
}

// one lets the policy choose where there is a choice.
func one(policy Policy, candidates []*cluster.Member) *cluster.Member {
	if len(candidates) == 1 {
		return candidates[0]
	}
	return policy.Select(candidates)
}

// candidates collects in r.Scratch the members a read may run on, and returns how
// many there are besides their consistency.
func (r *Request) candidates(t *cluster.Topology) (fit int) {
	r.Scratch = r.Scratch[:0]
	for _, m := range t.Members {
		if !m.Fit || r.tried(m.Backend) {
			continue
		}
		fit++
		if r.suits(m.Backend) {
			r.Scratch = append(r.Scratch, m)
		}
	}
	return fit
}

// suits tells whether a replica has what the request must see.
func (r *Request) suits(b *cluster.Backend) bool {
	switch r.Consistency {
	case cluster.ConsistencyStrong:
		return false
	case cluster.ConsistencySession:
		if !b.CaughtUp(r.Mark, r.ExactFlush) {
			return false
		}
	case cluster.ConsistencyEventual:
	}
	return b.Replayed(r.MinLSN)
}

// behind asks for a sample that the replicas can catch up with, and returns why
// they cannot serve now.
func (r *Request) behind(c demander) Reason {
	if r.Consistency == cluster.ConsistencyStrong {
		return ReasonStrong
	}
	c.Demand()
	return ReasonOwnWrite
}

func (r *Request) tried(b *cluster.Backend) bool {
	for _, t := range r.Tried {
		if t == b {
			return true
		}
	}
	return false
}
