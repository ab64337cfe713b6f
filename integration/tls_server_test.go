package integration_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caddyserver/caddy/v2"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgtest"
	"github.com/fairwaydb/fairway/modules/postgres"
)

// ship puts a file into a server's data directory, as its own.
func ship(t testing.TB, n *pgtest.Node, name, content string) {
	t.Helper()
	sql := fmt.Sprintf("COPY (SELECT '%s') TO PROGRAM 'base64 -d > %s && chmod 600 %s'",
		base64.StdEncoding.EncodeToString([]byte(content)), name, name)
	if err := n.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

// secureServer switches TLS on at a server, which then trusts certificates of the authority, with a list of revocations if there is a
// path. The server is db.example.
func secureServer(t testing.TB, n *pgtest.Node, a *pgtest.Authority, crl string) {
	t.Helper()
	certificate, key := issue(t, a, pgtest.Certificate{Name: "server-" + n.Name(), Hosts: []string{"db.example"}})
	settings := map[string]string{"ssl_cert_file": certificate, "ssl_key_file": key, "ssl_ca_file": a.File()}
	if crl != "" {
		settings["ssl_crl_file"] = crl
	}
	for name, file := range settings {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		ship(t, n, name+".pem", string(text))
		if err := n.Exec(t.Context(), "ALTER SYSTEM SET "+name+" = '"+name+".pem'"); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Exec(t.Context(), "ALTER SYSTEM SET ssl = on"); err != nil {
		t.Fatal(err)
	}
	reloadServer(t, n)
}

// reloadServer has a server read its files again.
func reloadServer(t testing.TB, n *pgtest.Node) {
	t.Helper()
	before, err := n.Value(t.Context(), "SELECT pg_conf_load_time()")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Exec(t.Context(), "SELECT pg_reload_conf()"); err != nil {
		t.Fatal(err)
	}
	await(t, patienceTLS, "the server has read its files", func() (string, bool) {
		now, err := n.Value(t.Context(), "SELECT pg_conf_load_time()")
		return fmt.Sprint(now, err), err == nil && now != before
	})
}

// admit replaces pg_hba.conf: superusers come in from here by any way, then come the lines.
func admit(t testing.TB, n *pgtest.Node, lines ...string) {
	t.Helper()
	ship(t, n, "pg_hba.conf", "host all postgres 127.0.0.1/32 trust\nlocal all all trust\n"+strings.Join(lines, "\n")+"\n")
	if wrong, err := n.Value(t.Context(), "SELECT string_agg(error, '; ') FROM pg_hba_file_rules"); err != nil || wrong != "" {
		t.Fatal(wrong, err)
	}
	reloadServer(t, n)
}

func TestEverySSLModeTowardsServers(t *testing.T) {
	a, foreign := authority(t, "ca"), authority(t, "foreign")
	s := startSite(t, pgtest.Options{}, func(s *site) { s.config.FailoverWait = caddy.Duration(time.Second) })
	n := s.servers.Primary()
	secureServer(t, n, a, "")
	for _, test := range []struct {
		line   string // of pg_hba.conf
		config cluster.ServerTLSConfig
		want   string // true, false, or "" when the server does not let us in
	}{
		{"host", cluster.ServerTLSConfig{Mode: "disable"}, "false"},
		{"host", cluster.ServerTLSConfig{Mode: "allow"}, "false"},
		{"host", cluster.ServerTLSConfig{}, "true"},
		{"host", cluster.ServerTLSConfig{Mode: "prefer"}, "true"},
		{"host", cluster.ServerTLSConfig{Mode: "require"}, "true"},
		{"host", cluster.ServerTLSConfig{Mode: "verify-ca", CA: a.File()}, "true"},
		{"host", cluster.ServerTLSConfig{Mode: "verify-ca", CA: foreign.File()}, ""},
		{"host", cluster.ServerTLSConfig{CA: a.File(), ServerName: "db.example"}, "true"},
		{"host", cluster.ServerTLSConfig{CA: a.File(), ServerName: "other.example"}, ""},
		{"hostssl", cluster.ServerTLSConfig{Mode: "disable"}, ""},
		{"hostssl", cluster.ServerTLSConfig{Mode: "allow"}, "true"},
		{"hostssl", cluster.ServerTLSConfig{Mode: "prefer"}, "true"},
		{"hostnossl", cluster.ServerTLSConfig{Mode: "allow"}, "false"},
		{"hostnossl", cluster.ServerTLSConfig{Mode: "prefer"}, "false"},
		{"hostnossl", cluster.ServerTLSConfig{Mode: "require"}, ""},
	} {
		t.Run(fmt.Sprintf("%s %s %s", test.line, test.config.Mode, test.config.ServerName), func(t *testing.T) {
			admit(t, n, test.line+" all all 127.0.0.1/32 trust")
			s.config.ServerTLS = &test.config
			host.reload(t)
			await(t, patienceTLS, "the connection is the new way", func() (string, bool) {
				is, err := s.serverConnection(t)
				return fmt.Sprint(is, err), is == test.want && (err == nil) == (test.want != "")
			})
		})
	}
}

// serverConnection tells whether a session's server connection is encrypted.
func (s *site) serverConnection(t *testing.T) (encrypted string, err error) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), s.connString(appRole, appRole))
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close(context.Background()) }()
	err = c.QueryRow(t.Context(), "select ssl::text from pg_stat_ssl where pid = pg_backend_pid()").Scan(&encrypted)
	return encrypted, err
}

