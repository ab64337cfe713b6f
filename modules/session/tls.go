package session

import (
	"context"
	"crypto/tls"
	"time"
)

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
	conn := tls.Server(s.raw, s.opts.TLS)
	ctx, stop := context.WithDeadline(context.Background(), deadline) // the login's own bound
	defer stop()
	if err := conn.HandshakeContext(ctx); err != nil {
		return &goneError{err}
	}
	if err := s.r.Reset(conn); err != nil {
		return err
	}
	s.conn = conn
	s.w.Reset(conn)
	return nil
}

// secure tells whether the client's connection is encrypted.
func (s *Session) secure() bool {
	_, ok := s.conn.(*tls.Conn)
	return ok
}
