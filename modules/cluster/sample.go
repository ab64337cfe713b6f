package cluster

import (
	"sync"
	"sync/atomic"
)

// series tells which position of the primary a replica is compared with.
type series uint8

const (
	seriesFlush  series = iota // what the primary has flushed: exact for writers that waited for it
	seriesInsert               // what it has written at all
	seriesCount
)

// sample is a look at the primary's WAL: whatever a session was told before
// sentAt lies before flush (or, if it did not wait for the disk, before insert).
type sample struct {
	sentAt        Mark
	flush, insert LSN
}

// maxSamples bounds the history. When it is full every second sample of the
// older half goes: a replica far behind passes them more coarsely.
const maxSamples = 128

// sampler connects marks with WAL positions. Sessions that wait for their own
// writes call demand; the primary's monitor then takes a sample, and the
// replicas' monitors poll until they have replayed past it. Its lock is never
// taken by a session.
type sampler struct {
	wanted  atomic.Bool             // a sample is wanted and not yet begun
	primary atomic.Pointer[monitor] // who takes it

	mu struct {
		sync.Mutex
		incarnation string
		timeline    uint32
		history     []sample // of this incarnation of the primary, oldest first
		demanded    Mark     // when the newest demanded sample was asked for
		replicas    map[*Backend]replayed
	}
}

// replayed is what is known of a replica.
type replayed struct {
	m           *monitor
	incarnation string
	timeline    uint32
	sentAt      Mark // when it was asked
	at          LSN
	fit         bool
}

// demand asks for a new sample. It costs one atomic load while one is on its way.
func (s *sampler) demand() {
	if s.wanted.Load() || !s.wanted.CompareAndSwap(false, true) {
		return
	}
	if m := s.primary.Load(); m != nil {
		signal(m.wanted)
	}
}

// begin is called right before the primary is asked: who demands a sample from
// now on waits for the next.
func (s *sampler) begin() { s.wanted.Store(false) }

// follow tells who is primary now, nil for none. Samples of another primary, or
// of another life or timeline of the same, say nothing any more.
func (s *sampler) follow(m *monitor, incarnation string, timeline uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.primary.Load() == m && s.mu.incarnation == incarnation && s.mu.timeline == timeline {
		return
	}
	s.primary.Store(m)
	s.mu.incarnation, s.mu.timeline = incarnation, timeline
	s.mu.history, s.mu.demanded = nil, 0
	for b := range s.mu.replicas {
		b.forgetReplay()
	}
	if m != nil && s.wanted.Load() {
		signal(m.wanted)
	}
}

// replica tells what a probe found out about a replica, unless a later look at
// its position has told more. Another incarnation has proved nothing yet.
func (s *sampler) replica(b *Backend, f *facts, fit bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.replicas == nil {
		s.mu.replicas = make(map[*Backend]replayed)
	}
	r := s.mu.replicas[b]
	if r.incarnation != f.incarnation {
		b.forgetReplay()
		r = replayed{incarnation: f.incarnation}
	}
	r.m, r.fit = b.monitor.Load(), fit
	if w := b.wal.Load(); w == nil || *w != f.wal {
		sizes := f.wal
		b.wal.Store(&sizes)
	}
	if r.sentAt < f.at.sentAt {
		r.sentAt, r.timeline, r.at = f.at.sentAt, f.timeline, f.at.replay
	}
	s.mu.replicas[b] = r
	s.compare(b)
}

// forget drops a backend that is no replica (any more).
func (s *sampler) forget(b *Backend) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.mu.replicas[b]; ok {
		delete(s.mu.replicas, b)
		b.forgetReplay()
	}
}

// sampled stores a sample of the primary. One that was demanded makes the fit
// replicas that have not passed it yet be polled.
func (s *sampler) sampled(b *Backend, incarnation string, at position, demanded bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.primary.Load(); m == nil || m.b != b || s.mu.incarnation != incarnation {
		return
	}
	if n := len(s.mu.history); n > 0 && s.mu.history[n-1].sentAt >= at.sentAt {
		return
	}
	if len(s.mu.history) >= maxSamples {
		s.mu.history = thin(s.mu.history)
	}
	s.mu.history = append(s.mu.history, sample{sentAt: at.sentAt, flush: at.flush, insert: at.insert})
	if demanded {
		s.mu.demanded = at.sentAt
	}
	for b, r := range s.mu.replicas {
		if !s.compare(b) && r.fit && demanded {
			signal(r.m.polled)
		}
	}
}

// thin drops every second sample of the older half.
func thin(history []sample) []sample {
	half := len(history) / 2
	kept := history[:0]
	for i, h := range history {
		if i >= half || i%2 == 0 {
			kept = append(kept, h)
		}
	}
	return kept
}

// replayed notes a position of a replica seen between probes. It returns whether
// polling may end.
func (s *sampler) replayed(b *Backend, incarnation string, at position) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.mu.replicas[b]
	if !ok || r.incarnation != incarnation {
		return true
	}
	r.sentAt, r.at = at.sentAt, at.replay
	if at.timeline != 0 {
		r.timeline = at.timeline
	}
	s.mu.replicas[b] = r
	return s.compare(b) || !r.fit
}

// compare moves the marks a replica has caught up with and returns whether it
// has passed the newest demanded sample; mu is held. Positions on another timeline
// than the primary's prove nothing.
func (s *sampler) compare(b *Backend) bool {
	r := s.mu.replicas[b]
	if r.timeline != s.mu.timeline || r.timeline == 0 {
		b.forgetReplay()
		return false
	}
	b.replay.Store(uint64(r.at))
	flush, insert := Mark(b.caughtUp[seriesFlush].Load()), Mark(b.caughtUp[seriesInsert].Load())
	for i := len(s.mu.history) - 1; i >= 0; i-- {
		h := &s.mu.history[i]
		if h.sentAt <= insert {
			break // and flush is never behind insert
		}
		if h.flush <= r.at && h.sentAt > flush {
			flush = h.sentAt
		}
		if h.insert <= r.at {
			insert = h.sentAt
			break
		}
	}
	b.caughtUp[seriesFlush].Store(int64(flush))
	b.caughtUp[seriesInsert].Store(int64(insert))
	return insert >= s.mu.demanded
}

// forgetReplay takes back what the backend has proved.
func (b *Backend) forgetReplay() {
	for i := range b.caughtUp {
		b.caughtUp[i].Store(0)
	}
	b.replay.Store(0)
}
