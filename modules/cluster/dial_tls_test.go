package cluster

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/fairwaydb/fairway/modules/pgtest"
	"github.com/fairwaydb/fairway/modules/pgwire"
)

// authority signs certificates for a test.
func authority(t *testing.T) *pgtest.Authority {
	t.Helper()
	a, err := pgtest.NewAuthority(t.TempDir(), "ca")
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

// resolved resolves a configuration for a backend.
func resolved(t *testing.T, c *ServerTLSConfig) serverSettings {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	t.Cleanup(cancel)
	s := newSettings().server
	if err := c.resolve(ctx, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// secured is a server with TLS of some kind. It notes what the last connection was.
type secured struct {
	config  *tls.Config
	kind    string // "", "none", "broken", "direct", "hostssl", "hostnossl"
	address string
	last    atomic.Pointer[string]
}

func (s *secured) serve(t *testing.T, c net.Conn) {
	name := "clear"
	s.last.Store(&name)
	head := make([]byte, 8)
	if _, err := io.ReadFull(c, head); err != nil {
		return
	}
	asks := string(head) == string(sslRequest)
	switch {
	case asks && s.kind == "none":
		write(c, "N")
		head = nil
	case asks && s.kind == "broken":
		write(c, "Sno handshake at all, and then the end of it")
		return
	case asks || head[0] == 0x16:
		if head[0] == 0x16 {
			c = &headed{Conn: c, head: head}
		} else {
			write(c, "S")
		}
		secure := tls.Server(c, s.config)
		if secure.HandshakeContext(t.Context()) != nil {
			return
		}
		name := "encrypted"
		if peer := secure.ConnectionState().PeerCertificates; len(peer) > 0 {
			name += " as " + peer[0].Subject.CommonName
		}
		s.last.Store(&name)
		if s.kind == "hostnossl" {
			refuse(secure)
			return
		}
		postgres(secure)
		return
	}
	if s.kind == "hostssl" {
		refuse(&headed{Conn: c, head: head})
		return
	}
	postgres(&headed{Conn: c, head: head})
}

// refuse is a server that lets nobody in like this.
func refuse(c net.Conn) {
	_ = pgtest.Run(c, pgtest.AcceptStartup(), pgtest.Do("refuse", func(p *pgtest.Peer) error {
		p.W.Error(pgwire.Fatalf(pgwire.CodeInvalidAuthorization, "no pg_hba.conf entry"))
		return p.W.Flush()
	}))
}

// secureServer starts one that shows a certificate for db.example.
func secureServer(t *testing.T, a *pgtest.Authority, kind string, change func(*tls.Config)) *secured {
	t.Helper()
	certificate, key := issue(t, a, pgtest.Certificate{Name: "server", Hosts: []string{"db.example"}})
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	s := &secured{kind: kind, config: &tls.Config{Certificates: []tls.Certificate{pair}}}
	if change != nil {
		change(s.config)
	}
	s.address = serve(t, "tcp", func(c net.Conn) { s.serve(t, c) })
	return s
}

// dial returns how the connection came about.
func (s *secured) dial(t *testing.T, server serverSettings) (string, error) {
	t.Helper()
	b := backendAt(t, s.address, func(o *Settings) { o.server = server })
	conn, err := b.Acquire(t.Context(), alice)
	if err != nil {
		return "refused", err
	}
	conn.Close()
	return *s.last.Load(), nil
}

func TestEncryptionTowardsServers(t *testing.T) {
	ours, foreign := authority(t), authority(t)
	with := secureServer(t, ours, "", nil)
	without := secureServer(t, ours, "none", nil)
	broken := secureServer(t, ours, "broken", nil)
	hostssl, hostnossl := secureServer(t, ours, "hostssl", nil), secureServer(t, ours, "hostnossl", nil)
	const clear, secret, refused = "clear", "encrypted", "refused"
	for _, test := range []struct {
		name           string
		server         *secured
		mode, ca, host string
		want           string
	}{
		{"disable", with, "disable", "", "", clear},
		{"disable where TLS is wanted", hostssl, "disable", "", "", refused},
		{"allow", with, "allow", "", "", clear},
		{"allow without TLS", without, "allow", "", "", clear},
		{"allow where TLS is wanted", hostssl, "allow", "", "", secret},
		{"prefer", with, "prefer", "", "", secret},
		{"prefer without TLS", without, "prefer", "", "", clear},
		{"prefer with broken TLS", broken, "prefer", "", "", clear},
		{"prefer where TLS is not wanted", hostnossl, "prefer", "", "", clear},
		{"require", with, "require", "", "", secret},
		{"require without TLS", without, "require", "", "", refused},
		{"require with broken TLS", broken, "require", "", "", refused},
		{"require where TLS is not wanted", hostnossl, "require", "", "", refused},
		{"require with the CA", with, "require", ours.File(), "", secret},
		{"require with another CA", with, "require", foreign.File(), "", refused},
		{"verify-ca", with, "verify-ca", ours.File(), "", secret},
		{"verify-ca of another CA", with, "verify-ca", foreign.File(), "", refused},
		{"verify-ca of the system", with, "verify-ca", "", "", refused},
		{"verify-full", with, "verify-full", ours.File(), "db.example", secret},
		{"verify-full of another name", with, "verify-full", ours.File(), "other.example", refused},
		{"verify-full of the address", with, "verify-full", ours.File(), "", refused},
		{"verify-full of another CA", with, "verify-full", foreign.File(), "db.example", refused},
		{"verify-full without TLS", without, "verify-full", ours.File(), "", refused},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := resolved(t, &ServerTLSConfig{Mode: test.mode, CA: test.ca, ServerName: test.host})
			if got, err := test.server.dial(t, server); got != test.want {
				t.Errorf("the connection is %s (%v), want %s", got, err, test.want)
			}
		})
	}
}

func TestAnErrorOfBothWaysTellsBoth(t *testing.T) {
	server := resolved(t, &ServerTLSConfig{Mode: "allow"})
	b := backendAt(t, serve(t, "tcp", func(c net.Conn) {
		head := make([]byte, 8)
		if _, err := io.ReadFull(c, head); err == nil && string(head) == string(sslRequest) {
			write(c, "N")
			return
		}
		refuse(&headed{Conn: c, head: head})
	}), func(s *Settings) { s.server = server })
	_, err := b.Acquire(t.Context(), alice)
	if err == nil || !strings.Contains(err.Error(), "no pg_hba.conf entry") || !strings.Contains(err.Error(), "has no TLS") {
		t.Errorf("the error is %v", err)
	}
}

func TestDirectNegotiationNeedsTheProtocolsName(t *testing.T) {
	a := authority(t)
	modern := secureServer(t, a, "direct", func(c *tls.Config) { c.NextProtos = []string{"postgresql"} })
	other := secureServer(t, a, "direct", nil)
	old := serve(t, "tcp", func(c net.Conn) { // before PostgreSQL 17: a length that is none
		_, _ = io.ReadFull(c, make([]byte, 8))
	})
	server := resolved(t, &ServerTLSConfig{Mode: "verify-full", CA: a.File(), ServerName: "db.example", Negotiation: "direct"})
	if got, err := modern.dial(t, server); got != "encrypted" {
		t.Errorf("the connection is %s, %v", got, err)
	}
	if _, err := other.dial(t, server); err == nil || !strings.Contains(err.Error(), "write negotiation postgres") {
		t.Errorf("a server without the protocol: %v", err)
	}
	if _, err := backendAt(t, old, func(s *Settings) { s.server = server }).Acquire(t.Context(), alice); err == nil {
		t.Error("a server of old got a connection")
	}
	server = resolved(t, &ServerTLSConfig{Mode: "require"})
	if got, err := modern.dial(t, server); got != "encrypted" {
		t.Errorf("a server with ALPN that is asked first: %s, %v", got, err)
	}
}

func TestServersThatAskForACertificateSeeTheCurrentOne(t *testing.T) {
	a := authority(t)
	server := secureServer(t, a, "", func(c *tls.Config) {
		c.ClientCAs, c.ClientAuth = a.Pool(), tls.RequireAndVerifyClientCert
	})
	if _, err := server.dial(t, resolved(t, &ServerTLSConfig{Mode: "require"})); err == nil {
		t.Error("a server that wants a certificate let us in without")
	}
	certificate, key := issue(t, a, pgtest.Certificate{Name: "fairway"})
	settings := resolved(t, &ServerTLSConfig{Mode: "require", Certificate: certificate, Key: key})
	if got, err := server.dial(t, settings); got != "encrypted as fairway" {
		t.Errorf("the connection is %s, %v", got, err)
	}
	if old := resolved(t, &ServerTLSConfig{Mode: "require"}); old.same(&settings) {
		t.Error("connections with and without a certificate are as good as each other")
	}
	foreign := authority(t)
	certificate, key = issue(t, foreign, pgtest.Certificate{Name: "fairway"})
	if _, err := server.dial(t, resolved(t, &ServerTLSConfig{Mode: "require", Certificate: certificate, Key: key})); err == nil {
		t.Error("a certificate of another authority was taken")
	}
}

func TestARevokedServerIsRefused(t *testing.T) {
	a := authority(t)
	server := secureServer(t, a, "", nil)
	empty, err := a.Revoke(time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"require", "verify-ca", "verify-full"} {
		settings := resolved(t, &ServerTLSConfig{Mode: mode, CA: a.File(), ServerName: "db.example", CRL: []string{empty}})
		if got, err := server.dial(t, settings); got != "encrypted" {
			t.Errorf("%s: nothing is revoked, but the connection is %s, %v", mode, got, err)
		}
		if _, err := a.Revoke(time.Time{}, strings.TrimSuffix(a.File(), ".pem")+"-server.pem"); err != nil {
			t.Fatal(err)
		}
		if _, err := server.dial(t, settings); err == nil || !strings.Contains(err.Error(), "is revoked") {
			t.Errorf("%s: a revoked server: %v", mode, err)
		}
		if _, err := a.Revoke(time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestServerTLSThatCannotBeIsRefused(t *testing.T) {
	a := authority(t)
	certificate, key := issue(t, a, pgtest.Certificate{Name: "fairway"})
	_, other := issue(t, a, pgtest.Certificate{Name: "other"})
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	for want, c := range map[string]*ServerTLSConfig{
		"write disable, allow, prefer":                     {Mode: "always"},
		"allow does not verify anything: write verify":     {Mode: "allow", CA: a.File()},
		"require does not verify anything: write verify":   {Mode: "require", CRL: []string{"x"}},
		"write postgres or direct":                         {Negotiation: "fast"},
		"write require, verify-ca or verify-full":          {Negotiation: "direct"},
		"write cert and key":                               {Certificate: certificate},
		"disable shows no certificate":                     {Mode: "disable", Certificate: certificate, Key: key},
		"the key that belongs to it":                       {Certificate: certificate, Key: other},
		"key: replace placeholder":                         {Certificate: certificate, Key: "{env.FAIRWAY_TEST_UNSET}"},
		"crl: read revocation list: open none":             {CA: a.File(), CRL: []string{"none"}},
		"ca: the file has no certificate in PEM form":      {CA: key},
		"server_name: replace placeholder: evaluated plac": {ServerName: "{env.FAIRWAY_TEST_UNSET}"},
	} {
		var s serverSettings
		if err := c.resolve(ctx, &s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestLogsInAlone(t *testing.T) {
	s := newSettings()
	if s.LogsInAlone() {
		t.Error("auth query needs what clients prove")
	}
	s.Auth = AuthUser
	if s.users = map[string]user{"anna": {password: "x"}}; !s.LogsInAlone() {
		t.Error("with all passwords it can")
	}
	s.users["otto"] = user{}
	if s.LogsInAlone() {
		t.Error("with a verifier it cannot")
	}
	if s.Auth = AuthTrust; !s.LogsInAlone() {
		t.Error("servers that trust us let us in")
	}
}
