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
	r.past[e.backend.name] = &memory{backend: e.backend, incarnation: e.facts.incarnation, at: Now()}
}

// recall makes a new entry go on where the last one of its name has ended.
func (r *run) recall(e *entry) {
	m := r.past[e.backend.name]
	if m == nil {
		return
	}
	delete(r.past, e.backend.name)
	e.before = m.incarnation
	e.backend.score.inherit(&m.backend.score)
	e.circuit = e.backend.circuit.inherit(&m.backend.circuit)
}

// forget drops memories that are too old.
func (r *run) forget(now Mark) {
	for name, m := range r.past {
		if now.Sub(m.at) > memoryTime {
			delete(r.past, name)
		}
	}
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
