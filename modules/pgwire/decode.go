package pgwire

import (
	"bytes"
	"encoding/binary"
)

// The decoders below read borrowed bodies and return slices of them: no copy, no allocation unless they fail.
// Their errors are *Error 08P01 of severity ERROR with PostgreSQL's wording.

// ParseCString cuts a NUL-terminated string off the head of b. ok is false when there is no NUL.
func ParseCString(b []byte) (s, rest []byte, ok bool) {
	i := bytes.IndexByte(b, 0)
	if i < 0 {
		return nil, b, false
	}
	return b[:i:i], b[i+1:], true
}

// DecodeParse reads the body of a Parse. types is what follows the text: an int16 count and as many int32 OIDs.
func DecodeParse(body []byte) (name, sql, types []byte, err error) {
	name, rest, ok := ParseCString(body)
	if !ok {
		return nil, nil, nil, errNoNUL()
	}
	sql, types, ok = ParseCString(rest)
	if !ok {
		return nil, nil, nil, errNoNUL()
	}
	if len(types) < 2 {
		return nil, nil, nil, errShort()
	}
	switch want := 2 + 4*int(binary.BigEndian.Uint16(types)); {
	case len(types) < want:
		return nil, nil, nil, errShort()
	case len(types) > want:
		return nil, nil, nil, errFormat()
	}
	return name, sql, types, nil
}

// DecodeBind reads the names at the head of a Bind. rest is the offset in the body of what follows them: the
// formats and the parameters.
func DecodeBind(body []byte) (portal, statement []byte, rest int, err error) {
	portal, tail, ok := ParseCString(body)
	if !ok {
		return nil, nil, 0, errNoNUL()
	}
	statement, tail, ok = ParseCString(tail)
	if !ok {
		return nil, nil, 0, errNoNUL()
	}
	return portal, statement, len(body) - len(tail), nil
}

// DecodeTarget reads the body of a Describe or Close: kind is 'S' for a statement and 'P' for a portal.
func DecodeTarget(body []byte) (kind byte, name []byte, err error) {
	if len(body) == 0 {
		return 0, nil, Errorf(CodeProtocolViolation, "no data left in message")
	}
	name, rest, ok := ParseCString(body[1:])
	switch {
	case !ok:
		return 0, nil, errNoNUL()
	case len(rest) > 0:
		return 0, nil, errFormat()
	case body[0] != 'S' && body[0] != 'P':
		return 0, nil, Errorf(CodeProtocolViolation, "invalid message subtype %d", body[0])
	}
	return body[0], name, nil
}

// DecodeParameterStatus reads the report of a setting.
func DecodeParameterStatus(body []byte) (name, value []byte, err error) {
	name, rest, ok := ParseCString(body)
	if !ok {
		return nil, nil, errNoNUL()
	}
	value, rest, ok = ParseCString(rest)
	switch {
	case !ok:
		return nil, nil, errNoNUL()
	case len(rest) > 0:
		return nil, nil, errFormat()
	}
	return name, value, nil
}

// DecodeBackendKeyData reads what cancels a server connection; key has 4 bytes in protocol 3.0, 4 to 256 in 3.2.
func DecodeBackendKeyData(body []byte) (pid uint32, key []byte, err error) {
	switch {
	case len(body) < 8:
		return 0, nil, errShort()
	case len(body) > 4+MaxCancelKey:
		return 0, nil, errFormat()
	}
	return binary.BigEndian.Uint32(body), body[4:], nil
}

func errNoNUL() error  { return Errorf(CodeProtocolViolation, "invalid string in message") }
func errShort() error  { return Errorf(CodeProtocolViolation, "insufficient data left in message") }
func errFormat() error { return Errorf(CodeProtocolViolation, "invalid message format") }
