package pgauth

import (
	"fmt"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// Constructors of every error of this package that may reach a client, with the reason for its SQLSTATE. Codes are
// PostgreSQL's own for the same situation (https://www.postgresql.org/docs/current/errcodes-appendix.html).

// withDetail completes an error; the wire's fields are set in one place only.
func withDetail(e *pgwire.Error, detail, hint string) *pgwire.Error {
	e.Detail, e.Hint = detail, hint
	return e
}

// wrongPassword is the one answer to a wrong proof and to an unknown user, so that nobody learns who exists.
func wrongPassword(user string) *pgwire.Error {
	return pgwire.Fatalf(pgwire.CodeInvalidPassword, `password authentication failed for user "%s"`, user)
}

// malformed is a client's SCRAM message that breaks the grammar: a protocol violation, as in PostgreSQL.
func malformed(reason error) *pgwire.Error {
	return withDetail(pgwire.Fatalf(pgwire.CodeProtocolViolation, "malformed SCRAM message"), reason.Error(), "")
}

// invalidResponse is a well-formed SCRAM message that does not belong to this exchange.
func invalidResponse(detail string) *pgwire.Error {
	return withDetail(pgwire.Fatalf(pgwire.CodeProtocolViolation, "invalid SCRAM response"), detail, "")
}

// expectedResponse is another message than a password message while we wait for one.
func expectedResponse(typ byte) *pgwire.Error {
	return pgwire.Fatalf(pgwire.CodeProtocolViolation, "expected SASL response, got message type %d", typ)
}

// oversized is refused before memory is taken; PostgreSQL closes the connection without a word.
func oversized(n int) *pgwire.Error {
	return pgwire.Fatalf(pgwire.CodeProtocolViolation, "SASL message of %d bytes is longer than %d bytes", n, maxMessage)
}

// invalidMessage is a SASLInitialResponse whose fields do not fill it exactly.
func invalidMessage() *pgwire.Error {
	return pgwire.Fatalf(pgwire.CodeProtocolViolation, "invalid message format")
}

// invalidMechanism is a client that chose what was not offered.
func invalidMechanism() *pgwire.Error {
	return withDetail(pgwire.Fatalf(pgwire.CodeProtocolViolation, "client selected an invalid SASL authentication mechanism"),
		"", "Only "+mechanism+" is offered; a client that demands channel binding cannot log in here.")
}

// notSupported is a part of SCRAM that neither PostgreSQL nor we do.
func notSupported(what string) *pgwire.Error {
	return pgwire.Fatalf(pgwire.CodeFeatureNotSupported, "%s", what)
}

// noSecret: the server wants a proof and we have nothing to make one from. 28000 and not 28P01: no password was wrong.
func noSecret(user string) *pgwire.Error {
	return withDetail(
		pgwire.Fatalf(pgwire.CodeInvalidAuthorization, `server asks for a %s proof, but there is no password or key for user "%s"`, mechanism, user),
		"", "Let the client prove its password (auth query), or allow this address without one (trust in pg_hba.conf).")
}

// unusableSecret: keys of a wrong length are a fault of ours.
func unusableSecret(user string) *pgwire.Error {
	return pgwire.Fatalf(pgwire.CodeInternalError, `the keys for user "%s" are not %d bytes long`, user, keyLen)
}

// unsupportedMethod: the server wants to see the user some way we do not have. 0A000 tells it from a refused login.
func unsupportedMethod(method, hint string) *pgwire.Error {
	return withDetail(pgwire.Fatalf(pgwire.CodeFeatureNotSupported, "server asks for %s authentication, which is not supported", method), "", hint)
}

// serverMalformed is a server that breaks the protocol while we log in.
func serverMalformed(reason error) *pgwire.Error {
	return withDetail(pgwire.Fatalf(pgwire.CodeProtocolViolation, "malformed message from the server during login"), reason.Error(), "")
}

// serverUnexpected is a message of the server that has no place in this step.
func serverUnexpected(what string, during step) *pgwire.Error {
	return withDetail(pgwire.Fatalf(pgwire.CodeProtocolViolation, "unexpected message from the server during login"),
		fmt.Sprintf("Received %s in step %s.", what, during), "")
}

// serverRefused is the error attribute of SCRAM, which PostgreSQL itself never sends.
func serverRefused(reason string) *pgwire.Error {
	return withDetail(pgwire.Fatalf(pgwire.CodeInvalidAuthorization, "server ended the SCRAM exchange with an error"),
		fmt.Sprintf("The server says %q.", reason), "")
}

// serverUnproven: the server took our proof without showing that it knows the user. Somebody may stand between.
func serverUnproven() *pgwire.Error {
	return pgwire.Fatalf(pgwire.CodeInvalidAuthorization, "server did not prove that it knows the user's verifier")
}
