package integration_test

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgtest"
)

// badLogin is a login that a server refuses.
type badLogin struct {
	name           string
	user, database string // default: alice, postgres
	play           func(c *caller) verdict
	same           bool // it is not refused, but is the same at both
}

// Passwords of the roles below, long enough to be found nowhere by chance.
const (
	rightPassword = "open sesame 77f3a1"
	wrongPassword = "open barley 90c2d4"
)

const badLoginRoles = `
	CREATE ROLE alice LOGIN PASSWORD '` + rightPassword + `';
	CREATE ROLE expired LOGIN PASSWORD '` + rightPassword + `' VALID UNTIL '2020-01-01';
	CREATE ROLE locked NOLOGIN PASSWORD '` + rightPassword + `';
	CREATE ROLE twofold NOLOGIN PASSWORD '` + rightPassword + `' VALID UNTIL '2020-01-01';
	CREATE ROLE unset LOGIN;
	CREATE ROLE crowded LOGIN PASSWORD '` + rightPassword + `' CONNECTION LIMIT 0;
	CREATE ROLE late LOGIN PASSWORD '` + rightPassword + `';
	CREATE ROLE "x23456789012345678901234567890123456789012345678901234567890123" LOGIN PASSWORD '` + rightPassword + `';
	SET password_encryption = 'md5';
	CREATE ROLE old LOGIN PASSWORD '` + rightPassword + `';
	CREATE ROLE oldexpired LOGIN PASSWORD '` + rightPassword + `' VALID UNTIL '2020-01-01';
	CREATE ROLE oldlocked NOLOGIN PASSWORD '` + rightPassword + `';`

var badLoginDatabases = []string{
	"CREATE DATABASE private", "REVOKE CONNECT ON DATABASE private FROM public",
	"CREATE DATABASE shut ALLOW_CONNECTIONS false", "CREATE DATABASE crowd CONNECTION LIMIT 0",
}

// byPassword logs in with a password.
func byPassword(user, password string) func(*caller) verdict {
	return func(c *caller) verdict { return c.login(user, password) }
}

// first sends a SASLInitialResponse and reads what comes of it.
func first(mechanism, message string) func(*caller) verdict {
	return func(c *caller) verdict {
		if _, _, over := c.request(); over != nil {
			return *over
		}
		c.initial(mechanism, message)
		if _, _, over := c.request(); over != nil {
			return *over
		}
		return verdict{in: true} // so far
	}
}

// body sends a password message as the first answer.
func body(text string) func(*caller) verdict {
	return func(c *caller) verdict {
		if _, _, over := c.request(); over != nil {
			return *over
		}
		c.password(text)
		return c.end()
	}
}

// final sends a client-final-message, in which NONCE stands for the nonce of the exchange.
func final(message string) func(*caller) verdict {
	return func(c *caller) verdict {
		if _, _, over := c.request(); over != nil {
			return *over
		}
		c.initial("SCRAM-SHA-256", "n,,n=,r=fyko+d2lbbFgONRv9qkxdawL")
		_, challenge, over := c.request()
		if over != nil {
			return *over
		}
		nonce, _, _ := strings.Cut(strings.TrimPrefix(challenge, "r="), ",")
		text := strings.ReplaceAll(message, "NONCE", nonce)
		c.said = append(c.said, secretWords(text)...)
		c.password(text)
		return c.end()
	}
}

// otherMessage sends another message where a password is due.
func otherMessage(typ byte, body string) func(*caller) verdict {
	return func(c *caller) verdict {
		if _, _, over := c.request(); over != nil {
			return *over
		}
		c.message(typ, body)
		return c.end()
	}
}

// zeroProof is a proof of nothing.
var zeroProof = strings.Repeat("A", 43) + "="

