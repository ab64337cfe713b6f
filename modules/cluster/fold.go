package cluster

import (
	"context"
	"errors"
	"maps"
	"slices"
	"syscall"

	"go.uber.org/zap"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// entry is what the loop knows of one backend.
type entry struct {
	backend  *Backend
	endpoint Endpoint
	origin   Origin
	stop     context.CancelFunc // of the monitor

	facts    facts  // of the last answer
	known    bool   // there was one
	trusted  bool   // and it holds
	reported bool   // a probe has ended
	answered bool   // the last probe was answered since the last refresh
	fails    int    // probes in a row that speak against the server
	problem  string // why the last probe failed
	okAt     Mark   // when the last answer came

	lag         int64
	lagging     bool
	measured    bool         // lag was known once
	settled     bool         // it was the primary, or a replica that is no newcomer, once
	proven      bool         // the last backend of that name was settled, and this one may be it
	rival       bool         // it was no standby beside a primary that is none of the source's making
	past        *memory      // of the last backend of that name, nil: there was none
	circuit     CircuitState // at the last refresh
	weightSince Mark         // begin of the slow start; 0: full weight

	leftAt Mark // when it began to leave; 0: it has not
}

// fold takes the outcome of a probe in.
func (r *run) fold(o outcome) {
	e := r.entries[o.b.name]
	if e == nil || e.backend != o.b {
		return
	}
	e.reported = true
	if o.err != nil {
		r.foldFailure(e, o.err)
		return
	}
	b, s := e.backend, r.settings
	e.fails, e.problem = 0, ""
	e.okAt, e.answered = Now(), true
	b.suspects.Store(0)
	b.circuit.probe(s.Breaker, 0, 0, 0)
	b.score.probe(e.okAt, o.took, s.Health.HalfLife)
	f := o.facts
	if e.known {
		r.foldDefaults(e, e.facts.defaults, f.defaults)
	}
	switch {
	case !e.known && (e.past == nil || e.past.incarnation == ""):
		// Until a server answers for the first time it was not there yet: a replica that
		// is being made, mostly. That speaks against nobody.
		b.circuit.reset(s.Breaker.Recovery())
	case !e.known && e.past.incarnation != f.incarnation:
		b.circuit.restarted(s.Breaker.Recovery())
	case e.known && f.incarnation != e.facts.incarnation:
		r.c.logger().Info("backend was restarted", zap.String("cluster", r.c.name), zap.String("backend", b.name))
		b.set.Retire()
		b.circuit.restarted(s.Breaker.Recovery())
	case e.known && f.at.recovery != e.facts.at.recovery:
		b.set.Retire()
	case e.known && f.at.recovery:
		// A standby between two receivers shows an older timeline, never a newer.
		f.timeline = max(f.timeline, e.facts.timeline)
	}
	if !e.known {
		e.proven = e.past.proves(&f)
	}
	e.rival = e.rival && !f.at.recovery
	if !e.trusted {
		r.c.logger().Info("backend answers", zap.String("cluster", r.c.name), zap.String("backend", b.name),
			zap.Bool("in_recovery", f.at.recovery), zap.Uint32("timeline", f.timeline))
	}
	e.facts, e.known, e.trusted = f, true, true
}

// foldFailure takes a probe without an answer in. What does not speak against
// the server itself (a refused login, too many connections) leaves its last
// answer in force for a while.
func (r *run) foldFailure(e *entry, err error) {
	b, s := e.backend, r.settings
	b.metrics.probeFailures.Inc()
	if e.problem == "" {
		r.c.logger().Warn("backend does not answer the probe", zap.String("cluster", r.c.name),
			zap.String("backend", b.name), zap.Error(err))
	}
	e.problem = err.Error()
	if !probeFailed(err) {
		return
	}
	e.fails++
	failed, total := b.score.errors(Now(), s.Health.Window)
	b.circuit.probe(s.Breaker, 1+int(b.suspects.Swap(0)), failed, total)
	if !e.facts.at.recovery && (isRefusal(err) || e.fails >= s.Monitor.DownAfter) {
		e.trusted = false
	}
}

// probeFailed tells whether an unanswered probe speaks against the server:
// everything but an SQLSTATE that does not.
func probeFailed(err error) bool {
	var pg *pgwire.Error
	if errors.As(err, &pg) {
		return failureCodes[pg.Code] || pg.Code == codeAdminShutdown
	}
	return true
}

// isRefusal tells whether the server, or the system it ran on, said itself that
// it does not serve.
func isRefusal(err error) bool {
	var pg *pgwire.Error
	return errors.As(err, &pg) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT)
}

// expire stops trusting an answer that is too old.
func (e *entry) expire(now Mark, s *MonitorSettings) {
	if e.trusted && e.problem != "" && now.Sub(e.okAt) > s.Stale {
		e.trusted = false
	}
}

// closed tells whether a leaving entry can be forgotten: nothing is in use any
// more, or the drain timeout has passed. It begins to close it then.
func (r *run) closed(e *entry) bool {
	inUse := e.backend.inFlight.Load() > 0
	for _, p := range e.backend.set.Stats() {
		inUse = inUse || p.InUse > 0
	}
	if inUse && e.leftAt.Since() < r.settings.DrainTimeout {
		return false
	}
	r.wg.Go(e.backend.shut)
	return true
}

// refresh makes the topology anew.
func (r *run) refresh() {
	now := Now()
	names := slices.Sorted(maps.Keys(r.entries))
	candidates := make([]candidate, len(names))
	for i, name := range names {
		e := r.entries[name]
		candidates[i] = candidate{
			name: name, facts: e.facts, trusted: e.trusted, reported: e.reported,
			found: e.endpoint.found, newcomer: e.stranger(), rival: e.rival,
		}
	}
	d := r.roles.decide(candidates)
	r.followPrimary(r.entries[d.primary])

	t := &Topology{Members: make([]*Member, 0, len(names)+len(r.leaving))}
	for _, name := range names {
		e := r.entries[name]
		m := r.member(e, d, now)
		t.Members = append(t.Members, m)
		if m.Role == RolePrimary {
			t.Primary = m
		}
	}
	for _, e := range r.leaving {
		if r.entries[e.backend.name] == nil {
			t.Members = append(t.Members, r.member(e, d, now))
		}
	}
	slices.SortFunc(t.Members, func(a, b *Member) int { return compareNames(a.Backend, b.Backend) })
	r.markLast(t)
	r.established = r.established || t.Primary != nil
	r.alarm("several primaries", d.tie, "several primaries on the same timeline: none is taken, stop all but one")
	for _, m := range t.Members {
		name := m.Backend.name
		r.alarm("backend "+name+" is refused", m.Role == RoleRefused && !d.tie, "backend is refused: "+m.Reason, zap.String("backend", name))
	}
	r.notePrimary(t)
	r.hurry(t.Primary == nil)
	r.c.publish(t)
}
