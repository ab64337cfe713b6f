package cluster

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairwaydb/fairway/modules/pgauth"
	"github.com/fairwaydb/fairway/modules/pool"
)

func TestReferencesHaveNoEffectButTheName(t *testing.T) {
	r := NewRegistry(nil)
	a := r.Reference("a")
	if again := r.Reference("a"); again != a {
		t.Error("two clusters of one name")
	}
	if r.Lookup("a") != a || r.Lookup("b") != nil {
		t.Error("the wrong cluster is found")
	}
	if n := len(r.Clusters()); n != 0 {
		t.Errorf("%d clusters show that were never claimed", n)
	}
	if a.Settings() == nil || a.Topology() == nil || a.Authentication() != AuthQuery {
		t.Error("a cluster without a claim has no defaults")
	}
	if _, err := a.Credential(t.Context(), "alice"); err == nil {
		t.Error("a cluster without a claim has verifiers")
	}
	a.Demand()
	a.Unreference()
	if r.Lookup("a") != a {
		t.Error("the cluster was forgotten although somebody refers to it")
	}
	a.Unreference()
	if r.Lookup("a") != nil {
		t.Error("the cluster is still known")
	}
}

func TestTheLastClaimIsInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		first, second, third := b.settingsOf(), b.settingsOf(), b.settingsOf()
		one := b.Claim(first)
		after(time.Second)
		backend := b.Topology().Member("pg2").Backend
		changed := b.Changed()
		two := b.Claim(second) // a reload
		select {
		case <-changed:
		default:
			t.Error("nobody was told about the settings")
		}
		if b.Settings() != second {
			t.Error("the last claim is not in force")
		}
		one.Release()
		one.Release()
		three := b.Claim(third) // a reload that fails: its claim is released first
		three.Release()
		if b.Settings() != second {
			t.Error("the claim before is not in force again")
		}
		after(time.Second)
		if b.Topology().Member("pg2").Backend != backend || b.primary() != "pg1" {
			t.Error("the backend did not survive the reloads")
		}
		two.Release()
		if n := len(b.Topology().Members); n != 0 || b.Topology().Primary != nil {
			t.Errorf("%d members after the last release", n)
		}
		if _, err := backend.Acquire(t.Context(), pool.Identity{}); !errors.As(err, new(*pool.DialError)) {
			t.Errorf("a lease after the end: %v", err)
		}
		asked, _ := b.servers["pg1"].counts()
		after(time.Minute)
		if n, _ := b.servers["pg1"].counts(); n != asked {
			t.Error("somebody still asks the servers")
		}
		four := b.Claim(first) // and it can begin anew
		after(time.Second)
		if b.primary() != "pg1" || b.Topology().Member("pg2").Backend == backend {
			t.Error("the second life is not a new one")
		}
		four.Release()
	})
}

// TestClaimsAgainstAModel makes and releases claims in random order; the youngest one left must be in force.
func TestClaimsAgainstAModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rnd := rand.New(rand.NewPCG(6, 7))
		b := newBed(t, three())
		type held struct {
			claim    *Claim
			settings *Settings
		}
		var model []held
		for range 300 {
			if len(model) == 0 || rnd.IntN(2) == 0 {
				s := b.settingsOf()
				model = append(model, held{b.Claim(s), s})
			} else {
				i := rnd.IntN(len(model))
				model[i].claim.Release()
				if rnd.IntN(3) == 0 {
					model[i].claim.Release()
				}
				model = slices.Delete(model, i, i+1)
			}
			if rnd.IntN(4) == 0 {
				after(time.Duration(rnd.IntN(300)) * time.Millisecond)
			}
			if n := len(model); n > 0 && b.Settings() != model[n-1].settings {
				t.Fatal("another claim than the youngest is in force")
			}
			if got, want := len(b.Topology().Members) > 0, len(model) > 0; got != want {
				t.Fatalf("members: %v, claims: %v", got, want)
			}
		}
		for _, m := range model {
			m.claim.Release()
		}
	})
}