func badLogins() []badLogin {
	long := strings.Repeat("x", 8<<10)
	return []badLogin{
		{name: "a wrong password", play: byPassword("alice", wrongPassword)},
		{name: "a wrong user", user: "nobody here", play: byPassword("nobody here", rightPassword)},
		{name: "a user that is no text", user: "b\xf6b", play: byPassword("b\xf6b", rightPassword)},
		{name: "a user of 8 KB", user: long, play: byPassword(long, rightPassword)},
		{name: "a user of 63 bytes and more", user: "x234567890123456789012345678901234567890123456789012345678901234567", play: byPassword("", wrongPassword)},
		{name: "a wrong database", database: "nowhere", play: byPassword("alice", rightPassword)},
		{name: "a database of 8 KB", database: long, play: byPassword("alice", rightPassword)},
		{name: "a wrong database and a wrong password", database: "nowhere", play: byPassword("alice", wrongPassword)},
		{name: "an expired password", user: "expired", play: byPassword("expired", rightPassword)},
		{name: "an expired password, wrong", user: "expired", play: byPassword("expired", wrongPassword)},
		{name: "an expired md5 password", user: "oldexpired", play: byPassword("oldexpired", rightPassword)},
		{name: "NOLOGIN", user: "locked", play: byPassword("locked", rightPassword)},
		{name: "NOLOGIN, a wrong password", user: "locked", play: byPassword("locked", wrongPassword)},
		{name: "NOLOGIN, a wrong database", user: "locked", database: "nowhere", play: byPassword("locked", rightPassword)},
		{name: "NOLOGIN and md5", user: "oldlocked", play: byPassword("oldlocked", rightPassword)},
		{name: "NOLOGIN and expired", user: "twofold", play: byPassword("twofold", rightPassword)},
		{name: "no password", user: "unset", play: byPassword("unset", rightPassword)},
		{name: "a wrong md5 password", user: "old", play: byPassword("old", wrongPassword)},
		{name: "too many connections of the role", user: "crowded", play: byPassword("crowded", rightPassword)},
		{name: "too many connections of the role, a wrong password", user: "crowded", play: byPassword("crowded", wrongPassword)},
		{name: "too many connections of the role, a wrong database", user: "crowded", database: "nowhere", play: byPassword("crowded", rightPassword)},
		{name: "too many connections to the database", database: "crowd", play: byPassword("alice", rightPassword)},
		{name: "no privilege to connect", database: "private", play: byPassword("alice", rightPassword)},
		{name: "a database that takes no connections", database: "shut", play: byPassword("alice", rightPassword)},
		// A client that knows no SASL.
		{name: "a password in clear", play: body(rightPassword + "\x00")},
		{name: "an empty message", play: body("")},
		{name: "no password message", play: otherMessage('Q', "select 1\x00")},
		{name: "a password message of 64 KB", play: body(strings.Repeat("x", 64<<10) + "\x00")},
		{name: "a password message of 1 MB", play: body(strings.Repeat("x", 1<<20) + "\x00")},
		// Downgrades, and the first message.
		{name: "y without TLS", play: first("SCRAM-SHA-256", "y,,n=,r=abc"), same: true},
		{name: "binding that was not offered", play: first("SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,n=,r=abc")},
		{name: "binding data without binding", play: first("SCRAM-SHA-256", "p=tls-server-end-point,,n=,r=abc")},
		{name: "an older mechanism", play: first("SCRAM-SHA-1", "n,,n=,r=abc")},
		{name: "PLAIN", play: first("PLAIN", "\x00alice\x00secret")},
		{name: "no mechanism", play: first("", "n,,n=,r=abc")},
		{name: "an unknown flag", play: first("SCRAM-SHA-256", "x,,n=,r=abc")},
		{name: "another identity", play: first("SCRAM-SHA-256", "n,a=root,n=,r=abc")},
		{name: "an extension that is a must", play: first("SCRAM-SHA-256", "n,,m=x,n=,r=abc")},
		{name: "an empty first message", play: first("SCRAM-SHA-256", "")},
		{name: "a zero byte in the first message", play: first("SCRAM-SHA-256", "n,,n=,r=a\x00bc")},
		{name: "a nonce with a space", play: first("SCRAM-SHA-256", "n,,n=,r=a bc")},
		{name: "no nonce", play: first("SCRAM-SHA-256", "n,,n=")},
		{name: "the longest nonce", play: first("SCRAM-SHA-256", "n,,n=,r="+strings.Repeat("a", 1020-18-8)), same: true},
		{name: "a nonce that is longer", play: first("SCRAM-SHA-256", "n,,n=,r="+strings.Repeat("a", 1021-18-8))},
		{name: "a nonce of 64 KB", play: first("SCRAM-SHA-256", "n,,n=,r="+strings.Repeat("a", 64<<10))},
		{name: "a name of 64 KB", play: first("SCRAM-SHA-256", "n,,n="+strings.Repeat("a", 64<<10)+",r=abc")},
		{name: "a mechanism without an end", play: body("SCRAM-SHA-256")},
		{name: "a length beyond the message", play: body("SCRAM-SHA-256\x00\x00\x00\x00\x63n,,n=,r=abc")},
		{name: "a length within the message", play: body("SCRAM-SHA-256\x00\x00\x00\x00\x03n,,n=,r=abc")},
		{name: "a length below -1", play: body("SCRAM-SHA-256\x00\xff\xff\xff\xfe")},
		// The final message.
		{name: "a proof of nothing", play: final("c=biws,r=NONCE,p=" + zeroProof)},
		{name: "another nonce", play: final("c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=" + zeroProof)},
		{name: "a longer nonce", play: final("c=biws,r=NONCEx,p=" + zeroProof)},
		{name: "an empty nonce", play: final("c=biws,r=,p=" + zeroProof)},
		{name: "another flag than before", play: final("c=eSws,r=NONCE,p=" + zeroProof)},
		{name: "a binding that was not chosen", play: final("c=cD10bHMtc2VydmVyLWVuZC1wb2ludCws,r=NONCE,p=" + zeroProof)},
		{name: "no proof", play: final("c=biws,r=NONCE")},
		{name: "a short proof", play: final("c=biws,r=NONCE,p=AAAA")},
		{name: "something after the proof", play: final("c=biws,r=NONCE,p=" + zeroProof + ",x=y")},
		{name: "an empty final message", play: final("")},
		{name: "a zero byte in the final message", play: final("c=biws,r=NONCE,p=" + zeroProof + "\x00")},
		{name: "an extension of 64 KB", play: final("c=biws,r=NONCE,x=" + strings.Repeat("a", 64<<10) + ",p=" + zeroProof)},
		// The same by md5.
		{name: "md5: an empty password", user: "old", play: body("\x00")},
		{name: "md5: no hash", user: "old", play: body("md5\x00")},
		{name: "md5: the password in clear", user: "old", play: body(rightPassword + "\x00")},
		{name: "md5: no end", user: "old", play: body("md5abc")},
		{name: "md5: a zero byte inside", user: "old", play: body("md5\x00abc\x00")},
		{name: "md5: the longest", user: "old", play: body(strings.Repeat("a", 65530) + "\x00")},
		{name: "md5: one that is longer", user: "old", play: body(strings.Repeat("a", 65531) + "\x00")},
		{name: "md5: no password message", user: "old", play: otherMessage('X', "")},
	}
}

