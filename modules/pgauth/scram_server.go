package pgauth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// AuthenticateSCRAM lets the client at r and w prove the password behind v, from AuthenticationSASL to
// AuthenticationSASLFinal. The last message is left collected in w, so that it leaves together with the caller's
// AuthenticationOk. The Secret returned holds the keys that the proof revealed; they log this user in at every server
// with the same verifier.
//
// A nil v is a user that does not exist, or must not log in: the exchange has the same messages, sizes and cost, and
// fails as a wrong password does. Its salt comes from mockSeed (secret random bytes; should be the same in every
// process the client may reach; empty: a seed of this process) and the user's name, so that it does not change
// between attempts. It shows DefaultIterations: where verifiers have other counts, the count tells them apart.
//
// Errors for the client are *pgwire.Error, all FATAL, and are not written to w: 28P01 for a wrong proof, 08P01 and
// 0A000 for messages PostgreSQL refuses as well. Errors of the connection wrap io.EOF and the like; a client that
// leaves to ask for a password is io.EOF. The deadline is the caller's.
// See https://www.postgresql.org/docs/current/sasl-authentication.html.
func AuthenticateSCRAM(r *pgwire.Reader, w *pgwire.Writer, user string, v *Verifier, mockSeed []byte) (Secret, error) {
	x := newServerExchange(user, v, mockSeed)
	w.Begin(pgwire.MsgAuthentication)
	w.Int32(authSASL)
	w.String(mechanism)
	w.Byte(0) // ends the list
	w.End()
	message, err := readInitialResponse(r, w)
	if err != nil {
		return Secret{}, err
	}
	challenge, err := x.challenge(message)
	if err != nil {
		return Secret{}, err
	}
	writeSASL(w, authSASLContinue, challenge)
	if message, err = readResponse(r, w); err != nil {
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
	doomed   bool   // no such user: goes through the motions and fails
	nonce    string // ours at first; the client's and ours after the challenge
	cbind    string // what the client must repeat of its first message, in base64
	spoken   string // the messages so far, as AuthMessage wants them
}

func newServerExchange(user string, v *Verifier, mockSeed []byte) *serverExchange {
	mock := mockVerifier(mockSeed, user) // made for everybody: the time must not tell who exists
	x := &serverExchange{user: user, verifier: v, doomed: v == nil, nonce: newNonce()}
	if x.doomed {
		x.verifier = mock
	}
	return x
}

// challenge answers client-first-message with server-first-message.
func (x *serverExchange) challenge(message string) (string, error) {
	first, err := parseClientFirst(message)
	if err != nil {
		return "", err
	}
	x.nonce = first.nonce + x.nonce
	x.cbind = encode([]byte(first.header))
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
	if final.cbind != x.cbind {
		return "", Secret{}, invalidResponse("Unexpected channel-binding attribute in client-final-message.")
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
	return "v=" + encode(signature), Secret{ClientKey: clientKey, ServerKey: append([]byte(nil), x.verifier.ServerKey...)}, nil
}

// clientFirst is client-first-message, taken apart.
type clientFirst struct {
	header string // gs2-header: "n,," or "y,,"
	bare   string // the rest
	nonce  string
}

// parseClientFirst reads client-first-message. The user's name in it is ignored, as PostgreSQL does: the startup
// packet's counts. Optional extensions are ignored too, a mandatory one is refused.
func parseClientFirst(message string) (clientFirst, error) {
	if err := checkText(message); err != nil {
		return clientFirst{}, malformed(err)
	}
	switch message[0] {
	case 'n', 'y': // no channel binding; "y": because the client believes that we have none, which is true
	case 'p':
		return clientFirst{}, malformed(errors.New("the client selected " + mechanism +
			" without channel binding, but the message includes channel binding data"))
	default:
		return clientFirst{}, malformed(fmt.Errorf("unexpected channel-binding flag %q", message[0]))
	}
	if len(message) > 2 && message[1] == ',' && message[2] == 'a' {
		return clientFirst{}, notSupported("client uses authorization identity, but it is not supported")
	}
	if len(message) < 3 || message[1:3] != ",," {
		return clientFirst{}, malformed(errors.New("two commas expected after the channel-binding flag"))
	}
	first := clientFirst{header: message[:3], bare: message[3:]}
	if strings.HasPrefix(first.bare, "m=") {
		return clientFirst{}, notSupported("client requires an unsupported SCRAM extension")
	}
	_, rest, err := cutAttribute(first.bare, 'n')
	if err != nil {
		return clientFirst{}, malformed(err)
	}
	if first.nonce, rest, err = cutAttribute(rest, 'r'); err != nil {
		return clientFirst{}, malformed(err)
	}
	if err = checkNonce(first.nonce); err != nil {
		return clientFirst{}, malformed(err)
	}
	for rest != "" {
		if _, _, rest, err = cutAnyAttribute(rest); err != nil {
			return clientFirst{}, malformed(err)
		}
	}
	return first, nil
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
			return clientFinal{}, malformed(fmt.Errorf("malformed proof: %w", err))
		}
		break
	}
	if rest != "" {
		return clientFinal{}, malformed(errors.New("garbage found at the end of client-final-message"))
	}
	return final, nil
}

