package pool

import (
	"context"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// slowCancel makes the server hold every cancel until the returned function is called with its outcome, and counts.
func slowCancel(v *server) (finish func(error), sent func() int) {
	outcome := make(chan error)
	n := 0
	v.cancel = func(ctx context.Context, _ uint32, _ []byte) error {
		v.mu.Lock()
		n++
		v.mu.Unlock()
		select {
		case err := <-outcome:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return func(err error) { outcome <- err }, func() int {
		v.mu.Lock()
		defer v.mu.Unlock()
		return n
	}
}

func TestAConnectionWithACancelInFlightIsNotHandedOn(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		same bool
	}{
		{"until the server has seen to it", nil, true},
		{"and is closed if nobody knows what became of it", errRefused, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newServer(t)
				s := v.newSet(t, Limits{Size: 1})
				finish, _ := slowCancel(v)
				c := acquire(t, s, alice)
				result := make(chan error, 1)
				lease := c.Lease()
				go func() { result <- lease.Cancel(t.Context()) }()
				synctest.Wait()
				c.Release()
				a := start(t.Context(), s, alice)
				synctest.Wait()
				if a.over() {
					t.Fatal("handed on with a cancel in flight")
				}
				if st := stat(s, alice); st.InUse != 1 {
					t.Errorf("not counted as in use: %+v", st)
				}
				finish(tc.err)
				if err := <-result; !errors.Is(err, tc.err) {
					t.Errorf("cancel: %v", err)
				}
				<-a.done
				if same := a.conn == c; same != tc.same || a.err != nil {
					t.Errorf("handed on: %v, %v", same, a.err)
				}
				a.conn.Release()
				check(t, s)
			})
		})
	}
}

func TestSeveralCancelsAreAllWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newServer(t)
		s := v.newSet(t, Limits{})
		finish, _ := slowCancel(v)
		c := acquire(t, s, alice)
		for range 2 {
			go func(l Lease) { _ = l.Cancel(t.Context()) }(c.Lease())
		}
		synctest.Wait()
		c.Release()
		finish(nil)
		synctest.Wait()
		if st := stat(s, alice); st.Idle != 0 {
			t.Fatal("handed on with a cancel in flight")
		}
		finish(nil)
		synctest.Wait()
		if st := stat(s, alice); st.Idle != 1 {
			t.Errorf("not given back: %+v", st)
		}
	})
}

func TestALateLeaseDoesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newServer(t)
		s := v.newSet(t, Limits{})
		finish, sent := slowCancel(v)
		c := acquire(t, s, alice)
		late := c.Lease()
		c.Release()
		if err := late.Cancel(t.Context()); err != nil || sent() != 0 {
			t.Errorf("cancelled an idle connection: %v", err)
		}
		if acquire(t, s, alice) != c {
			t.Fatal("another connection was lent")
		}
		if err := late.Cancel(t.Context()); err != nil || sent() != 0 {
			t.Errorf("cancelled somebody else's statement: %v", err)
		}
		late.Release()
		late.Interrupt()
		if st := stat(s, alice); st.InUse != 1 || c.interrupted {
			t.Errorf("reached somebody else's lease: %+v", st)
		}
		go func(l Lease) { _ = l.Cancel(t.Context()) }(c.Lease())
		synctest.Wait()
		if sent() != 1 {
			t.Error("the holder's own cancel was not sent")
		}
		finish(nil)
		synctest.Wait()
		c.Release()
		Lease{}.Release()
		Lease{}.Interrupt()
		if err := (Lease{}).Cancel(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestACancelIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newServer(t)
		s := v.newSet(t, Limits{})
		slowCancel(v)
		c := acquire(t, s, alice)
		began := time.Now()
		if err := c.Lease().Cancel(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("cancel: %v", err)
		}
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("gave up after %v", took)
		}
		c.Release()
		v.expectOpen(t, 0)
	})
}

func TestCloseDuringACancelClosesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newServer(t)
		s := v.newSet(t, Limits{})
		finish, _ := slowCancel(v)
		c := acquire(t, s, alice)
		go func(l Lease) { _ = l.Cancel(t.Context()) }(c.Lease())
		synctest.Wait()
		c.Close()
		c.Release()
		finish(nil)
		synctest.Wait()
		v.expectOpen(t, 0)
		check(t, s)
		if s.mu.total != 0 {
			t.Errorf("%d places are lost", s.mu.total)
		}
	})
}

func TestACancelDuringCloseOfTheSetEndsInAClosedConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newServer(t)
		s := v.newSet(t, Limits{})
		finish, _ := slowCancel(v)
		c := acquire(t, s, alice)
		go func(l Lease) { _ = l.Cancel(t.Context()) }(c.Lease())
		synctest.Wait()
		c.Release()
		s.Close()
		finish(nil)
		synctest.Wait()
		v.expectOpen(t, 0)
	})
}

func TestInterruptWakesTheHolderWithoutLosingTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newServer(t)
		s := v.newSet(t, Limits{})
		c := acquire(t, s, alice)
		read := func() error {
			_, _, err := c.R.Next()
			return err
		}
		for range 2 {
			time.AfterFunc(time.Second, c.Lease().Interrupt)
			if err := read(); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("read: %v", err)
			}
			c.Resume()
		}
		c.Lease().Interrupt()
		c.Release() // resumes
		if acquire(t, s, alice) != c {
			t.Fatal("the connection was not kept")
		}
		time.AfterFunc(time.Second, func() { v.kill(c.PID()) })
		if err := read(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("reads do not block again: %v", err)
		}
		c.Close()
	})
}

func TestAnInterruptDoesNotOutliveTheLeaseOnASocket(t *testing.T) {
	s := loopback(t, Limits{})
	c := acquire(t, s, alice)
	c.Lease().Interrupt()
	c.Release()
	if acquire(t, s, alice) != c || c.interrupted {
		t.Error("the connection was not kept")
	}
	c.Release()
}
