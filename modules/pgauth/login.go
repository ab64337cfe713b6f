package pgauth

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// Limits on what a server may send before it has let us in, in bytes of body: libpq's own, with some headroom.
const (
	maxAuthBody  = 2000
	maxErrorBody = 30000
)

// step is where our side of a login stands.
type step int

const (
	stepRequest   step = iota // the server has asked nothing yet
	stepChallenge             // client-first-message is sent
	stepSignature             // client-final-message is sent
	stepProven                // the server has shown that it knows the verifier
	stepPassword              // a password or md5 answer is sent
)

func (s step) String() string {
	switch s {
	case stepRequest:
		return "request"
	case stepChallenge:
		return "challenge"
	case stepSignature:
		return "signature"
	case stepProven:
		return "proven"
	case stepPassword:
		return "password"
	}
	return "unknown"
}

// BindingMode is libpq's channel_binding, see
// https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-CHANNEL-BINDING.
type BindingMode uint8

// The modes.
const (
	BindingPrefer  BindingMode = iota // where the server offers it
	BindingDisable                    // never
	BindingRequire                    // or the login fails
)

// Channel says what lies between us and a server. The zero value is a connection that others can read.
type Channel struct {
	// Private allows the password itself to be sent: the connection is encrypted or local.
	Private bool
	// Binding is the tls-server-end-point of the certificate the server showed (see [EndpointBinding]); nil: no TLS, or
	// a certificate that has none.
	Binding []byte
	// Mode says whether the login is bound to the TLS connection.
	Mode BindingMode
}

// Login answers a server's authentication requests for user, from after the startup message (sent or still collected
// in w) up to and with AuthenticationOk. What follows (ParameterStatus and so on) is left in r. It does
// SCRAM-SHA-256-PLUS and SCRAM-SHA-256 by password or by keys, md5 by password or by hash, cleartext by password where
// the channel is private, and accepts a server that asks nothing. In SCRAM the server must prove that it knows the
// verifier before its AuthenticationOk is believed.
//
// Errors: the server's own ErrorResponse as *pgwire.Error; a *pgwire.Error with a hint for methods we do not do
// (GSSAPI, SSPI, Kerberos: 0A000), for a missing secret, a channel that is not private enough and a binding that is
// required and missing (28000); 28P01 without asking for keys that belong to another verifier than the server's; 08P01
// for a server that breaks the protocol; errors of the connection are wrapped. Notices and NegotiateProtocolVersion are
// skipped. The deadline is the caller's; after an error the connection is of no more use.
// See "Start-up", https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP.
func Login(r *pgwire.Reader, w *pgwire.Writer, user string, s Secret, channel Channel) error {
	l := &login{w: w, channel: channel, x: clientExchange{user: user, secret: s}}
	for {
		if err := w.Flush(); err != nil {
			return fmt.Errorf("log in as %q: send: %w", user, err)
		}
		typ, n, err := r.Next()
		if err != nil {
			return fmt.Errorf("log in as %q: read: %w", user, err)
		}
		switch typ {
		case pgwire.MsgAuthentication:
			body, err := readBody(r, n, maxAuthBody)
			if err != nil {
				return err
			}
			done, err := l.answer(body)
			if done || err != nil {
				return err
			}
		case pgwire.MsgError:
			body, err := readBody(r, n, maxErrorBody)
			if err != nil {
				return err
			}
			return pgwire.ParseError(body)
		case pgwire.MsgNotice, pgwire.MsgNegotiateProtocolVersion:
			// Next skips the body.
		default:
			return serverUnexpected(fmt.Sprintf("message type %q", typ), l.step)
		}
	}
}

func readBody(r *pgwire.Reader, n, limit int) ([]byte, error) {
	if n > limit {
		return nil, serverMalformed(fmt.Errorf("a message of %d bytes is longer than %d bytes", n, limit))
	}
	body, err := r.Body()
	if err != nil {
		return nil, fmt.Errorf("log in: read: %w", err)
	}
	return body, nil
}

type login struct {
	w       *pgwire.Writer
	channel Channel
	x       clientExchange
	step    step
}

// answer handles one AuthenticationXxx message; done is true at AuthenticationOk. body is borrowed.
func (l *login) answer(body []byte) (done bool, err error) {
	if len(body) < 4 {
		return false, serverMalformed(errors.New("an authentication request of less than 4 bytes"))
	}
	code, data := binary.BigEndian.Uint32(body), body[4:]
	bound := l.step == stepProven && l.x.binding != nil
	switch {
	case code == authOK && l.step == stepSignature:
		return false, serverUnproven()
	case code == authOK && l.step != stepChallenge && (bound || l.channel.Mode != BindingRequire):
		return true, nil
	case code == authOK && l.step != stepChallenge, l.step == stepRequest && code != authSASL && l.channel.Mode == BindingRequire:
		return false, unbound()
	case code == authSASL && l.step == stepRequest:
		return false, l.begin(data)
	case code == authSASLContinue && l.step == stepChallenge:
		return false, l.prove(string(data))
	case code == authSASLFinal && l.step == stepSignature:
		l.step = stepProven
		return false, l.x.verify(string(data))
	case code == authMD5 && l.step == stepRequest:
		return false, l.answerMD5(data)
	case code == authCleartext && l.step == stepRequest:
		return false, l.answerCleartext()
	case l.step == stepRequest:
		return false, refuse(code)
	}
	return false, serverUnexpected(fmt.Sprintf("authentication request %d", code), l.step)
}

