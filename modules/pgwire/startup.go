package pgwire

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// Codes that stand where a startup packet has its version: major 1234, minors PostgreSQL has given out.
const (
	codeCancel = 1234<<16 | 5678
	codeSSL    = 1234<<16 | 5679
	codeGSSENC = 1234<<16 | 5680
)

// StartupKind tells the packets apart that may open a connection.
type StartupKind uint8

// The packets that may open a connection.
const (
	KindStartup StartupKind = iota // StartupMessage, of any protocol version
	KindSSL                        // SSLRequest
	KindGSSENC                     // GSSENCRequest
	KindCancel                     // CancelRequest
)

// String returns the name of the packet, as a log or a label shows it.
func (k StartupKind) String() string {
	switch k {
	case KindStartup:
		return "startup"
	case KindSSL:
		return "ssl"
	case KindGSSENC:
		return "gssenc"
	case KindCancel:
		return "cancel"
	}
	return "unknown"
}

// Param is a parameter of a startup packet, or a setting a server reports.
type Param struct{ Name, Value string }

// Startup is the first packet of a connection.
type Startup struct {
	Kind StartupKind

	// Version is major<<16 | minor for KindStartup, 0 otherwise. Whether it is supported is for the caller to decide.
	Version uint32
	// Params are the parameters in the order sent, without protocol options. Empty for a major version other than
	// 3, whose layout is not known.
	Params []Param
	// Unsupported names the protocol options sent (_pq_.…), none of which is known yet.
	Unsupported []string

	// PID and Key are what a CancelRequest names. Key has 4 to 256 bytes.
	PID uint32
	Key []byte
}

// Startup reads the packet that opens a connection; a client sends another one after SSLRequest and GSSENCRequest.
// What it returns is owned by the caller.
//
// Errors: io.EOF when the peer closed before the first byte, io.ErrUnexpectedEOF inside the packet, and a FATAL
// *Error 08P01 with PostgreSQL's wording for a bad length or layout. After a timeout it may be called again.
//
// See https://www.postgresql.org/docs/current/protocol-message-formats.html, StartupMessage.
func (r *Reader) Startup() (*Startup, error) {
	if r.err != nil {
		return nil, r.err
	}
	if !r.startup {
		if !r.done {
			return nil, errNoFrame
		}
		if err := r.need(4); err != nil {
			return nil, err
		}
		length := binary.BigEndian.Uint32(r.buf[r.r:])
		if length < 8 || length > MaxStartup+4 { // the length word counts itself; the version is the least that follows
			r.err = Fatalf(CodeProtocolViolation, "invalid length of startup packet")
			return nil, r.err
		}
		r.r += 4
		r.begin(0, int(length)-4)
		r.startup = true
	}
	if err := r.startupBody(); err != nil {
		return nil, err
	}
	body := r.large
	if body == nil {
		body = r.buf[r.r : r.r+r.size]
	}
	s, e := parseStartup(body)
	r.startup = false
	r.r += r.left
	r.left, r.large, r.done = 0, nil, true
	if e != nil {
		r.err = e
		return nil, e
	}
	return s, nil
}

// startupBody makes the packet's body whole, in the buffer or in large; MaxStartup and not BodyLimit bounds it.
func (r *Reader) startupBody() error {
	if r.size > r.cap {
		return r.gather(r.size)
	}
	if err := r.need(r.size); err != nil {
		return unexpected(err)
	}
	return nil
}

func parseStartup(body []byte) (*Startup, *Error) {
	if len(body) < 4 || len(body) > MaxStartup {
		return nil, Fatalf(CodeProtocolViolation, "invalid length of startup packet")
	}
	code, body := binary.BigEndian.Uint32(body), body[4:]
	switch code {
	case codeSSL:
		return &Startup{Kind: KindSSL}, nil
	case codeGSSENC:
		return &Startup{Kind: KindGSSENC}, nil
	case codeCancel:
		return parseCancel(body)
	}
	s := &Startup{Kind: KindStartup, Version: code}
	if code>>16 != Version30>>16 {
		return s, nil
	}
	for len(body) > 0 && body[0] != 0 {
		name, rest, ok := ParseCString(body)
		if !ok {
			return nil, badLayout()
		}
		value, rest, ok := ParseCString(rest)
		if !ok {
			return nil, badLayout()
		}
		if strings.HasPrefix(string(name), "_pq_.") {
			s.Unsupported = append(s.Unsupported, string(name))
		} else {
			s.Params = append(s.Params, Param{Name: string(name), Value: string(value)})
		}
		body = rest
	}
	if len(body) != 1 {
		return nil, badLayout()
	}
	return s, nil
}

// parseCancel reads what follows the code of a CancelRequest.
func parseCancel(body []byte) (*Startup, *Error) {
	if len(body) < 4 {
		return nil, Fatalf(CodeProtocolViolation, "invalid length of cancel request packet")
	}
	pid, key := binary.BigEndian.Uint32(body), body[4:]
	if len(key) < 4 || len(key) > MaxCancelKey {
		return nil, Fatalf(CodeProtocolViolation, "invalid length of cancel key in cancel request packet")
	}
	return &Startup{Kind: KindCancel, PID: pid, Key: bytes.Clone(key)}, nil
}

func badLayout() *Error {
	return Fatalf(CodeProtocolViolation, "invalid startup packet layout: expected terminator as last byte")
}

// FirstByte returns the first byte of a connection without taking it: 0 for any packet that [Reader.Startup] reads, and
// 0x16 when the client begins with a TLS handshake. Errors are those of Startup.
func (r *Reader) FirstByte() (byte, error) {
	if r.err != nil {
		return 0, r.err
	}
	if err := r.need(1); err != nil {
		return 0, err
	}
	return r.buf[r.r], nil
}

// Surrender gives the bytes that are read but not taken to the caller, as a copy, and forgets them. It is for a connection
// that turns out to need another reader below this one.
func (r *Reader) Surrender() []byte {
	p := bytes.Clone(r.buf[r.r:r.w])
	r.r, r.w = 0, 0
	return p
}