// TestBadLogins has a server and Fairway refuse the same logins, and compares what the client is told.
func TestBadLogins(t *testing.T) {
	host.level = "DEBUG"
	t.Cleanup(func() { host.level = "" })
	s := startSite(t, pgtest.Options{Auth: pgtest.AuthSCRAM, Settings: map[string]string{"max_connections": "25"}}, func(s *site) {
		s.config.Auth = &cluster.AuthConfig{Method: "md5"}
		s.config.Credentials = &cluster.CredentialsConfig{User: s.servers.Superuser(), Password: s.servers.Password()}
	})
	p := s.servers.Primary()
	for _, sql := range append([]string{badLoginRoles}, badLoginDatabases...) {
		if err := p.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	hba(t, s.servers, "host all all 127.0.0.1/32 md5")
	// What a login needs anyway is there before anything is counted.
	if v, _ := s.visit(badLogin{play: byPassword("alice", rightPassword)}, s.addr); !v.in {
		t.Fatalf("the right password: %s", v)
	}
	s.quiet(t)
	goroutines, before, log := runtime.NumGoroutine(), scrape(t), len(logText(t))
	var said []string
	refused := 0
	for _, bad := range badLogins() {
		want, _ := s.visit(bad, p.Addr())
		got, words := s.visit(bad, s.addr)
		said = append(said, words...)
		if got != want || got.in != bad.same {
			t.Errorf("%s:\n Fairway    %s\n PostgreSQL %s", bad.name, got, want)
		}
		if !bad.same {
			refused++
		}
	}
	said = append(said, s.replay(t, p.Addr())...)
	refused++
	s.leftNoTrace(t, goroutines, before, refused, logText(t)[log:], said)
	t.Run("too many at the server", s.tooManyAtTheServer)
	t.Run("too many here", s.tooManyHere)
}

// visit plays a bad login at an address. The words are what must not be found in a log.
func (s *site) visit(bad badLogin, addr string) (v verdict, words []string) {
	user, database := bad.user, bad.database
	if user == "" {
		user = "alice"
	}
	if database == "" {
		database = "postgres"
	}
	c, err := call(addr, user, database)
	if err != nil {
		return verdict{code: "client", message: err.Error()}, nil
	}
	defer func() { _ = c.conn.Close() }()
	v = bad.play(c)
	return v, c.said
}

// quiet waits until no session is there.
func (s *site) quiet(t *testing.T) {
	t.Helper()
	await(t, 10*time.Second, "no session is left", func() (string, bool) {
		m := scrape(t)
		sessions, used := m.sum("caddy_postgres_sessions", "cluster="+s.name), m.sum("caddy_postgres_pool_connections", "cluster="+s.name, "state=in_use")
		return fmt.Sprintf("%v sessions, %v server connections in use", sessions, used), sessions == 0 && used == 0
	})
}

// leftNoTrace checks what bad logins leave: a counter, and nothing else.
func (s *site) leftNoTrace(t *testing.T, goroutines int, before samples, refused int, log string, said []string) {
	t.Helper()
	s.quiet(t)
	grown := scrape(t).since(before)
	all, in := grown.sum("caddy_postgres_logins_total", "cluster="+s.name), grown.sum("caddy_postgres_logins_total", "cluster="+s.name, "result=ok")
	gone := grown.sum("caddy_postgres_logins_total", "cluster="+s.name, "result=gone")
	if all-in-gone != float64(refused) || in != 1 || gone != 2 { // two leave by themselves
		t.Errorf("%v logins were counted as refused, %v as good, %v as gone; %d were refused", all-in-gone, in, gone, refused)
	}
	await(t, 10*time.Second, "no goroutine is left", func() (string, bool) {
		n := runtime.NumGoroutine()
		return fmt.Sprintf("%d, before %d", n, goroutines), n <= goroutines+10
	})
	if n, err := s.servers.Primary().Value(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'
		AND usename NOT IN ('alice', '`+s.servers.Superuser()+`')`); err != nil || n != "0" {
		t.Errorf("%s server connections are left (%v)", n, err)
	}
	for line := range strings.Lines(log) {
		var entry struct{ Level, Msg string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Level != "debug" {
			t.Errorf("above DEBUG in the log: %s", line)
		}
	}
	verifier, err := s.servers.Primary().Value(t.Context(), "SELECT rolpassword FROM pg_authid WHERE rolname = 'alice'")
	if err != nil {
		t.Fatal(err)
	}
	said = append(said, rightPassword, wrongPassword, verifier, s.servers.Password())
	said = append(said, strings.FieldsFunc(verifier, func(c rune) bool { return c == '$' || c == ':' })[2:]...)
	for _, word := range said {
		if len(word) > 10 && strings.Contains(log, word) {
			t.Errorf("the log shows %q", word)
		}
	}
}

// logText is Caddy's log.
func logText(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(host.logFile())
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
