package session

import (
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/fairwaydb/fairway/modules/cluster"
)

// wire lies between the proxy and a PostgreSQL server, and can be cut as soon as the server has ended a transaction.
type wire struct {
	armed atomic.Bool
	cut   chan struct{}
}

// startWire listens until the test ends.
func startWire(t *testing.T, server string) (w *wire, addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w = &wire{cut: make(chan struct{}, 1)}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", server)
			if err != nil {
				_ = near.Close()
				continue
			}
			all.Go(func() {
				_, _ = io.Copy(far, near)
				_ = far.Close()
			})
			all.Go(func() { w.back(near, far) })
		}
	})
	t.Cleanup(all.Wait)
	t.Cleanup(func() { _ = l.Close() })
	return w, l.Addr().String()
}

// back passes on what the server says. Once armed it hangs up after the next ReadyForQuery that ends a transaction of a client's.
func (w *wire) back(near, far net.Conn) {
	defer near.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := far.Read(buffer)
		if _, failed := near.Write(buffer[:n]); failed != nil || err != nil {
			return
		}
		if said := string(buffer[:n]); strings.HasSuffix(said, "Z\x00\x00\x00\x05I") && strings.Contains(said, "marked") && w.armed.CompareAndSwap(true, false) {
			_ = near.Close()
			w.cut <- struct{}{}
			return
		}
	}
}

// The server connection dies in the moment after its transaction, and the client comes back at once.
func TestADeathThatCouldBeReadIsNotSeenHoweverSoonTheNextStatementComes(t *testing.T) {
	w, addr := startWire(t, pg.Primary().Addr())
	p := startProxy(t, pg, func(c *cluster.Config, o *Options) {
		toPrimary(c, o)
		c.Backends["pg1"].Address = addr
	})
	c := p.connect(t, "")
	table(t, p, c, "deaths", "a int")
	for _, sql := range []string{"insert into deaths values (1)", "select a from deaths limit 0", "begin; insert into deaths values (1); commit"} {
		for range 10 {
			exec(t, c, "select 'marked'")
			w.armed.Store(true)
			exec(t, c, "select 'marked'")
			<-w.cut
			if _, err := c.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
	}
	if n := value[int](t, c, "select count(*) from deaths"); n != 20 {
		t.Errorf("%d rows, want 20", n)
	}
}
