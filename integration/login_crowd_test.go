package integration_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// replay records a good login, and sends the same proof on another connection.
func (s *site) replay(t *testing.T, direct string) (words []string) {
	t.Helper()
	for _, addr := range []string{direct, s.addr} {
		var recorded string
		c, err := call(addr, "alice", "postgres")
		if err != nil {
			t.Fatal(err)
		}
		spy := &spyConn{Conn: c.conn}
		c.w.Reset(spy)
		if v := c.login("alice", rightPassword); !v.in {
			t.Fatalf("the login that is recorded: %s", v)
		}
		_ = c.conn.Close()
		if recorded = spy.proof(); recorded == "" {
			t.Fatal("no proof was recorded")
		}
		words = append(words, secretWords(recorded)...)
		v, _ := s.visit(badLogin{play: final(recorded)}, addr)
		if want := (verdict{severity: "FATAL", code: "08P01", message: "invalid SCRAM response", detail: "Nonce does not match."}); v != want {
			t.Errorf("a proof sent again, at %s: %s", addr, v)
		}
	}
	return words
}

// spyConn notes what is written.
type spyConn struct {
	net.Conn
	out strings.Builder
}

func (c *spyConn) Write(p []byte) (int, error) {
	c.out.Write(p)
	return c.Conn.Write(p)
}

// proof is the client-final-message among what was written.
func (c *spyConn) proof() string {
	_, rest, found := strings.Cut(c.out.String(), "c=biws,")
	if !found {
		return ""
	}
	end := strings.Index(rest, ",p=") + len(",p=") + 44
	return "c=biws," + rest[:end]
}

// tooManyAtTheServer fills the server: it and Fairway say the same to one more.
func (s *site) tooManyAtTheServer(t *testing.T) {
	p := s.servers.Primary()
	var held []*pgconn.PgConn
	defer func() {
		for _, c := range held {
			_ = c.Close(context.Background())
		}
	}()
	for { // first those that are for everybody, then those that are reserved
		c, err := p.Connect(t.Context(), s.servers.Superuser(), "", "postgres")
		if err != nil {
			wantCode(t, "one more connection of the superuser", err, "53300")
			break
		}
		held = append(held, c)
	}
	for _, step := range []string{"none is free", "the reserved ones are free"} {
		bad := badLogin{user: "late", play: byPassword("late", rightPassword)}
		want, _ := s.visit(bad, p.Addr())
		got, _ := s.visit(bad, s.addr)
		if got != want || want.code != "53300" {
			t.Errorf("%s:\n Fairway    %s\n PostgreSQL %s", step, got, want)
		}
		_ = held[0].Close(t.Context())
		held = held[1:]
		await(t, 10*time.Second, "a connection is free", func() (string, bool) {
			v, _ := s.visit(bad, p.Addr())
			return v.String(), strings.Contains(v.message, "reserved")
		})
	}
}

// tooManyHere has a listener with one place, which is taken.
func (s *site) tooManyHere(t *testing.T) {
	small := serve(t, "too_many_here", s.servers, func(other *site) {
		other.config.Auth, other.config.Credentials = s.config.Auth, s.config.Credentials
		other.handler = map[string]any{"max_sessions": 1}
	})
	holder, err := small.login(t, "alice", rightPassword, "")
	if err != nil {
		t.Fatal(err)
	}
	want := verdict{severity: "FATAL", code: "53300", message: "sorry, too many clients already"}
	before := scrape(t)
	if v, _ := small.visit(badLogin{play: byPassword("alice", rightPassword)}, small.addr); v != want {
		t.Errorf("one too many: %s", v)
	}
	// libpq believes an error only after its question for TLS was answered.
	ip, port, _ := net.SplitHostPort(small.addr)
	cmd := program(t.Context(), t, "psql", "-X", "-At", fmt.Sprintf("host=%s port=%s user=alice dbname=postgres sslmode=prefer", ip, port), "-c", "select 1")
	cmd.Env = append(cmd.Env, "PGPASSWORD="+rightPassword)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "FATAL:  sorry, too many clients already") {
		t.Errorf("psql, one too many: %v: %s", err, out)
	}
	if n := scrape(t).since(before).sum("caddy_postgres_logins_total", "cluster="+small.name, "result=too_many"); n < 2 {
		t.Errorf("%v too many were counted", n)
	}
	_ = holder.Close(t.Context())
	await(t, 10*time.Second, "the place is free again", func() (string, bool) {
		v, _ := small.visit(badLogin{play: byPassword("alice", rightPassword)}, small.addr)
		return v.String(), v.in
	})
}
