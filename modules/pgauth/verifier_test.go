package pgauth

import (
	"bytes"
	"strings"
	"testing"
)

// pencil is the verifier of the example in RFC 7677, part 3.
const pencil = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

func TestVerifierOfTheRFC(t *testing.T) {
	salt, err := decode("W22ZaJ0SNY7soEsUEjb6gQ==")
	if err != nil {
		t.Fatal(err)
	}
	if got := NewVerifier("pencil", salt, 4096).String(); got != pencil {
		t.Errorf("verifier of the RFC's password is\n%s, want\n%s", got, pencil)
	}
	v, err := ParseVerifier(pencil)
	if err != nil {
		t.Fatal(err)
	}
	if v.Iterations != 4096 || !bytes.Equal(v.Salt, salt) || len(v.StoredKey) != 32 || len(v.ServerKey) != 32 {
		t.Errorf("parsed to %d iterations, salt %x, keys of %d and %d bytes", v.Iterations, v.Salt, len(v.StoredKey), len(v.ServerKey))
	}
	if v.String() != pencil {
		t.Errorf("parsed and printed: %s", v)
	}
}

func TestNewVerifierFillsInWhatIsLeftOut(t *testing.T) {
	a, b := NewVerifier("x", nil, 0), NewVerifier("x", nil, 0)
	if a.Iterations != DefaultIterations || len(a.Salt) != 16 {
		t.Errorf("got %d iterations and a salt of %d bytes", a.Iterations, len(a.Salt))
	}
	if bytes.Equal(a.Salt, b.Salt) {
		t.Error("two verifiers have the same salt")
	}
}

func TestNewVerifierCopiesTheSalt(t *testing.T) {
	salt := []byte("0123456789abcdef")
	v := NewVerifier("x", salt, 1)
	salt[0] = 'X'
	if v.Salt[0] != '0' {
		t.Error("the verifier's salt changed with the caller's slice")
	}
}

func TestParseVerifierRefuses(t *testing.T) {
	key := strings.Repeat("A", 43) + "="
	whole := func(count, salt, stored, server string) string {
		return "SCRAM-SHA-256$" + count + ":" + salt + "$" + stored + ":" + server
	}
	if _, err := ParseVerifier(whole("1", "AAAA", key, key)); err != nil {
		t.Fatalf("the pattern itself: %v", err)
	}
	for name, c := range map[string]struct{ text, want string }{
		"nothing":                        {"", "not a SCRAM-SHA-256 verifier"},
		"a plain password":               {"sesame", "not a SCRAM-SHA-256 verifier"},
		"an md5 hash":                    {"md5" + strings.Repeat("0", 32), "this is an md5 hash"},
		"another mechanism":              {"SCRAM-SHA-512$1:AAAA$" + key + ":" + key, "not a SCRAM-SHA-256 verifier"},
		"lower case":                     {strings.ToLower(whole("1", "AAAA", key, key)), "not a SCRAM-SHA-256 verifier"},
		"a space in front":               {" " + whole("1", "AAAA", key, key), "not a SCRAM-SHA-256 verifier"},
		"the mechanism only":             {"SCRAM-SHA-256$", "no keys"},
		"no keys":                        {"SCRAM-SHA-256$1:AAAA", "no keys"},
		"no salt":                        {"SCRAM-SHA-256$1$" + key + ":" + key, "no salt"},
		"no server key":                  {"SCRAM-SHA-256$1:AAAA$" + key, "no server key"},
		"no iteration count":             {whole("", "AAAA", key, key), "not a positive number"},
		"no iterations":                  {whole("0", "AAAA", key, key), "not a positive number"},
		"a negative count":               {whole("-1", "AAAA", key, key), "not a positive number"},
		"a count with a plus":            {whole("+1", "AAAA", key, key), "not a positive number"},
		"a count with a leading zero":    {whole("01", "AAAA", key, key), "not a positive number"},
		"a count that is no number":      {whole("1x", "AAAA", key, key), "not a positive number"},
		"a count in hexadecimal":         {whole("0x10", "AAAA", key, key), "not a positive number"},
		"a count above the limit":        {whole("1000001", "AAAA", key, key), "above 1000000"},
		"a count that overflows":         {whole("99999999999999999999", "AAAA", key, key), "above 1000000"},
		"an empty salt":                  {whole("1", "", key, key), "salt is empty"},
		"a salt that is no base64":       {whole("1", "A*AA", key, key), "salt: invalid base64"},
		"a salt without padding":         {whole("1", "AA", key, key), "salt: invalid base64"},
		"a salt with a line break":       {whole("1", "AA\nAA", key, key), "salt: invalid base64"},
		"a salt with bits left":          {whole("1", "AB==", key, key), "salt: invalid base64"},
		"a salt of 257 bytes":            {whole("1", encode(make([]byte, 257)), key, key), "longer than 256"},
		"a salt of a megabyte":           {whole("1", strings.Repeat("A", 1<<20), key, key), "longer than 256"},
		"a stored key that is short":     {whole("1", "AAAA", "AAAA", key), "stored key: not 32 bytes"},
		"a stored key of 33 bytes":       {whole("1", "AAAA", strings.Repeat("A", 44), key), "stored key: not 32 bytes"},
		"a stored key that is no base64": {whole("1", "AAAA", strings.Repeat("*", 43)+"=", key), "stored key: invalid base64"},
		"a server key that is short":     {whole("1", "AAAA", key, "AAAA"), "server key: not 32 bytes"},
		"a third key":                    {whole("1", "AAAA", key, key+":"+key), "server key: not 32 bytes"},
		"a third part":                   {whole("1", "AAAA", key, key+"$"+key), "server key: not 32 bytes"},
		"a line break at the end":        {whole("1", "AAAA", key, key) + "\n", "server key: not 32 bytes"},
		"a zero byte at the end":         {whole("1", "AAAA", key, key) + "\x00", "server key: not 32 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := ParseVerifier(c.text)
			if err == nil {
				t.Fatalf("accepted as %s", v)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %q does not contain %q", err, c.want)
			}
			if len(c.text) > 3 && strings.Contains(err.Error(), c.text) {
				t.Errorf("error %q shows the text", err)
			}
		})
	}
}
