package routing

import (
	"errors"
	"sync"

	"github.com/caddyserver/caddy/v2"

	"github.com/fairwaydb/fairway/caddyfile"
	"github.com/fairwaydb/fairway/modules/cluster"
)

func init() {
	for _, policy := range []caddy.Module{new(HealthScore), new(RoundRobin), new(LeastConn), new(Random), new(First)} {
		caddy.RegisterModule(policy)
	}
}

// defaultPolicy is used where the configuration names none.
var defaultPolicy Policy = &HealthScore{Tolerance: defaultTolerance, LatencyFloor: caddy.Duration(defaultLatencyFloor)}

// Fallback is what all policies of this package have in common.
type Fallback struct {
	// Fallback lets reads run on the primary while no replica is fit. When it is
	// off such reads fail with 57P03. Default: on.
	Fallback *bool `json:"fallback,omitempty"`
}

// FallsBack tells whether reads may run on the primary while no replica is fit.
// A policy without this method says yes.
func (f *Fallback) FallsBack() bool { return f.Fallback == nil || *f.Fallback }

// Options is the Caddyfile table that every policy has.
func (f *Fallback) Options() caddyfile.Options {
	return caddyfile.Options{
		caddyfile.Switch("fallback", &f.Fallback, "on", "reads may run on the primary while no replica is fit; off: they fail with 57P03"),
	}
}

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

// UnmarshalCaddyfile sets up the policy from Caddyfile tokens:
//
//	health_score {
//		tolerance     <number>
//		latency_floor <duration>
//		fallback      [on|off]
//	}
func (p *HealthScore) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return p.Options().ParseDirective(d)
}

// Options is the Caddyfile table of the policy.
func (p *HealthScore) Options() caddyfile.Options {
	return append(caddyfile.Options{
		caddyfile.Float("tolerance", &p.Tolerance, "<number>", "0.2", "how much two replicas may differ (0 to 1) for chance to decide between them"),
		caddyfile.Duration("latency_floor", &p.LatencyFloor, "1ms", "latency below which replicas count as equally fast"),
	}, p.Fallback.Options()...)
}

// RoundRobin takes the replicas in turn, each as often as its weight says and
// evenly spread: weights 2 and 1 give a b a a b a, not a a b.
type RoundRobin struct {
	Fallback

	mu struct {
		sync.Mutex
		// credit is what each backend is owed. Its sum over the candidates is 0
		// between two calls as long as the candidates stay.
		credit map[*cluster.Backend]float64
	}
}

// CaddyModule returns the Caddy module information.
func (*RoundRobin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "postgres.policies.round_robin",
		New: func() caddy.Module { return new(RoundRobin) },
	}
}

// UnmarshalCaddyfile sets up the policy from Caddyfile tokens:
//
//	round_robin {
//		fallback [on|off]
//	}
func (p *RoundRobin) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return p.Options().ParseDirective(d)
}

// LeastConn takes the replica with the fewest turns in flight for its weight;
// among equals it draws by lot.
type LeastConn struct {
	Fallback
}

// CaddyModule returns the Caddy module information.
func (*LeastConn) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "postgres.policies.least_conn",
		New: func() caddy.Module { return new(LeastConn) },
	}
}

// UnmarshalCaddyfile sets up the policy from Caddyfile tokens:
//
//	least_conn {
//		fallback [on|off]
//	}
func (p *LeastConn) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return p.Options().ParseDirective(d)
}

// Random draws a replica, each with a probability proportional to its weight.
type Random struct {
	Fallback
}

// CaddyModule returns the Caddy module information.
func (*Random) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "postgres.policies.random",
		New: func() caddy.Module { return new(Random) },
	}
}

// UnmarshalCaddyfile sets up the policy from Caddyfile tokens:
//
//	random {
//		fallback [on|off]
//	}
func (p *Random) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return p.Options().ParseDirective(d)
}

// First takes the replica with the lowest priority, among equals the first by
// name; the others stand by.
type First struct {
	Fallback
}

// CaddyModule returns the Caddy module information.
func (*First) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "postgres.policies.first",
		New: func() caddy.Module { return new(First) },
	}
}

// UnmarshalCaddyfile sets up the policy from Caddyfile tokens:
//
//	first {
//		fallback [on|off]
//	}
func (p *First) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return p.Options().ParseDirective(d)
}

// Interface guards.
var (
	_ Policy                = (*HealthScore)(nil)
	_ Policy                = (*RoundRobin)(nil)
	_ Policy                = (*LeastConn)(nil)
	_ Policy                = (*Random)(nil)
	_ Policy                = (*First)(nil)
	_ caddy.Provisioner     = (*HealthScore)(nil)
	_ caddy.Validator       = (*HealthScore)(nil)
	_ caddyfile.Unmarshaler = (*HealthScore)(nil)
	_ caddyfile.Unmarshaler = (*RoundRobin)(nil)
	_ caddyfile.Unmarshaler = (*LeastConn)(nil)
	_ caddyfile.Unmarshaler = (*Random)(nil)
	_ caddyfile.Unmarshaler = (*First)(nil)
)
