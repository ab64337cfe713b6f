//go:build unix

package pgwire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// ordinary hides what a connection is, so that it is read and written by its own methods.
type ordinary struct{ net.Conn }

// ways are the implementations over sockets: everything below holds for both, on every kind of socket.
var ways = []struct {
	name string
	wrap func(net.Conn) net.Conn
}{
	{"raw", func(c net.Conn) net.Conn { return c }},
	{"ordinary", func(c net.Conn) net.Conn { return ordinary{c} }},
}

// onSockets runs a test for every implementation and every kind of socket. ours is what a Reader or Writer gets, and
// socket the same without its wrapping.
func onSockets(t *testing.T, test func(t *testing.T, ours, socket, peer net.Conn)) {
	for _, network := range []string{"tcp", "unix"} {
		for _, way := range ways {
			t.Run(network+", "+way.name, func(t *testing.T) {
				socket, peer := sockets(t, network)
				test(t, way.wrap(socket), socket, peer)
			})
		}
	}
}

// sockets are two ends of a connection, closed at the end of the test.
func sockets(t testing.TB, network string) (a, b net.Conn) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err = net.Dial(network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = a.Close()
		_ = b.Close()
	})
	return a, b
}

// patience is longer than anything here takes, on the slowest machine.
const patience = 20 * time.Second

func bounded(t *testing.T, conns ...net.Conn) {
	t.Helper()
	for _, c := range conns {
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func TestPlainSocketsAreRaw(t *testing.T) {
	tcp, _ := sockets(t, "tcp")
	local, _ := sockets(t, "unix")
	pipe, _ := net.Pipe()
	defer pipe.Close()
	for _, tt := range []struct {
		name string
		conn net.Conn
		want bool
	}{
		{"TCP", tcp, hasRaw},
		{"Unix", local, hasRaw},
		{"a wrapped one", ordinary{tcp}, false},
		{"a pipe", pipe, false},
	} {
		if r, w := NewReader(tt.conn, nil, 0), NewWriter(tt.conn, 0); (r.raw.conn != nil) != tt.want || (w.raw.conn != nil) != tt.want {
			t.Errorf("%s: raw %v and %v, want %v", tt.name, r.raw.conn != nil, w.raw.conn != nil, tt.want)
		}
	}
}

func TestAnEndRightAfterTheDataIsSeen(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		for _, way := range ways {
			t.Run(network+", "+way.name, func(t *testing.T) {
				for range 300 {
					socket, peer := sockets(t, network)
					bounded(t, socket)
					var speaking sync.WaitGroup
					speaking.Go(func() {
						_, _ = peer.Write(frame('Z', "I"))
						_ = peer.Close()
					})
					r := NewReader(way.wrap(socket), nil, 64)
					mustNext(t, r, 'Z', 1)
					if _, _, err := r.Next(); err != io.EOF {
						t.Fatalf("Next() = %v, want io.EOF itself", err)
					}
					speaking.Wait()
					_ = socket.Close()
				}
			})
		}
	}
}

func TestAnEndWhileTheReadWaitsIsSeen(t *testing.T) {
	onSockets(t, func(t *testing.T, ours, socket, peer net.Conn) {
		bounded(t, socket)
		r := NewReader(ours, nil, 64)
		timer := time.AfterFunc(10*time.Millisecond, func() { _ = peer.Close() })
		defer timer.Stop()
		if _, _, err := r.Next(); err != io.EOF {
			t.Errorf("Next() = %v, want io.EOF itself", err)
		}
	})
}

func TestAResetSaysWhatNetSays(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			socket, peer := sockets(t, "tcp")
			bounded(t, socket)
			if err := errors.Join(peer.(*net.TCPConn).SetLinger(0), peer.Close()); err != nil {
				t.Fatal(err)
			}
			_, _, err := NewReader(way.wrap(socket), nil, 0).Next()
			var oe *net.OpError
			if !errors.Is(err, syscall.ECONNRESET) || !errors.As(err, &oe) || oe.Op != "read" || oe.Net != "tcp" || oe.Addr.String() != socket.RemoteAddr().String() {
				t.Errorf("Next() = %v (%#v)", err, oe)
			}
			w := NewWriter(way.wrap(socket), 0)
			w.Sync()
			err = w.Flush()
			if !errors.Is(err, syscall.EPIPE) || !errors.As(err, &oe) || oe.Op != "write" || oe.Source.String() != socket.LocalAddr().String() {
				t.Errorf("Flush() = %v", err)
			}
			if w.Sent() != 5 {
				t.Errorf("Sent() = %d, want the 5 bytes handed over", w.Sent())
			}
		})
	}
}

