package pgauth

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

func FuzzParseVerifier(f *testing.F) {
	f.Add(pencil)
	f.Add("SCRAM-SHA-256$1:AAAA$" + encode(make([]byte, 32)) + ":" + encode(make([]byte, 32)))
	f.Add("md5d41d8cd98f00b204e9800998ecf8427e")
	f.Add("SCRAM-SHA-256$4096:$:")
	f.Fuzz(func(t *testing.T, text string) {
		v, err := ParseVerifier(text)
		if err != nil {
			return
		}
		if v.Iterations < 1 || v.Iterations > MaxIterations || len(v.Salt) < 1 || len(v.Salt) > maxSaltLen ||
			len(v.StoredKey) != keyLen || len(v.ServerKey) != keyLen {
			t.Errorf("%q is out of its limits", text)
		}
		if v.String() != text {
			t.Errorf("%q is accepted, but printed as %q", text, v)
		}
	})
}

// The server's parsers, whole: what a client may send at each step gives keys only when the proof fits.
func FuzzClientMessages(f *testing.F) {
	f.Add("n,,"+rfcClientBare, rfcClientFinal)
	f.Add("y,,n=,r=abc,x=y", "c=eSws,r=NONCE,p="+encode(make([]byte, 32)))
	f.Add("p=tls-unique,,n=,r=abc", "c=biws,r=NONCE,x=y,p="+encode(make([]byte, 32)))
	f.Add("n,a=root,n=,r=abc", "c=biws,r=NONCE,p=")
	f.Add("n,,m=x,n=,r=abc", "")
	v := NewVerifier("pencil", []byte("0123456789abcdef"), 1)
	f.Fuzz(func(t *testing.T, first, final string) {
		x := newServerExchange("joe", v, Terms{MockSeed: testSeed})
		challenge, err := x.challenge(first)
		if err != nil {
			wantForClient(t, err)
		} else {
			parsed, err := parseServerFirst(challenge, strings.TrimSuffix(x.nonce, x.nonce[len(x.nonce)-24:]))
			if err != nil || string(parsed.salt) != string(v.Salt) {
				t.Errorf("our challenge %q cannot be read: %v", challenge, err)
			}
		}
		answer, secret, err := x.conclude(strings.ReplaceAll(final, "NONCE", x.nonce))
		if err == nil {
			t.Fatalf("a proof was accepted: %q", final)
		}
		wantForClient(t, err)
		if answer != "" || !secret.IsZero() {
			t.Error("there is an answer beside the error")
		}
	})
}

// The client's parsers: nothing a server sends makes us believe it.
func FuzzServerMessages(f *testing.F) {
	f.Add(rfcServerFirst, rfcServerFinal)
	f.Add("r="+rfcClientNonce+"x,s=AAAA,i=1", "v="+encode(make([]byte, 32)))
	f.Add("r="+rfcClientNonce+"x,s=AAAA,i=1000001", "e=other-error")
	f.Add("m=x,r=abc", "v=")
	keys := Secret{ClientKey: []byte(strings.Repeat("c", 32)), ServerKey: []byte(strings.Repeat("s", 32))}
	f.Fuzz(func(t *testing.T, first, final string) {
		x := rfcClient(keys)
		proof, err := x.prove(first)
		if err != nil {
			wantForClient(t, err)
			return
		}
		if _, err := parseClientFinal(proof); err != nil {
			t.Errorf("our answer %q cannot be read: %v", proof, err)
		}
		err = x.verify(final)
		if err == nil {
			t.Fatalf("the signature %q was believed", final)
		}
		wantForClient(t, err)
	})
}

// Both frame loops: bytes from a peer end in an error, never in a crash, a hang or a login. The one way in is a server
// that asks nothing.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("R\x00\x00\x00\x08\x00\x00\x00\x03"))
	f.Add(request(authSASL, mechanism+"\x00\x00"))
	f.Add(sasl(mechanism, "n,,n=,r=abc"))
	f.Add(frame('p', mechanism+"\x00\xff\xff\xff\xff"))
	f.Add(frame('E', "SFATAL\x00C53300\x00Mfull\x00\x00"))
	keys := Secret{ClientKey: make([]byte, 32), ServerKey: make([]byte, 32)}
	v := NewVerifier("x", nil, 1)
	f.Fuzz(func(t *testing.T, wire []byte) {
		_, r, w := script(wire)
		if secret, err := AuthenticateSCRAM(r, w, "joe", v, Terms{MockSeed: testSeed}); err == nil || !secret.IsZero() {
			t.Error("a client was let in")
		}
		conn, r, w := script(wire)
		if err := Login(r, w, "joe", keys, Channel{}); err == nil && conn.out.Len() != 0 {
			t.Error("a server was believed")
		}
	})
}

func FuzzPrepare(f *testing.F) {
	for _, c := range passwords {
		f.Add(c.in)
	}
	f.Fuzz(func(t *testing.T, password string) {
		prepared, ok := saslprep(password)
		if ok && !utf8.ValidString(prepared) && utf8.ValidString(password) {
			t.Errorf("%+q became %+q", password, prepared)
		}
		if !ok && prepare(password) != password {
			t.Errorf("%+q is changed although it cannot be normalised", password)
		}
	})
}

func wantForClient(t *testing.T, err error) {
	t.Helper()
	var pgErr *pgwire.Error
	if !errors.As(err, &pgErr) || !pgErr.Fatal || len(pgErr.Code) != 5 {
		t.Errorf("%v is not a fatal error with a code", err)
	}
}
