package integration_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgtest"
	"github.com/fairwaydb/fairway/modules/postgres"
)

// authority makes one whose files servers and clients can read.
func authority(t testing.TB, name string) *pgtest.Authority {
	t.Helper()
	a, err := pgtest.NewAuthority(t.TempDir(), name)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// issue makes a certificate.
func issue(t testing.TB, a *pgtest.Authority, c pgtest.Certificate) (certificate, key string) {
	t.Helper()
	certificate, key, err := a.Issue(c)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

// encrypted is a listener with a certificate for db.example.
func encrypted(t testing.TB, a *pgtest.Authority, change func(*postgres.TLS)) map[string]any {
	t.Helper()
	certificate, key := issue(t, a, pgtest.Certificate{Name: "listener", Hosts: []string{"db.example"}})
	c := &postgres.TLS{Certificate: certificate, Key: key}
	if change != nil {
		change(c)
	}
	return map[string]any{"tls": c}
}

// libpq connects psql with a connection string and returns what it prints.
func (s *site) libpq(t testing.TB, conninfo string) (string, error) {
	t.Helper()
	ip, port, _ := net.SplitHostPort(s.addr)
	cmd := program(t.Context(), t, "psql", "-X", "-At", "-v", "ON_ERROR_STOP=1",
		"-d", "hostaddr="+ip+" port="+port+" user="+appRole+" dbname="+appRole+" "+conninfo, "-c", `\conninfo`, "-c", "select 40 + 2")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestEverySSLModeOfLibpq(t *testing.T) {
	a, foreign := authority(t, "ca"), authority(t, "foreign")
	for _, required := range []bool{false, true} {
		s := serve(t, "sslmodes", shared.servers, func(s *site) {
			s.handler = encrypted(t, a, func(c *postgres.TLS) { c.Require = required })
		})
		for _, test := range []struct {
			conninfo string
			want     string // in the output: the protocol, nothing of it ("clear"), or an error
		}{
			{"host=db.example sslmode=disable", map[bool]string{false: "clear", true: "this server requires TLS"}[required]},
			{"host=db.example sslmode=allow", map[bool]string{false: "clear", true: "TLSv1.3"}[required]},
			{"host=db.example sslmode=prefer", "TLSv1.3"},
			{"host=db.example sslmode=require", "TLSv1.3"},
			{"host=db.example sslmode=require ssl_max_protocol_version=TLSv1.2", "TLSv1.2"},
			{"host=db.example sslmode=require sslrootcert=" + foreign.File(), "certificate verify failed"},
			{"host=db.example sslmode=verify-ca sslrootcert=" + a.File(), "TLSv1.3"},
			{"host=db.example sslmode=verify-ca sslrootcert=" + foreign.File(), "certificate verify failed"},
			{"host=db.example sslmode=verify-full sslrootcert=" + a.File(), "TLSv1.3"},
			{"host=db.example sslmode=verify-full sslsni=0 sslrootcert=" + a.File(), "TLSv1.3"},
			{"host=other.example sslmode=verify-full sslrootcert=" + a.File(), "does not match host name"},
		} {
			out, err := s.libpq(t, test.conninfo)
			switch {
			case test.want == "clear" || strings.HasPrefix(test.want, "TLSv"):
				if err != nil || !strings.Contains(out, "\n42\n") || strings.Contains(out, "SSL connection (protocol: ") == (test.want == "clear") ||
					test.want != "clear" && !strings.Contains(out, test.want) {
					t.Errorf("require %v, %s: %v\n%s", required, test.conninfo, err, out)
				}
			case err == nil || !strings.Contains(out, test.want):
				t.Errorf("require %v, %s: %v, want %s\n%s", required, test.conninfo, err, test.want, out)
			}
		}
	}
}

// newestLibpq is a program for the libpq of psycopg, which is newer than psql's.
const newestLibpq = `
import sys, threading, time, psycopg
with psycopg.connect(sys.argv[1]) as c:
    assert c.pgconn.ssl_in_use, "no TLS"
    def cancel():
        for _ in range(200):
            time.sleep(0.05)
            if c.info.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
                c.cancel_safe()
                return
    t = threading.Thread(target=cancel)
    t.start()
    try:
        c.execute("select pg_sleep(30)")
        print("not canceled")
    except psycopg.errors.QueryCanceled:
        print("canceled")
    t.join()
    c.rollback()
    print(c.execute("select 42").fetchone()[0], psycopg.pq.version() >= 170000)
`

// TestTheNewestLibpq has it connect as it does since PostgreSQL 17: TLS from the first byte, and cancel requests encrypted too.
func TestTheNewestLibpq(t *testing.T) {
	a := authority(t, "ca")
	s := serve(t, "newest_libpq", shared.servers, func(s *site) {
		s.handler = encrypted(t, a, func(c *postgres.TLS) { c.Require = true })
	})
	ip, port, _ := net.SplitHostPort(s.addr)
	for _, negotiation := range []string{"postgres", "direct"} {
		cmd := exec.CommandContext(t.Context(), python(t), "-c", newestLibpq, "host=db.example hostaddr="+ip+" port="+port+
			" user=app dbname=app sslmode=verify-full sslnegotiation="+negotiation+" sslrootcert="+a.File())
		out, err := cmd.CombinedOutput()
		if err != nil || string(out) != "canceled\n42 True\n" {
			t.Errorf("sslnegotiation=%s: %v\n%s", negotiation, err, out)
		}
	}
}

// TestCertificatesOfCaddysOwnAuthority has libpq verify one against the root in Caddy's storage, and bind its login to it.
func TestCertificatesOfCaddysOwnAuthority(t *testing.T) {
	s := startSite(t, pgtest.Options{Auth: pgtest.AuthSCRAM}, func(s *site) {
		s.config.Auth = nil // query
		s.config.Credentials = &cluster.CredentialsConfig{User: s.servers.Superuser(), Password: s.servers.Password()}
		s.handler = map[string]any{"tls": &postgres.TLS{Issuer: "internal", Names: []string{"db.example", "127.0.0.1"}, Require: true}}
	})
	if err := s.servers.Primary().Exec(t.Context(), "ALTER ROLE "+appRole+" PASSWORD 'secret'"); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(host.dir, "caddy/pki/authorities/local/root.crt")
	await(t, patienceTLS, "the certificate is there", func() (string, bool) {
		out, err := s.libpq(t, "host=db.example sslmode=verify-full channel_binding=require password=secret sslrootcert="+root)
		return out, err == nil
	})
	out, err := s.libpq(t, "host=other.example sslmode=verify-full password=secret sslrootcert="+root)
	if err == nil || !strings.Contains(out, "does not match host name") {
		t.Errorf("another name: %v\n%s", err, out)
	}
}

// knock sends bytes and returns what comes back until the connection ends.
func knock(t *testing.T, addr string, parts ...[]byte) []byte {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := conn.Write(bytes.Join(parts, nil)); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection stays open; so far %q", got)
	}
	return got
}

// TestWhatPostgreSQL18DoesInFrontOfTheHandshake compares the raw socket of a server with ours.
func TestWhatPostgreSQL18DoesInFrontOfTheHandshake(t *testing.T) {
	a := authority(t, "ca")
	servers, err := pgtest.Start(t.Context(), pgtest.Options{Version: "18.1.0"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := servers.Close(); err != nil {
			t.Error(err)
		}
	}()
	secureServer(t, servers.Primary(), a, "")
	s := serve(t, "front", shared.servers, func(s *site) { s.handler = encrypted(t, a, nil) })
	ssl := []byte{0, 0, 0, 8, 4, 210, 22, 47}
	for name, sent := range map[string][]byte{
		"a startup packet behind SSLRequest": append(bytes.Clone(ssl), 0, 0, 0, 9, 0, 3, 0, 0, 0),
		"TLS of another kind":                {0x16, 3, 1, 0, 4, 1, 2, 3, 4, 5, 6, 7, 8},
	} {
		theirs, ours := knock(t, servers.Primary().Addr(), sent), knock(t, s.addr, sent)
		if (len(theirs) == 0) != (len(ours) == 0) {
			t.Errorf("%s: PostgreSQL says %q, we say %q", name, theirs, ours)
		}
	}
	for name, protocols := range map[string][]string{"no name": nil, "another name": {"h2"}, "its name": {"postgresql"}} {
		how := func(addr string) string {
			conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: a.Pool(), ServerName: "db.example", NextProtos: protocols, MinVersion: tls.VersionTLS12})
			if err != nil {
				return "refused"
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			if _, err := conn.Write(ssl); err != nil {
				return "refused"
			}
			var answer [1]byte
			if _, err := io.ReadFull(conn, answer[:]); err != nil {
				return "refused"
			}
			return "SSLRequest is answered " + string(answer[:])
		}
		if theirs, ours := how(servers.Primary().Addr()), how(s.addr); theirs != ours {
			t.Errorf("direct TLS with %s: PostgreSQL: %s; we: %s", name, theirs, ours)
		}
	}
}
