package pgtls

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fairwaydb/fairway/modules/pgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func authority(t *testing.T, name string) *pgtest.Authority {
	t.Helper()
	a, err := pgtest.NewAuthority(t.TempDir(), name)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func issue(t *testing.T, a *pgtest.Authority, c pgtest.Certificate) (certificate, key string) {
	t.Helper()
	certificate, key, err := a.Issue(c)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

func parse(t *testing.T, file string) *x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAKeyPairFollowsItsFiles(t *testing.T) {
	a := authority(t, "ca")
	old, oldKey := issue(t, a, pgtest.Certificate{Name: "old"})
	renewed, renewedKey := issue(t, a, pgtest.Certificate{Name: "renewed"})
	dir := t.TempDir()
	certificate, key := filepath.Join(dir, "c.pem"), filepath.Join(dir, "c.key")
	changes := 0
	put := func(from, to string) {
		t.Helper()
		text, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to, text, 0o600)
		}
		changes++ // file systems have clocks of their own
		at := time.Now().Add(time.Duration(changes) * time.Minute)
		if err = errors.Join(err, os.Chtimes(to, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	put(old, certificate)
	put(oldKey, key)
	var failures []error
	k, err := LoadKeyPair(certificate, key, func(err error) { failures = append(failures, err) })
	if err != nil {
		t.Fatal(err)
	}
	shows := func(name string) {
		t.Helper()
		for range 2 {
			if got := k.Current().Leaf.Subject.CommonName; got != name || k.Leaf().Subject.CommonName != name {
				t.Errorf("the pair is %s, want %s", got, name)
			}
		}
	}
	shows("old")
	put(renewed, certificate)
	shows("old")
	if len(failures) != 1 || !strings.Contains(failures[0].Error(), "the key that belongs to it") {
		t.Errorf("half a renewal was told as %v", failures)
	}
	put(renewedKey, key)
	shows("renewed")
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	shows("renewed")
	if len(failures) != 2 || !errors.Is(failures[1], os.ErrNotExist) {
		t.Errorf("a key that is gone was told as %v", failures)
	}
}

func TestWhatIsNoKeyPairIsRefused(t *testing.T) {
	a := authority(t, "ca")
	one, oneKey := issue(t, a, pgtest.Certificate{Name: "one"})
	_, twoKey := issue(t, a, pgtest.Certificate{Name: "two"})
	for name, test := range map[string]struct{ certificate, key, want string }{
		"no certificate":   {one + "x", oneKey, "read certificate: open"},
		"no key":           {one, oneKey + "x", "read key: open"},
		"another's key":    {one, twoKey, "private key does not match"},
		"the wrong way up": {oneKey, one, "write a certificate in PEM form"},
	} {
		if _, err := LoadKeyPair(test.certificate, test.key, nil); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", name, err, test.want)
		}
	}
}

func TestAuthorities(t *testing.T) {
	a, b := authority(t, "a"), authority(t, "b")
	pool, err := LoadAuthorities(a.File(), b.File())
	if err != nil {
		t.Fatal(err)
	}
	for _, of := range []*pgtest.Authority{a, b} {
		file, _ := issue(t, of, pgtest.Certificate{Name: "client"})
		if _, err := parse(t, file).Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
			t.Error(err)
		}
	}
	_, key := issue(t, a, pgtest.Certificate{Name: "client"})
	if _, err := LoadAuthorities(a.File(), key); err == nil || !strings.Contains(err.Error(), "no certificate in PEM form") {
		t.Errorf("a key as an authority: %v", err)
	}
	if _, err := LoadAuthorities(a.File() + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestRevocations(t *testing.T) {
	a, b := authority(t, "ca"), authority(t, "ca") // of the same name
	good, _ := issue(t, a, pgtest.Certificate{Name: "good"})
	bad, _ := issue(t, a, pgtest.Certificate{Name: "bad"})
	root := parse(t, a.File())
	chains := func(file string) [][]*x509.Certificate {
		return [][]*x509.Certificate{{parse(t, file), root}}
	}
	list := func(of *pgtest.Authority, next time.Time, revoked ...string) *Revocations {
		t.Helper()
		file, err := of.Revoke(next, revoked...)
		if err != nil {
			t.Fatal(err)
		}
		r, err := LoadRevocations([]string{file}, func(err error) { t.Error(err) })
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := list(a, time.Time{}, bad)
	now := time.Now()
	if err := r.Check(chains(good), now); err != nil {
		t.Errorf("a good one: %v", err)
	}
	if err := r.Check(chains(bad), now); !errors.Is(err, ErrRevoked) {
		t.Errorf("a revoked one: %v", err)
	}
	if err := r.Check(append(chains(bad), chains(good)...), now); err != nil {
		t.Errorf("of two chains one is good: %v", err)
	}
	if err := r.Check(nil, now); !errors.Is(err, ErrNoList) {
		t.Errorf("no chain: %v", err)
	}
	if err := r.Check(chains(good), now.Add(2*time.Hour)); !errors.Is(err, ErrNoList) {
		t.Errorf("an expired list: %v", err)
	}
	if got := r.Expires(); got.Before(now) || got.After(now.Add(2*time.Hour)) {
		t.Errorf("it expires at %v", got)
	}
	if err := list(b, time.Time{}).Check(chains(good), now); !errors.Is(err, ErrNoList) {
		t.Errorf("a list of an authority that only has the same name: %v", err)
	}
	if _, err := LoadRevocations([]string{good}, nil); err == nil || !strings.Contains(err.Error(), "no list in PEM form") {
		t.Errorf("a certificate as a list: %v", err)
	}
	if _, err := LoadRevocations([]string{good + "x"}, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestARevocationListFollowsItsFile(t *testing.T) {
	a := authority(t, "ca")
	client, _ := issue(t, a, pgtest.Certificate{Name: "client"})
	file, err := a.Revoke(time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := LoadRevocations([]string{file}, nil)
	if err != nil {
		t.Fatal(err)
	}
	chains := [][]*x509.Certificate{{parse(t, client), parse(t, a.File())}}
	if err := r.Check(chains, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Revoke(time.Time{}, client); err != nil {
		t.Fatal(err)
	}
	if err := r.Check(chains, time.Now()); !errors.Is(err, ErrRevoked) {
		t.Errorf("after the list has changed: %v", err)
	}
}

func TestAMapTellsWhoseACertificateIs(t *testing.T) {
	a := authority(t, "ca")
	client := func(name string, subject *pkix.Name) *x509.Certificate {
		file, _ := issue(t, a, pgtest.Certificate{Name: name, Subject: subject})
		return parse(t, file)
	}
	anna := client("anna", nil)
	mail := client("mail", &pkix.Name{CommonName: "anna@example.com", Organization: []string{"Example"}, OrganizationalUnit: []string{"sales"}})
	nobody := client("nobody", &pkix.Name{Organization: []string{"Example"}})
	zero := client("zero", &pkix.Name{CommonName: "anna\x00.example.com"})
	strip := Mapping{`/^(.*)@example\.com$`, `\1`}
	for name, test := range map[string]struct {
		whole       bool
		lines       []Mapping
		certificate *x509.Certificate
		user        string
		want        bool
	}{
		"the name is the user's":                {false, nil, anna, "anna", true},
		"names are not folded":                  {false, nil, anna, "Anna", false},
		"another's":                             {false, nil, anna, "otto", false},
		"no common name":                        {false, nil, nobody, "", false},
		"a zero byte":                           {false, nil, zero, "anna", false},
		"a line":                                {false, []Mapping{{"anna", "app"}}, anna, "app", true},
		"with a map only its lines count":       {false, []Mapping{{"anna", "app"}}, anna, "anna", false},
		"the second line":                       {false, []Mapping{{"anna", "app"}, {"anna", "report"}}, anna, "report", true},
		"an expression":                         {false, []Mapping{strip}, mail, "anna", true},
		"an expression, another user":           {false, []Mapping{strip}, mail, "otto", false},
		"an expression that does not match":     {false, []Mapping{strip}, anna, "anna", false},
		"an expression for one user":            {false, []Mapping{{`/@example\.com$`, "app"}}, mail, "app", true},
		"what is around the reference":          {false, []Mapping{{`/^(.*)@`, `u_\1_x`}}, mail, "u_anna_x", true},
		"a reference without an expression":     {false, []Mapping{{`anna`, `\1`}}, anna, `\1`, true},
		"the whole name":                        {true, []Mapping{{"CN=anna@example.com,OU=sales,O=Example", "app"}}, mail, "app", true},
		"the whole name of another department":  {true, []Mapping{{"CN=anna@example.com,OU=it,O=Example", "app"}}, mail, "app", false},
		"an expression on the whole name":       {true, []Mapping{{`/^CN=([a-z]+)@example\.com,OU=sales,O=Example$`, `\1`}}, mail, "anna", true},
		"a whole name is hardly a user's":       {true, nil, anna, "anna", false},
		"a whole name without lines can be one": {true, nil, anna, "CN=anna", true},
	} {
		m, err := NewUserMap(test.whole, test.lines...)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := m.Maps(test.certificate, test.user); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestWhatIsNoMapIsRefused(t *testing.T) {
	for want, line := range map[string]Mapping{
		"a name or a user is empty": {"", "x"},
		"missing closing":           {"/(", "x"},
		"has no subexpressions":     {"/a", `\1`},
	} {
		if _, err := NewUserMap(false, line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want %s", line, err, want)
		}
	}
}
