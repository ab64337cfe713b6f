package session

import (
	"errors"
	"io"
	"net"
	"syscall"

	"go.uber.org/zap"

	"github.com/fairwaydb/fairway/modules/pgsql"
	"github.com/fairwaydb/fairway/modules/pgwire"
)

var (
	// errGoodbye is the ordinary end: Terminate.
	errGoodbye = errors.New("client said goodbye")

	// errCanceled ends a wait by a cancel request: PostgreSQL's own words.
	errCanceled = &pgwire.Error{
		Severity: pgwire.SeverityError, Code: pgwire.CodeQueryCanceled, Message: "canceling statement due to user request",
	}

	// errClientLeft ends a wait whose client is gone.
	errClientLeft = errors.New("client left while it waited")
)

// errInFailedTransaction is what PostgreSQL says to statements after an error in a transaction.
func errInFailedTransaction() *pgwire.Error {
	return pgwire.Errorf(pgwire.CodeInFailedTransaction, "current transaction is aborted, commands ignored until end of transaction block")
}

// errNoBackend is for a statement that found no server in time: nothing was sent, so 57P03 ("cannot connect now") is right and
// drivers may retry.
func errNoBackend(reason error) *pgwire.Error {
	e := pgwire.Errorf(pgwire.CodeCannotConnectNow, "no server is available: %v", reason)
	e.Hint = "The statement was not sent to any server. Try again."
	return e
}

// errLost is for a statement whose server connection failed while no state but the transaction was lost. 08006: whether a write
// took effect is not known.
func errLost(class *pgsql.Class, lost *lostError) *pgwire.Error {
	e := pgwire.Errorf(pgwire.CodeConnectionFailure, "the connection to the server was lost")
	switch {
	case lost.unsent:
		e.Hint = "The statement was not sent to the server."
	case class.MayWrite() || class.Effects&pgsql.TxEnd != 0:
		e.Hint = "The statement may have been executed. Its outcome is unknown."
	}
	if lost.last != nil {
		e.Detail = "The server said: " + lost.last.Message
	}
	return e
}

// errPinLost ends a session whose server connection held state that can not be rebuilt; going on would be wrong. 57P01 is what a
// server says when it ends a connection.
func errPinLost(pins pgsql.Effects, lost *lostError) *pgwire.Error {
	e := pgwire.Fatalf(pgwire.CodeAdminShutdown, "terminating connection because the server connection it held is gone")
	e.Detail = "Held for: " + pinNames(pins) + "."
	if lost != nil && lost.last != nil {
		e.Detail += " The server said: " + lost.last.Message
	}
	return e
}

// errShutdown is for sessions and logins while the process drains.
func errShutdown() *pgwire.Error {
	return pgwire.Fatalf(pgwire.CodeAdminShutdown, "terminating connection due to administrator command")
}

// errEvicted ends a session that still held a server connection of a removed backend when its drain_timeout was over.
func errEvicted() *pgwire.Error {
	return pgwire.Fatalf(pgwire.CodeAdminShutdown, "terminating connection because the server it held was removed from the cluster")
}

// clientError makes an error of a server's login or of a query of ours one that ends only the client's statement.
func clientError(e *pgwire.Error) *pgwire.Error {
	return &pgwire.Error{Severity: pgwire.SeverityError, Code: e.Code, Message: e.Message, Detail: e.Detail, Hint: e.Hint, Routine: e.Routine}
}

// fatalFrom makes a malformed message end the session, as PostgreSQL does.
func fatalFrom(err error) error {
	var e *pgwire.Error
	if errors.As(err, &e) {
		return pgwire.Fatalf(e.Code, "%s", e.Message)
	}
	return err
}

// leave ends the session for err: the client is told what it can be told, and what an operator should know is logged once.
func (s *Session) leave(err error) {
	var e *pgwire.Error
	var gone *goneError
	switch {
	case errors.Is(err, errGoodbye) || errors.Is(err, io.EOF) && !errors.As(err, new(*lostError)):
		s.labels.ended(endGoodbye).Inc()
	case errors.As(err, &gone) || errors.Is(err, errClientLeft) || isDisconnect(err):
		s.labels.ended(endLost).Inc()
		s.logger.Debug("client connection lost", zap.Uint64("session_id", s.id), zap.Error(err))
	case errors.As(err, &e):
		s.labels.ended(endError).Inc()
		s.logger.Debug("session ended", zap.Uint64("session_id", s.id), zap.String("sqlstate", e.Code))
		fatal := *e
		fatal.Severity, fatal.Fatal, fatal.Raw = pgwire.SeverityFatal, true, nil
		s.fatal(&fatal)
	default:
		s.labels.ended(endError).Inc()
		s.logger.Debug("session ended", zap.Uint64("session_id", s.id), zap.Error(err))
	}
}

// isDisconnect tells errors of a socket whose other end is gone.
func isDisconnect(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || isTimeout(err)
}
