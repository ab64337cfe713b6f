//go:build unix

package pgauth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// A server accepts a binding only when it computes the same one, so that its word counts for every algorithm.
func TestBindingAgainstPostgreSQL(t *testing.T) {
	server := startPostgreSQL(t)
	super := server.connect(t)
	for _, sql := range realSetup {
		exec1(t, super, sql)
	}
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		key       crypto.Signer
		algorithm x509.SignatureAlgorithm
		none      bool
	}{
		{small, x509.SHA256WithRSA, false},
		{small, x509.SHA384WithRSA, false},
		{small, x509.SHA512WithRSA, false},
		{small, x509.SHA256WithRSAPSS, false},
		{small, x509.SHA512WithRSAPSS, false},
		{p256, x509.ECDSAWithSHA256, false},
		{p256, x509.ECDSAWithSHA384, false},
		{p256, x509.ECDSAWithSHA512, false},
		{ed, x509.PureEd25519, true},
	} {
		t.Run(c.algorithm.String(), func(t *testing.T) {
			server.useCertificate(t, c.key, c.algorithm)
			for _, mode := range []BindingMode{BindingPrefer, BindingDisable, BindingRequire} {
				err := server.loginTLS(t, "joe", Secret{Password: realPassword}, mode, nil)
				if mode == BindingRequire && c.none {
					wantFatal(t, err, "28000", "channel binding is required", "")
				} else if err != nil {
					t.Errorf("mode %d: %v", mode, err)
				}
			}
			if !c.none {
				err := server.loginTLS(t, "joe", Secret{Password: realPassword}, BindingPrefer, func(b []byte) { b[0] ^= 1 })
				wantFatal(t, err, "28000", "SCRAM channel binding check failed", "")
			}
			if err := server.loginTLS(t, "cleartext", Secret{Password: realPassword}, BindingPrefer, nil); err != nil {
				t.Errorf("cleartext: %v", err)
			}
		})
	}
}

// useCertificate makes the server show a new certificate.
func (p *postgres) useCertificate(t *testing.T, key crypto.Signer, algorithm x509.SignatureAlgorithm) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "server"}, SignatureAlgorithm: algorithm,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"server.crt": {Type: "CERTIFICATE", Bytes: der}, "server.key": {Type: "PRIVATE KEY", Bytes: private}} {
		path := filepath.Join(p.dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if p.as != nil {
			if err := os.Chown(path, int(p.as.Credential.Uid), int(p.as.Credential.Gid)); err != nil {
				t.Fatal(err)
			}
		}
	}
	super := p.connect(t)
	exec1(t, super, "alter system set ssl = on")
	exec1(t, super, "select pg_reload_conf()")
	deadline := time.After(20 * time.Second)
	for {
		c, err := p.dialTLS(t)
		if err == nil {
			shown := c.ConnectionState().PeerCertificates[0].SerialNumber
			_ = c.Close()
			if shown.Cmp(template.SerialNumber) == 0 {
				return
			}
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			t.Fatalf("the server does not show its new certificate: %v", err)
		}
	}
}

// dialTLS connects and shakes hands.
func (p *postgres) dialTLS(t *testing.T) (*tls.Conn, error) {
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.port))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 1)
	if _, err := c.Write([]byte{0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f}); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(c, answer); err != nil || answer[0] != 'S' {
		return nil, errors.Join(err, c.Close(), fmt.Errorf("answer %q", answer))
	}
	secure := tls.Client(c, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // the binding is what is tested
	if err := secure.HandshakeContext(context.Background()); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return secure, nil
}

// loginTLS logs in over TLS; spoil may change the binding.
func (p *postgres) loginTLS(t *testing.T, user string, s Secret, mode BindingMode, spoil func([]byte)) error {
	t.Helper()
	c, err := p.dialTLS(t)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	channel := Channel{Private: true, Binding: EndpointBinding(c.ConnectionState().PeerCertificates[0]), Mode: mode}
	if spoil != nil {
		spoil(channel.Binding)
	}
	r, w := pgwire.NewReader(c, nil, 4096), pgwire.NewWriter(c, 4096)
	w.Startup(pgwire.Version30, []pgwire.Param{{Name: "user", Value: user}, {Name: "database", Value: "postgres"}})
	if err := Login(r, w, user, s, channel); err != nil {
		if strings.Contains(err.Error(), "EOF") {
			t.Errorf("the server hung up: %v", err)
		}
		return err
	}
	w.Terminate()
	return w.Flush()
}
