package cluster

import (
	"math"
	"sync"
	"time"
)

// maxWindow bounds the error window: the ring has one bucket a second.
const maxWindow = 60 * time.Second

// foldInterval is how often the latencies of turns are folded into the moving
// average. Turns in between are averaged first, so that the half-life does not
// depend on their number.
const foldInterval = 100 * time.Millisecond

// score collects what the health score is made of: errors of the last seconds
// and a moving average of the time to the first reply byte. A turn takes its
// lock once, for some ten nanoseconds.
type score struct {
	mu struct {
		sync.Mutex
		ring [maxWindow / time.Second]bucket

		average  float64 // seconds; negative: unknown
		folded   Mark    // when average was last moved; 0: it is unknown
		sum      float64 // seconds, of the latencies not folded yet
		count    int
		answered bool // a turn was folded since the last probe
	}
}

// bucket counts the turns of one second.
type bucket struct {
	second        int64
	failed, total uint32
}

// add counts a turn. A latency of 0 is unknown.
func (s *score) add(now Mark, latency time.Duration, failed bool, halfLife time.Duration) {
	second := int64(now) / int64(time.Second)
	s.mu.Lock()
	b := &s.mu.ring[second%int64(len(s.mu.ring))]
	if b.second != second {
		*b = bucket{second: second}
	}
	b.total++
	if failed {
		b.failed++
	}
	if latency > 0 {
		s.mu.sum += latency.Seconds()
		s.mu.count++
		if s.mu.folded == 0 || now.Sub(s.mu.folded) >= foldInterval {
			s.fold(now, halfLife)
		}
	}
	s.mu.Unlock()
}

// probe tells how long the monitor's probe took: the average drifts to it while
// there is no traffic.
func (s *score) probe(now Mark, took, halfLife time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fold(now, halfLife)
	if !s.mu.answered {
		s.move(now, took.Seconds(), halfLife)
	}
	s.mu.answered = false
}

// fold moves the average towards the mean of the latencies collected; mu is held.
func (s *score) fold(now Mark, halfLife time.Duration) {
	if s.mu.count == 0 {
		return
	}
	s.move(now, s.mu.sum/float64(s.mu.count), halfLife)
	s.mu.sum, s.mu.count, s.mu.answered = 0, 0, true
}

// move moves the average towards v by the time that has passed; mu is held.
func (s *score) move(now Mark, v float64, halfLife time.Duration) {
	if s.mu.folded == 0 {
		s.mu.average = v
	} else {
		keep := math.Exp2(-now.Sub(s.mu.folded).Seconds() / halfLife.Seconds())
		s.mu.average = s.mu.average*keep + v*(1-keep)
	}
	s.mu.folded = now
}

// errors returns the failed turns and all turns of the window.
func (s *score) errors(now Mark, window time.Duration) (failed, total int) {
	first := int64(now.Add(-window))/int64(time.Second) + 1
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.mu.ring {
		if b := &s.mu.ring[i]; b.second >= first {
			failed += int(b.failed)
			total += int(b.total)
		}
	}
	return failed, total
}

// latency returns the moving average, 0 while it is unknown.
func (s *score) latency() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Duration(s.mu.average * float64(time.Second))
}

// parts makes the parts of a health score of what was counted.
func (h *HealthSettings) parts(failed, total int, latency time.Duration, circuit CircuitState) Parts {
	p := Parts{Errors: 1, Latency: 1, Circuit: circuit.score()}
	if total > 0 {
		p.Errors = 1 - float64(failed)/float64(total)
	}
	switch {
	case latency >= h.LatencyBad:
		p.Latency = 0
	case latency > h.LatencyGood:
		p.Latency = float64(h.LatencyBad-latency) / float64(h.LatencyBad-h.LatencyGood)
	}
	return p
}

// score weighs the parts; the result is from 0 to 1.
func (h *HealthSettings) score(p Parts) float64 {
	sum := h.ErrorWeight + h.LatencyWeight + h.CircuitWeight
	if sum <= 0 {
		return 1
	}
	return (h.ErrorWeight*p.Errors + h.LatencyWeight*p.Latency + h.CircuitWeight*p.Circuit) / sum
}

// slowStart returns the part of its weight that a backend has some time after it
// was taken (back) in: it grows evenly from SlowStartMin to 1.
func (h *HealthSettings) slowStart(passed time.Duration) float64 {
	if passed >= h.SlowStart || h.SlowStart <= 0 {
		return 1
	}
	return h.SlowStartMin + (1-h.SlowStartMin)*float64(max(passed, 0))/float64(h.SlowStart)
}
