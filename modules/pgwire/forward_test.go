package pgwire

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"
)

func TestForwardIsTheIdentity(t *testing.T) {
	var stream []byte
	for _, n := range []int{0, 1, 11, 12, 16, 100, 5, 1000, 0, 4000, 7} {
		stream = append(stream, frame('D', filler(n))...)
	}
	for _, rs := range []int{16, 100, 8192} {
		for _, ws := range []int{16, 64, 8192} {
			for _, piece := range []int{0, 1, 50} {
				t.Run(fmt.Sprintf("reader %d, writer %d, pieces of %d", rs, ws, piece), func(t *testing.T) {
					in, out := script(stream, piece), script(nil, 0)
					r, w := NewReader(in, nil, rs), NewWriter(out, ws)
					for i := 0; ; i++ {
						if _, n, err := r.Next(); err != nil {
							break
						} else if i%3 == 1 { // some are looked at first
							if body, err := r.Body(); err != nil || len(body) != n {
								t.Fatal(err)
							}
						}
						if err := r.Forward(w); err != nil {
							t.Fatal(err)
						}
					}
					if err := w.Flush(); err != nil || !bytes.Equal(out.written.Bytes(), stream) {
						t.Fatalf("forwarded %d bytes, %v; want %d the same", out.written.Len(), err, len(stream))
					}
					if w.Sent() != int64(len(stream)) {
						t.Errorf("Sent() = %d, want %d", w.Sent(), len(stream))
					}
				})
			}
		}
	}
}

func TestForwardBodyReplacesTheHead(t *testing.T) {
	for _, body := range []string{"old\x00rest", "old\x00" + filler(500), "old\x00"} {
		for _, look := range []bool{false, true} {
			in, out := script(join(frame('B', body), frame('S', "")), 11), script(nil, 0)
			r, w := NewReader(in, nil, 64), NewWriter(out, 32)
			mustNext(t, r, 'B', len(body))
			if look {
				if _, err := r.Body(); err != nil {
					t.Fatal(err)
				}
			}
			w.Head('B', len(body)+2)
			w.Raw([]byte("newer\x00"))
			if err := r.ForwardBody(w, len("old\x00")); err != nil {
				t.Fatal(err)
			}
			mustNext(t, r, 'S', 0)
			if err := errors.Join(r.Forward(w), w.Flush()); err != nil {
				t.Fatal(err)
			}
			want := join(frame('B', "newer\x00"+body[4:]), frame('S', ""))
			if !bytes.Equal(out.written.Bytes(), want) {
				t.Errorf("looked at: %v: got %q, want %q", look, out.written.Bytes(), want)
			}
		}
	}
	t.Run("an offset beyond the body is refused", func(t *testing.T) {
		r := NewReader(script(frame('B', "abc"), 0), nil, 64)
		mustNext(t, r, 'B', 3)
		for _, skip := range []int{4, -1} {
			if err := r.ForwardBody(NewWriter(script(nil, 0), 0), skip); !errors.Is(err, errSkip) {
				t.Errorf("ForwardBody(%d) = %v", skip, err)
			}
		}
		out := script(nil, 0)
		w := NewWriter(out, 0)
		if err := errors.Join(r.ForwardBody(w, 3), w.Flush()); err != nil || out.written.Len() != 0 {
			t.Errorf("ForwardBody at the end = %v, %q", err, out.written.Bytes())
		}
	})
}

