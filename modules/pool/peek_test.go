package pool

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

func TestPeekingAtASocket(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(server *net.TCPConn) error
		want heard
	}{
		{"a silent server is fine", func(*net.TCPConn) error { return nil }, heardNothing},
		{"words are heard", func(c *net.TCPConn) error { _, err := c.Write([]byte("E")); return err }, heardWords},
		{"the end is heard", func(c *net.TCPConn) error { return c.Close() }, heardEnd},
		{"a reset is heard", func(c *net.TCPConn) error { return errors.Join(c.SetLinger(0), c.Close()) }, heardEnd},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			s := NewSet(tcpDialer{l.Addr().String()}, Limits{}, nil)
			defer s.Close()
			c := acquire(t, s, alice)
			theirs, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer theirs.Close()
			if got := c.listen(); got != heardNothing {
				t.Fatalf("heard %d before anything happened", got)
			}
			if err := tc.do(theirs.(*net.TCPConn)); err != nil {
				t.Fatal(err)
			}
			if got := eventually(c, tc.want); got != tc.want {
				t.Errorf("heard %d, want %d", got, tc.want)
			}
			c.Release()
			if same := acquire(t, s, alice) == c; same != (tc.want == heardNothing) {
				t.Errorf("lent again: %v", same)
			}
		})
	}
}

func TestPeekingIsSparedARepeatableRequestOnAConnectionThatWasJustUsed(t *testing.T) {
	for _, tc := range []struct {
		name    string
		acquire func(*Set, context.Context, Identity) (*Conn, error)
		idle    time.Duration
		peeks   bool
	}{
		{"one that can be repeated, at once", (*Set).AcquireRepeatable, 0, false},
		{"one that can be repeated, later", (*Set).AcquireRepeatable, justUsed, true},
		{"any other, at once", (*Set).Acquire, 0, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newServer(t)
				s := v.newSet(t, Limits{Size: 1})
				s.justUsed = justUsed
				c := acquire(t, s, alice)
				c.Release()
				v.kill(1)
				<-time.After(tc.idle)
				c, err := tc.acquire(s, t.Context(), alice)
				if err != nil {
					t.Fatal(err)
				}
				if peeked := c.PID() != 1; peeked != tc.peeks {
					t.Errorf("a connection that had died was peeked at: %v, want %v", peeked, tc.peeks)
				}
				c.Release()
				s.Close()
				v.swallow.Wait()
			})
		})
	}
}

// eventually peeks until the kernel has delivered what is expected, for a second at most.
func eventually(c *Conn, want heard) heard {
	got := c.listen()
	for began := time.Now(); got != want && time.Since(began) < time.Second; {
		got = c.listen()
	}
	return got
}

func TestPeekingThroughTLS(t *testing.T) {
	ready, notice := []byte("Z\x00\x00\x00\x05I"), []byte("N\x00\x00\x00\x05\x00")
	for _, tc := range []struct {
		name string
		say  func(server *tls.Conn, wire *batch)
		want heard
	}{
		{"a silent server is fine", func(c *tls.Conn, _ *batch) { c.Write(ready) }, heardNothing},
		{"a record that waits in the socket is heard", func(c *tls.Conn, _ *batch) {
			c.Write(ready)
			c.Write(notice)
		}, heardWords},
		{"a record that the TLS layer has read along is heard", func(c *tls.Conn, wire *batch) {
			wire.hold()
			c.Write(ready)
			c.Write(notice)
			wire.send()
		}, heardWords},
		{"a message of the same record is heard", func(c *tls.Conn, _ *batch) { c.Write(append(ready, notice...)) }, heardWords},
		{"the end is heard", func(c *tls.Conn, _ *batch) {
			c.Write(ready)
			c.Close()
		}, heardEnd},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, server, wire := encrypted(t)
			tc.say(server, wire)
			if _, _, err := c.R.Next(); err != nil {
				t.Fatal(err)
			}
			if _, err := c.R.Body(); err != nil {
				t.Fatal(err)
			}
			got := eventually(c, tc.want)
			if got == heardWords && tc.want == heardEnd {
				got = heardEnd // the goodbye of TLS is a record as well
			}
			if got != tc.want {
				t.Errorf("heard %d, want %d", got, tc.want)
			}
			c.Release()
		})
	}
}

// batch is a connection that can hold writes back and send them in one piece.
type batch struct {
	net.Conn
	mu   sync.Mutex
	held []byte
	on   bool
}

func (b *batch) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.on {
		b.held = append(b.held, p...)
		return len(p), nil
	}
	return b.Conn.Write(p)
}

func (b *batch) hold() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.on = true
}

func (b *batch) send() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.on = false
	_, _ = b.Conn.Write(b.held)
}

// encrypted returns a server connection over TLS and the server's end of it.
func encrypted(tb testing.TB) (*Conn, *tls.Conn, *batch) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	ours, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	theirs, err := l.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	wire := &batch{Conn: theirs}
	server := tls.Server(wire, &tls.Config{
		Certificates:           []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}},
		SessionTicketsDisabled: true, // as PostgreSQL does
	})
	client := tls.Client(ours, &tls.Config{InsecureSkipVerify: true})
	done := make(chan error, 1)
	go func() { done <- server.Handshake() }()
	if err := errors.Join(client.Handshake(), <-done); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = client.Close()
		_ = server.Close()
	})
	return NewConn(client, pgwire.NewReader(client, nil, 4096), pgwire.NewWriter(client, 4096), alice, 1, nil, nil, nil), server, wire
}

func BenchmarkPeekThroughTLS(b *testing.B) {
	c, _, _ := encrypted(b)
	b.ReportAllocs()
	for b.Loop() {
		if c.listen() != heardNothing {
			b.Fatal("heard something")
		}
	}
}
