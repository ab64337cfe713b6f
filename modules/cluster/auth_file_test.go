package cluster

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairwaydb/fairway/modules/pgauth"
)

// writeUsers replaces a file of users, as an editor does: under another name first.
func writeUsers(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestAFileOfUsersIsRead(t *testing.T) {
	md5 := pgauth.HashMD5("old", "x")
	path := filepath.Join(t.TempDir(), "users")
	writeUsers(t, path, "; PgBouncer's comment\n# ours\n\n"+
		`"alice" "`+aliceVerifier+`"`+"\r\n"+
		`  "bob"	"builder"  `+"\n"+
		`"the ""quoted"" one" "a""b"`+"\n"+
		`"old" "`+md5+`"`+"\n"+
		`"nobody" ""`)
	f, err := openUserFile(path, MethodMD5)
	if err != nil {
		t.Fatal(err)
	}
	if c := f.credential("alice"); c.Stored.SCRAM.String() != aliceVerifier || c.Usual.Iterations != pgauth.DefaultIterations {
		t.Error("alice has another verifier than the file says")
	}
	if !f.secret("alice").IsZero() || f.secret("bob").Password != "builder" || f.secret(`the "quoted" one`).Password != `a"b` || f.secret("old").MD5 != md5 {
		t.Error("the secrets are not those of the file")
	}
	if bob := f.credential("bob").Stored.SCRAM; bob == nil || f.credential("bob").Stored.SCRAM != bob {
		t.Error("the verifier of bob's password is not made once")
	}
	for _, nobody := range []string{"nobody", "eve", ""} {
		if !f.credential(nobody).Stored.IsZero() || !f.secret(nobody).IsZero() {
			t.Errorf("%q has a password", nobody)
		}
	}
}

func TestBrokenFilesOfUsersAreRefused(t *testing.T) {
	const secret = "swordfish"
	for text, want := range map[string]string{
		"":                                       "no users",
		"\n; only a comment\n":                   "no users",
		`"alice" "swordfish`:                     "line 1: password: the closing double quote is missing",
		`"alice`:                                 "line 1: user: the closing double quote is missing",
		`"alice" "swordfish""`:                   "line 1: password: the closing double quote is missing",
		"\n\"alice\" swordfish":                  "line 2: password: no double quote",
		`alice "swordfish"`:                      "line 1: user: no double quote",
		`"alice"`:                                "line 1: password: no double quote",
		`"alice" "swordfish" "x"`:                "line 1: something follows",
		`"" "swordfish"`:                         "line 1: the user has no name",
		"\"a\" \"swordfish\"\n\"a\" \"x\"":       `line 2: user "a" is there twice`,
		`"alice" "SCRAM-SHA-256$4096:swordfish"`: "line 1: parse verifier: no keys",
		`"alice" "` + pgauth.HashMD5("alice", secret) + `"`: "line 1: an md5 hash, and clients are asked for SCRAM",
	} {
		path := filepath.Join(t.TempDir(), "users")
		writeUsers(t, path, text)
		_, err := openUserFile(path, MethodSCRAM)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error is %v, want %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%q: the error shows the password", text)
		}
	}
}

func TestFilesOfUsersThatOthersCanReadAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	for _, c := range []struct {
		mode os.FileMode
		text string
		ok   bool
	}{
		{0o600, `"bob" "builder"`, true},
		{0o640, `"bob" "builder"`, true},
		{0o644, `"bob" "builder"`, false},
		{0o644, `"bob" "` + pgauth.HashMD5("bob", "builder") + `"`, false},
		{0o644, `"bob" "` + aliceVerifier + `"`, true},
		{0o666, `"bob" "` + aliceVerifier + `"`, false},
	} {
		writeUsers(t, path, c.text)
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := openUserFile(path, MethodMD5); (err == nil) != c.ok || err != nil && !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("%v %s: %v", c.mode, c.text, err)
		}
	}
}

