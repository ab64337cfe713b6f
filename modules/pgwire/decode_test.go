package pgwire

import (
	"bytes"
	"errors"
	"testing"
)

// violates fails the test unless err is PostgreSQL's complaint about a broken message.
func violates(t *testing.T, err error, want string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Code != CodeProtocolViolation || e.Fatal || e.Message != want {
		t.Errorf("error %v, want ERROR 08P01 %q", err, want)
	}
}

const (
	badString = "invalid string in message"
	tooShort  = "insufficient data left in message"
	badFormat = "invalid message format"
)

func TestDecodeParse(t *testing.T) {
	for _, types := range []string{"\x00\x00", "\x00\x01\x00\x00\x00\x17", "\x00\x02\x00\x00\x00\x17\x00\x00\x00\x00"} {
		name, sql, got, err := DecodeParse([]byte("n\x00select 1\x00" + types))
		if err != nil || string(name) != "n" || string(sql) != "select 1" || string(got) != types {
			t.Errorf("DecodeParse = %q, %q, %q, %v", name, sql, got, err)
		}
	}
	most := append([]byte("\x00s\x00\xff\xff"), make([]byte, 4*65535)...)
	if name, _, types, err := DecodeParse(most); err != nil || len(name) != 0 || len(types) != 2+4*65535 {
		t.Errorf("65535 types: %d bytes, %v", len(types), err)
	}
	for body, want := range map[string]string{
		"": badString, "n": badString, "n\x00": badString, "n\x00s": badString,
		"n\x00s\x00": tooShort, "n\x00s\x00\x00": tooShort, "n\x00s\x00\x00\x01\x00\x00\x00": tooShort,
		"n\x00s\x00\x00\x00x": badFormat, "n\x00s\x00\xff\xff": tooShort,
	} {
		_, _, _, err := DecodeParse([]byte(body))
		violates(t, err, want)
	}
}

func TestDecodeBind(t *testing.T) {
	portal, statement, rest, err := DecodeBind([]byte("p\x00stmt\x00\x00\x00\x00\x00\x00\x00"))
	if err != nil || string(portal) != "p" || string(statement) != "stmt" || rest != 7 {
		t.Errorf("DecodeBind = %q, %q, %d, %v", portal, statement, rest, err)
	}
	for _, body := range []string{"", "p", "p\x00", "p\x00s"} {
		_, _, _, err := DecodeBind([]byte(body))
		violates(t, err, badString)
	}
}

func TestDecodeTarget(t *testing.T) {
	for _, kind := range []byte("SP") {
		if k, name, err := DecodeTarget([]byte{kind, 'n', 0}); err != nil || k != kind || string(name) != "n" {
			t.Errorf("DecodeTarget = %q, %q, %v", k, name, err)
		}
	}
	for body, want := range map[string]string{
		"": "no data left in message", "S": badString, "Sn": badString, "Sn\x00x": badFormat, "Xn\x00": "invalid message subtype 88",
	} {
		_, _, err := DecodeTarget([]byte(body))
		violates(t, err, want)
	}
}

func TestDecodeParameterStatus(t *testing.T) {
	if name, value, err := DecodeParameterStatus([]byte("TimeZone\x00UTC\x00")); err != nil || string(name) != "TimeZone" || string(value) != "UTC" {
		t.Errorf("DecodeParameterStatus = %q, %q, %v", name, value, err)
	}
	for body, want := range map[string]string{"": badString, "a": badString, "a\x00b": badString, "a\x00b\x00c": badFormat} {
		_, _, err := DecodeParameterStatus([]byte(body))
		violates(t, err, want)
	}
}

func TestDecodeBackendKeyData(t *testing.T) {
	for _, key := range []string{"abcd", filler(32), filler(256)} {
		if pid, got, err := DecodeBackendKeyData([]byte("\x00\x00\x01\x00" + key)); err != nil || pid != 256 || string(got) != key {
			t.Errorf("DecodeBackendKeyData = %d, %q, %v", pid, got, err)
		}
	}
	for body, want := range map[string]string{"": tooShort, "\x00\x00\x01\x00abc": tooShort, "\x00\x00\x01\x00" + filler(257): badFormat} {
		_, _, err := DecodeBackendKeyData([]byte(body))
		violates(t, err, want)
	}
}

func TestParseCStringBorrows(t *testing.T) {
	b := []byte("one\x00two\x00")
	s, rest, ok := ParseCString(b)
	if !ok || string(s) != "one" || string(rest) != "two\x00" {
		t.Fatalf("ParseCString = %q, %q, %v", s, rest, ok)
	}
	_ = append(s, "XXXX"...)
	if !bytes.Equal(b, []byte("one\x00two\x00")) {
		t.Errorf("an append to the string changed the body to %q", b)
	}
	if _, rest, ok := ParseCString([]byte("open")); ok || string(rest) != "open" {
		t.Errorf("a string without an end: %q, %v", rest, ok)
	}
}
