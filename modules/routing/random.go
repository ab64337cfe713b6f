package routing

import (
	"github.com/caddyserver/caddy/v2"

	"github.com/fairwaydb/fairway/caddyfile"
	"github.com/fairwaydb/fairway/modules/cluster"
)

func init() { caddy.RegisterModule(new(Random)) }

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

// Select draws a candidate.
func (p *Random) Select(candidates []*cluster.Member) *cluster.Member {
	return candidates[weighted(candidates, -1)]
}

// UnmarshalCaddyfile sets up the policy from Caddyfile tokens:
//
//	random {
//		fallback [on|off]
//	}
func (p *Random) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return p.options().ParseDirective(d)
}

// Interface guards.
var (
	_ Policy                = (*Random)(nil)
	_ caddyfile.Unmarshaler = (*Random)(nil)
)
