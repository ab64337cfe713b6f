package cluster

import (
	"crypto/tls"

	"github.com/fairwaydb/fairway/modules/pgauth"
)

// channel says what lies between us and the server: a password is sent only where
// nobody else reads it, and proofs are bound to the certificate that was shown.
func (l *link) channel() pgauth.Channel {
	c := pgauth.Channel{Private: l.server.cleartext || isUnix(l.conn), Mode: l.server.binding}
	encrypted, ok := l.conn.(*tls.Conn)
	if !ok {
		return c
	}
	c.Private = true
	if shown := encrypted.ConnectionState().PeerCertificates; len(shown) > 0 {
		c.Binding = pgauth.EndpointBinding(shown[0])
	}
	return c
}
