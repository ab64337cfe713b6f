package pgwire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
)

// TestReadyMadeMessages compares every message with its bytes in PostgreSQL's documentation.
func TestReadyMadeMessages(t *testing.T) {
	tests := []struct {
		name  string
		build func(*Writer)
		want  string
	}{
		{"ready for query", func(w *Writer) { w.ReadyForQuery('T') }, "Z\x00\x00\x00\x05T"},
		{"command complete", func(w *Writer) { w.CommandComplete("SELECT 1") }, "C\x00\x00\x00\x0dSELECT 1\x00"},
		{"parameter status", func(w *Writer) { w.ParameterStatus("a", "bc") }, "S\x00\x00\x00\x09a\x00bc\x00"},
		{"backend key", func(w *Writer) { w.BackendKeyData(0x01020304, []byte("keys")) }, "K\x00\x00\x00\x0c\x01\x02\x03\x04keys"},
		{"authentication ok", (*Writer).AuthenticationOK, "R\x00\x00\x00\x08\x00\x00\x00\x00"},
		{"query", func(w *Writer) { w.Query("select 1") }, "Q\x00\x00\x00\x0dselect 1\x00"},
		{"a NUL ends a string", func(w *Writer) { w.Query("a\x00b") }, "Q\x00\x00\x00\x06a\x00"},
		{"parse without types", func(w *Writer) { w.Parse("n", "s", nil) }, "P\x00\x00\x00\x0an\x00s\x00\x00\x00"},
		{
			"parse with a type", func(w *Writer) { w.Parse("n", "s", []byte{0, 1, 0, 0, 0, 23}) },
			"P\x00\x00\x00\x0en\x00s\x00\x00\x01\x00\x00\x00\x17",
		},
		{"close", func(w *Writer) { w.Close('S', "n") }, "C\x00\x00\x00\x07Sn\x00"},
		{"sync", (*Writer).Sync, "S\x00\x00\x00\x04"},
		{"terminate", (*Writer).Terminate, "X\x00\x00\x00\x04"},
		{"ssl request", (*Writer).SSLRequest, "\x00\x00\x00\x08\x04\xd2\x16\x2f"},
		{"cancel request", func(w *Writer) { w.CancelRequest(7, []byte("abcd")) }, "\x00\x00\x00\x10\x04\xd2\x16\x2e\x00\x00\x00\x07abcd"},
		{
			"startup", func(w *Writer) { w.Startup(Version30, []Param{{"user", "u"}}) },
			"\x00\x00\x00\x10\x00\x03\x00\x00user\x00u\x00\x00",
		},
		{
			"negotiate version", func(w *Writer) { w.NegotiateProtocolVersion(Version32, []string{"_pq_.x"}) },
			"v\x00\x00\x00\x13\x00\x03\x00\x02\x00\x00\x00\x01_pq_.x\x00",
		},
		{
			"an error", func(w *Writer) { w.Error(&Error{Code: "XX000", Message: "m", Detail: "d", Hint: "h"}) },
			"E\x00\x00\x00\x23SERROR\x00VERROR\x00CXX000\x00Mm\x00Dd\x00Hh\x00\x00",
		},
		{"a fatal error", func(w *Writer) { w.Error(&Error{Fatal: true}) }, "E\x00\x00\x00\x17SFATAL\x00VFATAL\x00C\x00M\x00\x00"},
		{"a notice", func(w *Writer) { w.Notice(&Error{Message: "m"}) }, "N\x00\x00\x00\x1aSNOTICE\x00VNOTICE\x00C\x00Mm\x00\x00"},
		{"a received error, as it came", func(w *Writer) { w.Error(&Error{Raw: []byte("P7\x00\x00")}) }, "E\x00\x00\x00\x08P7\x00\x00"},
		{
			"a frame built in place", func(w *Writer) {
				w.Begin('T')
				w.Byte(1)
				w.Int16(-2)
				w.Int32(3)
				w.Int64(-1)
				w.Bytes([]byte("xy"))
				w.End()
			},
			"T\x00\x00\x00\x15\x01\xff\xfe\x00\x00\x00\x03\xff\xff\xff\xff\xff\xff\xff\xffxy",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, size := range []int{16, 1024} {
				out := script(nil, 0)
				w := NewWriter(out, size)
				w.Frame('n', nil) // something is collected before
				tt.build(w)
				if err := w.Flush(); err != nil {
					t.Fatal(err)
				}
				if got, want := out.written.String(), "n\x00\x00\x00\x04"+tt.want; got != want {
					t.Errorf("size %d: wrote %q, want %q", size, got, want)
				}
			}
		})
	}
}

