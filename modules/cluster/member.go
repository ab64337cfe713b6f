package cluster

import (
	"strings"
	"time"

	"go.uber.org/zap"
)

// member pictures an entry.
func (r *run) member(e *entry, d decision, now Mark) *Member {
	b, health := e.backend, &r.settings.Health
	primary := d.primary == b.name && e.leftAt == 0
	circuit := b.circuit.State()
	if primary && e.answered && circuit != CircuitClosed {
		b.circuit.reset(r.settings.Breaker.Recovery())
		circuit = b.circuit.State()
	}
	r.noteCircuit(e, circuit, now)
	e.answered = false
	if e.facts.at.recovery {
		if lag, ok := r.wal.lag(&e.facts.at); ok {
			e.lag, e.measured = lag, true
		}
		if e.measured {
			e.lagging = lagging(e.lagging, e.lag, r.settings)
		}
	} else if e.known {
		e.lag, e.lagging = 0, false
	}
	failed, total := b.score.errors(now, health.Window)
	latency := b.score.latency()
	sit := situation{
		facts: e.facts, known: e.known, trusted: e.trusted, problem: e.problem,
		leaving: e.leftAt != 0, lagging: e.lagging && e.measured, drain: e.endpoint.Drain, drained: e.endpoint.drained, newcomer: e.newcomer(),
		stranger: e.stranger(), rival: e.rival,
		degraded: failed > 0 && float64(failed) >= health.DegradedAt*float64(total),
		circuit:  circuit, systemID: r.roles.systemID, decision: d, primary: primary,
	}
	v := sit.judge()
	e.settled = e.settled || v.fit || v.role == RolePrimary || (v.role == RoleReplica && !e.newcomer())
	e.rival = e.rival || (v.role == RoleRefused && sit.stranger && e.facts.systemID == r.roles.systemID && d.primary != "")
	b.primary.Store(v.role == RolePrimary)
	parts := health.parts(failed, total, latency, circuit)
	m := &Member{
		Backend: b, Role: v.role, State: v.state, Reason: v.reason, Fit: v.fit,
		Origin: e.origin, Leaving: e.leftAt != 0,
		Up:    e.trusted && e.problem == "",
		Score: health.score(parts), Parts: parts, Circuit: circuit, Latency: latency,
		LagBytes: e.lag, Weight: e.weight(health, now), Priority: e.endpoint.Priority,
		Timeline: e.facts.timeline, SystemID: e.facts.systemID, Incarnation: e.facts.incarnation,
	}
	if e.lag > 0 {
		m.LagTime = max(e.facts.replayAge, 0)
	}
	r.tellSampler(e, v)
	return m
}

// noteCircuit logs a move of the circuit; a closed one begins the slow start.
func (r *run) noteCircuit(e *entry, now CircuitState, at Mark) {
	if now == e.circuit {
		return
	}
	level := zap.InfoLevel
	if now == CircuitOpen {
		level = zap.WarnLevel
	}
	r.c.logger().Log(level, "circuit moved", zap.String("cluster", r.c.name), zap.String("backend", e.backend.name),
		zap.Stringer("from", e.circuit), zap.Stringer("to", now))
	if now == CircuitClosed {
		e.weightSince = at
	}
	e.circuit = now
}

// weight is the configured weight, reduced while the slow start lasts.
func (e *entry) weight(h *HealthSettings, now Mark) float64 {
	w := orDefault(e.endpoint.Weight, 1)
	if e.weightSince == 0 {
		return w
	}
	part := h.slowStart(now.Sub(e.weightSince))
	if part >= 1 {
		e.weightSince = 0
	}
	return w * part
}

// tellSampler keeps the sampler's picture of a replica.
func (r *run) tellSampler(e *entry, v verdict) {
	if e.leftAt == 0 && v.role == RoleReplica {
		r.c.sampler.replica(e.backend, &e.facts, v.fit)
	} else {
		r.c.sampler.forget(e.backend)
	}
}

// followPrimary keeps what is derived from the primary's WAL: the samples and
// the positions lag is measured against.
func (r *run) followPrimary(e *entry) {
	if e == nil {
		r.c.sampler.follow(nil, "", 0)
		return
	}
	if d := e.facts.defaults; d != nil {
		r.c.defaults.Store(d)
	}
	r.c.sampler.follow(e.backend.monitor.Load(), e.facts.incarnation, e.facts.timeline)
	r.c.sampler.sampled(e.backend, e.facts.incarnation, e.facts.at, false)
	r.wal.add(e.backend, &e.facts)
}

