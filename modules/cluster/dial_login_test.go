package cluster

import (
	"net"
	"testing"

	"github.com/fairwaydb/fairway/modules/pgauth"
	"github.com/fairwaydb/fairway/modules/pgtest"
	"github.com/fairwaydb/fairway/modules/pgwire"
)

// cleartextServer asks for a password in clear and tells what it is sent.
func cleartextServer(asked chan<- string) func(net.Conn) {
	return func(c net.Conn) {
		_ = pgtest.Run(c, pgtest.AcceptStartup(), pgtest.Do("ask in clear", func(p *pgtest.Peer) error {
			p.W.Frame(pgwire.MsgAuthentication, []byte{0, 0, 0, 3})
			if err := p.W.Flush(); err != nil {
				return err
			}
			_, _, err := p.R.Next()
			if err != nil {
				asked <- ""
				return err
			}
			body, err := p.R.Body()
			asked <- string(body)
			if err != nil {
				return err
			}
			p.W.AuthenticationOK()
			p.W.ReadyForQuery('I')
			return p.W.Flush()
		}), pgtest.ExpectTypes("X"))
	}
}

func TestPasswordsAreSentInClearOnlyWhereNobodyReadsThem(t *testing.T) {
	for name, c := range map[string]struct {
		network string
		allowed bool
		sent    string
	}{
		"without TLS":                {"tcp", false, ""},
		"without TLS, and allowed":   {"tcp", true, "swordfish\x00"},
		"at a socket of the machine": {"unix", false, "swordfish\x00"},
	} {
		t.Run(name, func(t *testing.T) {
			asked := make(chan string, 1)
			b := backendAt(t, serve(t, c.network, cleartextServer(asked)), func(s *Settings) {
				s.server.mode, s.server.cleartext = TLSDisable, c.allowed
			})
			b.c.SetSecret("alice", pgauth.Secret{Password: "swordfish"})
			conn, err := b.Acquire(t.Context(), alice)
			if (err == nil) != (c.sent != "") {
				t.Errorf("error is %v", err)
			}
			if conn != nil {
				conn.Close()
			}
			if got := <-asked; got != c.sent {
				t.Errorf("the server was sent %q", got)
			}
		})
	}
}