func TestForwardSaysWhichSideBroke(t *testing.T) {
	broken := errors.New("broken")
	for _, n := range []int{5, 500} {
		t.Run(fmt.Sprintf("the reading side in a body of %d", n), func(t *testing.T) {
			in := &scriptConn{steps: []any{frame('D', filler(n))[:8], broken}}
			r, w := NewReader(in, nil, 64), NewWriter(script(nil, 0), 64)
			mustNext(t, r, 'D', n)
			err := r.Forward(w)
			var re *ReadError
			var we *WriteError
			if !errors.As(err, &re) || errors.As(err, &we) || !errors.Is(err, broken) {
				t.Errorf("Forward() = %v, want a *ReadError of it", err)
			}
		})
		t.Run(fmt.Sprintf("the writing side in a body of %d", n), func(t *testing.T) {
			in := script(join(frame('D', filler(n)), frame('D', filler(n)), frame('Z', "I")), 0)
			r, w := NewReader(in, nil, 64), NewWriter(&scriptConn{writeErr: broken}, 64)
			mustNext(t, r, 'D', n)
			err := errors.Join(r.Forward(w), w.Flush())
			var re *ReadError
			var we *WriteError
			if errors.As(err, &re) || !errors.As(err, &we) || !errors.Is(err, broken) {
				t.Errorf("Forward() = %v, want a *WriteError of it", err)
			}
			mustNext(t, r, 'D', n)
			if err := r.Forward(w); !errors.As(err, &we) {
				t.Errorf("the next Forward() = %v", err)
			}
			if err := r.ForwardBody(w, 0); !errors.As(err, &we) {
				t.Errorf("the next ForwardBody() = %v", err)
			}
			mustNext(t, r, 'Z', 1) // the reading side can still be read to the end of the turn
		})
	}
}

func TestForwardOfASmallFrameIsAllOrNothing(t *testing.T) {
	in := &scriptConn{steps: []any{frame('D', "abcdef")[:8], os.ErrDeadlineExceeded, frame('D', "abcdef")[8:]}}
	r, w := NewReader(in, nil, 64), NewWriter(script(nil, 0), 64)
	mustNext(t, r, 'D', 6)
	if err := r.Forward(w); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("Forward() = %v, want the timeout", err)
	}
	if w.Len() != 0 {
		t.Fatalf("%d bytes of a cut frame are collected", w.Len())
	}
	if err := r.Forward(w); err != nil || w.Len() != 11 {
		t.Fatalf("Forward() again = %v, %d bytes", err, w.Len())
	}
}

func TestForwardHoldsOneBuffer(t *testing.T) {
	const n = 64 << 20
	c := &loopConn{stream: frame('D', filler(n))}
	r, w := NewReader(c, nil, 16<<10), NewWriter(c, 16<<10)
	per := testing.AllocsPerRun(2, func() {
		if _, _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(r.Forward(w), w.Flush()); err != nil {
			t.Fatal(err)
		}
	})
	if per > 10 || r.large != nil || len(r.buf) != 16<<10 {
		t.Errorf("a frame of 64 MiB took %v allocations; buffer of %d", per, len(r.buf))
	}
}

func TestTruncateLeavesNoCutFrame(t *testing.T) {
	t.Run("frames collected are dropped whole", func(t *testing.T) {
		out := script(nil, 0)
		w := NewWriter(out, 100)
		w.Frame('1', nil)
		mark, sent := w.Len(), w.Sent()
		w.Frame('2', []byte("abc"))
		if w.Sent() != sent {
			t.Fatal("written too early")
		}
		w.Truncate(mark)
		w.Truncate(1000)
		w.Frame('3', nil)
		if err := w.Flush(); err != nil || !bytes.Equal(out.written.Bytes(), join(frame('1', ""), frame('3', ""))) {
			t.Errorf("wrote %q, %v", out.written.Bytes(), err)
		}
	})
	large := frame('D', filler(150))
	for name, conn := range map[string]*scriptConn{
		"the tail of a frame that is partly written stays": script(large, 0),
		"also when its forwarding was interrupted":         {steps: []any{large[:100], os.ErrDeadlineExceeded, large[100:]}},
	} {
		t.Run(name, func(t *testing.T) {
			out := script(nil, 0)
			r, w := NewReader(conn, nil, 32), NewWriter(out, 40)
			mustNext(t, r, 'D', 150)
			for err := r.Forward(w); err != nil; err = r.Forward(w) {
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatal(err)
				}
			}
			if w.Len() == 0 {
				t.Fatal("nothing is collected: the test tests nothing")
			}
			mark := w.Len()
			w.Frame('N', nil)
			w.Truncate(0)
			if w.Len() != mark {
				t.Errorf("%d bytes are left, want %d", w.Len(), mark)
			}
			if err := w.Flush(); err != nil || !bytes.Equal(out.written.Bytes(), large) {
				t.Errorf("wrote %q, %v", out.written.Bytes(), err)
			}
		})
	}
}
