package routing

import (
	"github.com/caddyserver/caddy/v2"

	"github.com/fairwaydb/fairway/caddyfile"
	"github.com/fairwaydb/fairway/modules/cluster"
)

func init() { caddy.RegisterModule(new(First)) }

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

// Select chooses the candidate of the lowest priority, then name.
func (p *First) Select(candidates []*cluster.Member) *cluster.Member {
	best := candidates[0]
	for _, m := range candidates[1:] {
		if m.Priority < best.Priority || m.Priority == best.Priority && m.Backend.Name() < best.Backend.Name() {
			best = m
		}
	}
	return best
}

// UnmarshalCaddyfile sets up the policy from Caddyfile tokens:
//
//	first {
//		fallback [on|off]
//	}
func (p *First) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return p.options().ParseDirective(d)
}

// Interface guards.
var (
	_ Policy                = (*First)(nil)
	_ caddyfile.Unmarshaler = (*First)(nil)
)