func TestWriterCollects(t *testing.T) {
	t.Run("nothing is written before Flush or before the size is exceeded", func(t *testing.T) {
		out := script(nil, 0)
		w := NewWriter(out, 30)
		for range 6 {
			w.Sync()
		}
		if out.writes != 0 || w.Len() != 30 || w.Sent() != 0 {
			t.Fatalf("%d writes, Len %d, Sent %d", out.writes, w.Len(), w.Sent())
		}
		w.Sync()
		if out.writes != 1 || w.Len() != 5 || w.Sent() != 30 {
			t.Fatalf("after the seventh: %d writes, Len %d, Sent %d", out.writes, w.Len(), w.Sent())
		}
		if err := w.Flush(); err != nil || out.writes != 2 || w.Sent() != 35 || w.Len() != 0 {
			t.Fatalf("after Flush: %v, %d writes, Len %d, Sent %d", err, out.writes, w.Len(), w.Sent())
		}
		if err := w.Flush(); err != nil || out.writes != 2 {
			t.Fatalf("a Flush of nothing wrote: %v", err)
		}
	})
	t.Run("a large body goes out in two writes, not copied whole", func(t *testing.T) {
		out := script(nil, 0)
		w := NewWriter(out, 64)
		w.Frame('d', []byte(filler(10000)))
		w.Raw(frame('d', filler(100)))
		if out.writes != 3 || w.Len() != 0 {
			t.Errorf("%d writes, Len %d", out.writes, w.Len())
		}
		if want := join(frame('d', filler(10000)), frame('d', filler(100))); !bytes.Equal(out.written.Bytes(), want) {
			t.Error("other bytes were written")
		}
	})
	t.Run("a frame larger than the size can be built in place", func(t *testing.T) {
		out := script(nil, 0)
		w := NewWriter(out, 64)
		w.Sync()
		w.Query(filler(0) + string(bytes.Repeat([]byte("x"), 1000)))
		if out.writes != 1 || w.Len() != 0 {
			t.Errorf("%d writes, Len %d", out.writes, w.Len())
		}
		w.Sync()
		if err := w.Flush(); err != nil || out.written.Len() != 5+1006+5 {
			t.Errorf("wrote %d bytes, %v", out.written.Len(), err)
		}
	})
	t.Run("an idle Writer holds no buffer", func(t *testing.T) {
		w := NewWriter(script(nil, 0), 64)
		w.Sync()
		if err := w.Flush(); err != nil || w.buf != nil || w.block != nil {
			t.Errorf("a buffer of %d is held, %v", cap(w.buf), err)
		}
	})
}

func TestWriterKeepsTheFirstError(t *testing.T) {
	first := errors.New("first")
	out := &scriptConn{writeErr: first}
	w := NewWriter(out, 32)
	w.Sync()
	err := w.Flush()
	var we *WriteError
	if !errors.As(err, &we) || !errors.Is(err, first) {
		t.Fatalf("Flush() = %v", err)
	}
	if w.Sent() != 5 {
		t.Errorf("Sent() = %d: the 5 bytes may have arrived", w.Sent())
	}
	out.writeErr = errors.New("second")
	w.Sync()
	w.Frame('Q', []byte(filler(100)))
	w.Raw([]byte(filler(100)))
	w.Query(filler(100))
	w.Startup(Version30, nil)
	w.Head('d', 3)
	w.Truncate(0)
	if err := w.Flush(); !errors.Is(err, first) || !errors.Is(w.Err(), first) {
		t.Errorf("a later Flush() = %v", err)
	}
	if out.writes != 1 || w.Len() != 0 {
		t.Errorf("%d writes, %d bytes held after the error", out.writes, w.Len())
	}
	fresh := script(nil, 0)
	w.Reset(fresh)
	w.Sync()
	if err := w.Flush(); err != nil || w.Sent() != 5 || fresh.written.Len() != 5 {
		t.Errorf("after Reset: %v, Sent %d", err, w.Sent())
	}
}

func TestWriterRefusesFramesThatAreTooLong(t *testing.T) {
	for _, n := range []int{DefaultMaxFrame, -1} {
		w := NewWriter(script(nil, 0), 0)
		w.Head('d', n)
		if err := w.Flush(); !errors.Is(err, errFrameTooLong) {
			t.Errorf("Head(%d): %v", n, err)
		}
	}
}

func TestWriterOverAPipe(t *testing.T) {
	us, peer := net.Pipe()
	done := make(chan []byte)
	go func() {
		got, _ := io.ReadAll(peer)
		done <- got
	}()
	w := NewWriter(us, 64)
	var want []byte
	for n := range 200 {
		w.Frame('D', []byte(filler(n)))
		want = append(want, frame('D', filler(n))...)
	}
	if err := errors.Join(w.Flush(), us.Close()); err != nil {
		t.Fatal(err)
	}
	if got := <-done; !bytes.Equal(got, want) {
		t.Errorf("the peer got %d bytes, want %d", len(got), len(want))
	}
	peer.Close()
	w.Sync()
	if err := w.Flush(); err == nil {
		t.Error("a write to a closed connection succeeds")
	}
}