func TestSecretsAreKeptOverReloadsAndErasedAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		one := b.Claim(b.settingsOf())
		key := []byte("client key")
		b.SetSecret("alice", pgauth.Secret{ClientKey: key})
		key[0] = 'X'
		two := b.Claim(b.settingsOf())
		one.Release()
		got := b.Secret("alice")
		if string(got.ClientKey) != "client key" {
			t.Errorf("after a reload the key is %q", got.ClientKey)
		}
		other := b.Claim(b.settingsOf(func(s *Settings) { s.Auth = AuthTrust }))
		if !b.Secret("alice").IsZero() {
			t.Error("a key is used although everybody is trusted")
		}
		other.Release()
		b.SetSecret("alice", pgauth.Secret{ClientKey: []byte("client key")})
		mine := b.secrets.mu.byUser["alice"].ClientKey
		two.Release()
		if !b.Secret("alice").IsZero() || string(mine) == "client key" {
			t.Error("the key was not erased")
		}
	})
}

// only leaves those backends in the settings.
func only(names ...string) func(*Settings) {
	return func(s *Settings) {
		s.Backends = slices.DeleteFunc(s.Backends, func(e Endpoint) bool { return !slices.Contains(names, e.Name) })
	}
}

func TestARemovedBackendIsDrained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		one := b.Claim(b.settingsOf())
		after(time.Second)
		idle, busy := b.Topology().Member("pg2").Backend, b.Topology().Member("pg3").Backend
		turn, _ := busy.BeginTurn()
		two := b.Claim(b.settingsOf(only("pg1")))
		one.Release()
		synctest.Wait()
		b.expect(t, map[string]string{"pg1": "primary healthy", "pg2": "replica draining", "pg3": "replica draining"})
		if _, err := busy.Acquire(t.Context(), pool.Identity{}); !errors.As(err, new(*pool.DialError)) || IsFailure(err) {
			t.Errorf("a lease while draining: %v", err)
		}
		after(time.Second)
		b.expect(t, map[string]string{"pg2": "gone", "pg3": "replica draining"})
		expectGone(t, idle, true)
		expectGone(t, busy, false)
		busy.EndTurn(turn, time.Millisecond, nil)
		after(time.Second)
		b.expect(t, map[string]string{"pg3": "gone"})
		expectGone(t, busy, true)
		two.Release()
	})
}

func expectGone(t *testing.T, b *Backend, want bool) {
	t.Helper()
	select {
	case <-b.Gone():
		if !want {
			t.Errorf("%s is gone", b.Name())
		}
	default:
		if want {
			t.Errorf("%s is not gone", b.Name())
		}
	}
	if !b.Leaving() {
		t.Errorf("%s is not leaving", b.Name())
	}
}

func TestADrainEndsAtItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		one := b.Claim(b.settingsOf())
		after(time.Second)
		busy := b.Topology().Member("pg3").Backend
		busy.BeginTurn()
		two := b.Claim(b.settingsOf(only("pg1", "pg2")))
		one.Release()
		after(59 * time.Second)
		expectGone(t, busy, false)
		after(2 * time.Second)
		expectGone(t, busy, true)
		two.Release()
	})
}

func TestABackendThatComesBackWhileItLeavesIsTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		one := b.Claim(b.settingsOf())
		after(time.Second)
		busy := b.Topology().Member("pg3").Backend
		turn, _ := busy.BeginTurn()
		two := b.Claim(b.settingsOf(only("pg1", "pg2")))
		after(time.Second)
		two.Release()
		after(time.Second)
		if m := b.Topology().Member("pg3"); m == nil || m.Backend != busy || m.State != StateHealthy || busy.Leaving() {
			t.Errorf("member is %+v", m)
		}
		busy.EndTurn(turn, 0, nil)

		moved := b.settingsOf()
		for i := range moved.Backends {
			moved.Backends[i].Address = "elsewhere:5432"
		}
		three := b.Claim(moved)
		after(time.Second)
		if m := b.Topology().Member("pg3"); m.Backend == busy || m.Backend.Address() != "elsewhere:5432" {
			t.Errorf("after a change of address: %+v", m)
		}
		three.Release()
		one.Release()
	})
}

