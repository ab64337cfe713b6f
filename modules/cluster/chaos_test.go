package cluster

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// chaos plays a random history on the servers of a bed and knows the truth.
type chaos struct {
	*bed
	t      *testing.T
	rnd    *rand.Rand
	names  []string
	up     map[string]bool
	life   int
	newest uint32 // the highest timeline there ever was
	log    []string
}

func (c *chaos) facts(name string) facts {
	s := c.servers[name]
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.f
}

// step does something to one server.
func (c *chaos) step() {
	name := c.names[c.rnd.IntN(len(c.names))]
	s, f := c.servers[name], c.facts(name)
	what := ""
	switch n := c.rnd.IntN(5); {
	case n == 0 && c.up[name]:
		what = "stop"
		c.up[name] = false
		s.fail(errDown)
	case n <= 1 && !c.up[name]:
		what = "start"
		c.up[name] = true
		c.life++
		s.set(func(f *facts) { f.incarnation = fmt.Sprint("life ", c.life) })
		s.fail(nil)
	case n == 2 && c.up[name] && f.at.recovery:
		what = "promote"
		c.newest++
		s.set(func(f *facts) { f.at.recovery, f.timeline = false, c.newest })
	case n == 3 && c.up[name]:
		what = "follow the newest timeline"
		c.life++
		s.set(func(f *facts) {
			f.at.recovery, f.timeline, f.at.timeline = true, c.newest, c.newest
			f.incarnation = fmt.Sprint("life ", c.life)
		})
	case n == 4:
		what = "reload"
		c.Claim(c.settingsOf()).Release()
	}
	c.log = append(c.log, name+" "+what)
}

// check holds at every moment.
func (c *chaos) check() {
	top := c.Topology()
	primaries := 0
	for _, m := range top.Members {
		if m.Role == RolePrimary {
			primaries++
			if m != top.Primary || m.Fit {
				c.t.Fatalf("%v: wrong primary %+v", c.log, m)
			}
		}
		if m.Fit && (m.Role != RoleReplica || m.Circuit == CircuitOpen || (top.Primary != nil && m.Timeline != top.Primary.Timeline)) {
			c.t.Fatalf("%v: unfit candidate %+v", c.log, m)
		}
	}
	if primaries > 1 || (primaries == 1) != (top.Primary != nil) {
		c.t.Fatalf("%v: %d primaries", c.log, primaries)
	}
}

// settled holds once everything was probed and trials have been made.
func (c *chaos) settled() {
	want := ""
	for _, name := range c.names {
		if f := c.facts(name); c.up[name] && !f.at.recovery && f.timeline == c.newest {
			want = name
		}
	}
	if got := c.primary(); got != want {
		c.t.Fatalf("%v: primary is %q, want %q", c.log, got, want)
	}
	for _, name := range c.names {
		f, m := c.facts(name), c.Topology().Member(name)
		if want := c.up[name] && f.at.recovery && f.timeline == c.newest; m.Fit != want {
			c.t.Fatalf("%v: %s fit is %v, want %v: %+v", c.log, name, m.Fit, want, m)
		}
	}
}

// TestTheTopologyFollowsTheTruth plays random stops, starts, promotions and rejoins of four servers, with reloads in
// between: no moment shows two primaries or an unfit candidate, and when things have settled the topology is the truth.
func TestTheTopologyFollowsTheTruth(t *testing.T) {
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			servers := three()
			servers["pg4"] = replicaAt(1, 1000)
			c := &chaos{
				bed: newBed(t, servers), t: t, rnd: rand.New(rand.NewPCG(seed, 8)), newest: 1,
				names: []string{"pg1", "pg2", "pg3", "pg4"}, up: map[string]bool{"pg1": true, "pg2": true, "pg3": true, "pg4": true},
			}
			c.claim(t)
			after(3 * time.Second)
			for range 15 {
				c.step()
				for range 12 {
					after(time.Duration(c.rnd.IntN(300)) * time.Millisecond)
					c.check()
				}
				after(3 * time.Second)
				c.check()
			}
			after(defaultRecoveryTimeout + 2*time.Second)
			c.check()
			c.settled()
		})
	}
}
