package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/fairwaydb/fairway/modules/pgtls"
	"github.com/fairwaydb/fairway/modules/pgwire"
)

// sslRequest asks a server for TLS, see
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL.
var sslRequest = []byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}

func isUnix(conn net.Conn) bool { return conn.RemoteAddr().Network() == "unix" }

// otherWay tells whether a login that failed on the connection may do better with
// encryption, or without: the mode leaves it open, and the server has said that it
// does not let the user in like this.
func (s *serverSettings) otherWay(conn net.Conn, err error) bool {
	var pg *pgwire.Error
	if isUnix(conn) || !errors.As(err, &pg) || pg.Raw == nil || pg.Code != pgwire.CodeInvalidAuthorization {
		return false
	}
	_, encrypted := conn.(*tls.Conn)
	return s.mode == TLSPrefer && encrypted || s.mode == TLSAllow && !encrypted
}

// startTLS shakes hands with the server, after it has said that it has TLS unless the
// settings want that at once. It returns conn itself when the server has none and the
// mode allows that.
func (b *Backend) startTLS(ctx context.Context, conn net.Conn, server *serverSettings) (net.Conn, error) {
	if !server.direct {
		if has, err := b.askTLS(ctx, conn, server); err != nil || !has {
			return conn, err
		}
	}
	config := server.tls
	if config.ServerName == "" {
		host, _, err := net.SplitHostPort(b.address)
		if err != nil {
			return nil, fmt.Errorf("address of backend %s: %w", b.name, err)
		}
		config = config.Clone()
		config.ServerName = host
	}
	encrypted := tls.Client(conn, config)
	if err := encrypted.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS with backend %s: %w", b.name, err)
	}
	if server.direct && encrypted.ConnectionState().NegotiatedProtocol != pgtls.Protocol {
		return nil, fmt.Errorf("TLS with backend %s: the server does not agree on the protocol %s: write negotiation postgres", b.name, pgtls.Protocol)
	}
	return encrypted, nil
}

// askTLS asks the server whether it has TLS. Exactly one byte is read before the
// handshake, so nothing sent in clear can be taken for encrypted data.
func (b *Backend) askTLS(ctx context.Context, conn net.Conn, server *serverSettings) (bool, error) {
	done := watch(ctx, conn)
	var answer [1]byte
	_, err := conn.Write(sslRequest)
	if err == nil {
		_, err = io.ReadFull(conn, answer[:])
	}
	if ended := done(); ended != nil {
		err = ended
	}
	switch {
	case err != nil:
		return false, fmt.Errorf("ask backend %s for TLS: %w", b.name, &finalError{err})
	case answer[0] == 'N' && server.mode == TLSPrefer:
		return false, nil
	case answer[0] == 'N':
		return false, fmt.Errorf("backend %s has no TLS: switch it on there, or write server_tls prefer", b.name)
	case answer[0] != 'S':
		return false, &finalError{fmt.Errorf("backend %s: %w: answer %q to SSLRequest", b.name, ErrProtocol, answer[0])}
	}
	return true, nil
}

// finalError is what a server did before it said whether it has TLS: a second
// connection in clear would end the same way.
type finalError struct{ err error }

func (e *finalError) Error() string { return e.err.Error() }
func (e *finalError) Unwrap() error { return e.err }

func isFinal(err error) bool { return errors.As(err, new(*finalError)) }
