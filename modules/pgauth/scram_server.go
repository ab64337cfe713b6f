package pgauth

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"strconv"
	"strings"
	"sync"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// Terms are the circumstances of a client's login.
type Terms struct {
	// Binding is the tls-server-end-point of the certificate this client was shown (see [EndpointBinding]). With it
	// SCRAM-SHA-256-PLUS is offered too, and a client that says it could but was not offered it is refused. nil: no TLS,
	// or a certificate that has none.
	Binding []byte
	// RequireBinding refuses clients that do not bind their proof.
	RequireBinding bool
	// MockSeed is what the salt shown for users that do not exist is made from: secret random bytes, the same in every
	// process the client may reach. nil: a seed of this process.
	MockSeed []byte
	// MockIterations is the iteration count shown for them: the count that those who exist have. 0: DefaultIterations.
	MockIterations int
}

// AuthenticateSCRAM lets the client at r and w prove the password behind v, from AuthenticationSASL to
// AuthenticationSASLFinal. The last message is left collected in w, so that it leaves together with the caller's
// AuthenticationOk. The Secret returned holds the keys that the proof revealed; they log this user in at every server
// with the same verifier.
//
// A nil v is a user that does not exist, or must not log in: the exchange has the same messages, sizes and cost, and
// fails as a wrong password does. What is shown does not change between attempts.
//
// Errors for the client are *pgwire.Error with PostgreSQL's words, all FATAL, and are not written to w: 28P01 for a
// wrong proof and for messages longer than any proof, 28000 for a broken or missing channel binding, 08P01 and 0A000
// for messages PostgreSQL refuses as well. Errors of the connection wrap io.EOF and the like; a client that leaves to
// ask for a password is io.EOF. The deadline is the caller's.
// See https://www.postgresql.org/docs/current/sasl-authentication.html.
func AuthenticateSCRAM(r *pgwire.Reader, w *pgwire.Writer, user string, v *Verifier, t Terms) (Secret, error) {
	if t.RequireBinding && t.Binding == nil {
		return Secret{}, bindingRequired()
	}
	x := newServerExchange(user, v, t)
	w.Begin(pgwire.MsgAuthentication)
	w.Int32(authSASL)
	if t.Binding != nil {
		w.String(mechanismPlus)
	}
	if !t.RequireBinding {
		w.String(mechanism)
	}
	w.Byte(0) // ends the list
	w.End()
	message, err := x.readInitialResponse(r, w)
	if err != nil {
		return Secret{}, err
	}
	challenge, err := x.challenge(message)
	if err != nil {
		return Secret{}, err
	}
	writeSASL(w, authSASLContinue, challenge)
	if message, err = x.readResponse(r, w); err != nil {
		return Secret{}, err
	}
	final, secret, err := x.conclude(message)
	if err != nil {
		return Secret{}, err
	}
	writeSASL(w, authSASLFinal, final)
	return secret, nil
}

// serverExchange is one exchange without its connection: two messages in, two out.
type serverExchange struct {
	user     string
	verifier *Verifier
	binding  []byte // of our certificate, nil: none
	required bool   // the binding
	plus     bool   // the client has chosen it
	doomed   bool   // no such user: goes through the motions and fails
	nonce    string // ours at first; the client's and ours after the challenge
	header   string // the gs2-header of the client's first message
	spoken   string // the messages so far, as AuthMessage wants them
}

func newServerExchange(user string, v *Verifier, t Terms) *serverExchange {
	mock := t.mockVerifier(user) // made for everybody: the time must not tell who exists
	x := &serverExchange{user: user, verifier: v, binding: t.Binding, required: t.RequireBinding, doomed: v == nil, nonce: newNonce()}
	if x.doomed {
		x.verifier = mock
	}
	return x
}

