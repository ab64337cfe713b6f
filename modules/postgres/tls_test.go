package postgres

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/modules/filestorage"

	"github.com/fairwaydb/fairway/modules/pgtest"
)

// secure makes a connection encrypted: the server is verified for the name, which
// is asked for unless silent.
func secure(roots *x509.CertPool, name string, silent bool) func(*pgconn.Config) {
	return func(c *pgconn.Config) {
		c.TLSConfig = &tls.Config{RootCAs: roots, ServerName: name, MinVersion: tls.VersionTLS12}
		if !silent {
			return
		}
		c.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error {
			opts := x509.VerifyOptions{Roots: roots, DNSName: name, Intermediates: x509.NewCertPool()}
			for _, c := range s.PeerCertificates[1:] {
				opts.Intermediates.AddCert(c)
			}
			_, err := s.PeerCertificates[0].Verify(opts)
			return err
		}}
	}
}

// trusted reads certificates.
func trusted(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(file)
	roots := x509.NewCertPool()
	if err != nil || !roots.AppendCertsFromPEM(text) {
		t.Fatalf("read %s: %v", file, err)
	}
	return roots
}

// withStorage has Caddy keep its certificates in a directory, its root among them,
// and to itself. options are more of the global block.
func withStorage(caddyfile, dir, options string) string {
	return strings.Replace(caddyfile, "\tpersist_config off\n",
		"\tpersist_config off\n\tskip_install_trust\n\tstorage file_system "+dir+"\n"+options, 1)
}

// TestCertificatesOfCaddysOwnAuthority shows certificates that nobody configured but by name.
func TestCertificatesOfCaddysOwnAuthority(t *testing.T) {
	node := startServer(t)
	p := newProxy(t)
	dir := t.TempDir()
	root := filepath.Join(dir, "pki/authorities/local/root.crt")
	for name, lines := range map[string]string{
		"internal":                    "tls internal db.internal db2.internal",
		"names that are not public":   "tls db.internal db2.internal",
		"with a policy for all names": "tls db.internal db2.internal",
	} {
		t.Run(name, func(t *testing.T) {
			options := ""
			if strings.Contains(name, "policy") {
				options = "\tlocal_certs\n"
			}
			p.load(t, withStorage(p.config("backend pg1 "+node.Addr(), lines+" {\n\t\t\t\t\t\trequire\n\t\t\t\t\t}"), dir, options))
			var last error
			defer func() {
				if t.Failed() {
					t.Log(last)
				}
			}()
			for asked, verified := range map[string]string{"db.internal": "db.internal", "db2.internal": "db2.internal", "": "db.internal", "other.internal": "db.internal"} {
				eventually(t, "a client that asks for "+asked+" is in", func() bool {
					roots := x509.NewCertPool()
					text, err := os.ReadFile(root)
					if err != nil || !roots.AppendCertsFromPEM(text) {
						return false
					}
					conn, err := connect(t, p.pg, func(c *pgconn.Config) {
						secure(roots, verified, true)(c)
						c.TLSConfig.ServerName = asked
					})
					if last = err; err != nil {
						return false
					}
					want(t, conn, "SELECT 1", "1")
					return true
				})
			}
		})
	}
}

func TestARenewedCertificateIsShownWithoutAReload(t *testing.T) {
	node := startServer(t)
	p := newProxy(t)
	body, err := adapt(withStorage(p.config("backend pg1 "+node.Addr(), "tls db.internal"), t.TempDir(), ""))
	if err != nil {
		t.Fatal(err)
	}
	short := strings.Replace(string(body), `"apps":{`, `"apps":{"tls":{"automation":{"renew_interval":"500ms","policies":[
		{"subjects":["db.internal"],"issuers":[{"module":"internal","lifetime":"5s"}]}]}},`, 1)
	if err := caddy.Load([]byte(short), true); err != nil {
		t.Fatal(err)
	}
	serials := make(map[string]bool)
	eventually(t, "a second certificate is shown", func() bool {
		_, _ = connect(t, p.pg, func(c *pgconn.Config) {
			c.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error {
				serials[s.PeerCertificates[0].SerialNumber.String()] = true
				return errors.New("that is all")
			}}
		})
		return len(serials) > 1
	})
}

