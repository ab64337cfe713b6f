package routing

import (
	"math/rand/v2"

	"github.com/caddyserver/caddy/v2"

	"github.com/fairwaydb/fairway/caddyfile"
	"github.com/fairwaydb/fairway/modules/cluster"
)

func init() { caddy.RegisterModule(new(LeastConn)) }

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

// Select chooses the candidate that one more turn loads least.
func (p *LeastConn) Select(candidates []*cluster.Member) *cluster.Member {
	var (
		best  *cluster.Member
		least float64
		same  int
	)
	for _, m := range candidates {
		if m.Weight <= 0 {
			continue
		}
		load := float64(m.Backend.InFlight()+1) / m.Weight
		switch {
		case best == nil || load < least:
			best, least, same = m, load, 1
		case load == least:
			if same++; rand.IntN(same) == 0 {
				best = m
			}
		}
	}
	if best == nil { // nobody has a weight
		return candidates[rand.IntN(len(candidates))]
	}
	return best
}

// UnmarshalCaddyfile sets up the policy from Caddyfile tokens:
//
//	least_conn {
//		fallback [on|off]
//	}
func (p *LeastConn) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return p.options().ParseDirective(d)
}

// Interface guards.
var (
	_ Policy                = (*LeastConn)(nil)
	_ caddyfile.Unmarshaler = (*LeastConn)(nil)
)
