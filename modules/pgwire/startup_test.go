package pgwire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
)

// packet builds an untyped packet without the code under test.
func packet(code uint32, rest string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(rest)))
	b = binary.BigEndian.AppendUint32(b, code)
	return append(b, rest...)
}

var startupTests = []struct {
	name   string
	packet []byte
	want   Startup
}{
	{"protocol 3.0", packet(Version30, "user\x00u\x00\x00"), Startup{Version: Version30, Params: []Param{{"user", "u"}}}},
	{"protocol 3.2", packet(Version32, "user\x00u\x00\x00"), Startup{Version: Version32, Params: []Param{{"user", "u"}}}},
	{"a minor version nobody knows", packet(3<<16|9999, "\x00"), Startup{Version: 3<<16 | 9999}},
	{
		"parameters keep their order and may be empty or repeated", packet(Version30, "a\x00\x00b\x00=\x00a\x00 \x00\x00"),
		Startup{Version: Version30, Params: []Param{{"a", ""}, {"b", "="}, {"a", " "}}},
	},
	{
		"replication is a parameter like any other", packet(Version30, "replication\x00database\x00\x00"),
		Startup{Version: Version30, Params: []Param{{"replication", "database"}}},
	},
	{
		"protocol options are told apart", packet(Version30, "_pq_.x\x001\x00user\x00u\x00_pq_.\x00\x00_pq\x00p\x00\x00"),
		Startup{Version: Version30, Params: []Param{{"user", "u"}, {"_pq", "p"}}, Unsupported: []string{"_pq_.x", "_pq_."}},
	},
	{"major version 1", packet(1<<16, "anything"), Startup{Version: 1 << 16}},
	{"major version 2 whose layout is another", packet(2<<16, filler(288)), Startup{Version: 2 << 16}},
	{"major version 4", packet(4<<16, ""), Startup{Version: 4 << 16}},
	{"SSLRequest", packet(80877103, ""), Startup{Kind: KindSSL}},
	{"GSSENCRequest", packet(80877104, ""), Startup{Kind: KindGSSENC}},
	{
		"CancelRequest of protocol 3.0", packet(80877102, "\x00\x00\x01\x02abcd"),
		Startup{Kind: KindCancel, PID: 258, Key: []byte("abcd")},
	},
	{
		"CancelRequest with the longest key", packet(80877102, "\xff\xff\xff\xff"+filler(256)),
		Startup{Kind: KindCancel, PID: 1<<32 - 1, Key: []byte(filler(256))},
	},
	{
		"the largest packet", packet(Version30, "a\x00"+strings.Repeat("x", 9992)+"\x00\x00"),
		Startup{Version: Version30, Params: []Param{{"a", strings.Repeat("x", 9992)}}},
	},
}

func TestStartup(t *testing.T) {
	for _, tt := range startupTests {
		for _, size := range []int{16, 1024, 16 << 10} {
			t.Run(fmt.Sprintf("%s, buffer of %d", tt.name, size), func(t *testing.T) {
				r := NewReader(interrupted(join(tt.packet, frame('p', "pw")), 13), nil, size)
				s, err := r.Startup()
				for errors.Is(err, os.ErrDeadlineExceeded) {
					s, err = r.Startup()
				}
				if err != nil || !reflect.DeepEqual(*s, tt.want) {
					t.Fatalf("Startup() = %+v, %v; want %+v", s, err, tt.want)
				}
				for {
					if _, _, err = r.Next(); !errors.Is(err, os.ErrDeadlineExceeded) {
						break
					}
				}
				if err != nil || r.typ != 'p' {
					t.Errorf("the frame after it: %q, %v", r.typ, err)
				}
			})
		}
	}
}

func TestStartupRefuses(t *testing.T) {
	const (
		length = "invalid length of startup packet"
		layout = "invalid startup packet layout: expected terminator as last byte"
		key    = "invalid length of cancel key in cancel request packet"
	)
	tests := []struct {
		name   string
		packet []byte
		want   string
	}{
		{"a length below the length word", []byte("\x00\x00\x00\x03"), length},
		{"a length without a version", []byte("\x00\x00\x00\x07abc"), length},
		{"a length of zero", make([]byte, 4), length},
		{"a length above PostgreSQL's limit", packet(Version30, strings.Repeat("x", 9997)), length},
		{"a TLS ClientHello", []byte("\x16\x03\x01\x02\x00\x01"), length},
		{"an HTTP request", []byte("GET / HTTP/1.1\r\n"), length},
		{"no terminator at all", packet(Version30, ""), layout},
		{"no terminator behind the parameters", packet(Version30, "user\x00u\x00"), layout},
		{"a name without an end", packet(Version30, "user"), layout},
		{"a name without a value", packet(Version30, "user\x00"), layout},
		{"a value without an end", packet(Version30, "user\x00u"), layout},
		{"bytes behind the terminator", packet(Version30, "user\x00u\x00\x00x\x00y\x00\x00"), layout},
		{"a cancel without a process", packet(80877102, ""), "invalid length of cancel request packet"},
		{"a cancel without a key", packet(80877102, "\x00\x00\x00\x01"), key},
		{"a cancel with a short key", packet(80877102, "\x00\x00\x00\x01abc"), key},
		{"a cancel with a key that is too long", packet(80877102, "\x00\x00\x00\x01"+filler(257)), key},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := NewReader(script(tt.packet, 0), nil, 64)
			for range 2 { // the error stays
				_, err := r.Startup()
				var e *Error
				if !errors.As(err, &e) || e.Code != CodeProtocolViolation || !e.Fatal || e.Message != tt.want {
					t.Fatalf("Startup() = %v, want fatal 08P01 %q", err, tt.want)
				}
			}
		})
	}
}

func TestStartupTellsWhereTheStreamEnds(t *testing.T) {
	p := packet(Version30, "user\x00u\x00\x00")
	for cut := range p {
		want := io.ErrUnexpectedEOF
		if cut == 0 {
			want = io.EOF
		}
		if _, err := NewReader(script(p[:cut], 3), nil, 64).Startup(); err != want {
			t.Errorf("cut at %d: %v, want %v", cut, err, want)
		}
	}
	r := NewReader(script(frame('Q', "x"), 0), nil, 64)
	mustNext(t, r, 'Q', 1)
	if _, err := r.Startup(); !errors.Is(err, errNoFrame) {
		t.Errorf("Startup() inside a frame = %v", err)
	}
}

func TestStartupReadsWhatTheWriterWrites(t *testing.T) {
	out := script(nil, 0)
	w := NewWriter(out, 0)
	params := []Param{{"user", "u"}, {"database", "d"}, {"options", "-c a=b"}}
	w.SSLRequest()
	w.Startup(Version32, params)
	w.CancelRequest(9, []byte("12345678"))
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	r := NewReader(script(out.written.Bytes(), 0), nil, 0)
	for _, want := range []Startup{
		{Kind: KindSSL},
		{Version: Version32, Params: params},
		{Kind: KindCancel, PID: 9, Key: []byte("12345678")},
	} {
		if s, err := r.Startup(); err != nil || !reflect.DeepEqual(*s, want) {
			t.Errorf("Startup() = %+v, %v; want %+v", s, err, want)
		}
	}
}

func TestStartupKindNames(t *testing.T) {
	for kind, want := range map[StartupKind]string{
		KindStartup: "startup", KindSSL: "ssl", KindGSSENC: "gssenc", KindCancel: "cancel", 99: "unknown",
	} {
		if got := kind.String(); got != want {
			t.Errorf("StartupKind(%d) = %q, want %q", kind, got, want)
		}
	}
}