func TestAFileOfUsersIsReadAgainWhenItChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	writeUsers(t, path, `"bob" "builder"`)
	b := newBed(t, map[string]*server{"pg1": primaryAt(1, 1)})
	b.claim(t, func(s *Settings) {
		var err error
		s.Auth = AuthFile
		if s.file, err = openUserFile(path, MethodSCRAM); err != nil {
			t.Fatal(err)
		}
	})
	f := b.Settings().file
	look := func() string { // a second later
		f.mu.Lock()
		f.mu.looked -= Mark(fileLook)
		f.mu.Unlock()
		if _, err := b.Credential(t.Context(), "bob"); err != nil {
			t.Error(err)
		}
		return b.Secret("bob").Password
	}
	told := func(message string) int { return b.logs.FilterMessageSnippet(message).Len() }
	b.SetSecret("carol", pgauth.Secret{ClientKey: []byte("key")})
	writeUsers(t, path, `"bob" "better"`)
	if _, err := b.Credential(t.Context(), "bob"); err != nil || b.Secret("bob").Password != "builder" {
		t.Error("the file is looked at more than once a second")
	}
	if got := look(); got != "better" {
		t.Errorf("the password is %q after the change", got)
	}
	if b.Secret("carol").IsZero() {
		t.Error("another user's key is forgotten")
	}
	for what, breakIt := range map[string]func() error{
		"half written": func() error { return os.WriteFile(path, []byte(`"bob" "wor`), 0o600) },
		"truncated":    func() error { return os.Truncate(path, 0) },
		"removed":      func() error { return os.Remove(path) },
	} {
		before := told("auth file cannot be used")
		if err := breakIt(); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for range 3 {
			if got := look(); got != "better" {
				t.Errorf("%s: the password is %q", what, got)
			}
		}
		if n := told("auth file cannot be used") - before; n > 1 {
			t.Errorf("%s: told %d times", what, n)
		}
	}
	if told("auth file cannot be used") == 0 {
		t.Error("the operator is not told")
	}
	writeUsers(t, path, `"bob" "best"`)
	if got := look(); got != "best" || told("auth file can be used again") != 1 {
		t.Errorf("the password is %q, told %d times that the file is good again", got, told("auth file can be used again"))
	}
	// An old file is not read again and again; a change that leaves size and name alone is still seen.
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, past, past); err != nil {
		t.Fatal(err)
	}
	look()
	if list := f.list.Load(); !list.settled {
		t.Error("an old file is taken for a young one")
	} else if look(); f.list.Load() != list {
		t.Error("a file that has not changed was read again")
	}
	if err := os.WriteFile(path, []byte(`"bob" "BEST"`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := look(); got != "BEST" {
		t.Errorf("the password is %q after the last change", got)
	}
}

func TestKeysOfTheOldPasswordStayBesideTheNewOnes(t *testing.T) {
	c := newCluster("secrets", NewRegistry(nil))
	keys := func(text string) pgauth.Secret {
		return pgauth.Secret{ClientKey: []byte("client " + text), ServerKey: []byte("server " + text), Salt: []byte(text), Iterations: 1}
	}
	first := keys("first")
	c.SetSecret("alice", first)
	c.SetSecret("alice", keys("second"))
	c.SetSecret("alice", keys("second"))
	if string(first.ClientKey) != "client first" {
		t.Error("the caller's key was erased")
	}
	got := c.Secret("alice")
	if string(got.ClientKey) != "client second" || got.Before == nil || string(got.Before.ClientKey) != "client first" {
		t.Error("the second password's keys do not stand before the first one's")
	}
	c.SetSecret("alice", keys("third"))
	got = c.Secret("alice")
	if string(got.ClientKey) != "client third" || string(got.Before.ClientKey) != "client second" || got.Before.Before != nil {
		t.Error("more than two are kept, or the wrong ones")
	}
	c.SetSecret("alice", keys("second")) // the password of before is in force again, or a login was slow
	if got = c.Secret("alice"); string(got.ClientKey) != "client second" || string(got.Before.ClientKey) != "client third" {
		t.Error("two passwords that take turns are not both kept")
	}
	c.SetSecret("alice", pgauth.Secret{Password: "wonderland"})
	if got = c.Secret("alice"); got.Password != "wonderland" {
		t.Error("the password is not kept")
	}
}
