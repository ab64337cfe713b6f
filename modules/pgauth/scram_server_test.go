package pgauth

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// The conversation of RFC 7677, part 3, cut where the test needs it.
const (
	rfcClientNonce = "rOprNGfwEbeRWgbNEkqO"
	rfcServerNonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	rfcClientBare  = "n=user,r=" + rfcClientNonce
	rfcServerFirst = "r=" + rfcClientNonce + rfcServerNonce + ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
	rfcClientFinal = "c=biws,r=" + rfcClientNonce + rfcServerNonce + ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
	rfcServerFinal = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
)

var testSeed = []byte("a seed for the salts of nobody")

func TestServerHoldsTheConversationOfTheRFC(t *testing.T) {
	v, err := ParseVerifier(pencil)
	if err != nil {
		t.Fatal(err)
	}
	x := newServerExchange("user", v, Terms{MockSeed: testSeed})
	x.nonce = rfcServerNonce
	challenge, err := x.challenge("n,," + rfcClientBare)
	if err != nil || challenge != rfcServerFirst {
		t.Fatalf("challenge is %q (%v), want %q", challenge, err, rfcServerFirst)
	}
	final, secret, err := x.conclude(rfcClientFinal)
	if err != nil || final != rfcServerFinal {
		t.Fatalf("final message is %q (%v), want %q", final, err, rfcServerFinal)
	}
	clientKey, serverKey, err := deriveKeys("pencil", v.Salt, v.Iterations)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(secret.ClientKey, clientKey) || !bytes.Equal(secret.ServerKey, serverKey) || secret.Password != "" {
		t.Error("the keys recovered from the proof are not the password's")
	}
}

// sasl is what a SASLInitialResponse says.
func sasl(chosen, message string) []byte {
	n := len(message)
	return frame('p', chosen+"\x00"+string([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})+message)
}

