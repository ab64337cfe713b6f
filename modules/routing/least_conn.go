package routing

import (
	"math/rand/v2"

	"github.com/fairwaydb/fairway/modules/cluster"
)

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
