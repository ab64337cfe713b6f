//go:build unix

package pgwire

import (
	"bytes"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

// FuzzSocket sends any bytes in pieces through sockets, read in both ways at once: both see the same frames, forward the
// same bytes and end with the same error, whatever timeouts come in between.
func FuzzSocket(f *testing.F) {
	f.Add(join(frame('Q', "select 1\x00"), frame('S', ""), frame('D', filler(100))), uint8(3), uint8(16), []byte{0, 1, 2, 3})
	f.Add(join(frame('D', filler(300)), frame('Z', "I"))[:200], uint8(50), uint8(40), []byte{4, 5})
	f.Add([]byte("Q\x00\x00\x00\x03"), uint8(1), uint8(0), []byte{})
	f.Fuzz(func(t *testing.T, stream []byte, piece, rsize uint8, handling []byte) {
		var outs [2][]byte
		var errs [2]error
		for i, way := range ways {
			a, b := pair(t)
			var speaking sync.WaitGroup
			speaking.Go(func() {
				for p := stream; len(p) > 0; {
					n := min(int(piece)+1, len(p))
					if _, err := b.Write(p[:n]); err != nil {
						break // the reader has given up
					}
					_ = a.SetReadDeadline(time.Unix(1, 0))
					p = p[n:]
				}
				_ = b.Close()
			})
			outs[i], errs[i] = forwardAll(t, NewReader(way.wrap(a), nil, int(rsize)), a, handling)
			_ = a.Close()
			speaking.Wait()
		}
		if !bytes.Equal(outs[0], outs[1]) || !bytes.HasPrefix(stream, outs[0]) {
			t.Fatalf("raw forwarded %q, ordinary %q of %q", outs[0], outs[1], stream)
		}
		if errs[0].Error() != errs[1].Error() {
			t.Fatalf("raw ended with %v, ordinary with %v", errs[0], errs[1])
		}
	})
}

// pair is two ends of a Unix socket.
func pair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		conns[i], err = net.FileConn(f)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return conns[0], conns[1]
}

// forwardAll forwards every frame, handled in the way given, again after each timeout; it returns what came out and the
// error that ended it.
func forwardAll(t *testing.T, r *Reader, c net.Conn, ways []byte) ([]byte, error) {
	out := script(nil, 0)
	w := NewWriter(out, 64)
	r.BodyLimit = 1 << 10
	again := func(do func() error) error {
		for {
			err := do()
			if !isTimeout(err) {
				return err
			}
			if err := c.SetReadDeadline(time.Time{}); err != nil {
				return err
			}
		}
	}
	for i := 0; ; i++ {
		err := again(func() error { _, _, err := r.Next(); return err })
		if err == nil && len(ways) > 0 {
			switch ways[i%len(ways)] % 3 {
			case 1:
				err = again(func() error { _, err := r.Peek(3); return err })
			case 2:
				err = again(func() error { _, err := r.Body(); return err })
				var e *Error
				if errors.As(err, &e) {
					err = nil // too large to be held, but not to be forwarded
				}
			}
		}
		if err == nil {
			forward := r.Forward
			if len(ways) > 1 && ways[1]%2 == 1 {
				forward = r.ForwardRun
			}
			err = again(func() error { return forward(w) })
		}
		if err != nil {
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			return out.written.Bytes(), err
		}
	}
}
