package session

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgauth"
	"github.com/fairwaydb/fairway/modules/pgtest"
	"github.com/fairwaydb/fairway/modules/pgtls"
	"github.com/fairwaydb/fairway/modules/pgwire"
)

// Packets that may open a connection.
const (
	sslPacket    = "\x00\x00\x00\x08\x04\xd2\x16\x2f"
	gssencPacket = "\x00\x00\x00\x08\x04\xd2\x16\x30"
)

// encryption is the TLS of a listener, with the authority that has issued its certificate.
func encryption(t testing.TB) (*pgtest.Authority, *tls.Config) {
	t.Helper()
	a, err := pgtest.NewAuthority(t.TempDir(), "ca")
	if err != nil {
		t.Fatal(err)
	}
	certificate, key, err := a.Issue(pgtest.Certificate{Name: "server", Hosts: []string{"db.example"}})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	return a, &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{pgtls.Protocol}, SessionTicketsDisabled: true,
		GetCertificate: Shown(func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair, nil }),
	}
}

// securely dials and begins TLS: directly, or after the packets, each of which is answered by one byte.
func securely(t *testing.T, addr string, client *tls.Config, packets ...string) *tls.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	for _, p := range packets {
		var answer [1]byte
		if _, err := io.WriteString(conn, p); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, answer[:]); err != nil || answer[0] != map[bool]byte{true: 'S', false: 'N'}[p == sslPacket] {
			t.Fatalf("the answer to %q is %q, %v", p, answer, err)
		}
	}
	return tls.Client(conn, client)
}

// client is a client that trusts the authority.
func client(a *pgtest.Authority, protocols ...string) *tls.Config {
	return &tls.Config{RootCAs: a.Pool(), ServerName: "db.example", NextProtos: protocols, MinVersion: tls.VersionTLS12}
}

// letIn logs in and tells whether the session is ready.
func letIn(conn net.Conn) error {
	if _, err := io.WriteString(conn, startup()); err != nil {
		return err
	}
	r := pgwire.NewReader(conn, nil, 1<<10)
	for {
		typ, _, err := r.Next()
		if err != nil {
			return err
		}
		body, err := r.Body()
		if err != nil {
			return err
		}
		switch typ {
		case pgwire.MsgReadyForQuery:
			return nil
		case pgwire.MsgError:
			return pgwire.ParseError(body)
		}
	}
}

