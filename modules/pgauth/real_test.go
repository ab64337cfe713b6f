//go:build unix

package pgauth

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// Roles of the real server, all with the same password.
const realPassword = "s\u00e9same, ouvre-toi"

var realSetup = []string{
	`set password_encryption = 'scram-sha-256'`,
	`create role joe login password '` + realPassword + `'`,
	`create role cleartext login password '` + realPassword + `'`,
	`create role trusted login`,
	`create role nopassword login`,
	`create role locked nologin password '` + realPassword + `'`,
	`set password_encryption = 'md5'`,
	`create role old login password '` + realPassword + `'`,
	`set password_encryption = 'scram-sha-256'`,
}

const realHBA = `host all postgres,trusted 127.0.0.1/32 trust
host all cleartext 127.0.0.1/32 password
host all old 127.0.0.1/32 md5
host all all 127.0.0.1/32 scram-sha-256
`

func TestAgainstPostgreSQL(t *testing.T) {
	server := startPostgreSQL(t)
	super := server.connect(t)
	for _, sql := range realSetup {
		exec1(t, super, sql)
	}
	verifier := parsed(t, exec1(t, super, `select rolpassword from pg_authid where rolname = 'joe'`))

	t.Run("login", func(t *testing.T) { testRealLogin(t, server, verifier) })
	t.Run("pgconn logs in at us and we at the server", func(t *testing.T) { testRealPassThrough(t, server, verifier) })
	t.Run("psql logs in at us", func(t *testing.T) { testRealPsql(t, server, verifier) })
	t.Run("both refuse a wrong password with the same words", func(t *testing.T) { testRealWords(t, server, verifier) })
	t.Run("the server makes the same verifiers", func(t *testing.T) { testRealVerifiers(t, super) })
	t.Run("the server takes a verifier of ours", func(t *testing.T) {
		exec1(t, super, `create role ours login password '`+NewVerifier("mine", nil, 1234).String()+`'`)
		if err := server.login(t, "ours", Secret{Password: "mine"}); err != nil {
			t.Error(err)
		}
	})
}

func testRealLogin(t *testing.T, server *postgres, verifier *Verifier) {
	clientKey, serverKey, err := deriveKeys(realPassword, verifier.Salt, verifier.Iterations)
	if err != nil {
		t.Fatal(err)
	}
	keys := Secret{ClientKey: clientKey, ServerKey: serverKey}
	wrongServerKey := Secret{ClientKey: clientKey, ServerKey: clientKey}
	for name, c := range map[string]struct {
		user   string
		secret Secret
		code   string // empty: let in
		text   string
	}{
		"with the password":                {"joe", Secret{Password: realPassword}, "", ""},
		"with the keys":                    {"joe", keys, "", ""},
		"where nothing is asked":           {"trusted", Secret{}, "", ""},
		"where nothing is asked, with one": {"trusted", Secret{Password: "x"}, "", ""},
		"with a wrong password":            {"joe", Secret{Password: "sesame"}, "28P01", `password authentication failed for user "joe"`},
		"with the keys of another user":    {"nopassword", keys, "28P01", `password authentication failed for user "nopassword"`},
		"as nobody":                        {"nobody", Secret{Password: "x"}, "28P01", `password authentication failed for user "nobody"`},
		"as one who may not":               {"locked", Secret{Password: realPassword}, "28000", "not permitted to log in"},
		"without a secret":                 {"joe", Secret{}, "28000", "there is no password or key"},
		"with a server key that differs":   {"joe", wrongServerKey, "28000", "did not prove"},
		"where md5 is asked":               {"old", Secret{Password: realPassword}, "", ""},
		"where md5 is asked, with a hash":  {"old", Secret{MD5: HashMD5("old", realPassword)}, "", ""},
		"where md5 is asked, with another": {"old", Secret{MD5: HashMD5("joe", realPassword)}, "28P01", `password authentication failed for user "old"`},
		"where md5 is asked, with keys":    {"old", keys, "28000", "there is no password or key"},
		"where cleartext is asked":         {"cleartext", Secret{Password: realPassword}, "28000", "not encrypted"},
		"with a hash where SCRAM is asked": {"joe", Secret{MD5: HashMD5("joe", realPassword)}, "28000", "there is no password or key"},
		"with keys of another salt":        {"joe", Secret{ClientKey: clientKey, ServerKey: serverKey, Salt: []byte("salt"), Iterations: 4096}, "28P01", `password authentication failed for user "joe"`},
		"with the keys of before": {
			"joe", Secret{ClientKey: serverKey, ServerKey: serverKey, Salt: []byte("salt"), Iterations: 4096, Before: &keys}, "", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := server.login(t, c.user, c.secret)
			if c.code == "" && err != nil {
				t.Fatal(err)
			}
			if c.code != "" {
				wantFatal(t, err, c.code, c.text, "")
			}
		})
	}
}

