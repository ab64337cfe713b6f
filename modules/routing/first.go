package routing

import (
	"github.com/fairwaydb/fairway/modules/cluster"
)

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
