package cluster

import "slices"

// roles decides which backend is what. It keeps what outlives one decision: the
// system the cluster belongs to and the timeline of its last primary.
type roles struct {
	systemID uint64 // 0: not agreed yet; kept until the cluster's last claim is released
	timeline uint32 // of the last primary, 0: there was none
}

// candidate is what roles know of one backend.
type candidate struct {
	name     string
	facts    facts // as last seen; zero before the first answer
	trusted  bool  // they hold now
	reported bool  // at least one probe has ended, answered or not
	found    bool  // at run time: the configuration does not name it
	newcomer bool  // found, no standby, and neither a standby nor the primary of this cluster before
	rival    bool  // a newcomer that was seen beside the primary: it is a copy
}

// decision is the outcome for one moment.
type decision struct {
	primary  string // "": none
	timeline uint32 // replicas on it are candidates; 0: none is known yet
	tie      bool   // several primaries on the highest timeline: none was taken
	holder   string // keeps newcomers from being the primary, "": nobody does
	waiting  bool   // newcomers have to wait until all have been asked once
}

// decide chooses the primary among the candidates, which are sorted by name.
func (r *roles) decide(candidates []candidate) decision {
	if r.systemID == 0 {
		r.systemID = agree(candidates)
	}
	if r.systemID == 0 {
		return decision{}
	}
	d := decision{waiting: slices.ContainsFunc(candidates, func(c candidate) bool { return !c.reported })}
	d.holder = r.holder(candidates)
	var highest, replicas uint32
	known := false // somebody configured is, or was last seen, on the last primary's timeline
	for i := range candidates {
		c := &candidates[i]
		known = known || (!c.rival && c.facts.systemID == r.systemID && c.facts.timeline >= r.timeline)
		if !c.trusted || c.facts.systemID != r.systemID {
			continue
		}
		if c.facts.at.recovery {
			replicas = max(replicas, c.facts.timeline)
			continue
		}
		if c.newcomer && (c.rival || d.waiting || d.holder != "") {
			continue
		}
		switch {
		case d.primary == "" && !d.tie, c.facts.timeline > highest:
			highest, d.primary, d.tie = c.facts.timeline, c.name, false
		case c.facts.timeline == highest:
			d.primary, d.tie = "", true
		}
	}
	// A primary behind one that was there before is an old one that came back:
	// the timelines of a system only grow. It is taken once nobody of the newer
	// timeline is part of the cluster any more.
	if !known {
		r.timeline = 0
	}
	if d.primary != "" && highest < r.timeline {
		d.primary = ""
	}
	if d.primary != "" {
		r.timeline = highest
	}
	d.timeline = r.timeline
	if d.timeline == 0 {
		d.timeline = replicas // no primary was ever seen: the newest replicas serve reads
	}
	return d
}

// holder names a backend that is no newcomer and is the primary, or was when it
// answered last, or may be because it is configured and has never answered: beside
// it a newcomer that is no standby is a copy, whatever its timeline.
func (r *roles) holder(candidates []candidate) (name string) {
	for i := range candidates {
		c := &candidates[i]
		switch {
		case c.newcomer || c.facts.at.recovery:
		case c.facts.systemID == r.systemID && c.facts.timeline >= r.timeline:
			if c.trusted {
				return c.name
			}
			name = c.name
		case c.facts.systemID == 0 && !c.found && name == "":
			name = c.name
		}
	}
	return name
}

// voters are the candidates that decide which system the cluster is: those that the
// configuration names, or all when none of these answers.
func voters(candidates []candidate) []candidate {
	var configured []candidate
	wait := false
	for i := range candidates {
		if c := &candidates[i]; !c.found {
			configured = append(configured, *c)
			wait = wait || c.trusted || !c.reported
		}
	}
	if wait {
		return configured
	}
	return candidates
}

// agree returns the system that most of the backends that answered belong to, on
// a tie that of the first by name. Before all have answered or failed to, only
// the majority of all backends decides: one stray server that answers first must
// not become the cluster.
func agree(candidates []candidate) uint64 {
	candidates = voters(candidates)
	count := make(map[uint64]int)
	all := true
	for i := range candidates {
		all = all && candidates[i].reported
		if candidates[i].trusted {
			count[candidates[i].facts.systemID]++
		}
	}
	var best uint64
	for i := range candidates {
		if c := &candidates[i]; c.trusted && (best == 0 || count[c.facts.systemID] > count[best]) {
			best = c.facts.systemID
		}
	}
	if best == 0 || (!all && 2*count[best] <= len(candidates)) {
		return 0
	}
	return best
}

