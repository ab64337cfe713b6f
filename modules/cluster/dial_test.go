package cluster

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairwaydb/fairway/modules/pgtest"
	"github.com/fairwaydb/fairway/modules/pgwire"
	"github.com/fairwaydb/fairway/modules/pool"
)

// serve runs serve for each connection to a listener of its own, one after the other, and returns its address.
func serve(t *testing.T, network string, serve func(net.Conn)) string {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), ".s.PGSQL.5432")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer func() { _ = c.Close() }()
				_ = c.SetDeadline(time.Now().Add(patience))
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		all.Wait()
	})
	return l.Addr().String()
}

// postgres is a server that lets everybody in.
func postgres(c net.Conn) {
	_ = pgtest.Run(c, pgtest.Accept(pgwire.Param{Name: "server_version", Value: "15.4"}), pgtest.ExpectTypes("X"))
}

// backendAt makes a backend of a cluster without a claim, its settings changed by change.
func backendAt(t *testing.T, address string, change ...func(*Settings)) *Backend {
	t.Helper()
	s := newSettings()
	for _, c := range change {
		c(s)
	}
	c := newCluster("dial", NewRegistry(nil))
	c.settings.Store(s)
	b := c.newBackend("pg1", address, nil)
	t.Cleanup(b.shut)
	return b
}

var alice = pool.Identity{User: "alice", Database: "app"}

func TestDialLogsInWithUserAndDatabaseOnly(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			startup := make(chan []pgwire.Param, 1)
			address := serve(t, network, func(c net.Conn) {
				_ = pgtest.Run(c, pgtest.Accept(pgwire.Param{Name: "server_version", Value: "15.4"}),
					pgtest.Do("note startup", func(p *pgtest.Peer) error {
						startup <- p.Startup.Params
						return nil
					}), pgtest.ExpectTypes("X"))
			})
			b := backendAt(t, address)
			conn, err := b.Acquire(t.Context(), alice)
			if err != nil {
				t.Fatal(err)
			}
			if conn.PID() != 4711 || conn.Param("server_version") != "15.4" || conn.Identity() != alice {
				t.Errorf("pid %d, version %q, identity %v", conn.PID(), conn.Param("server_version"), conn.Identity())
			}
			got := <-startup
			if len(got) != 2 || got[0] != (pgwire.Param{Name: "user", Value: "alice"}) || got[1] != (pgwire.Param{Name: "database", Value: "app"}) {
				t.Errorf("startup parameters are %v", got)
			}
			conn.Close()
		})
	}
}

