package pool

import (
	"errors"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// Errors of [Set.Acquire] that a client may be shown. 53300 (too_many_connections), because that is what a server
// out of connections says and what drivers know as "try again later".
var (
	// ErrWaitTimeout says that no connection became free within WaitTimeout.
	ErrWaitTimeout error = exhausted("no server connection became free in time",
		"All connections stayed in use for the whole wait_timeout.")
	// ErrTooManyWaiters says that MaxWaiters sessions wait already.
	ErrTooManyWaiters error = exhausted("too many sessions wait for a server connection",
		"All connections are in use and max_waiters sessions queue for them.")
)

// ErrClosed is wrapped by the [DialError] of Acquire on a Set that has been closed.
var ErrClosed = errors.New("the pools of this backend are closed")

var errNoConn = errors.New("the dialer returned neither a connection nor an error")

func exhausted(message, detail string) *pgwire.Error {
	e := pgwire.Errorf(pgwire.CodeTooManyConnections, "%s", message)
	e.Detail = detail
	e.Hint = "Shorten transactions, or raise the pool's size or max_server_connections."
	return e
}

// DialError says that no server connection could be opened. Nothing was sent for the session: it may go elsewhere.
type DialError struct {
	// Err is what the Dialer returned; it wraps a *pgwire.Error when the server refused the login.
	Err error
}

// Error implements error.
func (e *DialError) Error() string { return "open server connection: " + e.Err.Error() }

// Unwrap returns the Dialer's error.
func (e *DialError) Unwrap() error { return e.Err }

// passing tells whether a dial failed for a reason that a connection of the same identity that is given back heals: the
// server is full (53300). Whatever else it was, nothing was sent: the waiters are better off elsewhere.
func passing(err error) bool {
	var e *pgwire.Error
	return errors.As(err, &e) && e.Code == pgwire.CodeTooManyConnections
}