func TestServerRefusesTheFirstMessage(t *testing.T) {
	const ok = "n,,n=,r=abc"
	for name, c := range map[string]struct {
		frame              []byte
		code, text, detail string
	}{
		"another message type":            {frame('Q', "select 1\x00"), "08P01", "expected SASL response, got message type 81", ""},
		"an oversized message":            {sasl(mechanism, "n,,n=,r="+strings.Repeat("a", 1024)), "28P01", `password authentication failed for user "joe"`, ""},
		"an empty body":                   {frame('p', ""), "08P01", "invalid string in message", ""},
		"a mechanism without an end":      {frame('p', mechanism), "08P01", "invalid string in message", ""},
		"a mechanism not offered":         {sasl("SCRAM-SHA-256-PLUS", ok), "08P01", "client selected an invalid SASL authentication mechanism", ""},
		"a mechanism in lower case":       {sasl("scram-sha-256", ok), "08P01", "client selected an invalid SASL authentication mechanism", ""},
		"no mechanism":                    {sasl("", ok), "08P01", "client selected an invalid SASL authentication mechanism", ""},
		"a password in the clear":         {frame('p', "sesame\x00"), "08P01", "client selected an invalid SASL authentication mechanism", ""},
		"no length":                       {frame('p', mechanism+"\x00"), "08P01", "insufficient data left in message", ""},
		"half a length":                   {frame('p', mechanism+"\x00\x00\x00"), "08P01", "insufficient data left in message", ""},
		"a length beyond the body":        {frame('p', mechanism+"\x00\x00\x00\x00\x0c"+ok), "08P01", "insufficient data left in message", ""},
		"a length within the body":        {frame('p', mechanism+"\x00\x00\x00\x00\x0a"+ok), "08P01", "invalid message format", ""},
		"a length below -1":               {frame('p', mechanism+"\x00\xff\xff\xff\xfe"+ok), "08P01", "insufficient data left in message", ""},
		"a length of -1 and a message":    {frame('p', mechanism+"\x00\xff\xff\xff\xff"+ok), "08P01", "invalid message format", ""},
		"an empty message":                {sasl(mechanism, ""), "08P01", "malformed SCRAM message", "the message is empty"},
		"a zero byte":                     {sasl(mechanism, ok+"\x00"), "08P01", "malformed SCRAM message", "message length does not match"},
		"channel binding":                 {sasl(mechanism, "p=tls-server-end-point,,n=,r=abc"), "08P01", "malformed SCRAM message", "includes channel binding data"},
		"an unknown flag":                 {sasl(mechanism, "x,,n=,r=abc"), "08P01", "malformed SCRAM message", `unexpected channel-binding flag "'x'".`},
		"a flag only":                     {sasl(mechanism, "n"), "08P01", "malformed SCRAM message", `comma expected, but found character "0x00".`},
		"a flag and a comma":              {sasl(mechanism, "n,"), "08P01", "malformed SCRAM message", `unexpected attribute "0x00" in client-first-message.`},
		"one comma":                       {sasl(mechanism, "n,n=,r=abc"), "08P01", "malformed SCRAM message", `unexpected attribute "'n'" in client-first-message.`},
		"an authorization identity":       {sasl(mechanism, "n,a=root,n=,r=abc"), "0A000", "client uses authorization identity", ""},
		"nothing after the header":        {sasl(mechanism, "n,,"), "08P01", "malformed SCRAM message", `expected attribute "n" but found "0x00"`},
		"a mandatory extension":           {sasl(mechanism, "n,,m=x,n=,r=abc"), "0A000", "client requires an unsupported SCRAM extension", ""},
		"nonce before name":               {sasl(mechanism, "n,,r=abc,n="), "08P01", "malformed SCRAM message", `expected attribute "n" but found "'r'"`},
		"no name":                         {sasl(mechanism, "n,,r=abc"), "08P01", "malformed SCRAM message", `expected attribute "n" but found "'r'"`},
		"no nonce":                        {sasl(mechanism, "n,,n=joe"), "08P01", "malformed SCRAM message", `expected attribute "r" but found "0x00"`},
		"an empty nonce":                  {sasl(mechanism, "n,,n=,r="), "08P01", "non-printable characters in SCRAM nonce", ""},
		"a nonce with a space":            {sasl(mechanism, "n,,n=,r=a b"), "08P01", "non-printable characters in SCRAM nonce", ""},
		"a nonce with a control":          {sasl(mechanism, "n,,n=,r=a\x01b"), "08P01", "non-printable characters in SCRAM nonce", ""},
		"a nonce beyond ASCII":            {sasl(mechanism, "n,,n=,r=aéb"), "08P01", "non-printable characters in SCRAM nonce", ""},
		"an attribute without a value":    {sasl(mechanism, "n,,n"), "08P01", "malformed SCRAM message", `expected character "=" for attribute "n"`},
		"an attribute that is a digit":    {sasl(mechanism, "n,,n=,r=abc,1=x"), "08P01", "malformed SCRAM message", `found invalid character "'1'"`},
		"a comma at the end":              {sasl(mechanism, "n,,n=,r=abc,"), "08P01", "malformed SCRAM message", "found end of string"},
		"an extension without an equals":  {sasl(mechanism, "n,,n=,r=abc,x"), "08P01", "malformed SCRAM message", `expected character "=" for attribute "x"`},
		"an attribute that is a surprise": {sasl(mechanism, "n,,\xff=,r=abc"), "08P01", "malformed SCRAM message", `expected attribute "n" but found "0xff"`},
	} {
		t.Run(name, func(t *testing.T) {
			conn, r, w := script(c.frame)
			secret, err := AuthenticateSCRAM(r, w, "joe", NewVerifier("x", nil, 1), Terms{MockSeed: testSeed})
			wantFatal(t, err, c.code, c.text, c.detail)
			if !secret.IsZero() {
				t.Error("there is a secret")
			}
			if got := conn.out.String(); got != string(request(authSASL, mechanism+"\x00\x00")) {
				t.Errorf("the client was sent %q", got)
			}
		})
	}
}

func TestServerAcceptsTheFirstMessage(t *testing.T) {
	for name, c := range map[string]struct{ message, nonce, cbind string }{
		"as libpq sends it":             {"n,,n=,r=abc", "abc", "biws"},
		"with a name":                   {"n,,n=joe,r=abc", "abc", "biws"},
		"with an escaped name":          {"n,,n=j=2Coe,r=abc", "abc", "biws"},
		"from one who expects binding":  {"y,,n=,r=abc", "abc", "eSws"},
		"with every character in nonce": {"n,,n=,r=!~+=/\"", "!~+=/\"", "biws"},
		"with optional extensions":      {"n,,n=,r=abc,x=1,y=", "abc", "biws"},
	} {
		t.Run(name, func(t *testing.T) {
			first, err := new(serverExchange).parseFirst(c.message)
			if err != nil {
				t.Fatal(err)
			}
			if first.nonce != c.nonce || encode([]byte(first.header)) != c.cbind || first.header+first.bare != c.message {
				t.Errorf("parsed to %+v", first)
			}
		})
	}
}