// fakeSource publishes what it is sent.
type fakeSource struct {
	lists chan []Endpoint
	fail  error
	runs  int
}

func (f *fakeSource) Run(ctx context.Context, publish func([]Endpoint)) error {
	f.runs++
	if f.fail != nil {
		return f.fail
	}
	for {
		select {
		case l := <-f.lists:
			publish(l)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (b *bed) members() string {
	names := ""
	for _, m := range b.Topology().Members {
		if m.State != StateDraining {
			names += m.Backend.Name() + "=" + m.Backend.Address() + " "
		}
	}
	return names
}

func TestSourcesAddToTheConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		found := &fakeSource{lists: make(chan []Endpoint)}
		one := b.Claim(b.settingsOf(only("pg1"), func(s *Settings) { s.Sources = []Source{found} }))
		after(time.Second)
		if got := b.members(); got != "pg1=pg1:5432 " {
			t.Errorf("members are %q", got)
		}
		found.lists <- []Endpoint{{Name: "pg1", Address: "other:1"}, {Name: "pg2", Address: "found:1", Weight: 3}}
		after(time.Second)
		if got := b.members(); got != "pg1=pg1:5432 pg2=found:1 " {
			t.Errorf("members are %q", got)
		}
		backend := b.Topology().Member("pg2").Backend
		if w := b.Topology().Member("pg2").Weight; w >= 3 || w <= 0 {
			t.Errorf("weight of a backend that has joined just now is %v", w)
		}

		// A reload keeps the last list until the new source has spoken.
		next := &fakeSource{lists: make(chan []Endpoint)}
		two := b.Claim(b.settingsOf(only("pg1"), func(s *Settings) { s.Sources = []Source{next} }))
		one.Release()
		after(time.Minute)
		if m := b.Topology().Member("pg2"); m == nil || m.Backend != backend || m.State != StateHealthy {
			t.Errorf("after the reload: %+v", m)
		}
		next.lists <- []Endpoint{{Name: "pg3", Address: "found:3"}}
		after(time.Second)
		if got := b.members(); got != "pg1=pg1:5432 pg3=found:3 " {
			t.Errorf("members are %q", got)
		}

		// Without sources the lists are gone.
		three := b.Claim(b.settingsOf(only("pg1")))
		two.Release()
		after(time.Second)
		if got := b.members(); got != "pg1=pg1:5432 " {
			t.Errorf("members are %q", got)
		}
		three.Release()
	})
}

// slowSource needs a while to end.
type slowSource struct {
	t       *testing.T
	running atomic.Int32
	runs    atomic.Int32
}

func (s *slowSource) Run(ctx context.Context, publish func([]Endpoint)) error {
	if n := s.running.Add(1); n != 1 {
		s.t.Errorf("it runs %d times at once", n)
	}
	s.runs.Add(1)
	publish([]Endpoint{{Name: "pg2", Address: "found:1"}})
	<-ctx.Done()
	<-time.After(10 * time.Second)
	s.running.Add(-1)
	return ctx.Err()
}

func TestASourceNeverRunsTwiceAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		found := &slowSource{t: t}
		b.claim(t, only("pg1"), func(s *Settings) { s.Sources = []Source{found} })
		for range 5 {
			after(time.Second)
			other := b.Claim(b.settingsOf(only("pg1")))
			after(time.Second)
			other.Release()
		}
		after(time.Minute)
		if n := found.runs.Load(); n < 2 {
			t.Errorf("it was run %d times", n)
		}
		if got := b.members(); got != "pg1=pg1:5432 pg2=found:1 " {
			t.Errorf("members are %q", got)
		}
	})
}

func TestASourceThatEndsIsRunAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		broken := &fakeSource{fail: errors.New("no socket")}
		b.claim(t, func(s *Settings) { s.Sources = []Source{broken} })
		after(11 * time.Second)
		if broken.runs != 3 {
			t.Errorf("run %d times in 11 s", broken.runs)
		}
		if n := b.logs.FilterMessageSnippet("source ended").Len(); n != 3 {
			t.Errorf("%d log lines", n)
		}
	})
}
