package pgwire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
)

func TestARunOfFramesIsForwardedAsItIs(t *testing.T) {
	var stream []byte
	for _, n := range []int{0, 3, 50, 0, 11, 5000, 2, 2, 700, 16, 17, 0} {
		stream = join(stream, frame('D', filler(n)), frame('D', filler(n/2)), frame('D', filler(n+1)), frame('C', "tag"), frame('D', ""))
	}
	for _, rs := range []int{16, 100, 1024, 64 << 10} {
		for _, ws := range []int{16, 64, 16 << 10} {
			for _, piece := range []int{0, 1, 50, 1000} {
				t.Run(fmt.Sprintf("reader %d, writer %d, pieces of %d", rs, ws, piece), func(t *testing.T) {
					out := script(nil, 0)
					r, w := NewReader(script(stream, piece), nil, rs), NewWriter(out, ws)
					var before byte
					for i := 0; ; i++ {
						typ, _, err := r.Next()
						if err != nil {
							break
						}
						if i%4 == 3 {
							if _, err := r.Body(); err != nil {
								t.Fatal(err)
							}
						}
						if typ == before && piece == 0 && rs == 64<<10 {
							t.Fatalf("a run of %q was cut", typ)
						}
						before = typ
						if err := r.ForwardRun(w); err != nil {
							t.Fatal(err)
						}
						if _, err := r.Body(); err == nil {
							t.Fatal("a frame that was forwarded can be read again")
						}
					}
					if err := w.Flush(); err != nil || !bytes.Equal(out.written.Bytes(), stream) {
						t.Fatalf("forwarded %d bytes, %v; want %d the same", out.written.Len(), err, len(stream))
					}
				})
			}
		}
	}
}

func TestARunEndsBeforeABrokenFrame(t *testing.T) {
	good := join(frame('D', "a"), frame('D', "b"))
	out := script(nil, 0)
	r, w := NewReader(script(join(good, []byte("D\x00\x00\x00\x01")), 0), nil, 64), NewWriter(out, 64)
	mustNext(t, r, 'D', 1)
	if err := errors.Join(r.ForwardRun(w), w.Flush()); err != nil || !bytes.Equal(out.written.Bytes(), good) {
		t.Errorf("forwarded %q, %v; want %q", out.written.Bytes(), err, good)
	}
	var e *Error
	if _, _, err := r.Next(); !errors.As(err, &e) || e.Code != CodeProtocolViolation {
		t.Errorf("Next() = %v, want a protocol violation", err)
	}
}

func TestARunIsWrittenAtOnce(t *testing.T) {
	rows := bytes.Repeat(frame('D', filler(95)), 600) // 60,000 bytes
	out := script(nil, 0)
	r, w := NewReader(script(rows, 0), nil, 64<<10), NewWriter(out, 16<<10)
	mustNext(t, r, 'D', 95)
	if err := errors.Join(r.ForwardRun(w), w.Flush()); err != nil || !bytes.Equal(out.written.Bytes(), rows) {
		t.Errorf("forwarded %d bytes, %v", out.written.Len(), err)
	}
	if out.writes != 1 {
		t.Errorf("%d writes, want 1", out.writes)
	}
}

func TestARunGoesOnAfterTimeouts(t *testing.T) {
	stream := join(bytes.Repeat(frame('D', filler(30)), 20), frame('C', "tag"))
	for _, piece := range []int{1, 7, 40, 100} {
		for _, rs := range []int{16, 36, 64, 1024} {
			out := script(nil, 0)
			r, w := NewReader(interrupted(stream, piece), nil, rs), NewWriter(out, 64)
			for {
				_, _, err := r.Next()
				for err == nil {
					if err = r.ForwardRun(w); err == nil {
						break
					}
					var re *ReadError
					if !errors.As(err, &re) || !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Fatal(err)
					}
					err = nil
				}
				if errors.Is(err, io.EOF) {
					break
				}
			}
			if err := w.Flush(); err != nil || !bytes.Equal(out.written.Bytes(), stream) {
				t.Fatalf("pieces of %d, buffer of %d: forwarded %q, %v", piece, rs, out.written.Bytes(), err)
			}
		}
	}
}
