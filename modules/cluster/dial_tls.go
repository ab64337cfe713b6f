package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
)

// sslRequest asks a server for TLS, see
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL.
var sslRequest = []byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}

// startTLS asks the server for TLS and shakes hands. It returns conn itself when
// the server has none and the mode allows that. Exactly one byte is read before
// the handshake, so nothing sent in clear can be taken for encrypted data.
func (b *Backend) startTLS(ctx context.Context, conn net.Conn, server *serverSettings) (net.Conn, error) {
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
		return nil, fmt.Errorf("ask backend %s for TLS: %w", b.name, &finalError{err})
	case answer[0] == 'N' && server.mode == TLSPrefer:
		return conn, nil
	case answer[0] == 'N':
		return nil, fmt.Errorf("backend %s has no TLS: switch it on there, or write server_tls prefer", b.name)
	case answer[0] != 'S':
		return nil, &finalError{fmt.Errorf("backend %s: %w: answer %q to SSLRequest", b.name, ErrProtocol, answer[0])}
	}
	config := server.tls
	if config.ServerName == "" {
		config = config.Clone()
		if config.ServerName, _, err = net.SplitHostPort(b.address); err != nil {
			return nil, fmt.Errorf("address of backend %s: %w", b.name, err)
		}
	}
	encrypted := tls.Client(conn, config)
	if err := encrypted.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS with backend %s: %w", b.name, err)
	}
	return encrypted, nil
}

// finalError is what a server did before it said whether it has TLS: a second
// connection in clear would end the same way.
type finalError struct{ err error }

func (e *finalError) Error() string { return e.err.Error() }
func (e *finalError) Unwrap() error { return e.err }

func isFinal(err error) bool { return errors.As(err, new(*finalError)) }
