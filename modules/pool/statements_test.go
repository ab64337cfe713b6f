package pool

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestStatementsAgainstAModel compares random histories with a plain slice, the statement used last in front.
func TestStatementsAgainstAModel(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 2))
		s := statements{limit: 1 + random.IntN(5)}
		var model []string
		drop := func(name string) {
			model = slices.DeleteFunc(model, func(n string) bool { return n == name })
		}
		for range 500 {
			name := fmt.Sprint(random.IntN(8))
			known := slices.Contains(model, name)
			switch n := random.IntN(20); {
			case n < 9:
				drop(name)
				model = slices.Insert(model, 0, name)
				var want []string
				for len(model) > s.limit {
					want = append(want, model[len(model)-1])
					model = model[:len(model)-1]
				}
				if got := s.learn(name); !slices.Equal(got, want) {
					t.Fatalf("seed %d: evicted %v, want %v", seed, got, want)
				}
			case n < 17:
				if known {
					drop(name)
					model = slices.Insert(model, 0, name)
				}
				if got := s.use(name); got != known {
					t.Fatalf("seed %d: knows %s: %v", seed, name, got)
				}
			case n < 18:
				drop(name)
				s.forget(name)
			case n < 19:
				s.limit = 1 + random.IntN(5)
			default:
				model = nil
				s.forgetAll()
			}
		}
	}
}

func TestStatementsAreRememberedWithoutAllocation(t *testing.T) {
	s := statements{limit: 2}
	names := []string{"a", "b", "c"}
	for _, n := range names {
		s.learn(n)
	}
	i := 0
	if n := testing.AllocsPerRun(1000, func() {
		s.learn(names[i%3])
		s.use(names[i%3])
		i++
	}); n != 0 {
		t.Errorf("%v allocations per statement", n)
	}
}
