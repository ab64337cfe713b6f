package pool

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

func TestAFailedDial(t *testing.T) {
	refusal := func(code string) error {
		return fmt.Errorf("log in: %w", pgwire.Fatalf(code, "no"))
	}
	for _, tc := range []struct {
		name    string
		err     error
		leased  bool
		atOnce  bool
		refused string // SQLSTATE that must show through
	}{
		{"fails the waiters of an empty pool at once", errRefused, false, true, ""},
		{"fails the waiters at once although connections are in use: nothing was sent", errRefused, true, true, ""},
		{"by a wrong password fails all waiters", refusal("28P01"), true, true, "28P01"},
		{"by pg_hba fails all waiters", refusal("28000"), true, true, "28000"},
		{"by a missing database fails all waiters", refusal("3D000"), true, true, "3D000"},
		{"by a missing privilege fails all waiters", refusal("42501"), true, true, "42501"},
		{"by a full server leaves waiters to the connections in use", refusal("53300"), true, false, ""},
		{"by a full server shows the server's error when nobody else can serve", refusal("53300"), false, true, "53300"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newServer(t)
				s := v.newSet(t, Limits{})
				var c *Conn
				if tc.leased {
					c = acquire(t, s, alice)
				}
				v.refuse(tc.err)
				a, b := start(t.Context(), s, alice), start(t.Context(), s, alice)
				synctest.Wait()
				if a.over() != tc.atOnce || b.over() != tc.atOnce {
					t.Fatalf("over: %v, %v", a.over(), b.over())
				}
				check(t, s)
				if !tc.atOnce {
					c.Release()
					<-anyOf(a, b)
					c.Release()
					<-a.done
					<-b.done
					if a.conn != c || b.conn != c {
						t.Errorf("not served by the connection in use: %v, %v", a.err, b.err)
					}
				} else {
					expectDialError(t, a.err, tc.err, tc.refused)
					expectDialError(t, b.err, tc.err, tc.refused)
				}
				if c != nil {
					c.Release()
				}
				if _, _, _, reports := v.numbers(); reports == 0 {
					t.Error("not reported")
				}
				check(t, s)
			})
		})
	}
}

func expectDialError(t *testing.T, err, want error, code string) {
	t.Helper()
	var d *DialError
	if !errors.As(err, &d) || !errors.Is(err, want) {
		t.Errorf("%v is no DialError of %v", err, want)
	}
	var e *pgwire.Error
	if code != "" && (!errors.As(err, &e) || e.Code != code) {
		t.Errorf("%v does not show %s", err, code)
	}
}

func TestAPoolThatCannotDialTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newServer(t)
		s := v.newSet(t, Limits{})
		c := acquire(t, s, alice)
		v.refuse(pgwire.Fatalf(pgwire.CodeTooManyConnections, "full"))
		var queue []*attempt
		for range 10 {
			queue = append(queue, start(t.Context(), s, alice))
			synctest.Wait()
		}
		v.expectDials(t, 2) // one more, not one per waiter
		s.Upkeep(time.Now())
		synctest.Wait()
		v.expectDials(t, 3)
		v.refuse(nil)
		s.Upkeep(time.Now())
		for _, a := range queue {
			<-a.done
			if a.err != nil {
				t.Fatal(a.err)
			}
			a.conn.Release()
		}
		c.Release()
		check(t, s)
	})
}

func TestWaitersAreFailedWhenTheLastConnectionInUseIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newServer(t)
		s := v.newSet(t, Limits{})
		c := acquire(t, s, alice)
		full := pgwire.Fatalf(pgwire.CodeTooManyConnections, "full")
		v.refuse(full)
		a := start(t.Context(), s, alice)
		synctest.Wait()
		if a.over() {
			t.Fatal("did not wait for the connection in use")
		}
		c.Close()
		synctest.Wait()
		if !a.over() {
			t.Fatal("waits for nothing")
		}
		expectDialError(t, a.err, full, pgwire.CodeTooManyConnections)
		check(t, s)
	})
}

func TestDialsAreBounded(t *testing.T) {
	hang := func(ctx context.Context, _ Identity) error {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	t.Run("by the connect timeout", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			v := newServer(t)
			v.answer(hang)
			a := start(t.Context(), v.newSet(t, Limits{}), alice)
			<-a.done
			expectDialError(t, a.err, context.DeadlineExceeded, "")
			if a.took != 5*time.Second {
				t.Errorf("gave up after %v", a.took)
			}
		})
	})
	t.Run("by Close, which waits and does not report", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			v := newServer(t)
			v.answer(hang)
			s := v.newSet(t, Limits{})
			a := start(t.Context(), s, alice)
			synctest.Wait()
			s.Close()
			if _, open, _, reports := v.numbers(); open != 0 || reports != 0 {
				t.Errorf("%d dials run, %d reported", open, reports)
			}
			<-a.done
			expectDialError(t, a.err, ErrClosed, "")
			if _, err := s.Acquire(t.Context(), alice); !errors.Is(err, ErrClosed) {
				t.Errorf("acquire of a closed set: %v", err)
			}
		})
	})
}

func TestADialThatSucceedsTooLate(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(s *Set, cancel context.CancelFunc)
		idle int
		open int
	}{
		{"for a waiter that left leaves an idle connection", func(_ *Set, cancel context.CancelFunc) { cancel() }, 1, 1},
		{"for a closed set is closed", func(s *Set, _ context.CancelFunc) { go s.Close() }, 0, 0},
		{"for a retired generation is closed, and another one opened", func(s *Set, _ context.CancelFunc) { s.Retire() }, 0, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newServer(t)
				v.answer(func(context.Context, Identity) error { pause(time.Second); return nil })
				s := v.newSet(t, Limits{})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				a := start(ctx, s, alice)
				synctest.Wait()
				tc.do(s, cancel)
				<-a.done
				wait(time.Minute)
				if st := stat(s, alice); st.Idle != tc.idle {
					t.Errorf("idle: %d, want %d", st.Idle, tc.idle)
				}
				v.expectOpen(t, tc.open)
				check(t, s)
				if a.conn != nil {
					a.conn.Release()
				}
			})
		})
	}
}

func TestADialerThatReturnsNothingIsAnError(t *testing.T) {
	s := NewSet(emptyDialer{}, Limits{}, nil)
	defer s.Close()
	_, err := s.Acquire(t.Context(), alice)
	expectDialError(t, err, errNoConn, "")
}

type emptyDialer struct{}

func (emptyDialer) Dial(context.Context, Identity) (*Conn, error) { return nil, nil } // against the rules
func (emptyDialer) Report(error)                                  {}
