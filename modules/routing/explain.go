package routing

import (
	"math"

	"github.com/fairwaydb/fairway/modules/catalog"
	"github.com/fairwaydb/fairway/modules/cluster"
)

// Explanation is a choice with everything that led to it.
type Explanation struct {
	Choice Choice
	// Err is ErrNoPrimary or ErrNoReplica when nothing could be chosen.
	Err error
	// Verdict is what the schema adds to the statement's wording, Name the function, relation, operator or type that
	// decided; both are empty when the wording says enough.
	Verdict catalog.Verdict
	Name    string
	// Candidates are all members by name.
	Candidates []Candidate
}

// Candidate is a member as it stands for one statement.
type Candidate struct {
	Member *cluster.Member
	// Eligible: it may be chosen. Why says why not.
	Eligible bool
	Why      string
	// Value is what the policy compares, 0 when it compares nothing.
	Value float64
}

// valuer is a policy that compares values.
type valuer interface {
	value(m *cluster.Member) float64
}

// Explain is [Pick] with its reasons. Policies that draw lots draw anew: the next choice may be another.
func Explain(c *cluster.Cluster, t *cluster.Topology, r *Request) *Explanation {
	e := new(Explanation)
	e.Choice, e.Err = Pick(c, t, r)
	if r.Class != nil && r.Class.MaybeRead() {
		e.Verdict, e.Name = r.Facts.Explain(r.Class)
	}
	policy := policyOf(c)
	reads := e.Choice.Member == nil || e.Choice.Member != t.Primary || e.Choice.Reason == ReasonOwnWrite ||
		e.Choice.Reason == ReasonStrong || e.Choice.Reason == ReasonNoReplica
	for _, m := range t.Members {
		candidate := Candidate{Member: m, Eligible: true}
		switch {
		case m == t.Primary && reads && e.Choice.Member != m:
			candidate.Eligible, candidate.Why = false, "the primary serves reads only when no replica can"
		case m == t.Primary:
		case !reads:
			candidate.Eligible, candidate.Why = false, "the statement needs the primary"
		case !m.Fit && m.Reason != "":
			candidate.Eligible, candidate.Why = false, m.Reason
		case !m.Fit:
			candidate.Eligible, candidate.Why = false, m.State.String()
		case r.Consistency == cluster.ConsistencyStrong:
			candidate.Eligible, candidate.Why = false, "consistency is strong"
		case !r.suits(m.Backend):
			candidate.Eligible, candidate.Why = false, "it has not replayed what the session must see"
		}
		if v, ok := policy.(valuer); ok && m != t.Primary {
			if value := v.value(m); !math.IsInf(value, 0) && !math.IsNaN(value) {
				candidate.Value = value
			}
		}
		e.Candidates = append(e.Candidates, candidate)
	}
	return e
}

// policyOf returns the policy in force.
func policyOf(c *cluster.Cluster) Policy {
	if p, ok := c.Policy().(Policy); ok {
		return p
	}
	return defaultPolicy
}
