package routing

import (
	"math/rand/v2"
	"time"

	"github.com/fairwaydb/fairway/modules/cluster"
)

// The defaults of HealthScore.
const (
	defaultTolerance    = 0.2
	defaultLatencyFloor = time.Millisecond
)

// Select chooses the better of two candidates drawn by weight.
func (p *HealthScore) Select(candidates []*cluster.Member) *cluster.Member {
	but := weighted(candidates, -1)
	best := candidates[but]
	if len(candidates) == 2 {
		but = -1 // drawn with replacement: else the weights would mean nothing
	}
	other := candidates[weighted(candidates, but)]
	if other == best {
		return best
	}
	high, low := p.value(best), p.value(other)
	if high < low {
		best, other, high, low = other, best, low, high
	}
	if low >= high*(1-p.Tolerance) && rand.IntN(2) == 0 {
		return other
	}
	return best
}

// value is what the member has to give to one more turn.
func (p *HealthScore) value(m *cluster.Member) float64 {
	latency := max(m.Latency, time.Duration(p.LatencyFloor))
	return m.Weight * m.Score / (float64(m.Backend.InFlight()+1) * latency.Seconds())
}
