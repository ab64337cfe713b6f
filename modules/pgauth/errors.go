package pgauth

import (
	"errors"
	"fmt"
	"strings"

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

// emptyPassword is said before anything is compared, as PostgreSQL does: clients send one when they have none.
func emptyPassword() *pgwire.Error {
	return pgwire.Fatalf(pgwire.CodeInvalidPassword, "empty password returned by client")
}

// invalidPacket is a password message whose text does not fill it exactly.
func invalidPacket() *pgwire.Error {
	return pgwire.Fatalf(pgwire.CodeProtocolViolation, "invalid password packet size")
}

// malformed is a client's SCRAM message that breaks the grammar: a protocol violation, as in PostgreSQL.
func malformed(reason error) *pgwire.Error {
	detail := reason.Error()
	return withDetail(pgwire.Fatalf(pgwire.CodeProtocolViolation, "malformed SCRAM message"), strings.ToUpper(detail[:1])+detail[1:]+".", "")
}

// invalidResponse is a well-formed SCRAM message that does not belong to this exchange.
func invalidResponse(detail string) *pgwire.Error {
	return withDetail(pgwire.Fatalf(pgwire.CodeProtocolViolation, "invalid SCRAM response"), detail, "")
}

// unexpectedBinding is a client-final-message that does not repeat the binding flag of the first message.
func unexpectedBinding() *pgwire.Error {
	return pgwire.Fatalf(pgwire.CodeProtocolViolation, "unexpected SCRAM channel-binding attribute in client-final-message")
}

// bindingMismatch: the client sees another certificate than ours. Somebody stands between.
func bindingMismatch() *pgwire.Error {
	return pgwire.Fatalf(pgwire.CodeInvalidAuthorization, "SCRAM channel binding check failed")
}

// bindingDowngrade: somebody took the offer of channel binding out of what we sent.
func bindingDowngrade() *pgwire.Error {
	return withDetail(pgwire.Fatalf(pgwire.CodeInvalidAuthorization, "SCRAM channel binding negotiation error"),
		"The client supports SCRAM channel binding but thinks the server does not.  However, this server does support channel binding.", "")
}

// bindingRequired is a client that could not or would not bind its proof where that is demanded.
func bindingRequired() *pgwire.Error {
	return withDetail(pgwire.Fatalf(pgwire.CodeInvalidAuthorization, "channel binding is required"),
		"", "Connect over TLS with a driver that does SCRAM-SHA-256-PLUS.")
}

// expectedResponse is another message than a password message while we wait for one.
func expectedResponse(what string, typ byte) *pgwire.Error {
	return pgwire.Fatalf(pgwire.CodeProtocolViolation, "expected %s response, got message type %d", what, typ)
}

// ErrOversized ends the login of a client whose password message is longer than any password. It is for no client:
// PostgreSQL closes the connection without a word.
var ErrOversized = errors.New("the password message is too long")

// invalidMessage is a SASLInitialResponse whose fields do not fill it exactly.
func invalidMessage() *pgwire.Error {
	return pgwire.Fatalf(pgwire.CodeProtocolViolation, "invalid message format")
}

// invalidString is a SASLInitialResponse whose mechanism does not end.
func invalidString() *pgwire.Error {
	return pgwire.Fatalf(pgwire.CodeProtocolViolation, "invalid string in message")
}

// insufficientData is a SASLInitialResponse shorter than its fields say.
func insufficientData() *pgwire.Error {
	return pgwire.Fatalf(pgwire.CodeProtocolViolation, "insufficient data left in message")
}

// invalidMechanism is a client that chose what was not offered.
func invalidMechanism() *pgwire.Error {
	return pgwire.Fatalf(pgwire.CodeProtocolViolation, "client selected an invalid SASL authentication mechanism")
}

// notSupported is a part of SCRAM that neither PostgreSQL nor we do.
func notSupported(what string) *pgwire.Error {
	return pgwire.Fatalf(pgwire.CodeFeatureNotSupported, "%s", what)
}

// noSecret: the server wants a proof and we have nothing to make one from. 28000 and not 28P01: no password was wrong.
func noSecret(user, method string) *pgwire.Error {
	return withDetail(
		pgwire.Fatalf(pgwire.CodeInvalidAuthorization, `server asks for a %s proof, but there is no password or key for user "%s" that makes one`, method, user),
		"", "Let clients log in in a way that suits the servers (see docs/auth.md), or allow this address without a password (trust in pg_hba.conf).")
}

// staleKeys: the server has another verifier than the one the keys belong to. It would refuse them in these words.
func staleKeys(user string) *pgwire.Error {
	return withDetail(wrongPassword(user), "The server has another password for the user than the one this session logged in with.", "")
}

// cleartextRefused: the server wants the password itself where others could read it.
func cleartextRefused() *pgwire.Error {
	return withDetail(pgwire.Fatalf(pgwire.CodeInvalidAuthorization, "server asks for a cleartext password on a connection that is not encrypted"),
		"", "Use TLS towards the server (server_tls require), or scram-sha-256 in its pg_hba.conf, or allow it (insecure_server_cleartext).")
}

// unbound: channel binding is required, and the server does without.
func unbound() *pgwire.Error {
	return withDetail(pgwire.Fatalf(pgwire.CodeInvalidAuthorization, "channel binding is required, but the server did not bind the login to the TLS connection"),
		"", "Use scram-sha-256 for hostssl connections in the server's pg_hba.conf, or server_tls { channel_binding prefer }.")
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
