package pool

import (
	"context"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

func TestAcquireLendsTheConnectionUsedLast(t *testing.T) {
	v := newServer(t)
	s := v.newSet(t, Limits{})
	a, b := acquire(t, s, alice), acquire(t, s, alice)
	a.Release()
	b.Release()
	if c := acquire(t, s, alice); c != b {
		t.Error("lent the connection that was idle for longer")
	}
	if c := acquire(t, s, alice); c != a {
		t.Error("did not lend the second idle connection")
	}
	v.expectDials(t, 2)
	a.Release()
	b.Release()
	check(t, s)
}

func TestConnectionsAreNotSharedBetweenIdentities(t *testing.T) {
	v := newServer(t)
	s := v.newSet(t, Limits{})
	a := acquire(t, s, alice)
	a.Release()
	b := acquire(t, s, bob)
	if a == b || b.Identity() != bob {
		t.Errorf("bob got a connection of %v", b.Identity())
	}
	b.Release()
	if c := acquire(t, s, alice); c != a {
		t.Error("alice's connection is gone")
	}
	a.Release()
}

func TestReleaseDecidesWhetherAConnectionIsLentAgain(t *testing.T) {
	broken := func(c *Conn) {
		_ = c.nc.Close()
		c.W.Raw([]byte("x"))
		_ = c.W.Flush()
	}
	for _, tc := range []struct {
		name string
		use  func(s *Set, c *Conn)
		want reason
	}{
		{"a clean connection is kept", func(*Set, *Conn) {}, reasonNone},
		{"a tainted one is closed", func(_ *Set, c *Conn) { c.Taint("temporary table") }, reasonTainted},
		{"one inside a transaction is closed", func(_ *Set, c *Conn) { c.SetStatus('T') }, reasonStatus},
		{"one inside a failed transaction is closed", func(_ *Set, c *Conn) { c.SetStatus('E') }, reasonStatus},
		{"one with replies outstanding is closed", func(_ *Set, c *Conn) { c.SetStatus(0) }, reasonStatus},
		{"one whose write failed is closed", func(_ *Set, c *Conn) { broken(c) }, reasonBroken},
		{"one with unsent bytes is closed", func(_ *Set, c *Conn) { c.W.Raw([]byte("x")) }, reasonPending},
		{"one closed by its holder is gone", func(_ *Set, c *Conn) { c.Close() }, reasonClosed},
		{"one opened before Retire is closed", func(s *Set, _ *Conn) { s.Retire() }, reasonRetired},
		{"one beyond its lifetime is closed", func(*Set, *Conn) { pause(67 * time.Minute) }, reasonLifetime},
		{"one beyond the size is closed", func(s *Set, _ *Conn) {
			c, _ := s.Acquire(context.Background(), alice)
			s.SetLimits(Limits{Size: 1})
			c.Release()
		}, reasonNone},
		{"one of a closed set is closed", func(s *Set, _ *Conn) { s.Close() }, reasonShutdown},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newServer(t)
				s := v.newSet(t, Limits{MaxLifetime: time.Hour})
				before := closings(s.metrics)
				c := acquire(t, s, alice)
				tc.use(s, c)
				c.Release()
				c.Release()
				check(t, s)
				if kept := stat(s, alice).Idle == 1; kept != (tc.want == reasonNone) {
					t.Errorf("kept: %v", kept)
				}
				if tc.want != reasonNone {
					v.expectOpen(t, 0)
					if after := closings(s.metrics); after[tc.want] != before[tc.want]+1 {
						t.Errorf("not counted as %q: %v", tc.want, after)
					}
				}
			})
		})
	}
}

func TestTerminateIsSentOnlyBetweenMessages(t *testing.T) {
	for _, tc := range []struct {
		name string
		use  func(*Conn)
		want string
	}{
		{"a tainted connection is told goodbye", func(c *Conn) { c.Taint("x") }, "X\x00\x00\x00\x04"},
		{"one with replies outstanding is just closed", func(c *Conn) { c.SetStatus(0) }, ""},
		{"one with half a batch collected is just closed", func(c *Conn) { c.W.Raw([]byte("Q")) }, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newServer(t)
				c := acquire(t, v.newSet(t, Limits{}), alice)
				tc.use(c)
				c.Release()
				synctest.Wait()
				v.mu.Lock()
				defer v.mu.Unlock()
				if got := v.said[c.PID()]; got != tc.want {
					t.Errorf("the server read %q, want %q", got, tc.want)
				}
			})
		})
	}
}

