package integration_test

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgauth"
	"github.com/fairwaydb/fairway/modules/pgtest"
	"github.com/fairwaydb/fairway/modules/pgwire"
)

// callTLS is call over TLS; binding is that of the certificate shown.
func callTLS(addr, user, database string) (c *caller, binding []byte, err error) {
	if c, err = callRaw(addr); err != nil {
		return nil, nil, err
	}
	c.w.SSLRequest()
	answer := make([]byte, 1)
	if err := c.w.Flush(); err != nil {
		return nil, nil, err
	}
	if _, err := io.ReadFull(c.conn, answer); err != nil || answer[0] != 'S' {
		return nil, nil, errors.Join(err, errors.New("no TLS"))
	}
	secure := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // the binding is what is tested
	if err := secure.Handshake(); err != nil {
		return nil, nil, err
	}
	c.conn, c.r, c.w = secure, pgwire.NewReader(secure, nil, 16<<10), pgwire.NewWriter(secure, 4<<10)
	c.w.Startup(pgwire.Version30, []pgwire.Param{{Name: "user", Value: user}, {Name: "database", Value: database}})
	return c, pgauth.EndpointBinding(secure.ConnectionState().PeerCertificates[0]), c.w.Flush()
}

// bound sends both messages of a bound exchange; BINDING in the final one stands for the right binding data.
func bound(mechanism, header, cbind string) func(*caller, []byte) verdict {
	return func(c *caller, binding []byte) verdict {
		if _, _, over := c.request(); over != nil {
			return *over
		}
		c.initial(mechanism, header+"n=,r=fyko+d2lbbFgONRv9qkxdawL")
		_, challenge, over := c.request()
		if over != nil {
			return *over
		}
		if cbind == "" {
			return verdict{in: true} // so far
		}
		nonce, _, _ := strings.Cut(strings.TrimPrefix(challenge, "r="), ",")
		data := strings.ReplaceAll(cbind, "BINDING", string(binding))
		c.password("c=" + base64.StdEncoding.EncodeToString([]byte(data)) + ",r=" + nonce + ",p=" + zeroProof)
		return c.end()
	}
}

// TestDowngradesOverTLS has a server with TLS and Fairway notice the same tricks.
func TestDowngradesOverTLS(t *testing.T) {
	certificate, key := selfSigned(t)
	s := startSite(t, pgtest.Options{Auth: pgtest.AuthSCRAM}, func(s *site) {
		s.config.Auth = nil
		s.config.Credentials = &cluster.CredentialsConfig{User: s.servers.Superuser(), Password: s.servers.Password()}
		s.handler = map[string]any{"tls": map[string]any{"certificate": certificate, "key": key}}
	})
	serverTLS(t, s.servers)
	p := s.servers.Primary()
	if err := p.Exec(t.Context(), "CREATE ROLE alice LOGIN PASSWORD '"+rightPassword+"'"); err != nil {
		t.Fatal(err)
	}
	const plain, plus, header = "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,"
	before, refused := scrape(t), 0
	for name, play := range map[string]func(*caller, []byte) verdict{
		"a client that does not bind":              bound(plain, "n,,", ""),
		"a client that was told we cannot":         bound(plain, "y,,", ""),
		"binding data without the mechanism":       bound(plain, header, ""),
		"the mechanism without binding data":       bound(plus, "n,,", ""),
		"the mechanism and a client that does not": bound(plus, "y,,", ""),
		"another type of binding":                  bound(plus, "p=tls-unique,,", ""),
		"an exporter":                              bound(plus, "p=tls-exporter,,", ""),
		"a wrong proof, bound":                     bound(plus, header, header+"BINDING"),
		"the binding of another certificate":       bound(plus, header, header+strings.Repeat("x", 32)),
		"no binding data in the end":               bound(plus, header, "n,,"),
		"the header alone":                         bound(plus, header, header),
		"more than the binding":                    bound(plus, header, header+"BINDINGx"),
	} {
		verdicts := make([]verdict, 2)
		for i, addr := range []string{p.Addr(), s.addr} {
			c, binding, err := callTLS(addr, "alice", "postgres")
			if err != nil {
				t.Fatal(err)
			}
			verdicts[i] = play(c, binding)
			_ = c.conn.Close()
		}
		if verdicts[0] != verdicts[1] || verdicts[0].in != (name == "a client that does not bind") {
			t.Errorf("%s:\n Fairway    %s\n PostgreSQL %s", name, verdicts[1], verdicts[0])
		}
		if !verdicts[1].in {
			refused++
		}
	}
	s.quiet(t)
	grown := scrape(t).since(before)
	counted := grown.sum("caddy_postgres_logins_total", "cluster="+s.name, "result=authentication") +
		grown.sum("caddy_postgres_logins_total", "cluster="+s.name, "result=protocol")
	if counted != float64(refused) {
		t.Errorf("%v logins were counted as refused, want %d", counted, refused)
	}
	for _, addr := range []string{p.Addr(), s.addr} {
		c, binding, err := callTLS(addr, "alice", "postgres")
		if err != nil {
			t.Fatal(err)
		}
		channel := pgauth.Channel{Private: true, Binding: binding, Mode: pgauth.BindingRequire}
		if err := pgauth.Login(c.r, c.w, "alice", pgauth.Secret{Password: rightPassword}, channel); err != nil {
			t.Errorf("a bound login at %s: %v", addr, err)
		}
		_ = c.conn.Close()
	}
}