func TestServerRefusesTheFinalMessage(t *testing.T) {
	proof := encode(make([]byte, 32))
	for name, c := range map[string]struct{ message, code, text, detail string }{
		"an empty one":                      {"", "08P01", "malformed SCRAM message", "the message is empty"},
		"a zero byte":                       {"c=biws,r=NONCE,p=" + proof + "\x00", "08P01", "malformed SCRAM message", "message length does not match"},
		"no channel binding":                {"r=NONCE,p=" + proof, "08P01", "malformed SCRAM message", `expected attribute "c" but found "'r'"`},
		"no nonce":                          {"c=biws,p=" + proof, "08P01", "malformed SCRAM message", `expected attribute "r" but found "'p'"`},
		"nothing after the binding":         {"c=biws", "08P01", "malformed SCRAM message", `expected attribute "r" but found "0x00"`},
		"no proof":                          {"c=biws,r=NONCE", "08P01", "malformed SCRAM message", "found end of string"},
		"an extension instead of a proof":   {"c=biws,r=NONCE,x=y", "08P01", "malformed SCRAM message", "found end of string"},
		"a proof that is short":             {"c=biws,r=NONCE,p=AAAA", "08P01", "malformed SCRAM message", "Malformed proof in client-final-message."},
		"a proof that is long":              {"c=biws,r=NONCE,p=" + encode(make([]byte, 33)), "08P01", "malformed SCRAM message", "Malformed proof in client-final-message."},
		"a proof that is no base64":         {"c=biws,r=NONCE,p=" + strings.Repeat("*", 43) + "=", "08P01", "malformed SCRAM message", "Malformed proof in client-final-message."},
		"a proof with a line break":         {"c=biws,r=NONCE,p=\n" + proof[1:], "08P01", "malformed SCRAM message", "Malformed proof in client-final-message."},
		"a proof with bits left":            {"c=biws,r=NONCE,p=" + strings.Repeat("A", 42) + "B=", "08P01", "malformed SCRAM message", "Malformed proof in client-final-message."},
		"an empty proof":                    {"c=biws,r=NONCE,p=", "08P01", "malformed SCRAM message", "Malformed proof in client-final-message."},
		"something after the proof":         {"c=biws,r=NONCE,p=" + proof + ",x=y", "08P01", "malformed SCRAM message", "garbage found"},
		"a comma after the proof":           {"c=biws,r=NONCE,p=" + proof + ",", "08P01", "malformed SCRAM message", "found end of string"},
		"two proofs":                        {"c=biws,r=NONCE,p=" + proof + ",p=" + proof, "08P01", "malformed SCRAM message", "garbage found"},
		"the binding of another header":     {"c=eSws,r=NONCE,p=" + proof, "08P01", "unexpected SCRAM channel-binding attribute in client-final-message", ""},
		"an empty binding":                  {"c=,r=NONCE,p=" + proof, "08P01", "unexpected SCRAM channel-binding attribute in client-final-message", ""},
		"binding data":                      {"c=cD10bHMtdW5pcXVlLCw=,r=NONCE,p=" + proof, "08P01", "unexpected SCRAM channel-binding attribute in client-final-message", ""},
		"a shorter nonce":                   {"c=biws,r=abc,p=" + proof, "08P01", "invalid SCRAM response", "Nonce does not match."},
		"a longer nonce":                    {"c=biws,r=NONCEx,p=" + proof, "08P01", "invalid SCRAM response", "Nonce does not match."},
		"another nonce":                     {"c=biws,r=" + strings.Repeat("x", 27) + ",p=" + proof, "08P01", "invalid SCRAM response", "Nonce does not match."},
		"a wrong proof":                     {"c=biws,r=NONCE,p=" + proof, "28P01", `password authentication failed for user "joe"`, ""},
		"a wrong proof after an extension":  {"c=biws,r=NONCE,x=y,p=" + proof, "28P01", `password authentication failed for user "joe"`, ""},
		"an extension that begins with a 1": {"c=biws,r=NONCE,1=y,p=" + proof, "08P01", "malformed SCRAM message", `found invalid character "'1'"`},
	} {
		t.Run(name, func(t *testing.T) {
			x := newServerExchange("joe", NewVerifier("x", nil, 1), Terms{MockSeed: testSeed})
			if _, err := x.challenge("n,,n=,r=abc"); err != nil {
				t.Fatal(err)
			}
			final, secret, err := x.conclude(strings.ReplaceAll(c.message, "NONCE", x.nonce))
			wantFatal(t, err, c.code, c.text, c.detail)
			if final != "" || !secret.IsZero() {
				t.Error("there is an answer beside the error")
			}
		})
	}
}

