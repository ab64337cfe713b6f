package cluster

import (
	"errors"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestBackendsAreAddedAndRemovedAtRunTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		one := b.Claim(b.settingsOf(only("pg1", "pg2")))
		after(time.Second)
		added := Endpoint{Name: "pg3", Address: "added", Weight: 2}
		if err := b.AddBackend(added, false); err != nil {
			t.Fatal(err)
		}
		after(time.Second)
		b.expect(t, map[string]string{"pg3": "replica healthy"})
		m := b.Topology().Member("pg3")
		if m.Origin != OriginAdmin || m.Backend.Address() != "added:5432" {
			t.Errorf("it is %+v at %s", m, m.Backend.Address())
		}

		// A reload keeps it, and its pools.
		two := b.Claim(b.settingsOf(only("pg1", "pg2")))
		one.Release()
		after(time.Minute)
		if now := b.Topology().Member("pg3"); now == nil || now.Backend != m.Backend {
			t.Errorf("after a reload it is %+v", now)
		}

		// A configured backend of its name goes before it, while there is one.
		three := b.Claim(b.settingsOf())
		two.Release()
		after(time.Second)
		if now := b.Topology().Member("pg3"); now == nil || now.Origin != OriginConfig || now.Backend.Address() != "pg3:5432" {
			t.Errorf("beside one of the configuration it is %+v", now)
		}
		four := b.Claim(b.settingsOf(only("pg1", "pg2")))
		three.Release()
		after(time.Second)
		if now := b.Topology().Member("pg3"); now == nil || now.Origin != OriginAdmin {
			t.Errorf("afterwards it is %+v", now)
		}

		if err := b.RemoveBackend("pg3", false); err != nil {
			t.Fatal(err)
		}
		after(time.Second)
		b.expect(t, map[string]string{"pg1": "primary healthy", "pg2": "replica healthy", "pg3": "gone"})
		four.Release()

		// Nothing outlives the last claim.
		five := b.Claim(b.settingsOf(only("pg1")))
		defer five.Release()
		if err := b.AddBackend(added, false); err != nil {
			t.Errorf("the cooldown of an earlier life: %v", err)
		}
	})
}

func TestTheNumberOfBackendsChangesOnceInAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		b.claim(t, only("pg1"))
		after(time.Second)
		if err := b.AddBackend(Endpoint{Name: "pg2", Address: "a"}, false); err != nil {
			t.Fatal(err)
		}
		after(10 * time.Second)
		var soon *CooldownError
		if err := b.AddBackend(Endpoint{Name: "pg3", Address: "a"}, false); !errors.As(err, &soon) || soon.Wait != 20*time.Second {
			t.Errorf("the second change gets %v", err)
		}
		if got := b.Cooldown(); got != 20*time.Second {
			t.Errorf("the cooldown is %v", got)
		}
		if err := b.RemoveBackend("pg2", false); !errors.As(err, &soon) {
			t.Errorf("a removal gets %v", err)
		}
		if err := b.RemoveBackend("pg2", true); err != nil {
			t.Errorf("by force: %v", err)
		}
		if got := b.Cooldown(); got != 30*time.Second {
			t.Errorf("after a forced change the cooldown is %v", got)
		}
		after(30 * time.Second)
		if err := b.AddBackend(Endpoint{Name: "pg3", Address: "a"}, false); err != nil {
			t.Errorf("after the cooldown: %v", err)
		}
	})
}

func TestWishesThatMakeNoSenseChangeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		found := &fakeSource{lists: make(chan []Endpoint)}
		b.claim(t, only("pg1"), func(s *Settings) { s.Sources = []Source{found} })
		found.lists <- []Endpoint{{Name: "pg2", Address: "found:1"}}
		after(time.Second)
		for name, test := range map[string]struct {
			do   func() error
			want error
		}{
			"no name":                     {func() error { return b.AddBackend(Endpoint{Address: "a"}, false) }, ErrInvalid},
			"a name with a slash":         {func() error { return b.AddBackend(Endpoint{Name: "a/b", Address: "a"}, false) }, ErrInvalid},
			"no address":                  {func() error { return b.AddBackend(Endpoint{Name: "pg3"}, false) }, ErrInvalid},
			"half an address":             {func() error { return b.AddBackend(Endpoint{Name: "pg3", Address: ":5432"}, false) }, ErrInvalid},
			"a negative weight":           {func() error { return b.AddBackend(Endpoint{Name: "pg3", Address: "a", Weight: -1}, false) }, ErrInvalid},
			"a weight that is no number":  {func() error { return b.AddBackend(Endpoint{Name: "pg3", Address: "a", Weight: math.NaN()}, false) }, ErrInvalid},
			"one that is configured":      {func() error { return b.AddBackend(Endpoint{Name: "pg1", Address: "a"}, false) }, ErrConflict},
			"one that was found":          {func() error { return b.AddBackend(Endpoint{Name: "pg2", Address: "a"}, false) }, ErrConflict},
			"removal of a configured one": {func() error { return b.RemoveBackend("pg1", true) }, ErrConflict},
			"removal of a found one":      {func() error { return b.RemoveBackend("pg2", true) }, ErrConflict},
			"removal of nobody":           {func() error { return b.RemoveBackend("pg9", true) }, ErrNoBackend},
			"draining nobody":             {func() error { return b.SetDrained("pg9", true) }, ErrNoBackend},
			"draining the primary":        {func() error { return b.SetDrained("pg1", true) }, ErrConflict},
		} {
			if err := test.do(); !errors.Is(err, test.want) {
				t.Errorf("%s: %v, want %v", name, err, test.want)
			}
		}
		if got := b.members(); got != "pg1=pg1:5432 pg2=found:1 " {
			t.Errorf("members are %q", got)
		}
		if got := b.Cooldown(); got != 0 {
			t.Errorf("a refused change began a cooldown of %v", got)
		}
	})
}

