package pgauth

import (
	"strings"
	"testing"
)

// rfcClient is our side of the RFC's conversation: with its nonce and its user's name.
func rfcClient(s Secret) *clientExchange {
	return &clientExchange{user: "user", secret: s, header: noBinding, nonce: rfcClientNonce, bare: rfcClientBare}
}

func TestClientHoldsTheConversationOfTheRFC(t *testing.T) {
	salt, err := decode("W22ZaJ0SNY7soEsUEjb6gQ==")
	if err != nil {
		t.Fatal(err)
	}
	clientKey, serverKey, err := deriveKeys("pencil", salt, 4096)
	if err != nil {
		t.Fatal(err)
	}
	for name, secret := range map[string]Secret{
		"with the password":                {Password: "pencil"},
		"with the keys":                    {ClientKey: clientKey, ServerKey: serverKey},
		"with a password that goes before": {Password: "pencil", ClientKey: make([]byte, 32), ServerKey: make([]byte, 32)},
	} {
		t.Run(name, func(t *testing.T) {
			x := rfcClient(secret)
			final, err := x.prove(rfcServerFirst)
			if err != nil || final != rfcClientFinal {
				t.Fatalf("final message is %q (%v), want %q", final, err, rfcClientFinal)
			}
			if err := x.verify(rfcServerFinal); err != nil {
				t.Errorf("the server's signature: %v", err)
			}
		})
	}
}

func TestClientDoesNotChangeItsKeys(t *testing.T) {
	s := Secret{ClientKey: make([]byte, 32), ServerKey: make([]byte, 32)}
	if _, err := rfcClient(s).prove(rfcServerFirst); err != nil {
		t.Fatal(err)
	}
	if string(s.ClientKey) != string(make([]byte, 32)) || string(s.ServerKey) != string(make([]byte, 32)) {
		t.Error("a key was written to")
	}
}

func TestClientStartsAsLibpqDoes(t *testing.T) {
	x := &clientExchange{user: "joe"}
	message := x.start()
	if message != "n,,n=,r="+x.nonce || len(x.nonce) != 24 {
		t.Errorf("first message is %q", message)
	}
	if _, err := new(serverExchange).parseFirst(message); err != nil {
		t.Errorf("our own server refuses it: %v", err)
	}
}

