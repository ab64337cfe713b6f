package cluster

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairwaydb/fairway/modules/pgtest"
)

// noOther fails as soon as any other primary than the named one shows within the time.
func (b *bed) noOther(t *testing.T, but string, d time.Duration) {
	t.Helper()
	for range int(d / (50 * time.Millisecond)) {
		after(50 * time.Millisecond)
		if p := b.primary(); p != but && p != "" {
			t.Fatalf("primary is %s", p)
		}
	}
}

func TestACopyThatIsFoundIsNoPrimary(t *testing.T) {
	for name, timeline := range map[string]uint32{"started without being a standby": 1, "promoted": 2} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				servers := three()
				servers["copy"] = primaryAt(timeline, 1000)
				b := newBed(t, servers)
				source := &fakeSource{lists: make(chan []Endpoint)}
				b.claim(t, only("pg1", "pg2"), func(s *Settings) { s.Sources = []Source{source} })
				after(time.Second)
				source.lists <- []Endpoint{at("copy", "10.0.0.9:5432")}
				for range 40 {
					after(50 * time.Millisecond)
					if p := b.primary(); p != "pg1" {
						t.Fatalf("primary is %q", p)
					}
				}
				b.expect(t, map[string]string{"copy": "refused failed", "pg2": "replica healthy"})
				if m := b.Topology().Member("copy"); !strings.Contains(m.Reason, "beside pg1") {
					t.Errorf("the reason is %q", m.Reason)
				}
				if n := b.logs.FilterMessageSnippet("found as a primary beside pg1").Len(); n != 1 {
					t.Errorf("it was reported %d times", n)
				}

				// Nor while the primary is down, or before it has answered once.
				b.servers["pg1"].fail(errDown)
				b.noOther(t, "pg1", time.Minute)
				if p := b.primary(); p != "" {
					t.Errorf("primary is %q", p)
				}
				b.servers["pg1"].fail(nil)
				after(2 * time.Second)
				if p := b.primary(); p != "pg1" {
					t.Errorf("primary is %q", p)
				}

				// Failover goes on as ever.
				b.servers["pg1"].fail(errDown)
				b.servers["pg2"].set(func(f *facts) { *f = primaryAt(3, 1100).f })
				after(2 * time.Second)
				if p := b.primary(); p != "pg2" {
					t.Errorf("after the promotion of a replica the primary is %q", p)
				}

				// As a standby it serves.
				b.servers["copy"].set(func(f *facts) { *f = replicaAt(3, 1100).f; f.incarnation = "2" })
				after(2 * time.Second)
				b.expect(t, map[string]string{"copy": "replica healthy"})
			})
		})
	}
}

func TestACopyWaitsForAConfiguredServerThatHasNotAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		servers := three()
		servers["copy"] = primaryAt(2, 1000)
		servers["pg1"].fail(errDown)
		b := newBed(t, servers)
		source := &fakeSource{lists: make(chan []Endpoint)}
		b.claim(t, only("pg1", "pg2"), func(s *Settings) { s.Sources = []Source{source} })
		source.lists <- []Endpoint{at("copy", "10.0.0.9:5432")}
		b.noOther(t, "", 30*time.Second)
		servers["pg1"].fail(nil)
		after(11 * time.Second)
		b.expect(t, map[string]string{"pg1": "primary healthy", "copy": "refused failed"})
	})
}

func TestAmongFoundServersAloneThePrimaryIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		servers := three()
		servers["copy"] = primaryAt(1, 1000)
		servers["pg3"].slow(500 * time.Millisecond)
		b := newBed(t, servers)
		source := &fakeSource{lists: make(chan []Endpoint)}
		b.claim(t, only(), func(s *Settings) { s.Sources = []Source{source} })
		all := []Endpoint{at("pg1", "10.0.0.1:5432"), at("pg2", "10.0.0.2:5432"), at("pg3", "10.0.0.3:5432")}
		source.lists <- all
		after(100 * time.Millisecond)
		b.expect(t, map[string]string{"pg1": "unknown starting"}) // one that was not asked yet may be it
		after(time.Second)
		b.expect(t, map[string]string{"pg1": "primary healthy"})

		copied := append(all[:3:3], at("copy", "10.0.0.9:5432"))
		source.lists <- copied
		b.noOther(t, "pg1", 3*time.Second)
		b.expect(t, map[string]string{"pg1": "primary healthy", "copy": "refused failed"})

		// The primary's container is restarted, with another address: the copy is none meanwhile.
		source.lists <- copied[1:]
		b.noOther(t, "pg1", 10*time.Second)
		b.expect(t, map[string]string{"pg1": "gone", "copy": "refused failed"})
		copied[0].Address = "10.0.0.7:5432"
		b.servers["pg1"].set(func(f *facts) { f.incarnation = "2" })
		source.lists <- copied
		after(time.Second)
		b.expect(t, map[string]string{"pg1": "primary healthy", "copy": "refused failed"})

		// A replica that is promoted while its container is restarted is what it was.
		source.lists <- []Endpoint{copied[0], copied[2], copied[3]}
		after(2 * time.Second)
		b.servers["pg1"].fail(errDown)
		b.servers["pg2"].set(func(f *facts) { *f = primaryAt(2, 1100).f; f.incarnation = "2" })
		source.lists <- copied
		after(2 * time.Second)
		b.expect(t, map[string]string{"pg2": "primary healthy", "copy": "refused failed"})
	})
}

func TestACopyUnderTheNameOfAReplicaIsNoPrimary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		lists := found(t, b)
		lists <- []Endpoint{at("pg2", "10.0.0.2:5432")}
		after(2 * time.Second)
		b.expect(t, map[string]string{"pg2": "replica healthy"})
		lists <- nil
		after(2 * time.Second)
		b.servers["pg2"].set(func(f *facts) { *f = primaryAt(1, 1000).f; f.incarnation = "2" })
		lists <- []Endpoint{at("pg2", "10.0.0.7:5432")}
		b.noOther(t, "pg1", 3*time.Second)
		b.expect(t, map[string]string{"pg1": "primary healthy", "pg2": "refused failed"})
	})
}

func TestARealCopyThatIsAddedIsNoPrimary(t *testing.T) {
	servers := realServers(t)
	c := claimReal(t, over(servers))
	await(t, c, "primary and replica", serving("pg1", 1))
	node, err := servers.AddReplica(t.Context(), "copy")
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Stop(t.Context(), pgtest.Fast); err != nil {
		t.Fatal(err)
	}
	signal := filepath.Join(servers.Dir(), "copy", "data", "standby.signal")
	if err := os.Remove(signal); err != nil {
		t.Fatal(err)
	}
	if err := node.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	refused := func(what string) {
		t.Helper()
		if err := c.AddBackend(Endpoint{Name: "copy", Address: node.Addr()}, true); err != nil {
			t.Fatal(err)
		}
		await(t, c, what, func(top *Topology) bool {
			if top.Primary == nil || top.Primary.Backend.Name() != "pg1" {
				t.Fatalf("%s: primary is %+v", what, top.Primary)
			}
			m := top.Member("copy")
			return m != nil && !m.Leaving && m.Role == RoleRefused
		})
		if m := c.Topology().Member("copy"); m.SystemID != c.Topology().Primary.SystemID {
			t.Errorf("%s: it is no copy: %+v", what, m)
		}
	}
	refused("a copy started without standby.signal")
	if err := c.RemoveBackend("copy", true); err != nil {
		t.Fatal(err)
	}
	await(t, c, "it is gone", func(top *Topology) bool { return top.Member("copy") == nil })

	// One that was promoted before it is added.
	if err := node.Stop(t.Context(), pgtest.Fast); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(signal, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := node.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := node.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	refused("a promoted copy")
	if m := c.Topology().Member("copy"); m.Timeline <= c.Topology().Primary.Timeline {
		t.Errorf("its timeline is %d", m.Timeline)
	}
}