// lagging tells whether a replica is too far behind: from MaxLag on, until it is
// back at LagResume.
func lagging(was bool, lag int64, s *Settings) bool {
	switch {
	case s.MaxLag <= 0:
		return false
	case was:
		return lag > s.LagResume
	}
	return lag > s.MaxLag
}

// situation is everything that a member's state depends on.
type situation struct {
	facts    facts
	known    bool // the backend was probed successfully at least once
	trusted  bool // and the answer still holds
	problem  string
	leaving  bool
	lagging  bool
	drain    bool
	drained  bool // by an operator
	newcomer bool // found, and does not stream from the primary, or it is not known how far it is
	stranger bool // found, and no standby: see candidate.newcomer
	rival    bool
	degraded bool
	circuit  CircuitState
	systemID uint64
	decision decision
	primary  bool
}

// verdict is what a member is.
type verdict struct {
	role   Role
	state  State
	reason string
	fit    bool
}

// judge derives role, state and fitness. The first rule that applies decides.
func (s *situation) judge() verdict {
	v := verdict{role: s.role()}
	switch {
	case s.leaving:
		v.state, v.reason = StateDraining, "removed: no new leases, closing what is released"
		if v.role == RoleRefused {
			v.role = RoleUnknown
		}
	case v.role == RolePrimary:
		// The circuit does not gate the primary, and it is no read candidate.
		v.state, v.reason = s.health()
	case s.circuit == CircuitOpen:
		v.state, v.reason = StateFailed, "circuit open"
		if s.problem != "" {
			v.reason += ": " + s.problem
		}
	case !s.known:
		v.state, v.reason = StateStarting, "not probed successfully yet"
		if s.problem != "" {
			v.reason += ": " + s.problem
		}
	case !s.trusted:
		v.state, v.reason = StateFailed, "no answer: "+s.problem
	case s.systemID == 0:
		v.state, v.reason = StateStarting, "waiting for the other backends to tell which system the cluster is"
	case s.facts.systemID != s.systemID:
		v.state, v.reason = StateFailed, "belongs to another database system"
	case s.asking():
		v.state, v.reason = StateStarting, "found as a primary: waiting for the other backends to be asked"
	case v.role == RoleRefused && s.stranger && s.decision.holder != "":
		v.state, v.reason = StateFailed, "found as a primary beside "+s.decision.holder+": make it a standby, or take it away"
	case v.role == RoleRefused && s.rival:
		v.state, v.reason = StateFailed, "was found as a primary beside another: make it a standby, or name it in the configuration"
	case v.role == RoleRefused && s.decision.tie:
		v.state, v.reason = StateFailed, "several primaries on the same timeline: stop all but one"
	case v.role == RoleRefused:
		v.state, v.reason = StateFailed, "primary on an older timeline: make it a standby of the new primary"
	case s.facts.timeline == 0 || s.facts.timeline != s.decision.timeline:
		v.state, v.reason = StateLagging, "on another timeline than the primary"
	case s.drained:
		v.state, v.reason = StateDraining, "drained by the admin API: gets no new reads until it is resumed"
	case s.drain:
		v.state, v.reason = StateDraining, "drained: gets no new reads"
	case s.newcomer && s.decision.primary != "":
		v.state, v.reason = StateStarting, "found, but it does not stream from the primary yet"
	case s.lagging:
		v.state, v.reason = StateLagging, "too far behind the primary"
	default:
		v.state, v.reason = s.health()
		v.fit = true
	}
	return v
}

// role is what the facts make of the backend.
func (s *situation) role() Role {
	switch {
	case !s.trusted || s.systemID == 0:
		return RoleUnknown
	case s.facts.systemID != s.systemID:
		return RoleRefused
	case s.facts.at.recovery:
		return RoleReplica
	case s.primary:
		return RolePrimary
	case s.asking():
		return RoleUnknown
	}
	return RoleRefused
}

// asking tells whether the backend may turn out to be the primary once the others
// have been asked.
func (s *situation) asking() bool {
	return s.trusted && s.systemID != 0 && s.facts.systemID == s.systemID && s.stranger && !s.rival &&
		s.decision.waiting && s.decision.holder == ""
}

// health is the state of a member that serves, and what is wrong with it.
func (s *situation) health() (State, string) {
	switch {
	case s.circuit == CircuitOpen:
		return StateFailed, "circuit open, which does not gate the primary"
	case s.circuit == CircuitHalfOpen:
		return StateRecovering, "circuit half-open: trial requests only"
	case s.degraded:
		return StateDegraded, "many turns fail"
	}
	return StateHealthy, s.problem
}
