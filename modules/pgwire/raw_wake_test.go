//go:build unix

package pgwire

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

func TestADeadlineWakesAReadAndLosesNothing(t *testing.T) {
	onSockets(t, func(t *testing.T, ours, socket, peer net.Conn) {
		r := NewReader(ours, nil, 64)
		stream := join(frame('D', "abcdef"), frame('Z', "I"))
		for _, cut := range []int{0, 3, 8} { // between two frames, in a header, in a body
			if _, err := peer.Write(stream[:cut]); err != nil {
				t.Fatal(err)
			}
			for _, early := range []bool{true, false} { // the deadline has passed already, or passes in the read
				at := time.Now().Add(-time.Second)
				if !early {
					at = time.Now().Add(10 * time.Millisecond)
				}
				if err := socket.SetReadDeadline(at); err != nil {
					t.Fatal(err)
				}
				_, _, err := r.Next()
				if err == nil {
					_, err = r.Body()
				}
				if !isTimeout(err) || !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatalf("cut at %d: %v, want a timeout", cut, err)
				}
			}
			bounded(t, socket)
			if _, err := peer.Write(stream[cut:]); err != nil {
				t.Fatal(err)
			}
			if cut < 8 {
				mustNext(t, r, 'D', 6)
			}
			if body, err := r.Body(); err != nil || string(body) != "abcdef" {
				t.Fatalf("cut at %d: Body() = %q, %v", cut, body, err)
			}
			mustNext(t, r, 'Z', 1)
			if body, err := r.Body(); err != nil || string(body) != "I" {
				t.Fatalf("cut at %d: Body() = %q, %v", cut, body, err)
			}
		}
	})
}

// TestAnotherGoroutineWakes parks a read or a write, which must end in the way given.
func TestAnotherGoroutineWakes(t *testing.T) {
	park := map[string]func(c net.Conn) error{
		"a read": func(c net.Conn) error { _, _, err := NewReader(c, nil, 0).Next(); return err },
		"a write": func(c net.Conn) error {
			w := NewWriter(c, 0)
			for w.Err() == nil { // nobody reads: the socket is full soon
				w.Raw(make([]byte, 64<<10))
			}
			return w.Flush()
		},
	}
	wake := map[string]struct {
		do   func(c net.Conn) error
		want error
	}{
		"by a deadline": {func(c net.Conn) error { return c.SetDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
		"by Close":      {net.Conn.Close, net.ErrClosed},
	}
	for what, block := range park {
		for how, end := range wake {
			t.Run(what+" "+how, func(t *testing.T) {
				onSockets(t, func(t *testing.T, ours, socket, _ net.Conn) {
					ended := make(chan error, 1)
					go func() { ended <- block(ours) }()
					select {
					case err := <-ended:
						t.Fatalf("ended by itself: %v", err)
					case <-time.After(30 * time.Millisecond):
					}
					if err := end.do(socket); err != nil {
						t.Fatal(err)
					}
					select {
					case err := <-ended:
						var oe *net.OpError
						if !errors.Is(err, end.want) || !errors.As(err, &oe) || oe.Op != what[2:] {
							t.Errorf("ended with %v, want %v of a %s", err, end.want, what[2:])
						}
					case <-time.After(patience):
						t.Fatal("still waits")
					}
				})
			})
		}
	}
}
