package pgauth

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// meet lets Login and one of our server sides talk to each other.
func meet(t *testing.T, s Secret, channel Channel, authenticate func(r *pgwire.Reader, w *pgwire.Writer) (Secret, error)) outcome {
	t.Helper()
	client, server := pipe(t)
	var got outcome
	done := make(chan struct{})
	go func() {
		defer close(done)
		if got.loginErr = Login(client.r, client.w, "joe", s, channel); got.loginErr != nil {
			_ = client.conn.Close()
		}
	}()
	keys, err := authenticate(server.r, server.w)
	var pgErr *pgwire.Error
	switch {
	case err == nil:
		server.w.AuthenticationOK()
	case errors.As(err, &pgErr):
		server.w.Error(pgErr)
	}
	_ = server.w.Flush() // the client may be gone
	<-done
	got.keys, got.authErr = keys, err
	return got
}

func TestMD5OnBothSides(t *testing.T) {
	hash := HashMD5("joe", "sesame")
	if hash != "md5688376570e45c6009b9fd0b578bd0813" || !isMD5(hash) {
		t.Errorf("the hash is %q", hash)
	}
	for name, c := range map[string]struct {
		hash   string
		secret Secret
		ok     bool
	}{
		"the password":                    {hash, Secret{Password: "sesame"}, true},
		"the hash":                        {hash, Secret{MD5: hash}, true},
		"another password":                {hash, Secret{Password: "sesam"}, false},
		"the hash of another user":        {hash, Secret{MD5: HashMD5("jim", "sesame")}, false},
		"the password, where nobody is":   {"", Secret{Password: "sesame"}, false},
		"the hash of nobody, by our seed": {"", Secret{Password: string(processSeed())}, false},
	} {
		t.Run(name, func(t *testing.T) {
			got := meet(t, c.secret, Channel{}, func(r *pgwire.Reader, w *pgwire.Writer) (Secret, error) {
				return AuthenticateMD5(r, w, "joe", c.hash)
			})
			if !c.ok {
				wantFatal(t, got.authErr, "28P01", `password authentication failed for user "joe"`, "")
				wantFatal(t, got.loginErr, "28P01", `password authentication failed for user "joe"`, "")
				return
			}
			if got.authErr != nil || got.loginErr != nil || got.keys.MD5 != hash {
				t.Errorf("server %v, client %v, hash %q", got.authErr, got.loginErr, got.keys.MD5)
			}
		})
	}
}

func TestCleartextIsCheckedAgainstWhateverIsStored(t *testing.T) {
	private := Channel{Private: true}
	scram, md5 := Stored{SCRAM: NewVerifier("sésame", nil, 10)}, Stored{MD5: HashMD5("joe", "sésame")}
	for name, c := range map[string]struct {
		stored   Stored
		password string
		ok       bool
	}{
		"a SCRAM verifier":                       {scram, "sésame", true},
		"a SCRAM verifier, another password":     {scram, "sesame", false},
		"a SCRAM verifier, decomposed":           {scram, "se\u0301same", true},
		"an md5 hash":                            {md5, "sésame", true},
		"an md5 hash, another password":          {md5, "sesame", false},
		"an md5 hash, the hash itself":           {md5, md5.MD5, false},
		"nobody":                                 {Stored{}, "sésame", false},
		"a SCRAM verifier, the verifier itself":  {scram, scram.SCRAM.String(), false},
		"a verifier that has no keys, by chance": {Stored{SCRAM: &Verifier{Iterations: 1, Salt: []byte("x")}}, "sésame", false},
	} {
		t.Run(name, func(t *testing.T) {
			got := meet(t, Secret{Password: c.password}, private, func(r *pgwire.Reader, w *pgwire.Writer) (Secret, error) {
				return AuthenticateCleartext(r, w, "joe", c.stored, Terms{})
			})
			if !c.ok {
				wantFatal(t, got.authErr, "28P01", `password authentication failed for user "joe"`, "")
				return
			}
			if got.authErr != nil || got.loginErr != nil || got.keys.Password != c.password {
				t.Errorf("server %v, client %v", got.authErr, got.loginErr)
			}
		})
	}
	got := meet(t, Secret{Password: "sésame"}, Channel{}, func(r *pgwire.Reader, w *pgwire.Writer) (Secret, error) {
		return AuthenticateCleartext(r, w, "joe", scram, Terms{})
	})
	wantFatal(t, got.loginErr, "28000", "server asks for a cleartext password on a connection that is not encrypted", "")
}

