package pgwire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// TestReaderCutsFrames reads the same stream in pieces of every kind, through buffers smaller and larger than
// the frames.
func TestReaderCutsFrames(t *testing.T) {
	bodies := []string{"", "a", "12345678901", "0123456789abcdef", filler(17), filler(300), "", filler(1000)}
	var stream []byte
	for _, b := range bodies {
		stream = append(stream, frame('D', b)...)
	}
	for _, size := range []int{16, 21, 64, 4096} {
		for _, piece := range []int{0, 1, 2, 5, 7, 1000} {
			t.Run(fmt.Sprintf("buffer of %d and pieces of %d", size, piece), func(t *testing.T) {
				r := NewReader(script(stream, piece), nil, size)
				for _, want := range bodies {
					mustNext(t, r, 'D', len(want))
					head, err := r.Peek(3)
					if err != nil || string(head) != want[:min(3, len(want))] {
						t.Fatalf("Peek(3) = %q, %v; want the head of %q", head, err, want)
					}
					body, err := r.Body()
					if err != nil || string(body) != want {
						t.Fatalf("Body() = %q, %v; want %q", body, err, want)
					}
					if again, err := r.Body(); err != nil || string(again) != want {
						t.Fatalf("a second Body() = %q, %v; want %q", again, err, want)
					}
				}
				if _, _, err := r.Next(); err != io.EOF {
					t.Fatalf("Next() at the end = %v, want io.EOF itself", err)
				}
			})
		}
	}
}

func TestReaderSkipsWhatIsLeft(t *testing.T) {
	stream := join(frame('D', filler(500)), frame('C', "x"), frame('Z', "I"))
	tests := map[string]func(*Reader) error{
		"when nothing of the frame was read": func(*Reader) error { return nil },
		"when its head was peeked at":        func(r *Reader) error { _, err := r.Peek(10); return err },
		"when its body was gathered":         func(r *Reader) error { _, err := r.Body(); return err },
		"when it was discarded":              (*Reader).Discard,
		"when it was discarded twice":        func(r *Reader) error { return errors.Join(r.Discard(), r.Discard()) },
	}
	for name, handle := range tests {
		t.Run(name, func(t *testing.T) {
			r := NewReader(script(stream, 9), nil, 32)
			mustNext(t, r, 'D', 500)
			if err := handle(r); err != nil {
				t.Fatal(err)
			}
			mustNext(t, r, 'C', 1)
			mustNext(t, r, 'Z', 1)
		})
	}
}

func TestReaderRefusesLengths(t *testing.T) {
	tests := []struct {
		name   string
		stream string
		max    int
	}{
		{"a length word below itself", "Q\x00\x00\x00\x03", 0},
		{"a length word of zero", "Q\x00\x00\x00\x00", 0},
		{"a negative length word", "Q\xff\xff\xff\xff", 0},
		{"a length word above PostgreSQL's largest allocation", "Q\x40\x00\x00\x00", 0},
		{"a length word above MaxFrame", "Q\x00\x00\x00\x65", 100},
		{"an HTTP request", "GET / HTTP/1.1\r\n\r\n", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := NewReader(script([]byte(tt.stream), 0), nil, 64)
			if tt.max > 0 {
				r.MaxFrame = tt.max
			}
			for range 2 { // the error stays
				_, _, err := r.Next()
				var e *Error
				if !errors.As(err, &e) || e.Code != CodeProtocolViolation || !e.Fatal {
					t.Fatalf("Next() = %v, want a fatal 08P01", err)
				}
			}
			if _, err := r.Body(); err == nil {
				t.Error("Body() after a broken frame succeeds")
			}
			if err := r.Forward(NewWriter(script(nil, 0), 0)); err == nil {
				t.Error("Forward() after a broken frame succeeds")
			}
			if _, err := r.Startup(); err == nil {
				t.Error("Startup() after a broken frame succeeds")
			}
		})
	}
	t.Run("but not one that is just MaxFrame", func(t *testing.T) {
		r := NewReader(script(frame('Q', filler(96)), 0), nil, 64)
		r.MaxFrame = 100
		mustNext(t, r, 'Q', 96)
	})
}

