package postgres

import (
	"crypto/tls"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/mholt/caddy-l4/modules/l4postgres"
	_ "github.com/mholt/caddy-l4/modules/l4tls"

	"github.com/fairwaydb/fairway/modules/pgtest"
)

// TestBehindOtherHandlersOfLayer4 has the matcher postgres, or the handler tls, in front.
func TestBehindOtherHandlersOfLayer4(t *testing.T) {
	node := startServer(t)
	p := newProxy(t)
	a, err := pgtest.NewAuthority(t.TempDir(), "ca")
	if err != nil {
		t.Fatal(err)
	}
	certificate, key, err := a.Issue(pgtest.Certificate{Name: "server", Hosts: []string{"db.internal"}})
	if err != nil {
		t.Fatal(err)
	}
	own := "tls " + certificate + " " + key + " {\n\t\t\t\t\t\trequire\n\t\t\t\t\t}"
	direct := func(c *pgconn.Config) {
		secure(a.Pool(), "db.internal", false)(c)
		c.TLSConfig.NextProtos, c.SSLNegotiation = []string{"postgresql"}, "direct"
	}
	for name, test := range map[string]struct {
		before string // what is in front of the route's handler
		client func(*pgconn.Config)
	}{
		"nothing":                        {"route {\n", secure(a.Pool(), "db.internal", false)},
		"nothing, direct TLS":            {"route {\n", direct},
		"the matcher postgres":           {"@pg postgres\n\t\t\troute @pg {\n", secure(a.Pool(), "db.internal", false)},
		"the handler tls":                {"route {\n\t\t\t\ttls {\n\t\t\t\t\tconnection_policy {\n\t\t\t\t\t\talpn postgresql\n\t\t\t\t\t}\n\t\t\t\t}\n", direct},
		"the matcher and handler of TLS": {"@tls tls\n\t\t\troute @tls {\n\t\t\t\ttls {\n\t\t\t\t\tconnection_policy {\n\t\t\t\t\t\talpn postgresql\n\t\t\t\t\t}\n\t\t\t\t}\n", direct},
	} {
		t.Run(name, func(t *testing.T) {
			body, err := adapt(strings.Replace(p.config("backend pg1 "+node.Addr(), own), "route {\n", test.before, 1))
			if err != nil {
				t.Fatal(err)
			}
			loaded := strings.Replace(string(body), `"apps":{`, fmt.Sprintf(
				`"apps":{"tls":{"certificates":{"load_files":[{"certificate":%q,"key":%q}]}},`, certificate, key), 1)
			if err := caddy.Load([]byte(loaded), true); err != nil {
				t.Fatal(err)
			}
			conn, err := connect(t, p.pg, test.client)
			if err != nil {
				t.Fatal(err)
			}
			want(t, conn, "SELECT 1", "1")
			if _, ok := conn.Conn().(*tls.Conn); !ok {
				t.Errorf("the connection is a %T", conn.Conn())
			}
		})
	}
}