func testRealPassThrough(t *testing.T, server *postgres, verifier *Verifier) {
	front := listen(t, "joe", verifier)
	config := front.config(t, "joe", realPassword)
	conn, err := pgconn.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
	got := <-front.outcomes
	if got.authErr != nil {
		t.Fatal(got.authErr)
	}
	if got.keys.Password != "" || !bytes.Equal(storedKey(got.keys.ClientKey), verifier.StoredKey) {
		t.Error("the keys recovered are not those of the server's verifier")
	}
	if err := server.login(t, "joe", got.keys); err != nil {
		t.Errorf("login with the keys the client revealed: %v", err)
	}
}

func testRealPsql(t *testing.T, server *postgres, verifier *Verifier) {
	for name, c := range map[string]struct {
		password, options string
		verifier          *Verifier
		want              string // of what psql says; empty: it is let in
	}{
		"with the password":              {realPassword, "", verifier, ""},
		"with a decomposed password":     {strings.Replace(realPassword, "\u00e9", "e\u0301", 1), "", verifier, ""},
		"with a wrong password":          {"sesame", "", verifier, `password authentication failed for user "joe"`},
		"as an unknown user":             {realPassword, "", nil, `password authentication failed for user "joe"`},
		"demanding channel binding":      {realPassword, "channel_binding=require", verifier, "channel binding required"},
		"without a password, then leave": {"", "", verifier, "no password supplied"},
	} {
		t.Run(name, func(t *testing.T) {
			front := listen(t, "joe", c.verifier)
			out, err := front.psql(t, server, c.password, c.options)
			if c.want == "" && err != nil || c.want != "" && !strings.Contains(out, c.want) {
				t.Errorf("psql says %q (%v), want %q", out, err, c.want)
			}
			got := <-front.outcomes
			if (got.authErr == nil) != (c.want == "") {
				t.Errorf("our side says %v", got.authErr)
			}
		})
	}
}

func testRealWords(t *testing.T, server *postgres, verifier *Verifier) {
	front := listen(t, "joe", verifier)
	_, ours := pgconn.ConnectConfig(t.Context(), front.config(t, "joe", "sesame"))
	<-front.outcomes
	_, theirs := pgconn.ConnectConfig(t.Context(), server.config(t, "joe", "sesame"))
	var a, b *pgconn.PgError
	if !errors.As(ours, &a) || !errors.As(theirs, &b) {
		t.Fatalf("errors are %v and %v", ours, theirs)
	}
	if a.Message != b.Message || a.Code != b.Code || a.Severity != b.Severity || a.Detail != b.Detail || a.Hint != b.Hint {
		t.Errorf("we say %+v, PostgreSQL %+v", a, b)
	}
}

