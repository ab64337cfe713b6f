package pool

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestDefaultLimits(t *testing.T) {
	want := Limits{
		Size: 20, MaxServerConnections: 80, MaxLifetime: time.Hour, IdleTimeout: 10 * time.Minute,
		ConnectTimeout: 5 * time.Second, WaitTimeout: 30 * time.Second, MaxWaiters: 10000, StatementCache: 256,
	}
	if got := DefaultLimits(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestIdleConnectionsAreClosedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newServer(t)
		s := v.newSet(t, Limits{IdleTimeout: time.Minute})
		a, b := acquire(t, s, alice), acquire(t, s, alice)
		a.Release()
		wait(30 * time.Second)
		b.Release()
		s.Upkeep(time.Now())
		v.expectOpen(t, 2)
		wait(30 * time.Second)
		s.Upkeep(time.Now())
		v.expectOpen(t, 1)
		wait(30 * time.Second)
		s.Upkeep(time.Now())
		v.expectOpen(t, 0)
		if st := s.Stats(); len(st) != 0 {
			t.Errorf("an empty pool is kept: %+v", st)
		}
		check(t, s)
	})
}

func TestLifetimesEndSpreadOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 20
		v := newServer(t)
		s := v.newSet(t, Limits{MaxLifetime: time.Hour})
		var conns []*Conn
		for range n {
			conns = append(conns, acquire(t, s, alice))
		}
		for _, c := range conns {
			c.Release()
		}
		wait(54*time.Minute - time.Second)
		s.Upkeep(time.Now())
		v.expectOpen(t, n)
		distinct := make(map[int]bool)
		for range 12 * 60 {
			wait(time.Second)
			s.Upkeep(time.Now())
			_, open, _, _ := v.numbers()
			distinct[open] = true
		}
		wait(2 * time.Second)
		s.Upkeep(time.Now())
		v.expectOpen(t, 0)
		if len(distinct) < n/2 {
			t.Errorf("closed in %d steps only", len(distinct))
		}
	})
}

func TestSetLimitsShrinksAtOnceWhatIsIdleAndAtReleaseWhatIsInUse(t *testing.T) {
	for _, tc := range []struct {
		name   string
		limits Limits
	}{
		{"by size", Limits{Size: 2}},
		{"by budget", Limits{MaxServerConnections: 2}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := newServer(t)
			s := v.newSet(t, Limits{})
			var conns []*Conn
			for range 6 {
				conns = append(conns, acquire(t, s, alice))
			}
			for _, c := range conns[3:] {
				c.Release()
			}
			s.SetLimits(tc.limits)
			v.expectOpen(t, 3)
			conns[0].Release()
			v.expectOpen(t, 2)
			conns[1].Release()
			conns[2].Release()
			v.expectOpen(t, 2)
			check(t, s)
		})
	}
}

func TestSetLimitsServesWaitersFromNewRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newServer(t)
		s := v.newSet(t, Limits{Size: 1, MaxServerConnections: 1})
		c := acquire(t, s, alice)
		a, b := start(t.Context(), s, alice), start(t.Context(), s, bob)
		synctest.Wait()
		s.SetLimits(Limits{Size: 2, MaxServerConnections: 3})
		<-a.done
		<-b.done
		for _, c := range []*Conn{a.conn, b.conn, c} {
			c.Release()
		}
		v.expectOpen(t, 3)
	})
}

func TestRetireClosesIdleConnectionsAtOnce(t *testing.T) {
	v := newServer(t)
	s := v.newSet(t, Limits{})
	a, b := acquire(t, s, alice), acquire(t, s, alice)
	a.Release()
	s.Retire()
	v.expectOpen(t, 1)
	b.Release()
	v.expectOpen(t, 0)
	check(t, s)
}

func TestRetireOnlyLeavesOtherIdentitiesAlone(t *testing.T) {
	v := newServer(t)
	s := v.newSet(t, Limits{})
	idle, leased, other := acquire(t, s, alice), acquire(t, s, alice), acquire(t, s, bob)
	idle.Release()
	other.Release()
	s.RetireOnly(func(id Identity) bool { return id == alice })
	v.expectOpen(t, 2)
	leased.Release()
	v.expectOpen(t, 1)
	if c := acquire(t, s, bob); c != other {
		t.Error("the other identity's connection is not lent again")
	} else {
		c.Release()
	}
	fresh := acquire(t, s, alice)
	fresh.Release()
	v.expectOpen(t, 2)
	check(t, s)
}

func TestStatsAreSortedAndAddUp(t *testing.T) {
	v := newServer(t)
	s := v.newSet(t, Limits{})
	b := acquire(t, s, bob)
	a := acquire(t, s, alice)
	a.Release()
	got := s.Stats()
	want := []Stats{
		{Identity: alice, Open: 1, Idle: 1, Lent: 1, Opened: 1},
		{Identity: bob, Open: 1, InUse: 1, Lent: 1, Opened: 1},
	}
	if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %+v", got)
	}
	b.Release()
}
