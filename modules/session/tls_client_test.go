package session

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgtest"
	"github.com/fairwaydb/fairway/modules/pgtls"
	"github.com/fairwaydb/fairway/modules/pgwire"
)

func TestWhatACertificateProves(t *testing.T) {
	a, config := encryption(t)
	config.ClientCAs, config.ClientAuth = a.Pool(), tls.VerifyClientCertIfGiven
	users, err := pgtls.NewUserMap(false)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		rule   CertificateRule
		holder string // of the client's certificate; empty: it has none
		proven bool
		code   string
		text   string
	}{
		{"ignored, none", CertificateIgnored, "", false, "", ""},
		{"ignored", CertificateIgnored, "otto", false, "", ""},
		{"verify-ca, none", CertificateVerifyCA, "", false, "28000", "connection requires a valid client certificate"},
		{"verify-ca", CertificateVerifyCA, "otto", false, "", ""},
		{"verify-full, none", CertificateVerifyFull, "", false, "28000", "connection requires a valid client certificate"},
		{"verify-full", CertificateVerifyFull, "anna", false, "", ""},
		{"verify-full, another's", CertificateVerifyFull, "otto", false, "28P01", `password authentication failed for user "anna"`},
		{"cert, none", CertificateAlone, "", false, "28000", "connection requires a valid client certificate"},
		{"cert", CertificateAlone, "anna", true, "", ""},
		{"cert, another's", CertificateAlone, "otto", false, "28000", `certificate authentication failed for user "anna"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := client(a, pgtls.Protocol)
			if test.holder != "" {
				certificate, key, err := a.Issue(pgtest.Certificate{Name: test.holder})
				if err != nil {
					t.Fatal(err)
				}
				pair, err := tls.LoadX509KeyPair(certificate, key)
				if err != nil {
					t.Fatal(err)
				}
				c.Certificates = []tls.Certificate{pair}
			}
			s := shaken(t, &Options{TLS: config, Certificate: test.rule, UserMap: users}, c)
			s.identity.User = "anna"
			proven, err := s.checkCertificate()
			var e *pgwire.Error
			errors.As(err, &e)
			if proven != test.proven || (err == nil) != (test.code == "") || e != nil && (e.Code != test.code || e.Message != test.text) {
				t.Errorf("got %v, %v", proven, err)
			}
		})
	}
}

// TestAClientHearsWhatIsWrongWithItsCertificate has clients that go on at once, as TLS 1.3 allows.
func TestAClientHearsWhatIsWrongWithItsCertificate(t *testing.T) {
	a, config := encryption(t)
	config.ClientCAs, config.ClientAuth = a.Pool(), tls.VerifyClientCertIfGiven
	p := startProxy(t, pg, func(_ *cluster.Config, o *Options) { o.TLS = config })
	foreign, err := pgtest.NewAuthority(t.TempDir(), "foreign")
	if err != nil {
		t.Fatal(err)
	}
	certificate, key, err := foreign.Issue(pgtest.Certificate{Name: "anna"})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	c := client(a, pgtls.Protocol)
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	for range 30 {
		conn := securely(t, p.addr, c)
		if err := conn.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if _, err := io.WriteString(conn, startup()); err != nil {
				break
			}
		}
		var one [1]byte
		if _, err := conn.Read(one[:]); err == nil || !strings.Contains(err.Error(), "unknown certificate authority") {
			t.Errorf("it hears %v", err)
		}
		_ = conn.Close()
	}
}

// TestSomebodyElsesTLS has TLS end in front of the session, as it does behind a handler tls of the layer 4 app.
func TestSomebodyElsesTLS(t *testing.T) {
	a, config := encryption(t)
	config.ClientCAs, config.ClientAuth = a.Pool(), tls.VerifyClientCertIfGiven
	var options atomic.Pointer[Options]
	startProxy(t, pg, func(_ *cluster.Config, o *Options) {
		o.TLS, o.RequireTLS = config, true
		options.Store(o)
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { Serve(tls.Server(conn, config), nil, options.Load()) })
		}
	})
	defer serving.Wait()
	defer listener.Close()
	certificate, key, err := a.Issue(pgtest.Certificate{Name: "postgres"})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	c := client(a, pgtls.Protocol)
	c.Certificates = []tls.Certificate{pair}
	conn := securely(t, listener.Addr().String(), c)
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write([]byte(sslPacket)); err != nil {
		t.Fatal(err)
	}
	var answer [1]byte
	if _, err := conn.Read(answer[:]); err != nil || answer[0] != 'N' {
		t.Errorf("SSLRequest: %q, %v", answer, err)
	}
	if err := letIn(conn); err != nil {
		t.Errorf("it does not count as TLS: %v", err)
	}
	_ = conn.Close()
	strict := *options.Load()
	strict.Certificate = CertificateVerifyCA
	options.Store(&strict)
	conn = securely(t, listener.Addr().String(), c)
	var e *pgwire.Error
	if err := letIn(conn); !errors.As(err, &e) || e.Code != pgwire.CodeInvalidAuthorization {
		t.Errorf("a certificate that somebody else has verified: %v", err)
	}
	_ = conn.Close()
}

func TestAClientIsRefusedInsideTLS(t *testing.T) {
	a, config := encryption(t)
	p := startProxy(t, pg, nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			Refuse(conn, nil, &Options{Cluster: p.cluster, TLS: config, Logger: zap.NewNop()})
		}
	})
	defer serving.Wait()
	defer listener.Close()
	for name, packets := range map[string][]string{"direct": nil, "after SSLRequest": {sslPacket}} {
		var e *pgwire.Error
		if err := letIn(securely(t, listener.Addr().String(), client(a, pgtls.Protocol), packets...)); !errors.As(err, &e) ||
			e.Code != pgwire.CodeCannotConnectNow {
			t.Errorf("%s: %v", name, err)
		}
	}
}