// begin answers AuthenticationSASL.
func (l *login) begin(list []byte) error {
	plain, plus, err := parseMechanisms(list)
	usable := plus && l.channel.Binding != nil && l.channel.Mode != BindingDisable
	switch {
	case err != nil:
		return serverMalformed(err)
	case !plain && !plus:
		return unsupportedMethod("SASL (other than "+mechanism+")", remedy)
	case !usable && l.channel.Mode == BindingRequire:
		return unbound()
	case !usable && !plain:
		return unsupportedMethod(mechanismPlus, "Connect to the server over TLS, or allow "+mechanism+" without channel binding there.")
	case l.x.secret.Password == "" && !l.x.secret.hasKeys():
		return noSecret(l.x.user, mechanism)
	}
	l.step = stepChallenge
	chosen := mechanism
	switch {
	case usable:
		chosen, l.x.header, l.x.binding = mechanismPlus, boundHeader, l.channel.Binding
	case !plus && l.channel.Binding != nil && l.channel.Mode != BindingDisable:
		l.x.header = "y,," // we could: a server that offered it will notice that somebody took the offer out
	}
	message := l.x.start()
	l.w.Begin(pgwire.MsgPassword)
	l.w.String(chosen)
	l.w.Int32(len(message))
	l.w.Bytes([]byte(message))
	l.w.End()
	return nil
}

// answerMD5 answers AuthenticationMD5Password.
func (l *login) answerMD5(salt []byte) error {
	hash := l.x.secret.MD5
	switch {
	case len(salt) != 4:
		return serverMalformed(errors.New("an md5 salt that has not 4 bytes"))
	case !MD5Allowed():
		return unsupportedMethod("md5 password", remedy)
	case l.x.secret.Password != "":
		hash = HashMD5(l.x.user, l.x.secret.Password)
	case hash == "":
		return noSecret(l.x.user, "md5")
	}
	l.sendPassword(answerMD5(hash, salt))
	return nil
}

// answerCleartext answers AuthenticationCleartextPassword.
func (l *login) answerCleartext() error {
	switch {
	case l.x.secret.Password == "":
		return noSecret(l.x.user, "cleartext")
	case !l.channel.Private:
		return cleartextRefused()
	}
	l.sendPassword(l.x.secret.Password)
	return nil
}

func (l *login) sendPassword(text string) {
	l.step = stepPassword
	l.w.Begin(pgwire.MsgPassword)
	l.w.String(text)
	l.w.End()
}

// prove answers AuthenticationSASLContinue.
func (l *login) prove(challenge string) error {
	final, err := l.x.prove(challenge)
	if err != nil {
		return err
	}
	l.step = stepSignature
	l.w.Begin(pgwire.MsgPassword)
	l.w.Bytes([]byte(final))
	l.w.End()
	return nil
}

// parseMechanisms reads the list of AuthenticationSASL: names ended by zero bytes, then one more zero byte.
func parseMechanisms(list []byte) (plain, plus bool, err error) {
	for {
		name, rest, ok := pgwire.ParseCString(list)
		if !ok {
			return false, false, errors.New("the list of SASL mechanisms does not end")
		}
		switch string(name) {
		case "":
			return plain, plus, nil
		case mechanism:
			plain = true
		case mechanismPlus:
			plus = true
		}
		list = rest
	}
}

const remedy = "Use scram-sha-256 in the server's pg_hba.conf for connections from here."

// refuse names a method we do not do, and what to do instead.
func refuse(code uint32) error {
	switch code {
	case authGSS, authGSSContinue:
		return unsupportedMethod("GSSAPI", remedy)
	case authSSPI:
		return unsupportedMethod("SSPI", remedy)
	case authKerberosV5:
		return unsupportedMethod("Kerberos V5", remedy)
	case authSCMCreds:
		return unsupportedMethod("SCM credentials", remedy)
	case authSASL, authSASLContinue, authSASLFinal:
		return serverUnexpected(fmt.Sprintf("authentication request %d", code), stepRequest)
	}
	return unsupportedMethod(fmt.Sprintf("unknown (%d)", code), remedy)
}