func TestADrainedBackendStaysDrainedUntilItIsResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		one := b.Claim(b.settingsOf())
		after(time.Second)
		if err := b.SetDrained("pg2", true); err != nil {
			t.Fatal(err)
		}
		after(time.Second)
		b.expect(t, map[string]string{"pg1": "primary healthy", "pg2": "replica draining", "pg3": "replica healthy"})
		two := b.Claim(b.settingsOf())
		defer two.Release()
		one.Release()
		after(time.Second)
		b.expect(t, map[string]string{"pg2": "replica draining"})
		if err := b.SetDrained("pg2", false); err != nil {
			t.Fatal(err)
		}
		after(time.Second)
		b.expect(t, map[string]string{"pg2": "replica healthy"})
	})
}

func TestADrainLastsAnHourLongerThanItsBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		lists := found(t, b)
		all := []Endpoint{at("pg2", "10.0.0.2:5432"), at("pg3", "10.0.0.3:5432")}
		lists <- all
		after(3 * time.Second)
		for _, name := range []string{"pg2", "pg3"} {
			if err := b.SetDrained(name, true); err != nil {
				t.Fatal(err)
			}
		}
		after(time.Second)
		lists <- nil
		after(memoryTime / 2)
		b.expect(t, map[string]string{"pg2": "gone", "pg3": "gone"})
		if err := b.SetDrained("pg3", false); err != nil {
			t.Errorf("one that is away cannot be resumed: %v", err)
		}
		if err := b.SetDrained("pg3", false); !errors.Is(err, ErrNoBackend) {
			t.Errorf("one that is away and was resumed gets %v", err)
		}
		lists <- all
		after(3 * time.Second)
		b.expect(t, map[string]string{"pg2": "replica draining", "pg3": "replica healthy"})
		if m := b.Topology().Member("pg2"); !strings.Contains(m.Reason, "admin API") {
			t.Errorf("the reason is %q", m.Reason)
		}
		lists <- nil
		after(memoryTime + 5*time.Second)
		if n := len(b.operator.overrides().drained); n != 0 {
			t.Errorf("%d drains are left", n)
		}
		lists <- all
		after(3 * time.Second)
		b.expect(t, map[string]string{"pg2": "replica healthy"})
	})
}

func TestAPolicyOfRunTimeGoesBeforeThatOfTheSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		one := b.Claim(b.settingsOf(func(s *Settings) { s.Policy = "configured" }))
		var released atomic.Int32
		override := func(name string, policy any, release func()) {
			t.Helper()
			if err := b.OverridePolicy(name, policy, release); err != nil {
				t.Fatal(err)
			}
		}
		free := func() {
			if !b.operator.TryLock() || !b.life.TryLock() {
				t.Error("a policy is released under a lock")
				return
			}
			b.operator.Unlock()
			b.life.Unlock()
			released.Add(1)
		}
		override("first", "first", free)
		if b.Policy() != "first" || b.OverriddenPolicy() != "first" {
			t.Errorf("the policy is %v", b.Policy())
		}
		override("second", "second", free)
		if after(time.Second); b.Policy() != "second" || released.Load() != 0 {
			t.Errorf("the policy is %v, %d released while statements may ask it", b.Policy(), released.Load())
		}
		if after(policyGrace); released.Load() != 1 {
			t.Errorf("the policy is %v, %d released", b.Policy(), released.Load())
		}
		override("", nil, nil)
		if after(policyGrace); b.Policy() != "configured" || b.OverriddenPolicy() != "" || released.Load() != 2 {
			t.Errorf("the policy is %v, %d released", b.Policy(), released.Load())
		}
		override("third", "third", free)
		override("fourth", "fourth", free)
		one.Release()
		if released.Load() != 4 {
			t.Errorf("the end of the cluster released %d", released.Load())
		}
	})
}

func TestWithoutAClaimNothingIsChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		b.Claim(b.settingsOf(only("pg1"))).Release()
		for name, err := range map[string]error{
			"a policy":  b.OverridePolicy("late", "late", func() { t.Error("it was the caller's to release") }),
			"a server":  b.AddBackend(Endpoint{Name: "pg2", Address: "a"}, true),
			"a removal": b.RemoveBackend("pg2", true),
			"a drain":   b.SetDrained("pg1", true),
		} {
			if !errors.Is(err, ErrConflict) {
				t.Errorf("%s: %v", name, err)
			}
		}
		b.claim(t, only("pg1"))
		if after(time.Second); b.OverriddenPolicy() != "" || len(b.Topology().Members) != 1 {
			t.Errorf("the policy is %q, the members are %q", b.OverriddenPolicy(), b.members())
		}
	})
}
