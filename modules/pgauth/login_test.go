package pgauth

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

func TestLoginAndAuthenticationMeet(t *testing.T) {
	verifier := NewVerifier("sésame", nil, 1000)
	first := converse(t, verifier, Secret{Password: "sésame"})
	if first.loginErr != nil || first.authErr != nil {
		t.Fatalf("login by password: client %v, server %v", first.loginErr, first.authErr)
	}
	if len(first.keys.ClientKey) != 32 || first.keys.Password != "" || !bytes.Equal(storedKey(first.keys.ClientKey), verifier.StoredKey) {
		t.Fatal("the keys recovered are not those of the verifier")
	}
	if !bytes.Equal(first.keys.Salt, verifier.Salt) || first.keys.Iterations != verifier.Iterations {
		t.Error("the keys do not say whose they are")
	}
	first.keys.Salt = nil // they are tried everywhere
	for name, c := range map[string]struct {
		verifier *Verifier
		secret   Secret
		code     string // empty: let in
	}{
		"a decomposed password is the same password":   {verifier, Secret{Password: "se\u0301same"}, ""},
		"the keys of a proof log in":                   {verifier, first.keys, ""},
		"the keys log in where the verifier is a copy": {parsed(t, verifier.String()), first.keys, ""},
		"a wrong password does not":                    {verifier, Secret{Password: "sesame"}, "28P01"},
		"the keys of another salt do not":              {NewVerifier("sésame", nil, 1000), first.keys, "28P01"},
		"the keys of another count do not":             {NewVerifier("sésame", verifier.Salt, 1001), first.keys, "28P01"},
		"nobody does":                                  {nil, Secret{Password: "sésame"}, "28P01"},
		"nobody does with keys":                        {nil, first.keys, "28P01"},
		"a verifier without keys lets nobody in":       {&Verifier{Iterations: 1, Salt: verifier.Salt}, first.keys, "28P01"},
	} {
		t.Run(name, func(t *testing.T) {
			got := converse(t, c.verifier, c.secret)
			if c.code == "" {
				if got.loginErr != nil || got.authErr != nil {
					t.Fatalf("client %v, server %v", got.loginErr, got.authErr)
				}
				if !bytes.Equal(got.keys.ClientKey, first.keys.ClientKey) || !bytes.Equal(got.keys.ServerKey, first.keys.ServerKey) {
					t.Error("other keys were recovered")
				}
				return
			}
			wantFatal(t, got.authErr, c.code, `password authentication failed for user "joe"`, "")
			wantFatal(t, got.loginErr, c.code, `password authentication failed for user "joe"`, "")
			if !got.keys.IsZero() {
				t.Error("keys were recovered")
			}
		})
	}
}