func TestTheWaysIntoTLS(t *testing.T) {
	a, config := encryption(t)
	p := startProxy(t, pg, func(_ *cluster.Config, o *Options) { o.TLS, o.RequireTLS = config, true })
	for name, test := range map[string]struct {
		protocols []string
		packets   []string
		want      string // in the error; empty: it works
	}{
		"SSLRequest":                          {nil, []string{sslPacket}, ""},
		"GSSENCRequest, then SSLRequest":      {nil, []string{gssencPacket, sslPacket}, ""},
		"SSLRequest, and the protocol's name": {[]string{pgtls.Protocol}, []string{sslPacket}, ""},
		"SSLRequest, and other names too":     {[]string{"h2", pgtls.Protocol}, []string{sslPacket}, ""},
		"SSLRequest, and another name":        {[]string{"h2"}, []string{sslPacket}, "no application protocol"},
		"direct":                              {[]string{pgtls.Protocol}, nil, ""},
		"direct with another name":            {[]string{"h2"}, nil, "no application protocol"},
		"direct without a name":               {nil, nil, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			err := letIn(securely(t, p.addr, client(a, test.protocols...), test.packets...))
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	t.Run("no TLS at all", func(t *testing.T) {
		if got := answers(t, p.addr, startup()); !strings.Contains(got, "C28000") || !strings.Contains(got, "sslmode=require") {
			t.Errorf("the answer is %q", got)
		}
	})
	t.Run("TLS 1.1", func(t *testing.T) {
		old := client(a)
		old.MinVersion, old.MaxVersion = tls.VersionTLS11, tls.VersionTLS11
		if err := letIn(securely(t, p.addr, old, sslPacket)); err == nil || !strings.Contains(err.Error(), "protocol version") {
			t.Errorf("got %v", err)
		}
	})
}

func TestAListenerWithoutTLSDeclines(t *testing.T) {
	p := startProxy(t, pg, nil)
	if got := answers(t, p.addr, sslPacket, startup()); !strings.HasPrefix(got, "N") || !strings.Contains(got, "server_version") {
		t.Errorf("the answer is %q", got)
	}
	a, _ := encryption(t)
	if err := letIn(securely(t, p.addr, client(a, pgtls.Protocol))); err == nil {
		t.Error("direct TLS, where there is none")
	}
	if got := failedHandshakes(t, p); got != 1 {
		t.Errorf("%v such clients were counted", got)
	}
}

func TestThereIsNoTLSInsideTLS(t *testing.T) {
	a, config := encryption(t)
	p := startProxy(t, pg, func(_ *cluster.Config, o *Options) { o.TLS = config })
	for name, packets := range map[string][]string{"direct": nil, "after SSLRequest": {sslPacket}} {
		conn := securely(t, p.addr, client(a, pgtls.Protocol), packets...)
		if _, err := io.WriteString(conn, gssencPacket); err != nil {
			t.Fatal(err)
		}
		if name == "direct" {
			if _, err := io.WriteString(conn, sslPacket); err != nil {
				t.Fatal(err)
			}
		}
		answer := make([]byte, map[string]int{"direct": 2, "after SSLRequest": 1}[name])
		if _, err := io.ReadFull(conn, answer); err != nil || strings.Trim(string(answer), "N") != "" {
			t.Errorf("%s: the answer is %q, %v", name, answer, err)
		}
		if err := letIn(conn); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNothingIsTakenBeforeTheHandshake sends what somebody in between could put in front of the client's own bytes.
func TestNothingIsTakenBeforeTheHandshake(t *testing.T) {
	_, config := encryption(t)
	p := startProxy(t, pg, func(_ *cluster.Config, o *Options) { o.TLS = config })
	for name, injected := range map[string]string{
		"a startup packet": startup(), "a query": "Q\x00\x00\x00\x0dselect 1\x00", "one byte": "\x16", "SSLRequest": sslPacket,
	} {
		got := answers(t, p.addr, sslPacket+injected)
		if !strings.Contains(got, "C08P01") || !strings.Contains(got, "received unencrypted data after SSL request") {
			t.Errorf("%s: the answer is %q", name, got)
		}
	}
}

func TestAHandshakeThatDragsOnEndsWithTheLogin(t *testing.T) {
	_, config := encryption(t)
	p := startProxy(t, pg, func(_ *cluster.Config, o *Options) { o.TLS, o.LoginTimeout = config, 300*time.Millisecond })
	hello := clientHello(t)
	for name, packets := range map[string][]string{"after SSLRequest": {sslPacket}, "direct": nil} {
		conn := securely(t, p.addr, &tls.Config{MinVersion: tls.VersionTLS12}, packets...).NetConn()
		began := time.Now()
		tick := time.NewTicker(20 * time.Millisecond)
		for i := range hello { // a byte at a time
			if _, err := io.WriteString(conn, hello[i:i+1]); err != nil {
				break
			}
			<-tick.C
		}
		tick.Stop()
		got, err := io.ReadAll(conn)
		if isTimeout(err) || time.Since(began) > 5*time.Second || len(got) > 0 {
			t.Errorf("%s: after %v: %v; the answer is %q", name, time.Since(began), err, got)
		}
	}
	if n := failedHandshakes(t, p); n != 2 {
		t.Errorf("%v handshakes were counted as failed", n)
	}
}

// failedHandshakes counts those of a cluster.
func failedHandshakes(t *testing.T, p *proxy) (n float64) {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(loginsTotal)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range families[0].GetMetric() {
		labels := make(map[string]string)
		for _, l := range m.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		if labels["cluster"] == p.cluster.Name() && labels["result"] == loginTLS {
			n += m.GetCounter().GetValue()
		}
	}
	return n
}

// clientHello is the first message of a handshake.
func clientHello(t *testing.T) string {
	t.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	go func() {
		conn := tls.Client(theirs, &tls.Config{ServerName: "db.example", NextProtos: []string{pgtls.Protocol}, MinVersion: tls.VersionTLS12})
		_ = conn.HandshakeContext(context.Background())
	}()
	head := make([]byte, 5)
	if _, err := io.ReadFull(ours, head); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint16(head[3:]))
	if _, err := io.ReadFull(ours, body); err != nil {
		t.Fatal(err)
	}
	return string(head) + string(body)
}

func TestACancelRequestInsideTLS(t *testing.T) {
	a, config := encryption(t)
	p := startProxy(t, pg, func(_ *cluster.Config, o *Options) { o.TLS, o.RequireTLS = config, true })
	for name, packets := range map[string][]string{"direct": nil, "after SSLRequest": {sslPacket}} {
		t.Run(name, func(t *testing.T) {
			conn := p.securePgx(t, a)
			failed := make(chan error, 1)
			go func() {
				_, err := conn.Exec(context.Background(), "select pg_sleep(30)")
				failed <- err
			}()
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for range 500 { // until the statement runs and is hit
				secure := securely(t, p.addr, client(a, pgtls.Protocol), packets...)
				w := pgwire.NewWriter(secure, 0)
				w.CancelRequest(conn.PgConn().PID(), conn.PgConn().SecretKey())
				if err := w.Flush(); err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, secure); isTimeout(err) {
					t.Fatal("the connection of the cancel request stays open")
				}
				select {
				case err := <-failed:
					var e *pgconn.PgError
					if !errors.As(err, &e) || e.Code != pgwire.CodeQueryCanceled {
						t.Errorf("the statement ended with %v", err)
					}
					return
				case <-tick.C:
				}
			}
			t.Error("the statement was not canceled")
		})
	}
}

// securePgx connects with TLS.
func (p *proxy) securePgx(t testing.TB, a *pgtest.Authority) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig("postgres://postgres@" + p.addr + "/postgres?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	config.TLSConfig = client(a)
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// shaken is a session after a handshake over a pipe, with the client's end.
func shaken(t *testing.T, o *Options, client *tls.Config) *Session {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { _, _ = ours.Close(), theirs.Close() })
	s := &Session{
		opts: o, logger: zap.NewNop(), conn: ours, raw: ours,
		r: pgwire.NewReader(ours, nil, clientReadBuffer), w: pgwire.NewWriter(ours, clientWriteBuffer),
	}
	done := make(chan error, 1)
	go func() {
		conn := tls.Client(theirs, client)
		if err := conn.HandshakeContext(context.Background()); err != nil {
			done <- err
			return
		}
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		done <- nil
		_, _ = io.Copy(io.Discard, conn)
	}()
	direct, err := s.directTLS(time.Now().Add(5 * time.Second))
	if err != nil || !direct {
		t.Fatalf("%v, %v", direct, err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTheBindingIsOfTheCertificateThatWasShown(t *testing.T) {
	a, config := encryption(t)
	if s := (&Session{}); s.channelBinding() != nil {
		t.Error("a binding without TLS")
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		c := client(a, pgtls.Protocol)
		c.MinVersion, c.MaxVersion = version, version
		var shown *x509.Certificate
		c.VerifyConnection = func(state tls.ConnectionState) error {
			shown = state.PeerCertificates[0]
			return nil
		}
		s := shaken(t, &Options{TLS: config}, c)
		if got := s.channelBinding(); len(got) == 0 || !slices.Equal(got, pgauth.EndpointBinding(shown)) {
			t.Errorf("TLS %x: the binding is %x", version, got)
		}
		if s.below.shown.Leaf == nil {
			t.Error("the certificate has no leaf")
		}
		bare := *s.below.shown
		bare.Leaf = nil
		s.below.shown = &bare
		if got := s.channelBinding(); !slices.Equal(got, pgauth.EndpointBinding(shown)) {
			t.Errorf("TLS %x: the binding of a certificate that is not parsed is %x", version, got)
		}
	}
}
