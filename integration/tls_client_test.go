package integration_test

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgtest"
	"github.com/fairwaydb/fairway/modules/postgres"
)

// patienceTLS bounds what takes a reload of a server or of a certificate.
const patienceTLS = 20 * time.Second

// holder is a client with a certificate.
type holder struct {
	name     string
	pair     *tls.Certificate
	password string
}

// verdict logs in and returns how that ended: "in", PostgreSQL's words, or "handshake".
func (h *holder) verdict(t *testing.T, addr, user, database string, a *pgtest.Authority) string {
	t.Helper()
	config, err := pgtest.Config(addr, user, h.password, database)
	if err != nil {
		t.Fatal(err)
	}
	config.SSLCertMode = "allow"
	config.TLSConfig = &tls.Config{RootCAs: a.Pool(), ServerName: "db.example", MinVersion: tls.VersionTLS12}
	if h.pair != nil { // whatever the server says whom it trusts
		config.TLSConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return h.pair, nil }
	}
	conn, err := pgconn.ConnectConfig(t.Context(), config)
	var e *pgconn.PgError
	switch {
	case err == nil:
		_ = conn.Close(context.Background())
		return "in"
	case errors.As(err, &e):
		return e.Code + " " + e.Message
	case strings.Contains(err.Error(), "tls: "):
		return "handshake"
	case errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE):
		// In TLS 1.3 the client is done before the server has judged its certificate: what it has sent meanwhile resets the
		// connection, and with it the alert may be lost. PostgreSQL closes at once.
		return "handshake"
	}
	return err.Error()
}

// TestClientCertificatesAreJudgedAsByPostgreSQL compares a server's own verdicts with ours: each mode, each kind of certificate.
func TestClientCertificatesAreJudgedAsByPostgreSQL(t *testing.T) {
	a, foreign := authority(t, "ca"), authority(t, "foreign")
	holders := []holder{{name: "none", password: "secret"}}
	for name, c := range map[string]struct {
		by          *pgtest.Authority
		certificate pgtest.Certificate
	}{
		"the user's":           {a, pgtest.Certificate{Name: "anna"}},
		"the user's by a rule": {a, pgtest.Certificate{Name: "anna@example.com"}},
		"another's":            {a, pgtest.Certificate{Name: "otto"}},
		"of another authority": {foreign, pgtest.Certificate{Name: "anna"}},
		"expired":              {a, pgtest.Certificate{Name: "expired", NotAfter: time.Now().Add(-time.Hour)}},
		"revoked":              {a, pgtest.Certificate{Name: "revoked"}},
	} {
		certificate, key := issue(t, c.by, c.certificate)
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			t.Fatal(err)
		}
		holders = append(holders, holder{name, &pair, "secret"})
		if name == "the user's" || name == "another's" {
			holders = append(holders, holder{name + ", wrong password", &pair, "wrong"})
		}
		if name == "revoked" {
			if _, err := a.Revoke(time.Time{}, certificate); err != nil {
				t.Fatal(err)
			}
		}
	}
	crl := strings.TrimSuffix(a.File(), ".pem") + ".crl"
	s := startSite(t, pgtest.Options{}, func(s *site) {
		s.config.Auth = nil
		s.config.Credentials = &cluster.CredentialsConfig{User: s.servers.Superuser()}
	})
	n := s.servers.Primary()
	for _, sql := range []string{"CREATE ROLE anna LOGIN PASSWORD 'secret'", "CREATE DATABASE asked"} {
		if err := n.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	secureServer(t, n, a, crl)
	for _, mode := range []struct {
		name, line string
		client     postgres.ClientAuth
	}{
		{"request", "scram-sha-256", postgres.ClientAuth{Mode: "request"}},
		{"verify-ca", "scram-sha-256 clientcert=verify-ca", postgres.ClientAuth{Mode: "verify-ca"}},
		{"verify-full", "scram-sha-256 clientcert=verify-full", postgres.ClientAuth{Mode: "verify-full"}},
		{"cert", "cert", postgres.ClientAuth{Mode: "cert"}},
		{"cert with a map", "cert map=rules", postgres.ClientAuth{
			Mode: "cert", UserMap: []postgres.UserMapping{{Name: `/^(.*)@example\.com$`, User: `\1`}},
		}},
		{"cert by the whole name", "cert clientname=DN map=names", postgres.ClientAuth{
			Mode: "cert", Name: "dn", UserMap: []postgres.UserMapping{{Name: `CN=otto`, User: `anna`}},
		}},
	} {
		t.Run(mode.name, func(t *testing.T) {
			ship(t, n, "pg_ident.conf", `rules /^(.*)@example\.com$ \1`+"\nnames CN=otto anna\n")
			admit(t, n, "hostssl asked all 127.0.0.1/32 "+mode.line, "host all all 127.0.0.1/32 trust")
			s.handler = encrypted(t, a, func(c *postgres.TLS) {
				c.ClientAuth = &mode.client
				c.ClientAuth.CA, c.ClientAuth.CRL = []string{a.File()}, []string{crl}
			})
			s.config.Auth = nil
			if mode.client.Mode == "cert" { // there is nothing else to log in with at servers that ask
				s.config.Auth = &cluster.AuthConfig{Mode: "user", Users: map[string]string{"anna": "secret"}}
			}
			host.reload(t)
			s.awaitReady(t, 0)
			for _, h := range holders {
				theirs, ours := h.verdict(t, n.Addr(), "anna", "asked", a), h.verdict(t, s.addr, "anna", "postgres", a)
				if theirs != ours {
					t.Errorf("%s: PostgreSQL says %q, we say %q", h.name, theirs, ours)
				}
			}
		})
	}
}
