package integration_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgtest"
)

// login connects with a password; the connection is closed when the test ends.
func (s *site) login(t testing.TB, user, password, extra string) (*pgx.Conn, error) {
	t.Helper()
	config, err := pgx.ParseConfig(s.connString("set below", "postgres") + " " + extra)
	if err != nil {
		t.Fatal(err)
	}
	config.User, config.Password = user, password
	c, err := pgx.ConnectConfig(t.Context(), config)
	if err == nil {
		t.Cleanup(func() { _ = c.Close(context.Background()) })
	}
	return c, err
}

// mustLogin is login that must succeed, and reads on a replica and writes on the primary as that user.
func (s *site) mustLogin(t testing.TB, user, password, extra string) *pgx.Conn {
	t.Helper()
	c, err := s.login(t, user, password, extra)
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{"select current_user from seen limit 1", "select session_user from seen limit 1 for update"} {
		if who := value[string](t, c, sql); who != user {
			t.Errorf("%s: %s", sql, who)
		}
	}
	return c
}

// TestPasswords logs in where every server asks for passwords by SCRAM.
func TestPasswords(t *testing.T) {
	s := startSite(t, pgtest.Options{Replicas: 1, Auth: pgtest.AuthSCRAM}, func(s *site) {
		s.config.Auth = nil // auth query is the default
		s.config.Credentials = &cluster.CredentialsConfig{User: s.servers.Superuser(), Password: s.servers.Password()}
	})
	if err := s.servers.Primary().Exec(t.Context(), `
		CREATE ROLE alice LOGIN PASSWORD 'open sesame';
		CREATE ROLE "Böb ""the"" b\" LOGIN PASSWORD 'I X';
		CREATE ROLE nologin PASSWORD 'secret';
		CREATE TABLE seen (n int); INSERT INTO seen VALUES (1); GRANT ALL ON seen TO public;`); err != nil {
		t.Fatal(err)
	}
	s.awaitCaughtUp(t)
	t.Run("auth query", s.authQuery)
	t.Run("a changed password", s.changePassword)
	t.Run("auth user", func(t *testing.T) { authUser(t, s.servers) })
	t.Run("TLS", func(t *testing.T) { overTLS(t, s.servers, s.config) })
}