func TestFailedDialsTellWhatHappened(t *testing.T) {
	for _, test := range []struct {
		name    string
		serve   func(net.Conn)
		want    string
		failure bool
	}{
		{"hangs up", func(net.Conn) {}, "ask backend pg1 for TLS", true},
		{"answers TLS with nonsense", func(c net.Conn) { skip(c); write(c, "X") }, "broke the protocol", true},
		{"refuses the user", func(c net.Conn) {
			_ = pgtest.Run(c, pgtest.AcceptStartup(), pgtest.Send(func(w *pgwire.Writer) {
				w.Error(pgwire.Fatalf(pgwire.CodeInvalidAuthorization, "no pg_hba.conf entry"))
			}))
		}, "no pg_hba.conf entry", false},
		{"starts up", func(c net.Conn) {
			_ = pgtest.Run(c, pgtest.AcceptStartup(), pgtest.Send(func(w *pgwire.Writer) {
				w.Error(pgwire.Fatalf(pgwire.CodeCannotConnectNow, "the database system is starting up"))
			}))
		}, "starting up", true},
		{"refuses after the login", func(c net.Conn) {
			_ = pgtest.Run(c, pgtest.AcceptStartup(), pgtest.Send(func(w *pgwire.Writer) {
				w.AuthenticationOK()
				w.Error(pgwire.Fatalf(pgwire.CodeTooManyConnections, "sorry, too many clients already"))
			}))
		}, "too many clients", false},
		{"hangs up after the login", func(c net.Conn) {
			_ = pgtest.Run(c, pgtest.AcceptStartup(), pgtest.Send(func(w *pgwire.Writer) { w.AuthenticationOK() }))
		}, "read startup reply", true},
		{"sends a row after the login", func(c net.Conn) {
			_ = pgtest.Run(c, pgtest.AcceptStartup(), pgtest.Send(func(w *pgwire.Writer) {
				w.AuthenticationOK()
				pgtest.DataRow(w, "1")
			}))
		}, "broke the protocol", true},
		{"sends a short key", func(c net.Conn) {
			_ = pgtest.Run(c, pgtest.AcceptStartup(), pgtest.Send(func(w *pgwire.Writer) {
				w.AuthenticationOK()
				w.Frame(pgwire.MsgBackendKeyData, []byte{1, 2})
			}))
		}, "BackendKeyData", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := backendAt(t, serve(t, "tcp", test.serve))
			_, err := b.Acquire(t.Context(), alice)
			if err == nil || !errors.As(err, new(*pool.DialError)) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want a dial error with %q", err, test.want)
			}
			if got := IsFailure(err); got != test.failure {
				t.Errorf("%v is a failure: %v", err, got)
			}
			if failed, _ := b.score.errors(Now(), time.Minute); (failed == 1) != test.failure {
				t.Errorf("%d failures were counted", failed)
			}
		})
	}
}

// skip reads an SSLRequest; write answers it.
func skip(c net.Conn)            { _, _ = io.ReadFull(c, make([]byte, 8)) }
func write(c net.Conn, s string) { _, _ = c.Write([]byte(s)) }

func TestADialIsBounded(t *testing.T) {
	address := serve(t, "tcp", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }) // never answers
	for _, mode := range []TLSMode{TLSDisable, TLSPrefer} {
		b := backendAt(t, address, func(s *Settings) { s.server.mode = mode })
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := b.Dial(ctx, alice); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("mode %d: error is %v", mode, err)
		}
	}
}

// headed gives bytes back that were read already.
type headed struct {
	net.Conn
	head []byte
}

func (r *headed) Read(p []byte) (int, error) {
	if len(r.head) > 0 {
		n := copy(p, r.head)
		r.head = r.head[n:]
		return n, nil
	}
	return r.Conn.Read(p)
}

func TestACancelGoesToTheSameServerAndWaitsForItsEnd(t *testing.T) {
	// A server of protocol 3.2 may have keys of this length.
	key := bytes.Repeat([]byte("0123456789abcdef"), pgwire.MaxCancelKey/16)
	cancelled := make(chan *pgwire.Startup, 1)
	handled := make(chan struct{})
	address := serve(t, "tcp", func(c net.Conn) {
		_ = pgtest.Run(c, pgtest.AcceptStartup(), pgtest.Do("serve", func(p *pgtest.Peer) error {
			if p.Startup.Kind == pgwire.KindCancel {
				cancelled <- p.Startup
				<-handled
				return nil
			}
			p.W.AuthenticationOK()
			p.W.BackendKeyData(4711, key)
			p.W.ReadyForQuery('I')
			if err := p.W.Flush(); err != nil {
				return err
			}
			_, _ = io.Copy(io.Discard, p.Conn)
			return nil
		}))
	})
	b := backendAt(t, address)
	conn, err := b.Acquire(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	lease := conn.Lease()
	go func() { done <- lease.Cancel(t.Context()) }()
	if s := <-cancelled; s.PID != 4711 || !bytes.Equal(s.Key, key) {
		t.Errorf("cancelled %d with key %v", s.PID, s.Key)
	}
	select {
	case err := <-done:
		t.Errorf("the cancel was over before the server had closed its connection: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	close(handled)
	if err := <-done; err != nil {
		t.Error(err)
	}
	conn.Close()
}