func TestServerReadsTheProofAfterExtensions(t *testing.T) {
	final, err := parseClientFinal("c=biws,r=abc,x=1,y=2,p=" + encode(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	if final.withoutProof != "c=biws,r=abc,x=1,y=2" {
		t.Errorf("the proof signs %q", final.withoutProof)
	}
}

func TestServerChecksTheFrameOfTheFinalMessage(t *testing.T) {
	first := sasl(mechanism, "n,,n=,r=abc")
	for name, c := range map[string]struct {
		frame              []byte
		code, text, detail string
	}{
		"another type":       {frame('X', ""), "08P01", "expected SASL response, got message type 88", ""},
		"an oversized frame": {frame('p', strings.Repeat("a", 1021)), "28P01", `password authentication failed for user "joe"`, ""},
		"a frame at the limit": {
			frame('p', strings.Repeat("a", 1020)), "08P01", "malformed SCRAM message", `expected attribute "c" but found "'a'"`,
		},
		"an empty frame": {frame('p', ""), "08P01", "malformed SCRAM message", "the message is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			_, r, w := script(first, c.frame)
			_, err := AuthenticateSCRAM(r, w, "joe", NewVerifier("x", nil, 1), Terms{MockSeed: testSeed})
			wantFatal(t, err, c.code, c.text, c.detail)
		})
	}
}

func TestServerTellsALostConnectionFromAWrongMessage(t *testing.T) {
	gone := errors.New("the wire is cut")
	for name, c := range map[string]struct {
		frames  []byte
		refuses error
		want    error
	}{
		"a client that leaves to ask for a password":    {nil, nil, io.EOF},
		"a client that leaves after the challenge":      {sasl(mechanism, "n,,n=,r=abc"), nil, io.EOF},
		"a client that leaves inside a header":          {[]byte{'p', 0}, nil, io.ErrUnexpectedEOF},
		"a client that leaves inside a body":            {frame('p', "abc")[:6], nil, io.ErrUnexpectedEOF},
		"a client that cannot be written to":            {nil, gone, gone},
		"a client that leaves after asking to be asked": {frame('p', mechanism+"\x00\xff\xff\xff\xff"), nil, io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			conn, r, w := script(c.frames)
			conn.refuses = c.refuses
			_, err := AuthenticateSCRAM(r, w, "joe", nil, Terms{MockSeed: testSeed})
			if !errors.Is(err, c.want) {
				t.Errorf("error is %v, want %v", err, c.want)
			}
			var pgErr *pgwire.Error
			if errors.As(err, &pgErr) {
				t.Errorf("the error is one for the client: %v", pgErr)
			}
		})
	}
}

func TestClientMaySendItsFirstMessageLater(t *testing.T) {
	conn, r, w := script(frame('p', mechanism+"\x00\xff\xff\xff\xff"), frame('p', "n,,n=,r=abc"))
	_, err := AuthenticateSCRAM(r, w, "joe", NewVerifier("x", nil, 1), Terms{MockSeed: testSeed})
	if !errors.Is(err, io.EOF) {
		t.Fatalf("error is %v, want the end of the script", err)
	}
	asked := slices.Concat(request(authSASL, mechanism+"\x00\x00"), request(authSASLContinue, ""))
	rest, ok := bytes.CutPrefix(conn.out.Bytes(), asked)
	if !ok || !bytes.Contains(rest, []byte("r=abc")) {
		t.Errorf("the client was sent %q", conn.out.String())
	}
}

// recorder keeps what is written through it.
type recorder struct {
	net.Conn
	out bytes.Buffer
}

func (r *recorder) Write(p []byte) (int, error) {
	r.out.Write(p)
	return r.Conn.Write(p)
}

// attempt plays one login with a password and returns the messages the client got, as types and sizes, and the error.
func attempt(t *testing.T, user, password string, v *Verifier) (shape []string, err error) {
	t.Helper()
	client, server := pipe(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = Login(client.r, client.w, user, Secret{Password: password}, Channel{})
		_ = client.conn.Close()
	}()
	rec := &recorder{Conn: server.conn}
	w := pgwire.NewWriter(rec, 4096)
	_, err = AuthenticateSCRAM(server.r, w, user, v, Terms{MockSeed: testSeed})
	var pgErr *pgwire.Error
	if errors.As(err, &pgErr) {
		w.Error(pgErr)
	}
	_ = w.Flush()
	_ = server.conn.Close()
	<-done
	_, r, _ := script(rec.out.Bytes())
	for {
		typ, n, nextErr := r.Next()
		if nextErr != nil {
			break
		}
		shape = append(shape, fmt.Sprintf("%c of %d bytes", typ, n))
	}
	return shape, err
}