func checkText(message string) error {
	if message == "" {
		return errors.New("the message is empty")
	}
	if strings.IndexByte(message, 0) >= 0 {
		return errors.New("message length does not match input length")
	}
	return nil
}

// readInitialResponse sends what w holds and reads SASLInitialResponse: the mechanism chosen and client-first-message.
// A client may leave the second out; then an empty challenge asks for it.
func readInitialResponse(r *pgwire.Reader, w *pgwire.Writer) (string, error) {
	body, err := readFrame(r, w)
	if err != nil {
		return "", err
	}
	chosen, rest, ok := pgwire.ParseCString(body)
	if !ok {
		return "", invalidMessage()
	}
	if string(chosen) != mechanism {
		return "", invalidMechanism()
	}
	if len(rest) < 4 {
		return "", invalidMessage()
	}
	n, rest := int32(binary.BigEndian.Uint32(rest)), rest[4:] //nolint:gosec // a signed length on the wire: -1 is none
	if n == -1 && len(rest) == 0 {
		writeSASL(w, authSASLContinue, "")
		return readResponse(r, w)
	}
	if int(n) != len(rest) {
		return "", invalidMessage()
	}
	return string(rest), nil
}

// readResponse sends what w holds and reads SASLResponse.
func readResponse(r *pgwire.Reader, w *pgwire.Writer) (string, error) {
	body, err := readFrame(r, w)
	return string(body), err
}

// readFrame returns the borrowed body of the client's next password message.
func readFrame(r *pgwire.Reader, w *pgwire.Writer) ([]byte, error) {
	if err := w.Flush(); err != nil {
		return nil, fmt.Errorf("send SASL challenge: %w", err)
	}
	typ, n, err := r.Next()
	if err != nil {
		return nil, fmt.Errorf("read SASL response: %w", err)
	}
	if typ != pgwire.MsgPassword {
		return nil, expectedResponse(typ)
	}
	if n > maxMessage {
		return nil, oversized(n)
	}
	body, err := r.Body()
	if err != nil {
		return nil, fmt.Errorf("read SASL response: %w", err)
	}
	return body, nil
}

func writeSASL(w *pgwire.Writer, code int, data string) {
	w.Begin(pgwire.MsgAuthentication)
	w.Int32(code)
	w.Bytes([]byte(data))
	w.End()
}

// mockVerifier is the verifier of a user that does not exist. No password fits it; its salt is the same each time.
func mockVerifier(seed []byte, user string) *Verifier {
	if len(seed) == 0 {
		seed = processSeed()
	}
	derive := func(label string) []byte {
		h := hmac.New(sha256.New, seed)
		h.Write([]byte(label))
		h.Write([]byte(user))
		return h.Sum(nil)
	}
	return &Verifier{
		Iterations: DefaultIterations, Salt: derive("salt:")[:saltLen], StoredKey: derive("stored:"), ServerKey: derive("server:"),
	}
}

// processSeed stands in where the caller has no seed of its own.
var processSeed = sync.OnceValue(func() []byte {
	seed := make([]byte, sha256.Size)
	_, _ = rand.Read(seed) // never fails: the process ends first
	return seed
})