func TestReaderTellsWhereTheStreamEnds(t *testing.T) {
	stream := join(frame('D', filler(100)), frame('Z', "I"))
	for cut := range stream {
		want := io.ErrUnexpectedEOF
		if cut == 0 || cut == 105 {
			want = io.EOF
		}
		for name, handle := range map[string]func(*Reader) error{
			"body":    func(r *Reader) error { _, err := r.Body(); return err },
			"peek":    func(r *Reader) error { _, err := r.Peek(30); return err },
			"discard": (*Reader).Discard,
			"forward": func(r *Reader) error {
				err := r.Forward(NewWriter(script(nil, 0), 0))
				var re *ReadError
				if err != nil && !errors.As(err, &re) {
					t.Errorf("cut at %d, forward: %v is not a *ReadError", cut, err)
				}
				return err
			},
		} {
			for _, size := range []int{40, 4096} {
				r := NewReader(script(stream[:cut], 0), nil, size)
				var err error
				for err == nil {
					if _, _, err = r.Next(); err == nil {
						err = handle(r)
					}
				}
				if !errors.Is(err, want) {
					t.Errorf("cut at %d, %s, buffer of %d: %v, want %v", cut, name, size, err, want)
				}
			}
		}
	}
}

// TestReaderGoesOnAfterTimeouts interrupts every read of every method.
func TestReaderGoesOnAfterTimeouts(t *testing.T) {
	bodies := []string{filler(10), filler(200), "", filler(33), filler(64)}
	var stream []byte
	for _, b := range bodies {
		stream = append(stream, frame('d', b)...)
	}
	again := func(do func() error) error {
		for {
			if err := do(); !errors.Is(err, os.ErrDeadlineExceeded) {
				return err
			}
		}
	}
	for _, size := range []int{16, 50, 1000} {
		for _, piece := range []int{1, 3, 40, 0} {
			t.Run(fmt.Sprintf("buffer of %d and pieces of %d", size, piece), func(t *testing.T) {
				r, out := NewReader(interrupted(stream, piece), nil, size), script(nil, 0)
				w := NewWriter(out, 20)
				for i, want := range bodies {
					if err := again(func() error { _, _, err := r.Next(); return err }); err != nil {
						t.Fatal(err)
					}
					if i%2 == 0 { // what Body has begun Forward takes over
						if _, err := r.Body(); err == nil && len(want) > size && piece > 0 {
							t.Fatal("Body() was not interrupted")
						}
					}
					if i == 1 {
						if err := again(func() error { _, err := r.Peek(12); return err }); err != nil {
							t.Fatal(err)
						}
					}
					if err := again(func() error { return r.Forward(w) }); err != nil {
						t.Fatal(err)
					}
				}
				if err := w.Flush(); err != nil || !bytes.Equal(out.written.Bytes(), stream) {
					t.Fatalf("forwarded %q, %v; want the stream itself", out.written.Bytes(), err)
				}
			})
		}
	}
}

// TestReaderIsWokenByADeadline is how a session wakes the read of an idle server connection.
func TestReaderIsWokenByADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		us, peer := net.Pipe()
		defer us.Close()
		defer peer.Close()
		r := NewReader(us, nil, 64)
		go peer.Write(frame('Z', "I")[:3])
		if err := us.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_, _, err := r.Next()
		var ne net.Error
		if !errors.As(err, &ne) || !ne.Timeout() {
			t.Fatalf("Next() = %v, want a timeout", err)
		}
		if waited := time.Since(start); waited != time.Minute {
			t.Errorf("Next() waited %v, want the minute of the deadline", waited)
		}
		if err := us.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		go peer.Write(frame('Z', "I")[3:])
		mustNext(t, r, 'Z', 1)
		if body, err := r.Body(); err != nil || string(body) != "I" {
			t.Fatalf("Body() = %q, %v", body, err)
		}
	})
}

func TestBodyIsBounded(t *testing.T) {
	t.Run("a body above the limit is an error and can still be forwarded", func(t *testing.T) {
		stream := frame('Q', filler(1001))
		r := NewReader(script(stream, 100), nil, 64)
		r.BodyLimit = 1000
		mustNext(t, r, 'Q', 1001)
		_, err := r.Body()
		var e *Error
		if !errors.As(err, &e) || e.Code != CodeProgramLimitExceeded || e.Fatal {
			t.Fatalf("Body() = %v, want ERROR 54000", err)
		}
		out := script(nil, 0)
		w := NewWriter(out, 64)
		if err := errors.Join(r.Forward(w), w.Flush()); err != nil || !bytes.Equal(out.written.Bytes(), stream) {
			t.Fatalf("Forward() = %v, %d bytes; want the whole frame", err, out.written.Len())
		}
	})
	t.Run("a length word alone takes no memory", func(t *testing.T) {
		r := NewReader(script(append([]byte("Q\x03\x00\x00\x00"), filler(1000)...), 0), nil, 64)
		if _, _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Body(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("Body() = %v, want an unexpected end", err)
		}
		if cap(r.large) > 2*firstLarge {
			t.Errorf("1000 bytes took %d bytes of memory", cap(r.large))
		}
	})
	t.Run("a large body takes little more than its size and goes with the next frame", func(t *testing.T) {
		const n = 5<<20 + 3
		r := NewReader(script(join(frame('Q', filler(n)), frame('S', "")), 30000), nil, 16<<10)
		mustNext(t, r, 'Q', n)
		body, err := r.Body()
		if err != nil || string(body) != filler(n) {
			t.Fatalf("Body() = %d bytes, %v", len(body), err)
		}
		if cap(body) > n {
			t.Errorf("a body of %d bytes took %d", n, cap(body))
		}
		mustNext(t, r, 'S', 0)
		if r.large != nil {
			t.Error("the body's memory is still held")
		}
	})
}