func TestUnknownUserLooksLikeAWrongPassword(t *testing.T) {
	wrongShape, wrongErr := attempt(t, "joe", "guess", NewVerifier("sesame", nil, DefaultIterations))
	nobodyShape, nobodyErr := attempt(t, "joe", "guess", nil)
	if len(wrongShape) != 3 || !slices.Equal(wrongShape, nobodyShape) {
		t.Errorf("messages to the client: %q for a wrong password, %q for an unknown user", wrongShape, nobodyShape)
	}
	if !bytes.Equal(errorBytes(t, wrongErr), errorBytes(t, nobodyErr)) {
		t.Error("the errors differ on the wire")
	}
	wantFatal(t, nobodyErr, "28P01", `password authentication failed for user "joe"`, "")
}

func errorBytes(t *testing.T, err error) []byte {
	t.Helper()
	var pgErr *pgwire.Error
	if !errors.As(err, &pgErr) {
		t.Fatalf("%v is not for the client", err)
	}
	conn, _, w := script()
	w.Error(pgErr)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return conn.out.Bytes()
}

func TestMockSaltIsStable(t *testing.T) {
	salt := func(seed []byte, user string) string {
		x := newServerExchange(user, nil, Terms{MockSeed: seed})
		challenge, err := x.challenge("n,,n=,r=abc")
		if err != nil {
			t.Fatal(err)
		}
		first, err := parseServerFirst(challenge, "abc")
		if err != nil {
			t.Fatal(err)
		}
		if len(first.salt) != saltLen || first.iterations != DefaultIterations {
			t.Errorf("salt of %d bytes, %d iterations", len(first.salt), first.iterations)
		}
		return string(first.salt)
	}
	joe, unseeded := salt(testSeed, "joe"), salt(nil, "joe")
	if joe != salt(testSeed, "joe") {
		t.Error("the salt changes from one attempt to the next")
	}
	if unseeded != salt(nil, "joe") {
		t.Error("the salt changes from one attempt to the next without a seed")
	}
	if joe == salt(testSeed, "jim") {
		t.Error("two users have the same salt")
	}
	if joe == salt([]byte("another seed"), "joe") {
		t.Error("two seeds give the same salt")
	}
}

func TestUnknownUserFailsEvenWithAProofThatFits(t *testing.T) {
	// Whoever knew the seed could make a proof; it must not help.
	x := newServerExchange("joe", nil, Terms{MockSeed: testSeed})
	challenge, err := x.challenge("n,,n=,r=abc")
	if err != nil {
		t.Fatal(err)
	}
	keys := Secret{ClientKey: make([]byte, 32), ServerKey: make([]byte, 32)}
	x.verifier.StoredKey = storedKey(keys.ClientKey)
	c := &clientExchange{secret: keys, header: noBinding, nonce: "abc", bare: "n=,r=abc"}
	final, err := c.prove(challenge)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = x.conclude(final)
	wantFatal(t, err, "28P01", "password authentication failed", "")
}

func TestNoncesDiffer(t *testing.T) {
	if a, b := newNonce(), newNonce(); a == b || len(a) != 24 || checkNonce(a) != nil {
		t.Errorf("nonces are %q and %q", a, b)
	}
}

// wantFatal checks an error for the client.
func wantFatal(t *testing.T, err error, code, text, detail string) {
	t.Helper()
	var pgErr *pgwire.Error
	if !errors.As(err, &pgErr) {
		t.Fatalf("error is %v, want a *pgwire.Error", err)
	}
	if pgErr.Code != code || !strings.Contains(pgErr.Message, text) || !strings.Contains(strings.ToLower(pgErr.Detail), strings.ToLower(detail)) {
		t.Errorf("error is %s %q, detail %q; want %s %q, detail %q", pgErr.Code, pgErr.Message, pgErr.Detail, code, text, detail)
	}
	if !pgErr.Fatal || pgErr.Severity != "FATAL" {
		t.Errorf("severity is %q", pgErr.Severity)
	}
}
