package session

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"time"

	"go.uber.org/zap"

	"github.com/fairwaydb/fairway/modules/pgauth"
	"github.com/fairwaydb/fairway/modules/pgwire"
)

// CertificateRule is what a listener wants of the certificates of its clients; the names are those of pg_hba.conf, see
// https://www.postgresql.org/docs/current/ssl-tcp.html#SSL-CLIENT-CERTIFICATES.
type CertificateRule uint8

// The rules. The TLS handshake itself refuses a certificate that is not trusted.
const (
	CertificateIgnored    CertificateRule = iota // a client may have one
	CertificateVerifyCA                          // a trusted one, and a password
	CertificateVerifyFull                        // a trusted one that belongs to the user, and a password
	CertificateAlone                             // a trusted one that belongs to the user; no password
)

// UserMap tells which users a certificate belongs to. It may be called by many sessions at once.
type UserMap interface {
	Maps(certificate *x509.Certificate, user string) bool
}

// Shown makes the sessions know which certificate their clients were shown: [Options.TLS] has the function returned as its
// GetCertificate, and no Certificates of its own.
func Shown(choose func(*tls.ClientHelloInfo) (*tls.Certificate, error)) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		chosen, err := choose(hello)
		if c, ok := hello.Conn.(*handshakeConn); ok && err == nil && chosen != nil {
			c.shown = chosen
		}
		return chosen, err
	}
}

// handshakeConn is a client's socket below TLS.
type handshakeConn struct {
	net.Conn
	early []byte           // of a direct handshake: read before it began
	shown *tls.Certificate // by the last handshake
}

func (c *handshakeConn) Read(p []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(p, c.early)
		if c.early = c.early[n:]; len(c.early) == 0 {
			c.early = nil
		}
		return n, nil
	}
	return c.Conn.Read(p)
}

// answerSSL does the TLS handshake, or refuses it. Bytes sent before the handshake could come from somebody in between: they end the
// connection. See CVE-2021-23214.
func (s *Session) answerSSL(deadline time.Time) error {
	if s.opts.TLS == nil || s.secure() {
		s.w.Raw([]byte{'N'})
		return s.w.Flush()
	}
	if s.r.Buffered() > 0 {
		return s.r.Reset(s.conn)
	}
	s.w.Raw([]byte{'S'})
	if err := s.w.Flush(); err != nil {
		return err
	}
	return s.handshake(nil, deadline)
}

// directTLS does the handshake of a client that begins with it, without an SSLRequest; it must name the protocol. It returns false
// when the client begins otherwise.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL
func (s *Session) directTLS(deadline time.Time) (bool, error) {
	first, err := s.r.FirstByte()
	if err != nil || first != recordHandshake || s.secure() {
		return false, err
	}
	if s.opts.TLS == nil {
		return false, &handshakeError{errors.New("direct TLS, but the listener has no TLS")}
	}
	if err := s.handshake(s.r.Surrender(), deadline); err != nil {
		return false, err
	}
	if s.conn.(*tls.Conn).ConnectionState().NegotiatedProtocol == "" {
		return false, &handshakeError{errors.New("direct TLS without the ALPN protocol postgresql")}
	}
	return true, nil
}

// recordHandshake is the first byte of a TLS connection: the type of the record that has the ClientHello.
const recordHandshake = 0x16

// handshake makes TLS of the client's connection, whose bytes read already are early.
func (s *Session) handshake(early []byte, deadline time.Time) error {
	below := &handshakeConn{Conn: s.raw, early: early}
	conn := tls.Server(below, s.opts.TLS)
	ctx, stop := context.WithDeadline(context.Background(), deadline) // the login's own bound
	defer stop()
	if err := conn.HandshakeContext(ctx); err != nil {
		if ctx.Err() == nil {
			linger(s.raw)
		}
		return &handshakeError{err}
	}
	if err := s.r.Reset(conn); err != nil {
		return err
	}
	s.conn, s.below = conn, below
	s.w.Reset(conn)
	return nil
}

// linger takes what the client has still sent, so that closing the connection does not take away the alert that tells it why: with TLS
// 1.3 a client goes on before it hears what the server thinks of its certificate.
func linger(conn net.Conn) {
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(lingerTimeout))
	_, _ = io.CopyN(io.Discard, conn, lingerBytes)
}

// Bounds of what is done for a client after a failed handshake.
const (
	lingerTimeout = time.Second
	lingerBytes   = 64 << 10
)

// handshakeError ends a connection before anything can be said to the client.
type handshakeError struct{ err error }

func (e *handshakeError) Error() string { return "TLS handshake: " + e.err.Error() }
func (e *handshakeError) Unwrap() error { return e.err }

// secure tells whether the client's connection is encrypted.
func (s *Session) secure() bool {
	_, ok := s.conn.(*tls.Conn)
	return ok
}

// channelBinding returns the tls-server-end-point of the certificate that this client was shown; nil without TLS, and where somebody
// else has made the handshake. See https://datatracker.ietf.org/doc/html/rfc5929#section-4
func (s *Session) channelBinding() []byte {
	if leaf := s.shownCertificate(); leaf != nil {
		return pgauth.EndpointBinding(leaf)
	}
	return nil
}

// shownCertificate returns the certificate that this client was shown, nil when it is not known.
func (s *Session) shownCertificate() *x509.Certificate {
	if s.below == nil || s.below.shown == nil {
		return nil
	}
	if s.below.shown.Leaf != nil || len(s.below.shown.Certificate) == 0 {
		return s.below.shown.Leaf
	}
	leaf, err := x509.ParseCertificate(s.below.shown.Certificate[0])
	if err != nil {
		s.logger.Debug("certificate of the listener not understood", zap.Error(err))
		return nil
	}
	return leaf
}

// checkCertificate holds the client's certificate against the rules of the listener; proven means that it alone logs the user in.
// The texts are those of PostgreSQL, which has no other for a password that goes with another's certificate.
func (s *Session) checkCertificate() (proven bool, err error) {
	rule := s.opts.Certificate
	if rule == CertificateIgnored {
		return false, nil
	}
	certificate := s.clientCertificate()
	if certificate == nil {
		return false, pgwire.Fatalf(pgwire.CodeInvalidAuthorization, "connection requires a valid client certificate")
	}
	if rule == CertificateVerifyCA {
		return false, nil
	}
	mapped := s.opts.UserMap != nil && s.opts.UserMap.Maps(certificate, s.identity.User)
	switch {
	case !mapped && rule == CertificateAlone:
		return false, pgwire.Fatalf(pgwire.CodeInvalidAuthorization, "certificate authentication failed for user \"%s\"", s.identity.User)
	case !mapped:
		return false, pgwire.Fatalf(pgwire.CodeInvalidPassword, "password authentication failed for user \"%s\"", s.identity.User)
	}
	return rule == CertificateAlone, nil
}

// clientCertificate returns the certificate that the client has proved to hold and the listener trusts, nil for none. A handshake
// that was not ours went by other rules.
func (s *Session) clientCertificate() *x509.Certificate {
	conn, ok := s.conn.(*tls.Conn)
	if !ok || s.below == nil {
		return nil
	}
	if chains := conn.ConnectionState().VerifiedChains; len(chains) > 0 {
		return chains[0][0]
	}
	return nil
}
