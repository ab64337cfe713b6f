package cluster

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// found puts a cluster in force whose replicas come from a source: what is sent to
// the channel is what the source finds.
func found(t *testing.T, b *bed) chan []Endpoint {
	t.Helper()
	source := &fakeSource{lists: make(chan []Endpoint)}
	b.claim(t, only("pg1"), func(s *Settings) { s.Sources = []Source{source} })
	after(time.Second)
	return source.lists
}

func at(name, address string) Endpoint { return Endpoint{Name: name, Address: address} }

func TestAFoundReplicaServesOnceItStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		b.servers["pg2"].set(func(f *facts) { f.at.timeline = 0 })
		lists := found(t, b)
		lists <- []Endpoint{at("pg2", "10.0.0.2:5432")}
		for range 50 {
			after(100 * time.Millisecond)
			if m := b.Topology().Member("pg2"); m.Fit || m.State != StateStarting {
				t.Fatalf("a replica that does not stream is %+v", m)
			}
		}
		b.servers["pg2"].set(func(f *facts) { f.at.timeline = 1 })
		after(1100 * time.Millisecond)
		b.expect(t, map[string]string{"pg2": "replica healthy"})

		// Later it is judged as any other: a receiver that is between two connections is nothing new.
		b.servers["pg2"].set(func(f *facts) { f.at.timeline = 0 })
		after(3 * time.Second)
		b.expect(t, map[string]string{"pg2": "replica healthy"})
	})
}

func TestAFoundReplicaThatIsStillBeingMadeServesSoonAfterItsFirstAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		b.servers["pg2"].fail(errDown)
		lists := found(t, b)
		lists <- []Endpoint{at("pg2", "10.0.0.2:5432")}
		after(10 * time.Second)
		b.expect(t, map[string]string{"pg2": "unknown failed"})
		b.servers["pg2"].fail(nil)
		after(1100 * time.Millisecond)
		b.expect(t, map[string]string{"pg2": "replica healthy"})
	})
}

func TestAFoundReplicaServesOnceItHasCaughtUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, map[string]*server{"pg1": primaryAt(1, 1<<30), "pg2": replicaAt(1, 1<<30-10<<20)})
		lists := found(t, b)
		lists <- []Endpoint{at("pg2", "10.0.0.2:5432")}
		after(3 * time.Second)
		b.expect(t, map[string]string{"pg2": "replica lagging"}) // within max_lag, but not within lag_resume
		b.servers["pg2"].set(func(f *facts) { f.at.replay = 1<<30 - 7<<20 })
		after(1100 * time.Millisecond)
		b.expect(t, map[string]string{"pg2": "replica healthy"})
	})
}

func TestAFoundServerOfAnotherSystemIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		b.servers["pg2"].set(func(f *facts) { f.systemID++ })
		b.servers["pg3"].fail(errDown)
		lists := found(t, b)
		lists <- []Endpoint{at("pg2", "10.0.0.2:5432"), at("pg3", "10.0.0.3:5432")}
		for range 30 {
			after(100 * time.Millisecond)
			if b.Topology().Member("pg2").Fit || b.Topology().Member("pg3").Fit {
				t.Fatal("it may serve")
			}
		}
		b.expect(t, map[string]string{"pg1": "primary healthy", "pg2": "refused failed"})
	})
}

func TestABackendThatComesBackGoesOnWithItsCircuitAndScore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		lists := found(t, b)
		lists <- []Endpoint{at("pg2", "10.0.0.2:5432")}
		after(3 * time.Second)
		be := b.Topology().Member("pg2").Backend
		for range 4 {
			turn, _ := be.BeginTurn()
			be.EndTurn(turn, time.Millisecond, nil)
		}
		for range 5 {
			turn, _ := be.BeginTurn()
			be.EndTurn(turn, 0, errDown)
		}
		after(time.Second)
		b.expect(t, map[string]string{"pg2": "replica failed"})
		before := b.Topology().Member("pg2").Parts

		lists <- nil
		after(2 * time.Second)
		b.expect(t, map[string]string{"pg2": "gone"})
		lists <- []Endpoint{at("pg2", "10.0.0.7:5432")} // the same server, elsewhere
		after(2 * time.Second)
		m := b.Topology().Member("pg2")
		if m.Backend == be || m.Circuit != CircuitOpen || m.Parts != before {
			t.Errorf("it came back as %+v, it had %+v", m, before)
		}

		// It is another life of the server: trials are let through at once.
		lists <- nil
		after(2 * time.Second)
		b.servers["pg2"].set(func(f *facts) { f.incarnation = "2" })
		lists <- []Endpoint{at("pg2", "10.0.0.8:5432")}
		after(2 * time.Second)
		b.expect(t, map[string]string{"pg2": "replica recovering"})

		// After an hour it is forgotten.
		lists <- nil
		after(memoryTime + 2*time.Second)
		lists <- []Endpoint{at("pg2", "10.0.0.9:5432")}
		after(2 * time.Second)
		b.expect(t, map[string]string{"pg2": "replica healthy"})
	})
}

