package pgwire

import (
	"bytes"
	"errors"
	"fmt"
)

// Severities of errors and notices, as the field V carries them (never localised).
const (
	SeverityError   = "ERROR"
	SeverityFatal   = "FATAL"
	SeverityPanic   = "PANIC"
	SeverityWarning = "WARNING"
	SeverityNotice  = "NOTICE"
)

// Errors of use; they mean a fault of the caller, not of the peer.
var (
	errNoFrame = errors.New("pgwire: no frame to read: it was forwarded or discarded, or Next was not called")
	errPeek    = errors.New("pgwire: peek beyond the read buffer")
	errSkip    = errors.New("pgwire: skip beyond the end of the frame")
)

// Error is an ErrorResponse or NoticeResponse: one received from a server or one of ours for a client.
// Values are not changed once they are shared.
//
// See https://www.postgresql.org/docs/current/protocol-error-fields.html.
type Error struct {
	Severity string // SeverityError, SeverityFatal, …; empty means SeverityError (SeverityNotice in Writer.Notice)
	Code     string // SQLSTATE, five characters
	Message  string // primary text, one line
	Detail   string // optional
	Hint     string // optional
	Routine  string // optional: the server's function that raises it, by which drivers know some; ParseError leaves it in Raw
	Fatal    bool   // severity FATAL or PANIC: the sender closes the connection after it

	// Raw is the body as received, owned by the Error, with the fields that are not kept apart (position,
	// table, file …); nil for an error of ours. Writer.Error and Writer.Notice send it unchanged when it is set.
	Raw []byte

	cause error
}

// Errorf makes an error of severity ERROR. The format may wrap an error with %w; its text is then sent to
// the client too, and Unwrap leads to it.
func Errorf(code, format string, a ...any) *Error {
	return newError(SeverityError, code, fmt.Errorf(format, a...))
}

// Fatalf makes an error of severity FATAL: who sends it closes the connection. %w works as in Errorf.
func Fatalf(code, format string, a ...any) *Error {
	e := newError(SeverityFatal, code, fmt.Errorf(format, a...))
	e.Fatal = true
	return e
}

func newError(severity, code string, text error) *Error {
	e := &Error{Severity: severity, Code: code, Message: text.Error()}
	switch any(text).(type) { // what fmt.Errorf returned itself, not what it wraps
	case interface{ Unwrap() error }, interface{ Unwrap() []error }:
		e.cause = text
	}
	return e
}

// ParseError reads the body of an ErrorResponse or NoticeResponse. The body is copied. It never fails: what
// a broken body does not say stays empty, and an unknown field is kept in Raw only.
func ParseError(body []byte) *Error {
	e := &Error{Raw: bytes.Clone(body)}
	var localised string
	for len(body) > 0 && body[0] != 0 {
		value, rest, ok := ParseCString(body[1:])
		if !ok {
			break
		}
		switch body[0] {
		case 'S':
			localised = string(value)
		case 'V':
			e.Severity = string(value)
		case 'C':
			e.Code = string(value)
		case 'M':
			e.Message = string(value)
		case 'D':
			e.Detail = string(value)
		case 'H':
			e.Hint = string(value)
		}
		body = rest
	}
	if e.Severity == "" { // servers before 9.6 and some poolers send no V
		e.Severity = localised
	}
	e.Fatal = e.Severity == SeverityFatal || e.Severity == SeverityPanic
	return e
}

// Error returns severity, message and SQLSTATE on one line.
func (e *Error) Error() string {
	return fmt.Sprintf("%s: %s (SQLSTATE %s)", e.severity(SeverityError), e.Message, e.Code)
}

// Unwrap leads to what Errorf or Fatalf wrapped; it returns nil when they wrapped nothing.
func (e *Error) Unwrap() error { return e.cause }

func (e *Error) severity(unset string) string {
	switch {
	case e.Severity != "":
		return e.Severity
	case e.Fatal:
		return SeverityFatal
	default:
		return unset
	}
}

// ReadError says that forwarding a frame failed on the side it is read from. A timeout (net.Error) leaves the
// Reader intact: see Reader.Forward.
type ReadError struct{ Err error }

// Error returns the text of the error of the reading side.
func (e *ReadError) Error() string { return "read frame: " + e.Err.Error() }

// Unwrap returns the error of the reading side.
func (e *ReadError) Unwrap() error { return e.Err }

// WriteError says that a write to the socket failed. The connection is of no more use: what part of the bytes
// arrived is unknown.
type WriteError struct{ Err error }

// Error returns the text of the error of the writing side.
func (e *WriteError) Error() string { return "write frame: " + e.Err.Error() }

// Unwrap returns the error of the writing side.
func (e *WriteError) Unwrap() error { return e.Err }
