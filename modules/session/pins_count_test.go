package session

import (
	"testing"

	"github.com/fairwaydb/fairway/modules/pool"
)

func TestPinsOfBackendsThatAreGoneAreNotCountedForEver(t *testing.T) {
	kept := func() (n int) {
		pinCounts.Range(func(key, _ any) bool {
			if key.(pinKey).cluster == "drops" {
				n++
			}
			return true
		})
		return n
	}
	for _, backend := range []string{"pg1", "pg2"} {
		for _, user := range []string{"alice", "bob"} {
			pinCounts.Store(pinKey{"drops", backend, pool.Identity{User: user, Database: "db"}}, new(pinCount))
		}
	}
	busy := pinKey{"drops", "pg1", pool.Identity{User: "carol", Database: "db"}}
	held := new(pinCount)
	held.add(1)
	pinCounts.Store(busy, held)
	dropPins("drops", "pg1")
	if n := kept(); n != 3 {
		t.Errorf("%d counts are kept, want those of pg2 and the one in use", n)
	}
	held.add(-1)
	dropPins("drops", "pg1")
	dropPins("drops", "pg2")
	if n := kept(); n != 0 {
		t.Errorf("%d counts are kept", n)
	}
}