func TestADrainedReplicaGetsNoReadsAndAPrimaryGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		source := &fakeSource{lists: make(chan []Endpoint)}
		b.claim(t, func(s *Settings) { s.Backends, s.Sources = nil, []Source{source} })
		endpoints := func(drain bool) []Endpoint {
			all := []Endpoint{at("pg1", "10.0.0.1:5432"), at("pg2", "10.0.0.2:5432")}
			all[0].Drain, all[1].Drain = drain, drain
			return all
		}
		source.lists <- endpoints(false)
		after(3 * time.Second)
		be := b.Topology().Member("pg2").Backend
		source.lists <- endpoints(true)
		after(100 * time.Millisecond)
		b.expect(t, map[string]string{"pg1": "primary healthy", "pg2": "replica draining"})
		if m := b.Topology().Member("pg2"); m.Fit || m.Reason == "" || m.Backend.Leaving() {
			t.Errorf("it is %+v", m)
		}
		source.lists <- endpoints(false)
		after(100 * time.Millisecond)
		b.expect(t, map[string]string{"pg2": "replica healthy"})
		if b.Topology().Member("pg2").Backend != be {
			t.Error("it is another backend than before")
		}
	})
}

func TestNamesThatComeAndGoAreCountedAndLeaveNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		one, two := b.servers["pg1"], b.servers["pg2"]
		b.newProber = func(be *Backend) prober {
			if be.name == "pg1" {
				return &fakeProber{s: one}
			}
			return &fakeProber{s: two}
		}
		lists := found(t, b)
		began := gather(t, b)
		const cycles = 100
		for i := range cycles {
			lists <- []Endpoint{at(fmt.Sprintf("found-%d", i), "10.0.0.2:5432")}
			after(tickInterval)
		}
		lists <- nil
		after(5 * time.Second)
		if n := len(b.Topology().Members); n != 1 {
			t.Errorf("%d members are left", n)
		}
		ended := gather(t, b)
		for _, name := range []string{"caddy_postgres_backend_joins_total main", "caddy_postgres_backend_leaves_total main"} {
			if n := ended[name] - began[name]; n != cycles {
				t.Errorf("%s moved by %v", name, n)
			}
		}
	})
}

func TestOnlySoManyNamesAreRemembered(t *testing.T) {
	r := &run{past: make(map[string]*memory)}
	for i := range 2 * memorySize {
		r.remember(&entry{backend: NewBackend(fmt.Sprintf("found-%d", i), "10.0.0.2:5432")})
	}
	if n := len(r.past); n != memorySize {
		t.Errorf("%d names are remembered", n)
	}
	if last := fmt.Sprintf("found-%d", 2*memorySize-1); r.past[last] == nil {
		t.Error("the newest is not among them")
	}
}

func TestASilentSourceDoesNotKeepWhatAnotherHasLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		sources := func() (left, right *fakeSource) {
			return &fakeSource{lists: make(chan []Endpoint)}, &fakeSource{lists: make(chan []Endpoint)}
		}
		left, right := sources()
		one := b.Claim(b.settingsOf(only("pg1"), func(s *Settings) { s.Sources = []Source{left, right} }))
		left.lists <- []Endpoint{at("pg2", "10.0.0.2:5432")}
		right.lists <- []Endpoint{at("pg3", "10.0.0.3:5432")}
		after(time.Second)
		left, right = sources()
		two := b.Claim(b.settingsOf(only("pg1"), func(s *Settings) { s.Sources = []Source{left, right} }))
		one.Release()
		after(time.Second)
		left.lists <- nil // and the right one cannot see its servers
		after(time.Second)
		if got := b.members(); got != "pg1=pg1:5432 pg3=10.0.0.3:5432 " {
			t.Errorf("members are %q", got)
		}
		left, _ = sources()
		three := b.Claim(b.settingsOf(only("pg1"), func(s *Settings) { s.Sources = []Source{left} }))
		two.Release()
		after(time.Second)
		if got := b.members(); got != "pg1=pg1:5432 pg3=10.0.0.3:5432 " {
			t.Errorf("members are %q with one source less", got)
		}
		left.lists <- []Endpoint{at("pg2", "10.0.0.2:5432")}
		after(time.Second)
		if got := b.members(); got != "pg1=pg1:5432 pg2=10.0.0.2:5432 " {
			t.Errorf("members are %q when it has spoken", got)
		}
		three.Release()
	})
}
