package pgwire

import (
	"errors"
	"io"
	"testing"
)

func TestParseError(t *testing.T) {
	tests := []struct {
		name string
		body string
		want Error
	}{
		{
			"what a server sends", "SFEHLER\x00VERROR\x00C42601\x00Mno\x00Dd\x00Hh\x00P8\x00Fscan.l\x00L1\x00Rf\x00\x00",
			Error{Severity: "ERROR", Code: "42601", Message: "no", Detail: "d", Hint: "h"},
		},
		{"a fatal one", "SFATAL\x00VFATAL\x00C57P01\x00Mbye\x00\x00", Error{Severity: "FATAL", Code: "57P01", Message: "bye", Fatal: true}},
		{"a panic is fatal too", "VPANIC\x00\x00", Error{Severity: "PANIC", Fatal: true}},
		{"an old server without V", "SFATAL\x00C28000\x00Mm\x00\x00", Error{Severity: "FATAL", Code: "28000", Message: "m", Fatal: true}},
		{"fields nobody knows", "VERROR\x00?x\x00Mm\x00\x00", Error{Severity: "ERROR", Message: "m"}},
		{"a field without an end", "VERROR\x00Mbroken", Error{Severity: "ERROR"}},
		{"no terminator", "VERROR\x00", Error{Severity: "ERROR"}},
		{"only a terminator", "\x00VERROR\x00", Error{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body := []byte(tt.body)
			e := ParseError(body)
			clear(body) // copied, not borrowed
			if string(e.Raw) != tt.body {
				t.Errorf("Raw = %q", e.Raw)
			}
			if e.Severity != tt.want.Severity || e.Code != tt.want.Code || e.Message != tt.want.Message ||
				e.Detail != tt.want.Detail || e.Hint != tt.want.Hint || e.Fatal != tt.want.Fatal {
				t.Errorf("ParseError = %+v, want %+v", e, tt.want)
			}
		})
	}
}

func TestErrorsOfOurs(t *testing.T) {
	e := Errorf(CodeUndefinedObject, "no %q", "x")
	if e.Severity != SeverityError || e.Fatal || e.Error() != `ERROR: no "x" (SQLSTATE 42704)` || e.Unwrap() != nil {
		t.Errorf("Errorf = %+v, %q", e, e.Error())
	}
	f := Fatalf(CodeConnectionFailure, "read: %w and %w", io.EOF, errNoFrame)
	if !f.Fatal || f.Message != "read: EOF and "+errNoFrame.Error() || !errors.Is(f, io.EOF) || !errors.Is(f, errNoFrame) {
		t.Errorf("Fatalf = %+v", f)
	}
	one := Errorf(CodeConnectionFailure, "read: %w", io.EOF)
	if !errors.Is(one, io.EOF) {
		t.Errorf("Errorf does not wrap: %+v", one)
	}
	for want, e := range map[string]*Error{
		"ERROR:  (SQLSTATE )": {}, "FATAL:  (SQLSTATE )": {Fatal: true}, "WARNING:  (SQLSTATE )": {Severity: SeverityWarning},
	} {
		if got := e.Error(); got != want {
			t.Errorf("Error() = %q, want %q", got, want)
		}
	}
}

func TestErrorsSurviveTheWire(t *testing.T) {
	e := Fatalf(CodeCannotConnectNow, "the cluster has no primary")
	e.Detail, e.Hint = "d", "h"
	out := script(nil, 0)
	w := NewWriter(out, 0)
	w.Error(e)
	w.Error(ParseError([]byte("VERROR\x00C22012\x00Mm\x00P5\x00\x00")))
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	r := NewReader(script(out.written.Bytes(), 0), nil, 0)
	for _, want := range []Error{*e, {Severity: "ERROR", Code: "22012", Message: "m"}} {
		if typ, _, err := r.Next(); err != nil || typ != MsgError {
			t.Fatalf("Next() = %q, %v", typ, err)
		}
		body, err := r.Body()
		if err != nil {
			t.Fatal(err)
		}
		got := ParseError(body)
		if got.Error() != want.Error() || got.Detail != want.Detail || got.Hint != want.Hint || got.Fatal != want.Fatal {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func TestSideErrorsSayWhatBroke(t *testing.T) {
	if got := (&ReadError{Err: io.EOF}).Error(); got != "read frame: EOF" {
		t.Errorf("ReadError: %q", got)
	}
	if got := (&WriteError{Err: io.EOF}).Error(); got != "write frame: EOF" {
		t.Errorf("WriteError: %q", got)
	}
}
