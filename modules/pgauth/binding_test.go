package pgauth

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"strings"
	"testing"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

func TestTheBindingIsTheHashOfTheCertificatesOwnAlgorithm(t *testing.T) {
	for algorithm, hash := range map[x509.SignatureAlgorithm]crypto.Hash{
		x509.MD5WithRSA: crypto.SHA256, x509.SHA1WithRSA: crypto.SHA256, x509.ECDSAWithSHA1: crypto.SHA256,
		x509.SHA256WithRSA: crypto.SHA256, x509.ECDSAWithSHA256: crypto.SHA256, x509.SHA256WithRSAPSS: crypto.SHA256,
		x509.SHA384WithRSA: crypto.SHA384, x509.ECDSAWithSHA384: crypto.SHA384, x509.SHA384WithRSAPSS: crypto.SHA384,
		x509.SHA512WithRSA: crypto.SHA512, x509.ECDSAWithSHA512: crypto.SHA512, x509.SHA512WithRSAPSS: crypto.SHA512,
		x509.PureEd25519: 0, x509.UnknownSignatureAlgorithm: 0,
	} {
		var want []byte
		if hash != 0 {
			h := hash.New()
			h.Write([]byte("certificate"))
			want = h.Sum(nil)
		}
		if got := EndpointBinding(&x509.Certificate{SignatureAlgorithm: algorithm, Raw: []byte("certificate")}); !bytes.Equal(got, want) {
			t.Errorf("%v: %x, want %x", algorithm, got, want)
		}
	}
}

func TestBoundLogins(t *testing.T) {
	v := NewVerifier("sesame", nil, 10)
	ours, other := []byte("our certificate"), []byte("another certificate")
	for name, c := range map[string]struct {
		terms              Terms
		channel            Channel
		loginCode, loginIs string // empty: let in
		authCode, authIs   string
	}{
		"both can":                        {Terms{Binding: ours}, Channel{Binding: ours}, "", "", "", ""},
		"both must":                       {Terms{Binding: ours, RequireBinding: true}, Channel{Binding: ours, Mode: BindingRequire}, "", "", "", ""},
		"the client does not":             {Terms{Binding: ours}, Channel{Binding: ours, Mode: BindingDisable}, "", "", "", ""},
		"the client cannot":               {Terms{Binding: ours}, Channel{}, "", "", "", ""},
		"the server cannot":               {Terms{}, Channel{Binding: ours}, "", "", "", ""},
		"somebody stands between":         {Terms{Binding: ours}, Channel{Binding: other}, "28000", "SCRAM channel binding check failed", "28000", "SCRAM channel binding check failed"},
		"the client must, the server not": {Terms{}, Channel{Binding: ours, Mode: BindingRequire}, "28000", "channel binding is required", "EOF", ""},
		"the client must and cannot":      {Terms{Binding: ours}, Channel{Mode: BindingRequire}, "28000", "channel binding is required", "EOF", ""},
		"the server must, the client not": {Terms{Binding: ours, RequireBinding: true}, Channel{}, "0A000", "SCRAM-SHA-256-PLUS", "EOF", ""},
		"the server must and cannot":      {Terms{RequireBinding: true}, Channel{}, "28000", "channel binding is required", "28000", "channel binding is required"},
	} {
		t.Run(name, func(t *testing.T) {
			got := meet(t, Secret{Password: "sesame"}, c.channel, func(r *pgwire.Reader, w *pgwire.Writer) (Secret, error) {
				return AuthenticateSCRAM(r, w, "joe", v, c.terms)
			})
			for _, side := range []struct {
				who, code, is string
				err           error
			}{{"client", c.loginCode, c.loginIs, got.loginErr}, {"server", c.authCode, c.authIs, got.authErr}} {
				var pgErr *pgwire.Error
				switch {
				case side.code == "" && side.err != nil:
					t.Errorf("%s: %v", side.who, side.err)
				case side.code == "EOF" && (side.err == nil || errors.As(side.err, &pgErr)):
					t.Errorf("%s: %v, want a lost connection", side.who, side.err)
				case side.code != "" && side.code != "EOF":
					wantFatal(t, side.err, side.code, side.is, "")
				}
			}
		})
	}
}