func TestPeekIsBoundedByTheBuffer(t *testing.T) {
	r := NewReader(script(frame('Q', filler(100)), 0), nil, 32)
	mustNext(t, r, 'Q', 100)
	if _, err := r.Peek(33); !errors.Is(err, errPeek) {
		t.Errorf("Peek(33) of a buffer of 32 = %v", err)
	}
	if p, err := r.Peek(32); err != nil || string(p) != filler(32) {
		t.Errorf("Peek(32) = %q, %v", p, err)
	}
	if p, err := r.Peek(-1); err != nil || len(p) != 0 {
		t.Errorf("Peek(-1) = %q, %v", p, err)
	}
}

func TestBorrowedBytesCannotGrowIntoTheNextFrame(t *testing.T) {
	r := NewReader(script(join(frame('Q', "one"), frame('Q', "two")), 0), nil, 64)
	mustNext(t, r, 'Q', 3)
	head, _ := r.Peek(2)
	_ = append(head, "XXXX"...)
	body, _ := r.Body()
	if string(body) != "one" {
		t.Fatalf("an append to the peeked head changed the body to %q", body)
	}
	_ = append(body, "XXXXXXXXXX"...)
	mustNext(t, r, 'Q', 3)
	if body, _ := r.Body(); string(body) != "two" {
		t.Fatalf("an append to a body changed the next one to %q", body)
	}
}

func TestReaderRefusesACallWithoutAFrame(t *testing.T) {
	calls := map[string]func(*Reader) error{
		"Body":        func(r *Reader) error { _, err := r.Body(); return err },
		"Peek":        func(r *Reader) error { _, err := r.Peek(1); return err },
		"Forward":     func(r *Reader) error { return r.Forward(NewWriter(script(nil, 0), 0)) },
		"ForwardBody": func(r *Reader) error { return r.ForwardBody(NewWriter(script(nil, 0), 0), 0) },
	}
	for name, call := range calls {
		t.Run(name+" before the first Next and after the frame was discarded", func(t *testing.T) {
			r := NewReader(script(frame('Q', ""), 0), nil, 0)
			if err := call(r); !errors.Is(err, errNoFrame) {
				t.Errorf("before Next: %v", err)
			}
			mustNext(t, r, 'Q', 0)
			if err := r.Discard(); err != nil {
				t.Fatal(err)
			}
			if err := call(r); !errors.Is(err, errNoFrame) {
				t.Errorf("after Discard: %v", err)
			}
		})
	}
}

func TestBufferedCountsWhatComesAfterTheFrame(t *testing.T) {
	stream := join(frame('D', filler(40)), frame('C', "x"), frame('Z', "I")[:4])
	r := NewReader(script(stream, 0), nil, 100)
	if n := r.Buffered(); n != 0 {
		t.Errorf("%d bytes before the first read", n)
	}
	mustNext(t, r, 'D', 40)
	if n := r.Buffered(); n != 10 {
		t.Errorf("%d bytes after a frame that is still unread, want 10", n)
	}
	if err := r.Forward(NewWriter(script(nil, 0), 0)); err != nil {
		t.Fatal(err)
	}
	if n := r.Buffered(); n != 10 {
		t.Errorf("%d bytes after a frame that was forwarded, want 10", n)
	}
	mustNext(t, r, 'C', 1)
	if n := r.Buffered(); n != 4 {
		t.Errorf("%d bytes, want the 4 of a cut header", n)
	}
}

func TestReaderStartsWithBytesReadBefore(t *testing.T) {
	stream := join(frame('Q', filler(200)), frame('X', ""))
	early := bytes.Clone(stream[:150])
	r := NewReader(script(stream[150:], 0), early, 16)
	clear(early) // copied, not borrowed
	mustNext(t, r, 'Q', 200)
	if body, err := r.Body(); err != nil || string(body) != filler(200) {
		t.Fatalf("Body() = %q, %v", body, err)
	}
	mustNext(t, r, 'X', 0)
}

func TestReaderGivesUpAConnectionThatReadsNothing(t *testing.T) {
	c := &scriptConn{}
	for range maxEmptyReads + 1 {
		c.steps = append(c.steps, []byte{})
	}
	if _, _, err := NewReader(c, nil, 0).Next(); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("Next() = %v, want no progress", err)
	}
}
