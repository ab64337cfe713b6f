package pool

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

func TestWaitersAreServedInOrderOfArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newServer(t)
		s := v.newSet(t, Limits{Size: 1})
		c := acquire(t, s, alice)
		var queue []*attempt
		for range 5 {
			queue = append(queue, start(t.Context(), s, alice))
			synctest.Wait()
		}
		for i, a := range queue {
			c.Release()
			synctest.Wait()
			if !a.over() || a.conn != c || (i+1 < len(queue) && queue[i+1].over()) {
				t.Fatalf("waiter %d is not the one served", i)
			}
			check(t, s)
		}
		c.Release()
		v.expectDials(t, 1)
	})
}

func TestWaitsEnd(t *testing.T) {
	left := errors.New("client gone")
	for _, tc := range []struct {
		name string
		end  func(s *Set, cancel context.CancelCauseFunc)
		want error
		took time.Duration
	}{
		{"after the wait timeout", func(*Set, context.CancelCauseFunc) {}, ErrWaitTimeout, 30 * time.Second},
		{"when the context is cancelled, with its cause", func(_ *Set, cancel context.CancelCauseFunc) { cancel(left) }, left, time.Second},
		{"when the set is closed", func(s *Set, _ context.CancelCauseFunc) { s.Close() }, ErrClosed, time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newServer(t)
				s := v.newSet(t, Limits{Size: 1})
				c := acquire(t, s, alice)
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				a := start(ctx, s, alice)
				wait(time.Second)
				tc.end(s, cancel)
				<-a.done
				if !errors.Is(a.err, tc.want) || a.took != tc.took {
					t.Errorf("%v after %v, want %v after %v", a.err, a.took, tc.want, tc.took)
				}
				check(t, s)
				c.Release()
				check(t, s)
			})
		})
	}
}

func TestErrorsOfTheQueueAreForClients(t *testing.T) {
	for _, err := range []error{ErrWaitTimeout, ErrTooManyWaiters} {
		var e *pgwire.Error
		if !errors.As(err, &e) || e.Code != pgwire.CodeTooManyConnections || e.Hint == "" {
			t.Errorf("%v is not a 53300 with a hint", err)
		}
	}
}

func TestTheQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newServer(t)
		s := v.newSet(t, Limits{Size: 1, MaxWaiters: 2})
		c := acquire(t, s, alice)
		a, b := start(t.Context(), s, alice), start(t.Context(), s, alice)
		synctest.Wait()
		if _, err := s.Acquire(t.Context(), alice); !errors.Is(err, ErrTooManyWaiters) {
			t.Errorf("the third waiter of an identity: %v", err)
		}
		if _, err := s.Acquire(t.Context(), bob); !errors.Is(err, ErrTooManyWaiters) {
			t.Errorf("a waiter of another identity: %v", err)
		}
		c.Release()
		<-anyOf(a, b)
		c.Release()
		<-a.done
		<-b.done
		c.Release()
		check(t, s)
	})
}

func TestAConnectionHandedToSomebodyWhoLeavesIsNotLost(t *testing.T) {
	gone := errors.New("gone")
	for _, tc := range []struct {
		name   string
		reason error
		used   bool
	}{
		{"whose client is gone gives it back", gone, false},
		{"whose time is up uses it", ErrWaitTimeout, true},
	} {
		t.Run("a waiter "+tc.name, func(t *testing.T) {
			v := newServer(t)
			s := v.newSet(t, Limits{Size: 1})
			c := acquire(t, s, alice)
			var at place
			_, w, err := s.take(alice, &at)
			if w == nil || err != nil {
				t.Fatalf("not queued: %v", err)
			}
			c.Release() // to w, which at the same moment decides to leave
			got, err := s.leave(w, tc.reason)
			if tc.used && (got != c || err != nil) || !tc.used && (got != nil || !errors.Is(err, gone)) {
				t.Errorf("got %v, %v", got, err)
			}
			if tc.used {
				c.Release()
			}
			if st := stat(s, alice); st.Idle != 1 {
				t.Errorf("the connection is lost: %+v", st)
			}
			check(t, s)
		})
	}
}

