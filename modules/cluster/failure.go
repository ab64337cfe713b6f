package cluster

import (
	"context"
	"errors"
	"io"
	"net"
	"os"

	"github.com/fairwaydb/fairway/modules/pgwire"
	"github.com/fairwaydb/fairway/modules/pool"
)

// ErrProtocol marks a server that broke the protocol. Who finds that out wraps
// it. An 08P01 that a server sent does not count: a client can provoke it.
var ErrProtocol = errors.New("server broke the protocol")

// failureCodes are the SQLSTATEs that speak against the server itself. No client
// can provoke them, unlike XX000, 58P01 or 53200, which are only counted.
// See https://www.postgresql.org/docs/current/errcodes-appendix.html.
var failureCodes = map[string]bool{
	"57P02": true, // crash_shutdown
	"57P03": true, // cannot_connect_now
	"58000": true, // system_error
	"58030": true, // io_error
	"53100": true, // disk_full
	"XX001": true, // data_corrupted
	"XX002": true, // index_corrupted
}

// codeAdminShutdown is what a server sends when it stops, and also when an
// operator ends one connection: only the next probe tells.
const codeAdminShutdown = "57P01"

// IsFailure tells whether an error of a server connection counts against its
// backend: a dial refused, unreachable or timed out; a reset or end of stream
// inside a turn; a broken protocol; the SQLSTATEs 57P02, 57P03, 58000, 58030,
// 53100, XX001, XX002. Nothing else does: no other SQLSTATE, no failed
// authentication, no full pool, no cancelled request, no deadline of our own.
// 57P01 does not by itself; [Backend.EndTurn] counts it once the next probe
// fails too. Errors of the client's connection must not be passed.
func IsFailure(err error) bool {
	if err == nil {
		return false
	}
	if errors.Is(err, ErrProtocol) {
		return true
	}
	var pg *pgwire.Error
	if errors.As(err, &pg) {
		// An 08P01 without a body is our own: the server's frames could not be read.
		return failureCodes[pg.Code] || (pg.Code == pgwire.CodeProtocolViolation && pg.Raw == nil)
	}
	if errors.As(err, new(*pool.DialError)) {
		return !errors.Is(err, context.Canceled) && !errors.Is(err, errLeaving) && !errors.Is(err, pool.ErrClosed)
	}
	return isNetworkFailure(err)
}

// isNetworkFailure tells whether a read or write inside a turn failed by the
// peer's doing.
func isNetworkFailure(err error) bool {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed):
		return false
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return true
	}
	var network net.Error
	return errors.As(err, &network)
}

// isShutdown tells whether the server said that an administrator ended the
// connection.
func isShutdown(err error) bool {
	var pg *pgwire.Error
	return errors.As(err, &pg) && pg.Code == codeAdminShutdown
}

// isDial tells whether nothing but the dial failed. The pool has reported that
// already ([Backend.Report]); the sessions that waited for it must not count it
// once more each.
func isDial(err error) bool { return errors.As(err, new(*pool.DialError)) }

// isNeutral tells whether an error says nothing about the server, neither good
// nor bad: our own pool was full, the caller went away.
func isNeutral(err error) bool {
	if err == nil {
		return false
	}
	var pg *pgwire.Error
	return isDial(err) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		(errors.As(err, &pg) && pg.Code == pgwire.CodeTooManyConnections)
}
