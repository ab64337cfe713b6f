package integration_test

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caddyserver/caddy/v2"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgtest"
)

// closing is a way to keep a role out that was let in before. # stands for the name of the role and of the database.
type closing struct {
	name              string
	prepare, shut, in string // in opens again; "" where nothing does
}

var closings = []closing{
	{name: "revoke", shut: "REVOKE CONNECT ON DATABASE # FROM public", in: "GRANT CONNECT ON DATABASE # TO #"},
	{name: "no_connections", shut: "ALTER DATABASE # ALLOW_CONNECTIONS false", in: "ALTER DATABASE # ALLOW_CONNECTIONS true"},
	{name: "database_limit", shut: "ALTER DATABASE # CONNECTION LIMIT 0", in: "ALTER DATABASE # CONNECTION LIMIT -1"},
	{name: "role_limit", shut: "ALTER ROLE # CONNECTION LIMIT 0", in: "ALTER ROLE # CONNECTION LIMIT -1"},
	{
		name: "member", prepare: "CREATE ROLE #_group; GRANT #_group TO #; REVOKE CONNECT ON DATABASE # FROM public; GRANT CONNECT ON DATABASE # TO #_group",
		shut: "REVOKE #_group FROM #", in: "GRANT #_group TO #",
	},
	{
		name: "far_member", prepare: `CREATE ROLE #_near; CREATE ROLE #_far; GRANT #_near TO #; GRANT #_far TO #_near;
			REVOKE CONNECT ON DATABASE # FROM public; GRANT CONNECT ON DATABASE # TO #_far`,
		shut: "REVOKE #_far FROM #_near", in: "GRANT #_far TO #_near",
	},
	{name: "nologin", shut: "ALTER ROLE # NOLOGIN", in: "ALTER ROLE # LOGIN"},
	{name: "expired", shut: "ALTER ROLE # VALID UNTIL '2020-01-01'", in: "ALTER ROLE # VALID UNTIL 'infinity'"},
	{name: "expires", shut: "DO $$ BEGIN EXECUTE format('ALTER ROLE # VALID UNTIL %L', now() + interval '500 ms');END $$", in: "ALTER ROLE # VALID UNTIL 'infinity'"},
	{name: "dropped_role", shut: "DROP ROLE #", in: "CREATE ROLE # LOGIN PASSWORD 'sesame'"},
	{name: "dropped_database", shut: "DROP DATABASE # WITH (FORCE)", in: "CREATE DATABASE #"},
}

// TestWhomTheServersShutOutStaysOut logs in while server connections of the same user and database are idle in the pools. The
// configuration has the users' passwords: none of the refusals comes from an auth query.
func TestWhomTheServersShutOutStaysOut(t *testing.T) {
	s := startSite(t, pgtest.Options{Auth: pgtest.AuthSCRAM}, func(s *site) {
		s.config.Auth = &cluster.AuthConfig{Mode: "user", Users: make(map[string]string)}
		for _, c := range closings {
			s.config.Auth.Users[c.name] = "sesame"
		}
		s.config.Credentials = &cluster.CredentialsConfig{User: s.servers.Superuser(), Password: s.servers.Password()}
		s.config.Monitor = &cluster.MonitorConfig{Interval: caddy.Duration(100 * time.Millisecond)}
	})
	primary := s.servers.Primary()
	run := func(sql, name string) {
		t.Helper()
		for part := range strings.SplitSeq(strings.ReplaceAll(sql, "#", name), "; ") {
			if err := primary.Exec(t.Context(), part); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range closings {
		t.Run(c.name, func(t *testing.T) {
			c.make(t, s)
			run(cmp.Or(c.prepare, "SELECT 1"), c.name)
			login := func(addr string) (code string) {
				ip, port, _ := net.SplitHostPort(addr)
				conn, err := pgx.Connect(t.Context(), fmt.Sprintf("host=%s port=%s user=%s dbname=%s password=sesame sslmode=disable", ip, port, c.name, c.name))
				if err != nil {
					return cmp.Or(sqlstate(err), err.Error())
				}
				defer conn.Close(context.WithoutCancel(t.Context()))
				if err := conn.Ping(t.Context()); err != nil {
					return cmp.Or(sqlstate(err), err.Error())
				}
				return "in"
			}
			as := func(addr, want string) func() (string, bool) {
				return func() (string, bool) {
					got := login(addr)
					return got, (got == "in") == (want == "in")
				}
			}
			await(t, 5*time.Second, "a login before", as(s.addr, "in"))
			run(c.shut, c.name)
			await(t, 5*time.Second, "the server shuts the role out", as(primary.Addr(), "out"))
			await(t, 5*time.Second, "the role stays out", as(s.addr, "out"))
			if got, want := login(s.addr), login(primary.Addr()); got != want {
				t.Errorf("a login gives %s, directly %s", got, want)
			}
			run(c.in, c.name)
			await(t, 5*time.Second, "the role comes in again", as(s.addr, "in"))
		})
	}
}

// make creates the role and its database.
func (c *closing) make(t *testing.T, s *site) {
	t.Helper()
	for _, sql := range []string{"CREATE ROLE " + c.name + " LOGIN PASSWORD 'sesame'", "CREATE DATABASE " + c.name} {
		if err := s.servers.Primary().Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
}