// markLast tells the circuit of the last fit candidate that it is the last:
// latency and error rates alone must not take it out.
func (r *run) markLast(t *Topology) {
	fit := 0
	for _, m := range t.Members {
		if m.Fit {
			fit++
		}
	}
	for _, m := range t.Members {
		m.Backend.circuit.last.Store(m.Fit && fit == 1)
	}
}

// hurry makes the monitors probe at the fast interval while there is no primary.
func (r *run) hurry(on bool) {
	if r.c.hurry.Swap(on) || !on {
		return
	}
	for _, e := range r.entries {
		e.backend.wake()
	}
}

// notePrimary logs and counts changes of the primary.
func (r *run) notePrimary(t *Topology) {
	var now *Backend
	if t.Primary != nil {
		now = t.Primary.Backend
	}
	l := r.c.logger().With(zap.String("cluster", r.c.name))
	switch {
	case now == nil && r.lastPrimary != nil && r.lostAt == 0:
		r.lostAt = Now()
		l.Warn("no primary", zap.String("backend", r.lastPrimary.name))
	case now == nil, now == r.lastPrimary && r.lostAt == 0:
	default:
		var took time.Duration
		if r.lostAt != 0 {
			took = r.lostAt.Since()
		}
		switch {
		case r.lastPrimary == nil:
			l.Info("primary found", zap.String("backend", now.name))
		case r.lastPrimary == now:
			l.Info("primary is back", zap.String("backend", now.name), zap.Duration("duration", took))
			r.c.metrics.outages.Observe(took.Seconds())
		default:
			l.Warn("new primary", zap.String("backend", now.name), zap.Uint32("timeline", t.Primary.Timeline),
				zap.Duration("duration", took))
			r.c.metrics.failovers.Inc()
			r.c.metrics.outages.Observe(took.Seconds())
		}
		r.lastPrimary, r.lostAt = now, 0
	}
}

// alarm logs a condition that an operator must end, once when it begins and once
// when it is over.
func (r *run) alarm(name string, on bool, message string, fields ...zap.Field) {
	if r.alarms[name] == on {
		return
	}
	l := r.c.logger().With(zap.String("cluster", r.c.name)).With(fields...)
	if on {
		r.alarms[name] = true
		l.Error(message)
	} else {
		delete(r.alarms, name)
		l.Info("over: " + name)
	}
}

func compareNames(a, b *Backend) int { return strings.Compare(a.name, b.name) }

// walTrack remembers where the primary's WAL was at its last probes, so that a
// replica's position can be compared with the primary's of the same moment.
type walTrack struct {
	backend     *Backend
	incarnation string
	timeline    uint32
	points      []position // oldest first
}

// walPoints is how many probes of the primary are remembered.
const walPoints = 8

// add stores the primary's position of a probe.
func (w *walTrack) add(b *Backend, f *facts) {
	if w.backend != b || w.incarnation != f.incarnation || w.timeline != f.timeline {
		*w = walTrack{backend: b, incarnation: f.incarnation, timeline: f.timeline}
	}
	if n := len(w.points); n > 0 && w.points[n-1].sentAt >= f.at.sentAt {
		return
	}
	if len(w.points) == walPoints {
		w.points = append(w.points[:0], w.points[1:]...)
	}
	w.points = append(w.points, f.at)
}

// lag returns the bytes between the primary's insert position and what a replica
// had replayed, both at the time the replica was asked: the primary's position is
// interpolated between probes. It is not ok when no primary is known, or all that
// is remembered of it is younger.
func (w *walTrack) lag(replica *position) (bytes int64, ok bool) {
	for i := len(w.points) - 1; i >= 0; i-- {
		p := &w.points[i]
		if p.sentAt > replica.sentAt {
			continue
		}
		at := p.insert
		if i+1 < len(w.points) {
			next := &w.points[i+1]
			part := float64(replica.sentAt-p.sentAt) / float64(next.sentAt-p.sentAt)
			at += LSN(part * float64(next.insert-p.insert))
		}
		return max(0, int64(at)-int64(replica.replay)), true
	}
	return 0, false
}