// challenge answers client-first-message with server-first-message.
func (x *serverExchange) challenge(message string) (string, error) {
	first, err := x.parseFirst(message)
	if err != nil {
		return "", err
	}
	x.nonce = first.nonce + x.nonce
	x.header = first.header
	reply := "r=" + x.nonce + ",s=" + encode(x.verifier.Salt) + ",i=" + strconv.Itoa(x.verifier.Iterations)
	x.spoken = first.bare + "," + reply
	return reply, nil
}

// conclude checks client-final-message and answers it with server-final-message and the keys.
func (x *serverExchange) conclude(message string) (string, Secret, error) {
	final, err := parseClientFinal(message)
	if err != nil {
		return "", Secret{}, err
	}
	if final.cbind != bindingData(x.header, x.binding) {
		if x.plus {
			return "", Secret{}, bindingMismatch()
		}
		return "", Secret{}, unexpectedBinding()
	}
	if final.nonce != x.nonce {
		return "", Secret{}, invalidResponse("Nonce does not match.")
	}
	authMessage := x.spoken + "," + final.withoutProof
	clientKey := xorSignature(final.proof, x.verifier.StoredKey, authMessage)
	signature := sign(x.verifier.ServerKey, authMessage)
	proven := subtle.ConstantTimeCompare(storedKey(clientKey), x.verifier.StoredKey) == 1
	if !proven || x.doomed {
		return "", Secret{}, wrongPassword(x.user)
	}
	return "v=" + encode(signature), Secret{
		ClientKey: clientKey, ServerKey: bytes.Clone(x.verifier.ServerKey),
		Salt: bytes.Clone(x.verifier.Salt), Iterations: x.verifier.Iterations,
	}, nil
}

// clientFinal is client-final-message, taken apart.
type clientFinal struct {
	cbind        string // base64
	nonce        string
	proof        []byte // 32 bytes
	withoutProof string
}

// parseClientFinal reads client-final-message. Extensions between nonce and proof are ignored; the proof is last.
func parseClientFinal(message string) (clientFinal, error) {
	if err := checkText(message); err != nil {
		return clientFinal{}, malformed(err)
	}
	var final clientFinal
	var rest string
	var err error
	if final.cbind, rest, err = cutAttribute(message, 'c'); err != nil {
		return clientFinal{}, malformed(err)
	}
	if final.nonce, rest, err = cutAttribute(rest, 'r'); err != nil {
		return clientFinal{}, malformed(err)
	}
	for {
		// The comma before rest is not part of what the proof signs.
		final.withoutProof = strings.TrimSuffix(message[:len(message)-len(rest)], ",")
		name, value, after, err := cutAnyAttribute(rest)
		if err != nil {
			return clientFinal{}, malformed(err)
		}
		rest = after
		if name != 'p' {
			continue
		}
		if final.proof, err = decodeKey(value); err != nil {
			return clientFinal{}, malformed(errors.New("malformed proof in client-final-message"))
		}
		break
	}
	if rest != "" {
		return clientFinal{}, malformed(errors.New("garbage found at the end of client-final-message"))
	}
	return final, nil
}

// mockVerifier is the verifier of a user that does not exist. No password fits it; its salt is the same each time.
func (t Terms) mockVerifier(user string) *Verifier {
	seed, iterations := t.MockSeed, t.MockIterations
	if len(seed) == 0 {
		seed = processSeed()
	}
	if iterations < 1 {
		iterations = DefaultIterations
	}
	derive := func(label string) []byte {
		h := hmac.New(sha256.New, seed)
		h.Write([]byte(label))
		h.Write([]byte(user))
		return h.Sum(nil)
	}
	return &Verifier{
		Iterations: iterations, Salt: derive("salt:")[:saltLen], StoredKey: derive("stored:"), ServerKey: derive("server:"),
	}
}

// processSeed stands in where the caller has no seed of its own.
var processSeed = sync.OnceValue(func() []byte {
	seed := make([]byte, sha256.Size)
	_, _ = rand.Read(seed) // never fails: the process ends first
	return seed
})