func TestCertificatesThatTheAppTLSLoads(t *testing.T) {
	node := startServer(t)
	p := newProxy(t)
	a, err := pgtest.NewAuthority(t.TempDir(), "ca")
	if err != nil {
		t.Fatal(err)
	}
	certificate, key, err := a.Issue(pgtest.Certificate{Name: "loaded", Hosts: []string{"db.internal"}})
	if err != nil {
		t.Fatal(err)
	}
	body, err := adapt(withStorage(p.config("backend pg1 "+node.Addr(), "tls db.internal"), t.TempDir(), ""))
	if err != nil {
		t.Fatal(err)
	}
	with := strings.Replace(string(body), `"apps":{`, fmt.Sprintf(
		`"apps":{"tls":{"certificates":{"load_files":[{"certificate":%q,"key":%q}]}},`, certificate, key), 1)
	if err := caddy.Load([]byte(with), true); err != nil {
		t.Fatal(err)
	}
	conn, err := connect(t, p.pg, secure(trusted(t, a.File()), "db.internal", false))
	if err != nil {
		t.Fatal(err)
	}
	want(t, conn, "SELECT 1", "1")
}

func TestARenewedFileIsShownWithoutAReload(t *testing.T) {
	node := startServer(t)
	p := newProxy(t)
	dir := t.TempDir()
	a, err := pgtest.NewAuthority(dir, "ca")
	if err != nil {
		t.Fatal(err)
	}
	certificate, key, err := a.Issue(pgtest.Certificate{Name: "server", Hosts: []string{"old.test"}, NotAfter: time.Now().Add(-time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	p.load(t, p.config("backend pg1 "+node.Addr(), "tls "+certificate+" "+key))
	if _, err := connect(t, p.pg, secure(a.Pool(), "old.test", false)); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("an expired certificate: %v", err)
	}
	if _, _, err := a.Issue(pgtest.Certificate{Name: "server", Hosts: []string{"new.test"}}); err != nil {
		t.Fatal(err)
	}
	conn, err := connect(t, p.pg, secure(a.Pool(), "new.test", false))
	if err != nil {
		t.Fatal(err)
	}
	want(t, conn, "SELECT 1", "1")
}

func TestClientsLogInByCertificate(t *testing.T) {
	node := startServer(t)
	p := newProxy(t)
	a, err := pgtest.NewAuthority(t.TempDir(), "ca")
	if err != nil {
		t.Fatal(err)
	}
	certificate, key, err := a.Issue(pgtest.Certificate{Name: "server", Hosts: []string{"db.internal"}})
	if err != nil {
		t.Fatal(err)
	}
	mine, mineKey, err := a.Issue(pgtest.Certificate{Name: "anna@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	revoked, revokedKey, err := a.Issue(pgtest.Certificate{Name: "otto@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	crl, err := a.Revoke(time.Time{}, revoked)
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Exec(t.Context(), "CREATE ROLE anna LOGIN; CREATE ROLE otto LOGIN"); err != nil {
		t.Fatal(err)
	}
	p.load(t, p.config("backend pg1 "+node.Addr(), "tls "+certificate+" "+key+" {\n\t\t\t\t\t\tclient_auth cert "+a.File()+
		" {\n\t\t\t\t\t\t\tcrl "+crl+"\n\t\t\t\t\t\t\tuser_map /^(.*)@example\\.com$ \\1\n\t\t\t\t\t\t}\n\t\t\t\t\t}"))
	as := func(user, certificate, key string) error {
		conn, err := connect(t, p.pg, secure(a.Pool(), "db.internal", false), func(c *pgconn.Config) {
			c.User = user
			if certificate != "" {
				pair, err := tls.LoadX509KeyPair(certificate, key)
				if err != nil {
					t.Fatal(err)
				}
				c.TLSConfig.Certificates, c.SSLCertMode = []tls.Certificate{pair}, "allow"
			}
		})
		if err == nil {
			want(t, conn, "SELECT current_user", user)
		}
		return err
	}
	if err := as("anna", mine, mineKey); err != nil {
		t.Error(err)
	}
	var e *pgconn.PgError
	if err := as("otto", mine, mineKey); !errors.As(err, &e) || e.Message != `certificate authentication failed for user "otto"` || e.Code != "28000" {
		t.Errorf("another's certificate: %v", err)
	}
	if err := as("anna", "", ""); !errors.As(err, &e) || e.Message != "connection requires a valid client certificate" || e.Code != "28000" {
		t.Errorf("no certificate: %v", err)
	}
	if err := as("otto", revoked, revokedKey); err == nil || !strings.Contains(err.Error(), "bad certificate") {
		t.Errorf("a revoked certificate: %v", err)
	}
	if _, err := connect(t, p.pg); !errors.As(err, &e) || e.Code != "28000" {
		t.Errorf("no TLS: %v", err)
	}
}