// testRealVerifiers lets the server hash every tricky password, and characters around the bounds of the tables.
func testRealVerifiers(t *testing.T, super *pgconn.PgConn) {
	var all []string
	for _, c := range passwords {
		if c.in != "" && bytes.IndexByte([]byte(c.in), 0) < 0 && strings.ToValidUTF8(c.in, "") == c.in {
			all = append(all, c.in)
		}
	}
	for _, table := range [][]rune{nonASCIISpaces, mappedToNothing, prohibited, unassigned, rightToLeft, leftToRight} {
		for i := 0; i < len(table); i += 40 {
			all = append(all, "\u00aa"+string(table[i]), string(table[i+1])+"\u00aa")
		}
	}
	sort.Strings(all)
	exec1(t, super, `create role hashed`)
	for _, password := range all {
		if strings.ContainsRune(password, 0) {
			continue
		}
		exec1(t, super, `alter role hashed password '`+strings.ReplaceAll(password, "'", "''")+`'`)
		theirs := exec1(t, super, `select rolpassword from pg_authid where rolname = 'hashed'`)
		v := parsed(t, theirs)
		if ours := NewVerifier(password, v.Salt, v.Iterations).String(); ours != theirs {
			t.Errorf("%+q: we make %s, PostgreSQL %s", password, ours, theirs)
		}
	}
}

// exec1 runs one statement and returns the first column of its first row.
func exec1(t *testing.T, conn *pgconn.PgConn, sql string) string {
	t.Helper()
	results, err := conn.Exec(t.Context(), sql).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	if len(results) == 0 || len(results[0].Rows) == 0 {
		return ""
	}
	return string(results[0].Rows[0][0])
}

// front is a listener that lets one client prove its password and then plays a server without content.
type front struct {
	address  *net.TCPAddr
	outcomes chan outcome
}

func listen(t *testing.T, user string, v *Verifier) *front {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	if err := l.(*net.TCPListener).SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	f := &front{address: l.Addr().(*net.TCPAddr), outcomes: make(chan outcome, 1)}
	go func() {
		c, err := l.Accept()
		if err != nil {
			f.outcomes <- outcome{authErr: err}
			return
		}
		defer func() { _ = c.Close() }()
		f.outcomes <- serve(c, user, v)
	}()
	return f
}

// serve plays a server to one client until it leaves.
func serve(c net.Conn, user string, v *Verifier) (got outcome) {
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	r, w := pgwire.NewReader(c, nil, 4096), pgwire.NewWriter(c, 4096)
	if _, got.authErr = r.Startup(); got.authErr != nil {
		return got
	}
	got.keys, got.authErr = AuthenticateSCRAM(r, w, user, v, Terms{MockSeed: testSeed})
	var pgErr *pgwire.Error
	if errors.As(got.authErr, &pgErr) {
		w.Error(pgErr)
	}
	if got.authErr != nil {
		_ = w.Flush()
		return got
	}
	w.AuthenticationOK()
	w.ParameterStatus("server_version", "15.0")
	w.ParameterStatus("client_encoding", "UTF8")
	w.ReadyForQuery('I')
	for w.Flush() == nil {
		typ, _, err := r.Next()
		if err != nil || typ == pgwire.MsgTerminate {
			return got
		}
		w.CommandComplete("SELECT 0")
		w.ReadyForQuery('I')
	}
	return got
}

func (f *front) config(t *testing.T, user, password string) *pgconn.Config {
	t.Helper()
	return clientConfig(t, f.address.Port, user, password)
}

func (f *front) psql(t *testing.T, server *postgres, password, options string) (string, error) {
	t.Helper()
	dsn := fmt.Sprintf("host=127.0.0.1 port=%d user=joe dbname=postgres sslmode=disable %s", f.address.Port, options)
	cmd := exec.CommandContext(t.Context(), filepath.Join(server.bin, "psql"), "-X", "-w", "-c", "select 1", dsn)
	cmd.Env = []string{"PGPASSWORD=" + password, "PGCLIENTENCODING=UTF8", "LC_ALL=C.UTF-8"}
	cmd.Dir = os.TempDir()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func clientConfig(t *testing.T, port int, user, password string) *pgconn.Config {
	t.Helper()
	config, err := pgconn.ParseConfig(fmt.Sprintf("host=127.0.0.1 port=%d user=%s dbname=postgres sslmode=disable", port, user))
	if err != nil {
		t.Fatal(err)
	}
	config.Password = password
	return config
}