func TestClientRefusesTheChallenge(t *testing.T) {
	const nonce = "r=" + rfcClientNonce + "x"
	for name, c := range map[string]struct{ message, detail string }{
		"an empty one":                       {"", "the message is empty"},
		"a zero byte":                        {nonce + ",s=AAAA,i=1\x00", "message length does not match"},
		"a mandatory extension":              {"m=x," + nonce + ",s=AAAA,i=1", `expected attribute "r" but found "'m'"`},
		"an error instead":                   {"e=other-error", `expected attribute "r" but found "'e'"`},
		"no nonce":                           {"s=AAAA,i=1", `expected attribute "r" but found "'s'"`},
		"an empty nonce":                     {"r=,s=AAAA,i=1", "the nonce is empty"},
		"our nonce and nothing more":         {"r=" + rfcClientNonce + ",s=AAAA,i=1", "the nonce does not continue ours"},
		"a part of our nonce":                {"r=rOpr,s=AAAA,i=1", "the nonce does not continue ours"},
		"another nonce":                      {"r=" + strings.Repeat("x", 40) + ",s=AAAA,i=1", "the nonce does not continue ours"},
		"a nonce with a space":               {nonce + " ,s=AAAA,i=1", "non-printable characters in the nonce"},
		"no salt":                            {nonce + ",i=1", `expected attribute "s" but found "'i'"`},
		"an empty salt":                      {nonce + ",s=,i=1", "the salt is empty"},
		"a salt that is no base64":           {nonce + ",s=A*AA,i=1", "salt: invalid base64"},
		"a salt that is long":                {nonce + ",s=" + encode(make([]byte, 257)) + ",i=1", "longer than 256 bytes"},
		"no iteration count":                 {nonce + ",s=AAAA", `expected attribute "i" but found "0x00"`},
		"an empty iteration count":           {nonce + ",s=AAAA,i=", "not a positive number"},
		"no iterations":                      {nonce + ",s=AAAA,i=0", "not a positive number"},
		"a negative count":                   {nonce + ",s=AAAA,i=-4096", "not a positive number"},
		"a count that is no number":          {nonce + ",s=AAAA,i=4096x", "not a positive number"},
		"a count that would cost too much":   {nonce + ",s=AAAA,i=1000001", "above 1000000"},
		"a count that overflows":             {nonce + ",s=AAAA,i=18446744073709551617", "above 1000000"},
		"salt and count in the other order":  {nonce + ",i=1,s=AAAA", `expected attribute "s" but found "'i'"`},
		"an extension at the end":            {nonce + ",s=AAAA,i=1,x=y", "garbage found"},
		"a comma at the end":                 {nonce + ",s=AAAA,i=1,", "found end of string"},
		"a line break at the end":            {nonce + ",s=AAAA,i=1\n", "not a positive number"},
		"something that is no attribute":     {"hello", `expected attribute "r" but found "'h'"`},
		"something that is no letter either": {"\x80", `expected attribute "r" but found "0x80"`},
	} {
		t.Run(name, func(t *testing.T) {
			x := rfcClient(Secret{Password: "pencil"})
			final, err := x.prove(c.message)
			wantFatal(t, err, "08P01", "malformed message from the server", c.detail)
			if final != "" {
				t.Errorf("a proof was made: %q", final)
			}
		})
	}
}

func TestClientRefusesTheSignature(t *testing.T) {
	for name, c := range map[string]struct{ message, code, text, detail string }{
		"an empty one":               {"", "08P01", "malformed message from the server", "the message is empty"},
		"a zero byte":                {rfcServerFinal + "\x00", "08P01", "malformed message from the server", "message length does not match"},
		"another attribute":          {"x=y", "08P01", "malformed message from the server", `expected attribute "v" but found "'x'"`},
		"a signature that is short":  {"v=AAAA", "08P01", "malformed message from the server", "not 32 bytes"},
		"an empty signature":         {"v=", "08P01", "malformed message from the server", "not 32 bytes"},
		"something after it":         {rfcServerFinal + ",x=y", "08P01", "malformed message from the server", "garbage found"},
		"a comma after it":           {rfcServerFinal + ",", "08P01", "malformed message from the server", "found end of string"},
		"a signature that is wrong":  {"v=" + encode(make([]byte, 32)), "28000", "did not prove that it knows", ""},
		"an error of the server":     {"e=invalid-proof", "28000", "ended the SCRAM exchange with an error", `"invalid-proof"`},
		"an error with control code": {"e=\x1b[31m", "28000", "ended the SCRAM exchange with an error", `"\x1b[31m"`},
	} {
		t.Run(name, func(t *testing.T) {
			x := rfcClient(Secret{Password: "pencil"})
			if _, err := x.prove(rfcServerFirst); err != nil {
				t.Fatal(err)
			}
			wantFatal(t, x.verify(c.message), c.code, c.text, c.detail)
		})
	}
}

func TestClientRefusesKeysOfAWrongLength(t *testing.T) {
	for name, s := range map[string]Secret{
		"a short client key": {ClientKey: make([]byte, 31), ServerKey: make([]byte, 32)},
		"a long client key":  {ClientKey: make([]byte, 33), ServerKey: make([]byte, 32)},
		"no client key":      {ServerKey: make([]byte, 32)},
		"no server key":      {ClientKey: make([]byte, 32)},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := rfcClient(s).prove(rfcServerFirst)
			wantFatal(t, err, "XX000", `the keys for user "user" are not 32 bytes long`, "")
		})
	}
}
