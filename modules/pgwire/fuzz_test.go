package pgwire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"testing"
)

// wholeFrames is a second, simple reading of the stream: the bytes of its whole frames, their number, and whether what
// follows them is a broken length word rather than the end.
func wholeFrames(stream []byte) (n, count int, broken bool) {
	for {
		rest := stream[n:]
		if len(rest) < headerLen {
			return n, count, false
		}
		length := binary.BigEndian.Uint32(rest[1:])
		if length < 4 || length > DefaultMaxFrame {
			return n, count, true
		}
		if len(rest) < 1+int(length) {
			return n, count, false
		}
		n += 1 + int(length)
		count++
	}
}

// FuzzReader reads any bytes in any pieces, with timeouts in between, through buffers of any size, and handles
// the frames in any way that forwards them: what comes out is what went in.
func FuzzReader(f *testing.F) {
	f.Add(join(frame('Q', "select 1\x00"), frame('S', ""), frame('D', filler(100))), uint8(3), uint8(16), uint8(20), []byte{0, 1, 2, 3})
	f.Add(join(frame('D', filler(300)), frame('Z', "I"))[:200], uint8(0), uint8(40), uint8(0), []byte{4, 5})
	f.Add([]byte("Q\x00\x00\x00\x03"), uint8(1), uint8(0), uint8(0), []byte{})
	f.Add([]byte("Q\x7f\xff\xff\xffabc"), uint8(1), uint8(0), uint8(0), []byte{1})
	f.Fuzz(func(t *testing.T, stream []byte, piece, rsize, wsize uint8, ways []byte) {
		in, out := interrupted(stream, int(piece)), script(nil, 0)
		r, w := NewReader(in, nil, int(rsize)), NewWriter(out, int(wsize))
		r.BodyLimit = 1 << 10
		n, count, broken := wholeFrames(stream)
		var err error
		for i := 0; ; i++ {
			if _, _, err = r.Next(); errors.Is(err, os.ErrDeadlineExceeded) {
				i--
				continue
			} else if err != nil {
				break
			}
			way := byte(0)
			if len(ways) > 0 {
				way = ways[i%len(ways)]
			}
			if err = fuzzFrame(t, r, w, way); err != nil {
				break
			}
			count--
		}
		if in.most > r.cap {
			t.Fatalf("read %d bytes with a buffer of %d", in.most, r.cap)
		}
		var e *Error
		if broken != errors.As(err, &e) {
			t.Fatalf("broken length word: %v; error: %v", broken, err)
		}
		if !broken && (err == io.EOF) != (n == len(stream)) {
			t.Fatalf("%d bytes after the last frame; error: %v", len(stream)-n, err)
		}
		if count != 0 {
			t.Fatalf("%d frames too few", count)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		got := out.written.Bytes()
		if len(got) < n || !bytes.HasPrefix(stream, got) {
			t.Fatalf("forwarded %q of %q, whole frames end at %d", got, stream, n)
		}
	})
}

// fuzzFrame looks at the current frame in the way given and forwards it, again after each timeout.
func fuzzFrame(t *testing.T, r *Reader, w *Writer, way byte) error {
	size := r.size
	if way&1 != 0 {
		if p, err := r.Peek(int(way >> 4)); err == nil && len(p) != min(int(way>>4), size) {
			t.Fatalf("Peek(%d) of %d gave %d bytes", way>>4, size, len(p))
		}
	}
	if way&2 != 0 {
		if body, err := r.Body(); err == nil && len(body) != size {
			t.Fatalf("Body() of %d gave %d bytes", size, len(body))
		}
	}
	forward := r.Forward
	if way&4 != 0 {
		w.Head(r.typ, size)
		forward = func(w *Writer) error { return r.ForwardBody(w, 0) }
	}
	for {
		err := forward(w)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
}

func FuzzStartup(f *testing.F) {
	for _, tt := range startupTests {
		if len(tt.packet) < 1000 {
			f.Add(tt.packet, uint8(5))
		}
	}
	f.Add([]byte("\x16\x03\x01\x02\x00"), uint8(0))
	f.Fuzz(func(t *testing.T, stream []byte, piece uint8) {
		in := script(stream, int(piece))
		s, err := NewReader(in, nil, 64).Startup()
		if (s == nil) == (err == nil) {
			t.Fatalf("Startup() = %v, %v", s, err)
		}
		if s == nil {
			return
		}
		out := script(nil, 0)
		w := NewWriter(out, 0)
		switch {
		case s.Kind == KindCancel:
			if len(s.Key) < 4 || len(s.Key) > MaxCancelKey {
				t.Fatalf("a key of %d bytes", len(s.Key))
			}
			w.CancelRequest(s.PID, s.Key)
		case s.Kind == KindStartup && s.Version>>16 == 3 && s.Unsupported == nil:
			w.Startup(s.Version, s.Params)
		default:
			return
		}
		if err := w.Flush(); err != nil || !bytes.HasPrefix(stream, out.written.Bytes()) {
			t.Fatalf("%+v is written as %q, %v", s, out.written.Bytes(), err)
		}
	})
}

// fuzzDecode checks that what a decoder returns, put together again, is the body, and that the body is left alone.
func fuzzDecode(f *testing.F, decode func(body []byte) (rebuilt []byte, err error), seeds ...string) {
	f.Helper()
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		rebuilt, err := decode(body)
		if !bytes.Equal(body, before) {
			t.Fatalf("the body was changed: %q", body)
		}
		if err == nil && !bytes.Equal(rebuilt, body) {
			t.Fatalf("%q was read as %q", body, rebuilt)
		}
	})
}