func TestHalfAConnectionGoesOn(t *testing.T) {
	onSockets(t, func(t *testing.T, ours, socket, peer net.Conn) {
		bounded(t, socket, peer)
		if err := peer.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := NewReader(ours, nil, 0).Next(); err != io.EOF {
			t.Errorf("Next() = %v, want io.EOF", err)
		}
		w := NewWriter(ours, 0)
		w.Query("select 1")
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		mustNext(t, NewReader(peer, nil, 0), 'Q', 9)
	})
}

// TestAWriteTakesAsLongAsThePeer makes every write a short one, under a storm of signals.
func TestAWriteTakesAsLongAsThePeer(t *testing.T) {
	onSockets(t, func(t *testing.T, ours, socket, peer net.Conn) {
		bounded(t, socket, peer)
		if err := socket.(interface{ SetWriteBuffer(int) error }).SetWriteBuffer(1); err != nil {
			t.Fatal(err)
		}
		stop := make(chan struct{})
		var busy sync.WaitGroup
		busy.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_ = syscall.Kill(os.Getpid(), syscall.SIGURG) // ignored by everybody, and interrupts system calls
				}
			}
		})
		want := filler(1 << 20)
		var got []byte
		busy.Go(func() {
			r := NewReader(peer, nil, 100)
			if _, _, err := r.Next(); err != nil {
				t.Error(err)
				return
			}
			body, err := r.Body()
			if err != nil {
				t.Error(err)
			}
			got = bytes.Clone(body)
		})
		w := NewWriter(ours, 64)
		w.Frame('d', []byte(want))
		if err := w.Flush(); err != nil {
			t.Error(err)
		}
		close(stop)
		busy.Wait()
		if string(got) != want {
			t.Errorf("%d bytes arrived, want %d the same", len(got), len(want))
		}
		if w.Sent() != 1<<20+5 {
			t.Errorf("Sent() = %d", w.Sent())
		}
	})
}

// TestAWriteAfterCloseReachesNobody closes a connection under a goroutine that writes to it, and opens others, which get
// its descriptor's number.
func TestAWriteAfterCloseReachesNobody(t *testing.T) {
	for range 200 {
		socket, peer := sockets(t, "tcp")
		bounded(t, peer)
		var busy sync.WaitGroup
		started := make(chan struct{})
		busy.Go(func() { _, _ = io.Copy(io.Discard, peer) })
		busy.Go(func() {
			w := NewWriter(socket, 64)
			w.Frame('D', []byte("somebody's row"))
			_ = w.Flush()
			close(started)
			for w.Err() == nil {
				w.Frame('D', []byte("somebody's row"))
				_ = w.Flush()
			}
		})
		<-started
		_ = socket.Close()
		next, other := sockets(t, "tcp")
		busy.Wait()
		if err := errors.Join(next.Close(), other.SetDeadline(time.Now().Add(patience))); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(other)
		if err != nil || len(got) > 0 {
			t.Fatalf("the next connection got %q, %v", got, err)
		}
		_ = other.Close()
		_ = peer.Close()
	}
}

func TestBothDirectionsAtOnce(t *testing.T) {
	onSockets(t, func(t *testing.T, ours, socket, peer net.Conn) {
		bounded(t, socket, peer)
		const rounds = 2000
		var busy sync.WaitGroup
		for _, c := range []net.Conn{ours, peer} {
			busy.Go(func() {
				w := NewWriter(c, 512)
				for i := range rounds {
					w.Frame('D', []byte(filler(i)))
				}
				if err := w.Flush(); err != nil {
					t.Error(err)
				}
			})
			busy.Go(func() {
				r := NewReader(c, nil, 512)
				for i := range rounds {
					if typ, n, err := r.Next(); err != nil || typ != 'D' || n != i {
						t.Errorf("Next() = %q, %d, %v; want %d", typ, n, err, i)
						return
					}
					if body, err := r.Body(); err != nil || string(body) != filler(i) {
						t.Errorf("Body() of %d: %d bytes, %v", i, len(body), err)
						return
					}
				}
			})
		}
		busy.Wait()
	})
}

func TestForwardBetweenSockets(t *testing.T) {
	onSockets(t, func(t *testing.T, ours, socket, peer net.Conn) {
		bounded(t, socket, peer)
		var stream []byte
		for _, n := range []int{0, 1, 11, 100, 5000, 0, 70000, 7} {
			stream = append(stream, frame('D', filler(n))...)
		}
		var busy sync.WaitGroup
		busy.Go(func() {
			if _, err := peer.Write(stream); err != nil {
				t.Error(err)
			}
		})
		r, out := NewReader(ours, nil, 512), script(nil, 0)
		w := NewWriter(out, 512)
		for range 8 {
			if _, _, err := r.Next(); err != nil {
				t.Fatal(err)
			}
			if err := r.Forward(w); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Flush(); err != nil || !bytes.Equal(out.written.Bytes(), stream) {
			t.Errorf("forwarded %d bytes, %v; want %d the same", out.written.Len(), err, len(stream))
		}
		busy.Wait()
	})
}