func TestAWaiterHandedADeadConnectionKeepsItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newServer(t)
		s := v.newSet(t, Limits{Size: 1})
		c := acquire(t, s, alice)
		first := start(t.Context(), s, alice)
		synctest.Wait()
		second := start(t.Context(), s, alice)
		synctest.Wait()
		v.kill(c.PID())
		c.Release()
		synctest.Wait()
		if !first.over() || first.err != nil || first.conn == c || second.over() {
			t.Fatalf("the first waiter got %v, %v", first.conn, first.err)
		}
		first.conn.Release()
		<-second.done
		second.conn.Release()
		v.expectDials(t, 2)
	})
}

func TestAnIdleConnectionOfAnotherIdentityMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newServer(t)
		s := v.newSet(t, Limits{MaxServerConnections: 2})
		a, b := acquire(t, s, alice), acquire(t, s, alice)
		a.Release()
		wait(time.Second)
		b.Release()
		c := acquire(t, s, bob)
		if st := stat(s, alice); st.Idle != 1 || acquire(t, s, alice) != b {
			t.Errorf("the connection idle for longest was not the one closed: %+v", st)
		}
		late := start(t.Context(), s, carol)
		synctest.Wait()
		if late.over() {
			t.Fatal("a third connection was opened")
		}
		b.Release()
		<-late.done
		if late.err != nil || late.conn.Identity() != carol {
			t.Fatalf("carol got %v, %v", late.conn, late.err)
		}
		late.conn.Release()
		c.Release()
		if _, _, peak, _ := v.numbers(); peak != 2 {
			t.Errorf("the server saw %d connections at once", peak)
		}
		check(t, s)
	})
}

func TestASmallPoolGetsItsShareAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newServer(t)
		s := v.newSet(t, Limits{MaxServerConnections: 4})
		var held []*Conn
		for range 4 {
			held = append(held, acquire(t, s, alice))
		}
		var bobs, alices []*attempt
		for range 4 {
			bobs = append(bobs, start(t.Context(), s, bob))
			synctest.Wait()
		}
		for range 4 {
			alices = append(alices, start(t.Context(), s, alice))
			synctest.Wait()
		}
		for _, c := range held {
			c.Release()
			synctest.Wait()
			check(t, s)
		}
		for i := range 4 {
			if served := bobs[i].over(); served != (i < 2) {
				t.Errorf("bob's waiter %d served: %v", i, served)
			}
			if served := alices[i].over(); served != (i < 2) {
				t.Errorf("alice's waiter %d served: %v", i, served)
			}
		}
		if dials, _, peak, _ := v.numbers(); dials != 6 || peak != 4 {
			t.Errorf("%d dials, %d at once; want 6 and 4", dials, peak)
		}
		for _, queue := range [][]*attempt{bobs, alices} {
			for _, a := range queue {
				<-a.done
				a.conn.Release()
			}
		}
	})
}

func TestTheBudgetHoldsUnderLoad(t *testing.T) {
	const sessions, turns, budget = 200, 40, 10
	v := newServer(t)
	s := v.newSet(t, Limits{Size: 6, MaxServerConnections: budget})
	ids := []Identity{alice, bob, carol}
	var wg sync.WaitGroup
	for i := range sessions {
		wg.Go(func() {
			for range turns {
				id := ids[rand.IntN(len(ids))]
				c, err := s.Acquire(t.Context(), id)
				if err != nil {
					t.Errorf("session %d: %v", i, err)
					return
				}
				if c.Identity() != id {
					t.Errorf("session %d: a connection of %v", i, c.Identity())
				}
				switch rand.IntN(40) {
				case 0:
					c.Taint("test")
				case 1:
					c.Close()
				case 2:
					go func(l Lease) { _ = l.Cancel(context.Background()) }(c.Lease())
				}
				c.Release()
			}
		})
	}
	wg.Wait()
	check(t, s)
	if _, _, peak, _ := v.numbers(); peak > budget {
		t.Errorf("the server saw %d connections at once", peak)
	}
}

// pause lets virtual time pass inside a bubble.
func pause(d time.Duration) {
	<-time.NewTimer(d).C
}

// wait lets virtual time pass, and everybody do what they then do. For the test's own goroutine.
func wait(d time.Duration) {
	pause(d)
	synctest.Wait()
}

// anyOf is closed when the first of two attempts ends.
func anyOf(a, b *attempt) <-chan struct{} {
	out := make(chan struct{})
	go func() {
		defer close(out)
		select {
		case <-a.done:
		case <-b.done:
		}
	}()
	return out
}