func FuzzDecodeParse(f *testing.F) {
	fuzzDecode(f, func(body []byte) ([]byte, error) {
		name, sql, types, err := DecodeParse(body)
		return join(name, []byte{0}, sql, []byte{0}, types), err
	}, "", "n\x00select 1\x00\x00\x00", "\x00\x00\x00\x01\x00\x00\x00\x17", "n\x00s\x00\xff\xff")
}

func FuzzDecodeBind(f *testing.F) {
	fuzzDecode(f, func(body []byte) ([]byte, error) {
		portal, statement, rest, err := DecodeBind(body)
		return join(portal, []byte{0}, statement, []byte{0}, body[rest:]), err
	}, "", "p\x00s\x00\x00\x00", "\x00\x00")
}

func FuzzDecodeTarget(f *testing.F) {
	fuzzDecode(f, func(body []byte) ([]byte, error) {
		kind, name, err := DecodeTarget(body)
		return join([]byte{kind}, name, []byte{0}), err
	}, "", "Sname\x00", "P\x00", "X\x00")
}

func FuzzDecodeParameterStatus(f *testing.F) {
	fuzzDecode(f, func(body []byte) ([]byte, error) {
		name, value, err := DecodeParameterStatus(body)
		return join(name, []byte{0}, value, []byte{0}), err
	}, "", "TimeZone\x00UTC\x00", "a\x00\x00x")
}

func FuzzDecodeBackendKeyData(f *testing.F) {
	fuzzDecode(f, func(body []byte) ([]byte, error) {
		pid, key, err := DecodeBackendKeyData(body)
		return append(binary.BigEndian.AppendUint32(nil, pid), key...), err
	}, "", "\x00\x00\x00\x01abcd")
}

func FuzzParseError(f *testing.F) {
	f.Add([]byte("SERROR\x00VERROR\x00C42601\x00Mno\x00P8\x00\x00"))
	f.Add([]byte("M"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		e := ParseError(body)
		if !bytes.Equal(e.Raw, body) {
			t.Fatalf("Raw = %q, want %q", e.Raw, body)
		}
		out := script(nil, 0)
		w := NewWriter(out, 0)
		w.Error(e)
		raw := e.Raw
		e.Raw = nil // as if it were ours
		w.Error(e)
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		r := NewReader(script(out.written.Bytes(), 0), nil, 0)
		mustNext(t, r, MsgError, len(raw))
		if _, _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		body2, err := r.Body()
		if err != nil {
			t.Fatal(err)
		}
		again := ParseError(body2)
		if again.Code != e.Code || again.Message != e.Message || again.Detail != e.Detail || again.Hint != e.Hint {
			t.Fatalf("%+v was sent as %+v", e, again)
		}
	})
}