func (s *site) authQuery(t *testing.T) {
	s.mustLogin(t, "alice", "open sesame", "")
	s.mustLogin(t, s.servers.Superuser(), s.servers.Password(), "")
	before := scrape(t)
	for what, attempt := range map[string]struct{ user, password string }{
		"a wrong password":           {"alice", "open barley"},
		"an empty password":          {"alice", ""},
		"an unknown user":            {"nobody here", "open sesame"},
		"a role without a password":  {appRole, "x"},
		"a password with more to it": {"alice", "open sesame "},
	} {
		_, err := s.login(t, attempt.user, attempt.password, "")
		wantCode(t, what, err, "28P01")
		if want := `password authentication failed for user "` + attempt.user + `"`; !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", what, err, want)
		}
	}
	if n := scrape(t).since(before).sum("caddy_postgres_logins_total", "cluster="+s.name, "result=authentication"); n != 5 {
		t.Errorf("%v failed logins were counted, want 5", n)
	}
	_, err := s.login(t, "nologin", "secret", "")
	wantCode(t, "a role that may not log in", err, "28000", "28P01")
	_, err = s.login(t, "alice", "open sesame", "dbname=nowhere")
	wantCode(t, "an unknown database", err, "3D000")
	_, err = s.login(t, "alice", "open sesame", "dbname=nowhere password=x")
	if err == nil {
		t.Error("an unknown database was opened")
	}
	// psql, which asks for channel binding only where there is TLS.
	ip, port, _ := net.SplitHostPort(s.addr)
	cmd := program(t.Context(), t, "psql", "-X", "-At", "-h", ip, "-p", port, "-U", `Böb "the" b\`, "-d", "postgres", "-c", "select current_user from seen")
	cmd.Env = append(cmd.Env, "PGPASSWORD=I X", "PGCLIENTENCODING=UTF8")
	if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != `Böb "the" b\` {
		t.Errorf("psql: %v: %s", err, out)
	}
	// Many at once, the wrong ones between the right ones.
	errs := make(chan error)
	const many = 40
	for i := range many {
		go func() {
			password := "open sesame"
			if i%4 == 0 {
				password = "guess " + fmt.Sprint(i)
			}
			_, err := s.login(t, "alice", password, "")
			if (err != nil) != (i%4 == 0) || (err != nil && sqlstate(err) != "28P01") {
				errs <- fmt.Errorf("password %q: %w", password, err)
				return
			}
			errs <- nil
		}()
	}
	for range many {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func (s *site) changePassword(t *testing.T) {
	before := s.mustLogin(t, "alice", "open sesame", "")
	do(t, s.mustLogin(t, s.servers.Superuser(), s.servers.Password(), ""), "alter role alice password 'another word'")
	s.awaitCaughtUp(t)
	// The first ones may still meet the verifier of before: their failure makes it doubted, and asked for again.
	var after *pgx.Conn
	await(t, 15*time.Second, "the new password is accepted", func() (string, bool) {
		c, err := s.login(t, "alice", "another word", "")
		if err != nil {
			wantCode(t, "the new password", err, "28P01")
			return err.Error(), false
		}
		after = c
		return "", true
	})
	_, err := s.login(t, "alice", "open sesame", "")
	wantCode(t, "the old password", err, "28P01")
	for _, c := range []*pgx.Conn{before, after} {
		if n := value[int](t, c, "select count(*) from seen"); n != 1 {
			t.Errorf("%d rows", n)
		}
	}
	// Server connections of the time before are lost: what was learnt from the old password is of no use any more.
	for _, n := range s.servers.Nodes() {
		if _, err := n.Query(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'alice'"); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []*pgx.Conn{after, before, s.mustLogin(t, "alice", "another word", "")} {
		for range 5 {
			if n := value[int](t, c, "select count(*) from seen"); n != 1 {
				t.Errorf("%d rows", n)
			}
			do(t, c, "update seen set n = n")
		}
	}
	_, err = s.login(t, "alice", "open sesame", "")
	wantCode(t, "the old password, later", err, "28P01")
}

// authUser has its users listed, by password and by the server's own verifier.
func authUser(t *testing.T, servers *pgtest.Cluster) {
	verifier, err := servers.Primary().Value(t.Context(), `SELECT rolpassword FROM pg_authid WHERE rolname LIKE 'B%'`)
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, "auth_user", servers, func(s *site) {
		s.config.Auth = &cluster.AuthConfig{Mode: "user", Users: map[string]string{"alice": "another word", `Böb "the" b\`: verifier, "ghost": "boo"}}
		s.config.Credentials = &cluster.CredentialsConfig{User: servers.Superuser(), Password: servers.Password()}
	})
	s.mustLogin(t, "alice", "another word", "")
	if c, err := s.login(t, `Böb "the" b\`, "I X", ""); err != nil {
		t.Error(err)
	} else if n := value[int](t, c, "select count(*) from seen"); n != 1 {
		t.Errorf("%d rows", n)
	}
	for what, attempt := range map[string]struct{ user, password string }{
		"a wrong password":                 {"alice", "open sesame"},
		"a user who is not listed":         {servers.Superuser(), servers.Password()},
		"a user whom the servers know not": {"ghost", "boo"},
	} {
		_, err := s.login(t, attempt.user, attempt.password, "")
		wantCode(t, what, err, "28P01")
	}
}

// overTLS has the listener offer TLS, and then demand it.
func overTLS(t *testing.T, servers *pgtest.Cluster, config *cluster.Config) {
	certificate, key := selfSigned(t)
	s := serve(t, "over_tls", servers, func(s *site) {
		s.config.Auth, s.config.Credentials = config.Auth, config.Credentials
		s.handler = map[string]any{"tls": map[string]any{"certificate": certificate, "key": key}}
	})
	for _, mode := range []string{"disable", "prefer", "require", "verify-ca", "verify-full"} {
		c := s.mustLogin(t, "alice", "another word", "sslmode="+mode+" sslrootcert="+certificate)
		if _, encrypted := c.PgConn().Conn().(interface{ VerifyHostname(string) error }); encrypted == (mode == "disable") {
			t.Errorf("sslmode=%s: encrypted: %v", mode, encrypted)
		}
	}
	_, err := s.login(t, "alice", "open sesame", "sslmode=require")
	wantCode(t, "a wrong password", err, "28P01")
	// psql, whose libpq binds the proof to the channel where the server offers it.
	ip, port, _ := net.SplitHostPort(s.addr)
	cmd := program(t.Context(), t, "psql", "-X", "-At", fmt.Sprintf("host=%s port=%s user=alice dbname=postgres sslmode=verify-full sslrootcert=%s", ip, port, certificate),
		"-c", `\conninfo`, "-c", "select count(*) from seen")
	cmd.Env = append(cmd.Env, "PGPASSWORD=another word")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "SSL connection") {
		t.Errorf("psql: %v: %s", err, out)
	}

	s.handler["tls"].(map[string]any)["require"] = true
	host.reload(t)
	_, err = s.login(t, "alice", "another word", "sslmode=disable")
	wantCode(t, "a client without TLS", err, "28000")
	s.mustLogin(t, "alice", "another word", "sslmode=require")
}

// selfSigned makes a certificate for the loopback address and returns its file and that of its key.
func selfSigned(t *testing.T) (certificate, key string) {
	t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "fairway"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &secret.PublicKey, secret)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certificate, key = filepath.Join(dir, "certificate.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{certificate: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certificate, key
}