func TestPasswordMessagesAreJudgedAsPostgreSQLDoes(t *testing.T) {
	for name, c := range map[string]struct {
		frame      []byte
		code, text string
	}{
		"another message":           {frame('Q', "x\x00"), "08P01", "expected password response, got message type 81"},
		"nothing at all":            {frame('p', ""), "08P01", "invalid password packet size"},
		"no end":                    {frame('p', "secret"), "08P01", "invalid password packet size"},
		"a zero byte inside":        {frame('p', "sec\x00ret\x00"), "08P01", "invalid password packet size"},
		"an empty password":         {frame('p', "\x00"), "28P01", "empty password returned by client"},
		"the longest":               {frame('p', strings.Repeat("a", 65530)+"\x00"), "28P01", `password authentication failed for user "joe"`},
		"one that is longer, alone": {frame('p', strings.Repeat("a", 65531)+"\x00"), "", ""},
	} {
		for method, authenticate := range map[string]func(r *pgwire.Reader, w *pgwire.Writer) (Secret, error){
			"md5": func(r *pgwire.Reader, w *pgwire.Writer) (Secret, error) { return AuthenticateMD5(r, w, "joe", "") },
			"cleartext": func(r *pgwire.Reader, w *pgwire.Writer) (Secret, error) {
				return AuthenticateCleartext(r, w, "joe", Stored{}, Terms{})
			},
		} {
			t.Run(name+", "+method, func(t *testing.T) {
				_, r, w := script(c.frame)
				r.BodyLimit = 1 << 20
				secret, err := authenticate(r, w)
				if !secret.IsZero() {
					t.Error("there is a secret")
				}
				if c.code == "" {
					if !errors.Is(err, ErrOversized) || errors.As(err, new(*pgwire.Error)) {
						t.Errorf("error is %v", err)
					}
					return
				}
				wantFatal(t, err, c.code, c.text, "")
			})
		}
	}
}

func TestStoredPasswordsAreToldByTheirShape(t *testing.T) {
	for text, kind := range map[string]string{
		pencil:                           "SCRAM",
		HashMD5("joe", "x"):              "md5",
		"md5" + strings.Repeat("0", 31):  "none",
		"md5" + strings.Repeat("A", 32):  "none",
		"MD5" + strings.Repeat("a", 32):  "none",
		"":                               "none",
		"SCRAM-SHA-256$4096:AAAA$broken": "none",
		strings.Repeat("0", 35):          "none",
		strings.TrimPrefix(HashMD5("a", "b"), "m"): "none",
	} {
		s, err := ParseStored(text)
		got := "none"
		switch {
		case s.SCRAM != nil:
			got = "SCRAM"
		case s.MD5 != "":
			got = "md5"
		}
		if got != kind || (err != nil) != (kind == "none") || s.IsZero() != (kind == "none") {
			t.Errorf("%q is %s (%v), want %s", text, got, err, kind)
		}
	}
}

// The time must tell neither who exists nor whose password is kept as an md5 hash.
func TestAPasswordInClearCostsTheSameWhateverIsStored(t *testing.T) {
	terms := Terms{MockIterations: 200_000}
	mock := terms.mockVerifier("joe")
	took := func(s Stored) time.Duration {
		least := time.Hour
		for range 3 { // the quickest of some: a busy machine makes the others slow
			began := time.Now()
			if s.matches("joe", "wrong", mock) {
				t.Fatal("a wrong password fits")
			}
			least = min(least, time.Since(began))
		}
		return least
	}
	nobody := took(Stored{})
	for name, s := range map[string]Stored{
		"a SCRAM verifier": {SCRAM: NewVerifier("sesame", nil, terms.MockIterations)},
		"an md5 hash":      {MD5: HashMD5("joe", "sesame")},
	} {
		if d := took(s); d < nobody/4 || d > nobody*4 {
			t.Errorf("%s takes %v, nobody %v", name, d, nobody)
		}
	}
}
