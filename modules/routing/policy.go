package routing

import (
	"math/rand/v2"

	"github.com/fairwaydb/fairway/modules/cluster"
)

// Policy is the interface of the guest modules in namespace postgres.policies: it
// chooses one replica for a read.
type Policy interface {
	// Select returns one of the candidates, of which there are two or more, in
	// the order of their names. It runs once for each read: it must be fast, safe
	// for concurrent use, and allocate nothing. It must not keep the slice.
	Select(candidates []*cluster.Member) *cluster.Member
}

func fallsBack(p Policy) bool {
	f, ok := p.(interface{ FallsBack() bool })
	return !ok || f.FallsBack()
}

// weighted draws a candidate with a probability proportional to its weight; the
// one at index but is left out (-1: none). There must be one left.
func weighted(candidates []*cluster.Member, but int) int {
	var total float64
	for i, m := range candidates {
		if i != but {
			total += max(m.Weight, 0)
		}
	}
	if total <= 0 {
		return uniform(len(candidates), but)
	}
	last, at := -1, rand.Float64()*total
	for i, m := range candidates {
		if i == but || m.Weight <= 0 {
			continue
		}
		last = i
		if at -= m.Weight; at < 0 {
			break
		}
	}
	return last
}

// uniform draws one of n; but is left out.
func uniform(n, but int) int {
	if but < 0 {
		return rand.IntN(n)
	}
	i := rand.IntN(n - 1)
	if i >= but {
		i++
	}
	return i
}
