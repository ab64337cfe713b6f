package routing

import "github.com/fairwaydb/fairway/modules/cluster"

// forgetAt is how many backends more than there are candidates are remembered
// before those that are no candidates any more are forgotten.
const forgetAt = 64

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
