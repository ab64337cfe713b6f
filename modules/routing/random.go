package routing

import (
	"github.com/fairwaydb/fairway/modules/cluster"
)

// Select draws a candidate.
func (p *Random) Select(candidates []*cluster.Member) *cluster.Member {
	return candidates[weighted(candidates, -1)]
}
