package cluster

import "time"

// A backend that has left is remembered by its name, so that one that comes back
// (a container that was restarted, and may have another address now) goes on with
// its circuit and its score.
const (
	memoryTime = time.Hour
	memorySize = 1000
)

// memory is what is kept of a backend that has left.
type memory struct {
	backend     *Backend
	incarnation string // empty: it was never probed
	settled     bool
	rival       bool
	standby     bool // when it answered last
	timeline    uint32
	at          Mark
}

// remember keeps what an entry was that leaves; the oldest memory gives way when
// there are too many.
func (r *run) remember(e *entry) {
	if len(r.past) >= memorySize {
		oldest := ""
		for name, m := range r.past {
			if oldest == "" || m.at < r.past[oldest].at {
				oldest = name
			}
		}
		delete(r.past, oldest)
	}
	r.past[e.backend.name] = &memory{
		backend: e.backend, incarnation: e.facts.incarnation, settled: e.settled || e.proven, rival: e.rival,
		standby: e.facts.at.recovery, timeline: e.facts.timeline, at: Now(),
	}
}

// recall makes a new entry go on where the last one of its name has ended.
func (r *run) recall(e *entry) {
	m := r.past[e.backend.name]
	if m == nil {
		return
	}
	delete(r.past, e.backend.name)
	e.past, e.rival = m, m.rival
	e.backend.score.inherit(&m.backend.score)
	e.circuit = e.backend.circuit.inherit(&m.backend.circuit)
}

// forget drops memories that are too old, and with them what operators have drained.
func (r *run) forget(now Mark) {
	for name, m := range r.past {
		if now.Sub(m.at) > memoryTime {
			delete(r.past, name)
		}
	}
	var gone []string
	for name := range r.overrides.drained {
		if r.entries[name] == nil && r.past[name] == nil {
			gone = append(gone, name)
		}
	}
	r.c.forgetDrained(gone)
}

// inherit makes a new circuit what another one was when it was left: an open
// circuit stays open, one that was recovering begins to recover anew. It returns
// the state.
func (c *circuit) inherit(o *circuit) CircuitState {
	o.mu.Lock()
	state, since, fails := o.State(), o.mu.since, o.turnFails.Load()
	o.mu.Unlock()
	if state == CircuitHalfOpen {
		state = CircuitOpen
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.Store(uint32(state))
	c.mu.since = since
	c.turnFails.Store(fails)
	return state
}

// inherit makes a new score what another one was.
func (s *score) inherit(o *score) {
	o.mu.Lock()
	ring, average, folded := o.mu.ring, o.mu.average, o.mu.folded
	o.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.ring, s.mu.average, s.mu.folded = ring, average, folded
}

// newcomer tells whether a backend that a source has found has still to show that
// it follows the primary: it streams, and how far behind it is is known. Once it
// has, it is judged as any other.
func (e *entry) newcomer() bool {
	return e.endpoint.found && !e.settled && (e.facts.at.timeline == 0 || !e.measured)
}

// proves tells whether a backend that comes back with these facts may be what it was:
// a standby that was promoted has a newer timeline, a copy has not.
func (m *memory) proves(f *facts) bool {
	return m != nil && m.settled && (!m.standby || f.timeline > m.timeline)
}

// stranger tells whether a backend that a source has found is no standby although it
// was never seen to be the primary, nor a standby before: it may be a copy.
func (e *entry) stranger() bool {
	return e.endpoint.found && !e.settled && !e.proven && !e.facts.at.recovery
}
