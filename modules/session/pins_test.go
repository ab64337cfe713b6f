package session

import (
	"testing"

	"github.com/fairwaydb/fairway/modules/cluster"
)

func TestPinsLeaveAPartOfThePoolToOthers(t *testing.T) {
	p := startProxy(t, pg, func(c *cluster.Config, _ *Options) { c.Pool = &cluster.PoolConfig{Size: 4, MaxPinned: 0.5} })
	a, b, c := p.connect(t, ""), p.connect(t, ""), p.connect(t, "")
	exec(t, a, "create temp table x (a int)")
	exec(t, b, "select pg_advisory_lock(77)")
	_, err := c.Exec(t.Context(), "listen ch")
	sqlstate(t, err, "53300")
	exec(t, c, "select 1") // it goes on
	exec(t, a, "discard all")
	_ = a.DeallocateAll(t.Context())
	exec(t, c, "listen ch")
}