func TestADeadIdleConnectionIsReplacedUnseen(t *testing.T) {
	v := newServer(t)
	s := v.newSet(t, Limits{})
	a, b := acquire(t, s, alice), acquire(t, s, alice)
	a.Release()
	b.Release()
	v.kill(b.PID())
	if c := acquire(t, s, alice); c != a {
		t.Error("did not lend the live one")
	}
	v.expectDials(t, 2)
	a.Release()
	v.kill(a.PID())
	c := acquire(t, s, alice)
	if c == a || c == b {
		t.Error("lent a dead connection")
	}
	v.expectDials(t, 3)
	c.Release()
	v.expectOpen(t, 1)
	check(t, s)
}

func TestABurstOfDeadConnectionsRetiresTheirGeneration(t *testing.T) {
	v := newServer(t)
	s := v.newSet(t, Limits{})
	a, b, leased := acquire(t, s, alice), acquire(t, s, alice), acquire(t, s, alice)
	other := acquire(t, s, bob)
	other.Release()
	a.Release()
	b.Release()
	v.kill(a.PID(), b.PID())
	c := acquire(t, s, alice)
	if got := stat(s, bob).Open; got != 0 {
		t.Errorf("%d connections of the other identity are left", got)
	}
	leased.Release()
	if got := stat(s, alice); got.Open != 1 || got.InUse != 1 {
		t.Errorf("a connection of the old generation was kept: %+v", got)
	}
	c.Release()
	if got := acquire(t, s, alice); got != c {
		t.Error("the new connection was not kept")
	}
	c.Release()
}

// tcpDialer dials a listener on the loopback device, where peeking works on the socket itself.
type tcpDialer struct{ address string }

func (d tcpDialer) Dial(ctx context.Context, id Identity) (*Conn, error) {
	var nd net.Dialer
	c, err := nd.DialContext(ctx, "tcp", d.address)
	if err != nil {
		return nil, err
	}
	return NewConn(c, pgwire.NewReader(c, nil, 4096), pgwire.NewWriter(c, 4096), id, 1, nil, nil, nil), nil
}

func (tcpDialer) Report(error) {}

func TestAConnectionOutsideASet(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	go func() { _, _ = io.Copy(io.Discard, theirs) }()
	cancels := 0
	c := NewConn(ours, pgwire.NewReader(ours, nil, 4096), pgwire.NewWriter(ours, 4096), alice, 7, nil, nil,
		func(context.Context, uint32, []byte) error { cancels++; return nil })
	lease := c.Lease()
	if err := lease.Cancel(t.Context()); err != nil || cancels != 1 {
		t.Errorf("cancel: %v, %d sent", err, cancels)
	}
	c.Release()
	c.Close()
	if err := lease.Cancel(t.Context()); err != nil || cancels != 1 {
		t.Errorf("cancel of a released connection: %v, %d sent", err, cancels)
	}
	if _, err := ours.Write([]byte("x")); err == nil {
		t.Error("the connection is still open")
	}
}

func TestStateKeptOnAConnection(t *testing.T) {
	v := newServer(t)
	s := v.newSet(t, Limits{StatementCache: 2})
	c := acquire(t, s, alice)
	c.SetParam("TimeZone", "UTC")
	c.SetParam("server_version", "17.1")
	c.SetApplied("key")
	c.SetUnnamed(42)
	c.Learn("a")
	c.Release()
	c = acquire(t, s, alice)
	defer c.Release()
	if c.Param("TimeZone") != "UTC" || c.Param("server_version") != "17.1" || c.Param("unheard") != "" {
		t.Error("parameters are lost")
	}
	if c.Applied() != "key" || c.Unnamed() != 42 || c.PID() != 1 || c.Status() != 'I' || c.Tainted() != "" {
		t.Error("state is lost")
	}
	c.Learn("b")
	if !c.Knows("a") || c.Knows("c") {
		t.Error("statements are lost")
	}
	if got := c.Learn("c"); len(got) != 1 || got[0] != "b" {
		t.Errorf("evicted %v, want b", got)
	}
	c.Forget("a")
	if c.Knows("a") || !c.Knows("c") {
		t.Error("forgot the wrong statement")
	}
	c.ForgetAll()
	if c.Knows("c") {
		t.Error("did not forget all")
	}
}
