package pgwire

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func TestHandover(t *testing.T) {
	t.Run("Reset refuses bytes sent before the handshake", func(t *testing.T) {
		r := NewReader(script([]byte("\x00\x00\x00\x08\x04\xd2\x16\x2fQ"), 0), nil, 64)
		if s, err := r.Startup(); err != nil || s.Kind != KindSSL {
			t.Fatalf("Startup() = %+v, %v", s, err)
		}
		err := r.Reset(script(nil, 0))
		var e *Error
		if !errors.As(err, &e) || e.Code != CodeProtocolViolation || !strings.Contains(e.Message, "unencrypted data") {
			t.Errorf("Reset() = %v", err)
		}
	})
	t.Run("Reset refuses to leave a frame", func(t *testing.T) {
		r := NewReader(script([]byte("Q\x00\x00\x00\x05"), 0), nil, 64)
		mustNext(t, r, 'Q', 1)
		if err := r.Reset(script(nil, 0)); err == nil {
			t.Error("Reset() inside a frame succeeds")
		}
	})
	t.Run("Reset goes on with the new connection", func(t *testing.T) {
		r := NewReader(script([]byte("S"), 0), nil, 64)
		if b, err := r.PeekByte(); err != nil || b != 'S' {
			t.Fatalf("PeekByte() = %q, %v", b, err)
		}
		if b, err := r.ReadByte(); err != nil || b != 'S' {
			t.Fatalf("ReadByte() = %q, %v", b, err)
		}
		if err := r.Reset(script(frame('R', "\x00\x00\x00\x00"), 0)); err != nil {
			t.Fatal(err)
		}
		mustNext(t, r, 'R', 4)
		if _, err := r.PeekByte(); !errors.Is(err, errNoFrame) {
			t.Errorf("PeekByte() inside a frame = %v", err)
		}
	})
	t.Run("Take gives away what is buffered", func(t *testing.T) {
		c := script([]byte("\x16\x03\x01"), 0)
		r := NewReader(c, nil, 64)
		if b, err := r.PeekByte(); err != nil || b != 0x16 {
			t.Fatalf("PeekByte() = %x, %v", b, err)
		}
		if p := r.Take(); string(p) != "\x16\x03\x01" {
			t.Errorf("Take() = %q", p)
		}
		if p := r.Take(); p != nil || r.Buffered() != 0 {
			t.Errorf("a second Take() = %q", p)
		}
		if _, err := r.ReadByte(); err != io.EOF {
			t.Errorf("ReadByte() at the end = %v", err)
		}
	})
}