func parsed(t *testing.T, text string) *Verifier {
	t.Helper()
	v, err := ParseVerifier(text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

type outcome struct {
	keys              Secret
	authErr, loginErr error
}

// converse lets our two sides talk to each other.
func converse(t *testing.T, v *Verifier, s Secret) outcome {
	t.Helper()
	client, server := pipe(t)
	var got outcome
	done := make(chan struct{})
	go func() {
		defer close(done)
		got.loginErr = Login(client.r, client.w, "joe", s, Channel{})
	}()
	keys, err := AuthenticateSCRAM(server.r, server.w, "joe", v, Terms{MockSeed: testSeed})
	var pgErr *pgwire.Error
	switch {
	case err == nil:
		server.w.AuthenticationOK()
	case errors.As(err, &pgErr):
		server.w.Error(pgErr)
	}
	if err := server.w.Flush(); err != nil {
		t.Error(err)
	}
	<-done
	got.keys, got.authErr = keys, err
	return got
}

func TestLoginAtAServerThatAsksNothing(t *testing.T) {
	for name, s := range map[string]Secret{"without a secret": {}, "with a password": {Password: "x"}} {
		t.Run(name, func(t *testing.T) {
			conn, r, w := script(request(authOK, ""), frame('Z', "I"))
			if err := Login(r, w, "joe", s, Channel{}); err != nil {
				t.Fatal(err)
			}
			if conn.out.Len() != 0 {
				t.Errorf("the server was sent %q", conn.out.String())
			}
			if typ, _, err := r.Next(); typ != 'Z' || err != nil {
				t.Errorf("the message after AuthenticationOk is %q (%v)", typ, err)
			}
		})
	}
}

func TestLoginSendsWhatWasCollected(t *testing.T) {
	conn, r, w := script(request(authOK, ""))
	w.Startup(pgwire.Version30, []pgwire.Param{{Name: "user", Value: "joe"}})
	if err := Login(r, w, "joe", Secret{}, Channel{}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(conn.out.Bytes(), []byte("user\x00joe\x00")) {
		t.Error("the startup message was not sent")
	}
}

func TestLoginSkipsWhatDoesNotConcernIt(t *testing.T) {
	_, r, w := script(
		frame('N', "SNOTICE\x00C00000\x00Mhello\x00\x00"),
		frame('v', "\x00\x03\x00\x00\x00\x00\x00\x00"),
		frame('N', strings.Repeat("x", 100_000)),
		request(authOK, ""))
	if err := Login(r, w, "joe", Secret{}, Channel{}); err != nil {
		t.Fatal(err)
	}
}

func TestLoginGivesTheServersErrorBack(t *testing.T) {
	_, r, w := script(frame('E', "SFATALE\x00VFATAL\x00C53300\x00Msorry, too many clients already\x00\x00"))
	err := Login(r, w, "joe", Secret{Password: "x"}, Channel{})
	if _, ok := err.(*pgwire.Error); !ok { //nolint:errorlint // it comes back unwrapped: that is the point
		t.Fatalf("error is %T", err)
	}
	wantFatal(t, err, "53300", "sorry, too many clients already", "")
}

func TestLoginRefuses(t *testing.T) {
	scram := request(authSASL, mechanism+"\x00\x00")
	for name, c := range map[string]struct {
		frames             []byte
		code, text, detail string
		hint               string
	}{
		"cleartext":                      {request(authCleartext, ""), "28000", "server asks for a cleartext password on a connection that is not encrypted", "", "server_tls require"},
		"md5 with half a salt":           {request(authMD5, "sa"), "08P01", "malformed message", "an md5 salt that has not 4 bytes", ""},
		"a challenge after md5":          {slices.Concat(request(authMD5, "salt"), request(authSASLContinue, rfcServerFirst)), "08P01", "unexpected message", "Received authentication request 11 in step password.", ""},
		"Kerberos":                       {request(authKerberosV5, ""), "0A000", "server asks for Kerberos V5 authentication", "", "pg_hba.conf"},
		"SCM credentials":                {request(authSCMCreds, ""), "0A000", "server asks for SCM credentials authentication", "", "pg_hba.conf"},
		"GSSAPI":                         {request(authGSS, ""), "0A000", "server asks for GSSAPI authentication", "", "pg_hba.conf"},
		"GSSAPI going on":                {request(authGSSContinue, "x"), "0A000", "server asks for GSSAPI authentication", "", "pg_hba.conf"},
		"SSPI":                           {request(authSSPI, ""), "0A000", "server asks for SSPI authentication", "", "pg_hba.conf"},
		"something new":                  {request(99, ""), "0A000", "server asks for unknown (99) authentication", "", "pg_hba.conf"},
		"channel binding only":           {request(authSASL, mechanismPlus+"\x00\x00"), "0A000", "server asks for SCRAM-SHA-256-PLUS", "", "over TLS"},
		"OAuth only":                     {request(authSASL, "OAUTHBEARER\x00\x00"), "0A000", "server asks for SASL (other than SCRAM-SHA-256)", "", "pg_hba.conf"},
		"no mechanism":                   {request(authSASL, "\x00"), "0A000", "server asks for SASL (other than SCRAM-SHA-256)", "", "pg_hba.conf"},
		"a list without an end":          {request(authSASL, mechanism+"\x00"), "08P01", "malformed message", "does not end", ""},
		"a name without an end":          {request(authSASL, mechanism), "08P01", "malformed message", "does not end", ""},
		"a challenge unasked":            {request(authSASLContinue, rfcServerFirst), "08P01", "unexpected message", "Received authentication request 11 in step request.", ""},
		"a signature unasked":            {request(authSASLFinal, rfcServerFinal), "08P01", "unexpected message", "Received authentication request 12 in step request.", ""},
		"the same request twice":         {slices.Concat(scram, scram), "08P01", "unexpected message", "Received authentication request 10 in step challenge.", ""},
		"md5 in the middle":              {slices.Concat(scram, request(authMD5, "salt")), "08P01", "unexpected message", "Received authentication request 5 in step challenge.", ""},
		"let in before the challenge":    {slices.Concat(scram, request(authOK, "")), "08P01", "unexpected message", "Received authentication request 0 in step challenge.", ""},
		"a signature for the challenge":  {slices.Concat(scram, request(authSASLFinal, rfcServerFinal)), "08P01", "unexpected message", "Received authentication request 12 in step challenge.", ""},
		"a bad challenge":                {slices.Concat(scram, request(authSASLContinue, rfcServerFirst)), "08P01", "malformed message", "the nonce does not continue ours", ""},
		"a short request":                {frame('R', "\x00\x00\x00"), "08P01", "malformed message", "less than 4 bytes", ""},
		"a request that is too long":     {request(authSASL, strings.Repeat("x", 2000)), "08P01", "malformed message", "2004 bytes is longer than 2000", ""},
		"an error that is too long":      {frame('E', strings.Repeat("x", 30001)), "08P01", "malformed message", "30001 bytes is longer than 30000", ""},
		"ready without being let in":     {frame('Z', "I"), "08P01", "unexpected message", "Received message type 'Z' in step request.", ""},
		"parameters before being let in": {frame('S', "a\x00b\x00"), "08P01", "unexpected message", "Received message type 'S' in step request.", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, r, w := script(c.frames)
			err := Login(r, w, "joe", Secret{Password: "sesame"}, Channel{})
			wantFatal(t, err, c.code, c.text, c.detail)
			var pgErr *pgwire.Error
			if errors.As(err, &pgErr) && (!strings.Contains(pgErr.Hint, c.hint) || c.hint == "" && pgErr.Hint != "") {
				t.Errorf("hint is %q, want %q", pgErr.Hint, c.hint)
			}
		})
	}
}

func TestLoginWithoutASecretSaysSo(t *testing.T) {
	conn, r, w := script(request(authSASL, mechanism+"\x00\x00"))
	wantFatal(t, Login(r, w, "joe", Secret{}, Channel{}), "28000", `there is no password or key for user "joe"`, "")
	if conn.out.Len() != 0 {
		t.Errorf("the server was sent %q", conn.out.String())
	}
}

func TestLoginPrefersNoChannelBinding(t *testing.T) {
	conn, r, w := script(request(authSASL, mechanismPlus+"\x00"+mechanism+"\x00\x00"))
	if err := Login(r, w, "joe", Secret{Password: "x"}, Channel{}); !errors.Is(err, io.EOF) {
		t.Fatalf("error is %v, want the end of the script", err)
	}
	if !bytes.HasPrefix(conn.out.Bytes()[5:], []byte(mechanism+"\x00\x00\x00\x00\x20n,,n=,r=")) {
		t.Errorf("the server was sent %q", conn.out.String())
	}
}

func TestLoginTellsALostConnection(t *testing.T) {
	gone := errors.New("the wire is cut")
	for name, c := range map[string]struct {
		frames  []byte
		refuses error
		want    error
	}{
		"at once":              {nil, nil, io.EOF},
		"after the request":    {request(authSASL, mechanism+"\x00\x00"), nil, io.EOF},
		"inside the request":   {request(authSASL, mechanism+"\x00\x00")[:12], nil, io.ErrUnexpectedEOF},
		"inside an error":      {frame('E', "SFATAL\x00")[:9], nil, io.ErrUnexpectedEOF},
		"while we answer":      {request(authSASL, mechanism+"\x00\x00"), gone, gone},
		"in a notice, skipped": {frame('N', "SNOTICE\x00")[:9], nil, io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			conn, r, w := script(c.frames)
			conn.refuses = c.refuses
			err := Login(r, w, "joe", Secret{Password: "x"}, Channel{})
			if !errors.Is(err, c.want) {
				t.Errorf("error is %v, want %v", err, c.want)
			}
		})
	}
}

// impostor plays a server up to the proof and then says what it is told to.
func impostor(t *testing.T, last ...[]byte) error {
	t.Helper()
	client, server := pipe(t)
	done := make(chan error, 1)
	go func() { done <- Login(client.r, client.w, "joe", Secret{Password: "sesame"}, Channel{}) }()
	x := newServerExchange("joe", NewVerifier("sesame", nil, 1), Terms{MockSeed: testSeed})
	server.w.Raw(request(authSASL, mechanism+"\x00\x00"))
	message, err := x.readInitialResponse(server.r, server.w)
	if err != nil {
		t.Fatal(err)
	}
	challenge, err := x.challenge(message)
	if err != nil {
		t.Fatal(err)
	}
	writeSASL(server.w, authSASLContinue, challenge)
	if _, err = x.readResponse(server.r, server.w); err != nil {
		t.Fatal(err)
	}
	server.w.Raw(bytes.Join(last, nil))
	_ = server.w.Flush() // the client may be gone already
	return <-done
}

func TestLoginBelievesOnlyAServerThatProvesItself(t *testing.T) {
	ok := request(authOK, "")
	for name, c := range map[string]struct {
		last               [][]byte
		code, text, detail string
	}{
		"no signature": {[][]byte{ok}, "28000", "did not prove that it knows", ""},
		"a wrong signature": {
			[][]byte{request(authSASLFinal, "v="+encode(make([]byte, 32))), ok}, "28000", "did not prove that it knows", "",
		},
		"a broken signature": {[][]byte{request(authSASLFinal, "v="), ok}, "08P01", "malformed message", "not 32 bytes"},
		"another challenge": {
			[][]byte{request(authSASLContinue, rfcServerFirst)}, "08P01", "unexpected message", "authentication request 11 in step signature",
		},
		"ready at once": {[][]byte{frame('Z', "I")}, "08P01", "unexpected message", "message type 'Z' in step signature"},
	} {
		t.Run(name, func(t *testing.T) {
			wantFatal(t, impostor(t, c.last...), c.code, c.text, c.detail)
		})
	}
}

func TestStepsHaveNames(t *testing.T) {
	for s, want := range map[step]string{
		stepRequest: "request", stepChallenge: "challenge", stepSignature: "signature", stepProven: "proven", stepPassword: "password", step(9): "unknown",
	} {
		if s.String() != want {
			t.Errorf("step %d is %q, want %q", s, s, want)
		}
	}
}
