package routing

import (
	"sync"

	"github.com/caddyserver/caddy/v2"

	"github.com/fairwaydb/fairway/caddyfile"
	"github.com/fairwaydb/fairway/modules/cluster"
)

func init() { caddy.RegisterModule(new(RoundRobin)) }

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

// forgetAt is how many backends more than there are candidates are remembered
// before those that are no candidates any more are forgotten.
const forgetAt = 64

// CaddyModule returns the Caddy module information.
func (*RoundRobin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "postgres.policies.round_robin",
		New: func() caddy.Module { return new(RoundRobin) },
	}
}

// Select chooses the candidate that is owed most, after each has been credited
// its weight; the chosen one pays for all.
func (p *RoundRobin) Select(candidates []*cluster.Member) *cluster.Member {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.credit == nil {
		p.mu.credit = make(map[*cluster.Backend]float64, len(candidates))
	}
	var (
		total, most float64
		best        *cluster.Member
	)
	for _, m := range candidates {
		weight := max(m.Weight, 0)
		total += weight
		credit := p.mu.credit[m.Backend] + weight
		p.mu.credit[m.Backend] = credit
		if best == nil || credit > most {
			best, most = m, credit
		}
	}
	p.mu.credit[best.Backend] = most - total
	if len(p.mu.credit) > len(candidates)+forgetAt {
		p.forget(candidates)
	}
	return best
}

// forget drops all but the candidates; mu is held.
func (p *RoundRobin) forget(candidates []*cluster.Member) {
	kept := make(map[*cluster.Backend]float64, len(candidates))
	for _, m := range candidates {
		kept[m.Backend] = p.mu.credit[m.Backend]
	}
	p.mu.credit = kept
}

// UnmarshalCaddyfile sets up the policy from Caddyfile tokens:
//
//	round_robin {
//		fallback [on|off]
//	}
func (p *RoundRobin) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return p.options().ParseDirective(d)
}

// Interface guards.
var (
	_ Policy                = (*RoundRobin)(nil)
	_ caddyfile.Unmarshaler = (*RoundRobin)(nil)
)