func TestDowngradesOfTheBindingAreNoticed(t *testing.T) {
	binding := []byte("our certificate")
	for name, c := range map[string]struct {
		chosen, first, code, text, detail string
	}{
		"the offer was taken out":           {mechanism, "y,,n=,r=abc", "28000", "SCRAM channel binding negotiation error", "thinks the server does not.  However, this server does"},
		"bound, but not in the message":     {mechanismPlus, "n,,n=,r=abc", "08P01", "malformed SCRAM message", "does not include channel binding data"},
		"bound, but the flag says y":        {mechanismPlus, "y,,n=,r=abc", "08P01", "malformed SCRAM message", "does not include channel binding data"},
		"not bound, but the message is":     {mechanism, "p=tls-server-end-point,,n=,r=abc", "08P01", "malformed SCRAM message", "includes channel binding data"},
		"bound by another type":             {mechanismPlus, "p=tls-unique,,n=,r=abc", "08P01", `unsupported SCRAM channel-binding type "tls-unique"`, ""},
		"bound by a type that is no text":   {mechanismPlus, "p=\x1b[31m,,n=,r=abc", "08P01", `unsupported SCRAM channel-binding type "?[31m"`, ""},
		"bound by a type that is very long": {mechanismPlus, "p=" + strings.Repeat("x", 99) + ",,n=,r=abc", "08P01", `type "` + strings.Repeat("x", 30) + `"`, ""},
		"bound by nothing":                  {mechanismPlus, "p", "08P01", "malformed SCRAM message", `expected character "=" for attribute "p"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, r, w := script(sasl(c.chosen, c.first))
			_, err := AuthenticateSCRAM(r, w, "joe", NewVerifier("x", nil, 1), Terms{Binding: binding})
			wantFatal(t, err, c.code, c.text, c.detail)
		})
	}
}

func TestTheFirstMessageTellsWhatWeCouldDo(t *testing.T) {
	both, one := mechanismPlus+"\x00"+mechanism+"\x00\x00", mechanism+"\x00\x00"
	for name, c := range map[string]struct {
		offer   string
		channel Channel
		want    string
	}{
		"offered, with TLS":              {both, Channel{Binding: []byte("x")}, mechanismPlus + "\x00\x00\x00\x00\x35p=tls-server-end-point,,n=,r="},
		"not offered, with TLS":          {one, Channel{Binding: []byte("x")}, mechanism + "\x00\x00\x00\x00\x20y,,n=,r="},
		"not offered, not wanted":        {one, Channel{Binding: []byte("x"), Mode: BindingDisable}, mechanism + "\x00\x00\x00\x00\x20n,,n=,r="},
		"offered, but there is no hash":  {both, Channel{Private: true}, mechanism + "\x00\x00\x00\x00\x20n,,n=,r="},
		"not offered and no certificate": {one, Channel{}, mechanism + "\x00\x00\x00\x00\x20n,,n=,r="},
	} {
		t.Run(name, func(t *testing.T) {
			conn, r, w := script(request(authSASL, c.offer))
			if err := Login(r, w, "joe", Secret{Password: "x"}, c.channel); err == nil {
				t.Fatal("logged in")
			}
			if !bytes.HasPrefix(conn.out.Bytes()[5:], []byte(c.want)) {
				t.Errorf("the server was sent %q, want %q", conn.out.String(), c.want)
			}
		})
	}
}

func TestALoginThatMustBeBoundAcceptsNothingElse(t *testing.T) {
	channel := Channel{Private: true, Binding: []byte("x"), Mode: BindingRequire}
	for name, frame := range map[string][]byte{
		"nothing asked": request(authOK, ""), "md5": request(authMD5, "salt"), "cleartext": request(authCleartext, ""),
		"no binding offered": request(authSASL, mechanism+"\x00\x00"),
	} {
		t.Run(name, func(t *testing.T) {
			conn, r, w := script(frame)
			wantFatal(t, Login(r, w, "joe", Secret{Password: "x"}, channel), "28000", "channel binding is required", "")
			if conn.out.Len() != 0 {
				t.Errorf("the server was sent %q", conn.out.String())
			}
		})
	}
}

func TestNobodyHasTheIterationsOfTheOthers(t *testing.T) {
	x := newServerExchange("joe", nil, Terms{MockIterations: 12345})
	challenge, err := x.challenge("n,,n=,r=abc")
	if err != nil || !strings.HasSuffix(challenge, ",i=12345") {
		t.Errorf("challenge %q, error %v", challenge, err)
	}
}