// TestCertificatesAllTheWay has clients come in by certificate, and us at the servers: nobody has a password.
func TestCertificatesAllTheWay(t *testing.T) {
	a := authority(t, "ca")
	mine, mineKey := issue(t, a, pgtest.Certificate{Name: "balancer"})
	s := startSite(t, pgtest.Options{Replicas: 1}, nil)
	for _, n := range s.servers.Nodes() {
		secureServer(t, n, a, "")
		ship(t, n, "pg_ident.conf", "balanced balancer app\nbalanced balancer fairway\n")
		admit(t, n, "hostssl all all 127.0.0.1/32 cert map=balanced", "host replication all 127.0.0.1/32 trust")
	}
	s.config.Auth = nil // query
	s.config.ServerTLS = &cluster.ServerTLSConfig{CA: a.File(), ServerName: "db.example", Certificate: mine, Key: mineKey}
	s.handler = encrypted(t, a, func(c *postgres.TLS) {
		c.ClientAuth = &postgres.ClientAuth{Mode: "cert", CA: []string{a.File()}, UserMap: []postgres.UserMapping{{Name: "/^(.*)-laptop$", User: `\1`}}}
	})
	host.reload(t)
	s.awaitReady(t, 1)
	certificate, key := issue(t, a, pgtest.Certificate{Name: "app-laptop"})
	out, err := s.libpq(t, "host=db.example sslmode=verify-full sslrootcert="+a.File()+" sslcert="+certificate+" sslkey="+key)
	if err != nil || !strings.Contains(out, "\n42\n") {
		t.Errorf("%v\n%s", err, out)
	}
	out, err = s.libpq(t, "host=db.example sslmode=verify-full sslrootcert="+a.File()+" sslcert="+mine+" sslkey="+mineKey)
	if err == nil || !strings.Contains(out, `certificate authentication failed for user "app"`) {
		t.Errorf("another's certificate: %v\n%s", err, out)
	}
	if log := host.logTail(10_000); strings.Contains(log, "PRIVATE KEY") {
		t.Error("a key is in the log")
	}
}

// TestDirectNegotiationWithAServer needs one of PostgreSQL 17 or later.
func TestDirectNegotiationWithAServer(t *testing.T) {
	a := authority(t, "ca")
	s := startSite(t, pgtest.Options{Version: "18.1.0"}, nil)
	secureServer(t, s.servers.Primary(), a, "")
	s.config.ServerTLS = &cluster.ServerTLSConfig{CA: a.File(), ServerName: "db.example", Negotiation: "direct"}
	host.reload(t)
	s.awaitReady(t, 0)
	await(t, patienceTLS, "the connection is encrypted", func() (string, bool) {
		is, err := s.serverConnection(t)
		return fmt.Sprint(is, err), is == "true"
	})
}
