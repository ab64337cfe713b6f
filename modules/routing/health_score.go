package routing

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/fairwaydb/fairway/caddyfile"
	"github.com/fairwaydb/fairway/modules/cluster"
)

func init() { caddy.RegisterModule(new(HealthScore)) }

// The defaults of HealthScore.
const (
	defaultTolerance    = 0.2
	defaultLatencyFloor = time.Millisecond
)

// HealthScore draws two replicas by weight and takes the one that has more to
// give: weight · score / ((turns in flight + 1) · latency). Fast servers get
// more, a slow one is relieved at once, and as only two are compared nobody is
// stampeded. It is the default policy.
type HealthScore struct {
	Fallback

	// Tolerance is the part by which two replicas may differ for chance to decide
	// between them, from 0 to 1. Default: 0.2.
	Tolerance float64 `json:"tolerance,omitempty"`

	// LatencyFloor is the latency below which replicas count as equally fast.
	// Default: 1ms.
	LatencyFloor caddy.Duration `json:"latency_floor,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*HealthScore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "postgres.policies.health_score",
		New: func() caddy.Module { return new(HealthScore) },
	}
}

// Provision fills in the defaults.
func (p *HealthScore) Provision(caddy.Context) error {
	if p.Tolerance == 0 {
		p.Tolerance = defaultTolerance
	}
	if p.LatencyFloor == 0 {
		p.LatencyFloor = caddy.Duration(defaultLatencyFloor)
	}
	return nil
}

// Validate refuses numbers that make no sense.
func (p *HealthScore) Validate() error {
	if p.Tolerance < 0 || p.Tolerance > 1 {
		return errors.New("tolerance is out of range: write a number from 0 to 1")
	}
	if p.LatencyFloor < 0 {
		return errors.New("latency_floor is negative: write a duration such as 1ms")
	}
	return nil
}

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

// UnmarshalCaddyfile sets up the policy from Caddyfile tokens:
//
//	health_score {
//		tolerance     <number>
//		latency_floor <duration>
//		fallback      [on|off]
//	}
func (p *HealthScore) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return p.options().ParseDirective(d)
}

func (p *HealthScore) options() caddyfile.Options {
	return append(caddyfile.Options{
		caddyfile.Float("tolerance", &p.Tolerance, "<number>", "0.2", "how much two replicas may differ (0 to 1) for chance to decide between them"),
		caddyfile.Duration("latency_floor", &p.LatencyFloor, "1ms", "latency below which replicas count as equally fast"),
	}, p.Fallback.options()...)
}

// Interface guards.
var (
	_ Policy                = (*HealthScore)(nil)
	_ caddy.Provisioner     = (*HealthScore)(nil)
	_ caddy.Validator       = (*HealthScore)(nil)
	_ caddyfile.Unmarshaler = (*HealthScore)(nil)
)
