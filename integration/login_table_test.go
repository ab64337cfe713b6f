package integration_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/caddyserver/caddy/v2"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgtest"
)

// combination is a cell of the table of docs/auth.md: how clients are asked, what is kept of the password and where, what
// the server asks for, and what the client gets.
type combination struct {
	method, kept, from, server, want string
}

const (
	loginTable   = "../docs/auth.md"
	tableHeading = "## Every combination"
	notLoaded    = "not loaded"
)

// readTable reads the table. A word that no test knows is an error: a row without a test would be one that may lie.
func readTable(t *testing.T) (all []combination) {
	t.Helper()
	text, err := os.ReadFile(loginTable)
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), tableHeading)
	if !found {
		t.Fatalf("%s has no %q", loginTable, tableHeading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var columns []string
	for lines := bufio.NewScanner(strings.NewReader(section)); lines.Scan(); {
		if !strings.HasPrefix(lines.Text(), "|") || strings.HasPrefix(lines.Text(), "|-") {
			continue
		}
		cells := strings.Split(strings.Trim(strings.ReplaceAll(lines.Text(), "`", ""), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if columns == nil {
			columns = cells
			continue
		}
		if len(cells) != len(columns) {
			t.Fatalf("a row of other length than the heading: %s", lines.Text())
		}
		for from := range strings.SplitSeq(cells[2], ", ") {
			for i, want := range cells[3:] {
				all = append(all, combination{cells[0], cells[1], from, columns[i+3], want})
			}
		}
	}
	return all
}

// columnRoles are the names of the roles for each column, after the letter that says what the server keeps of them.
var columnRoles = map[string]string{
	"trust": "trust", "scram-sha-256": "scram", "scram-sha-256, TLS": "plus", "md5": "md5", "password, TLS": "passtls", "password": "pass",
}

const tableHBA = `
host all s_trust,m_trust 127.0.0.1/32 trust
host all s_scram,m_scram 127.0.0.1/32 scram-sha-256
hostssl all s_plus,m_plus 127.0.0.1/32 scram-sha-256
host all s_md5,m_md5 127.0.0.1/32 md5
hostssl all s_passtls,m_passtls 127.0.0.1/32 password
hostnossl all s_pass,m_pass 127.0.0.1/32 password
host all s_plus,m_plus,s_passtls,m_passtls,s_pass,m_pass 127.0.0.1/32 reject`

const tablePassword = "one for all"

// loginTables are the sites of the table, made as they are needed.
type loginTables struct {
	servers          *pgtest.Cluster
	stored           map[string]string // rolpassword by role
	certificate, key string
	sites            map[string]*site
	dir              string
}

// TestEveryCombinationOfLogins plays each cell of the table in docs/auth.md, with psql as the client.
func TestEveryCombinationOfLogins(t *testing.T) {
	table := readTable(t)
	tables := startTables(t)
	for _, c := range table { // all at once: each would be a reload
		if c.want != notLoaded {
			tables.site(t, c)
		}
	}
	host.reload(t)
	for _, s := range tables.sites {
		s.awaitReady(t, 0)
	}
	for _, c := range table {
		t.Run(fmt.Sprintf("%s, %s, %s, server %s", c.method, c.kept, c.from, c.server), func(t *testing.T) { tables.play(t, c) })
	}
}

func startTables(t *testing.T) *loginTables {
	t.Helper()
	servers, err := pgtest.Start(context.WithoutCancel(t.Context()), pgtest.Options{Auth: pgtest.AuthSCRAM})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := servers.Close(); err != nil {
			t.Error(err)
		}
	})
	tables := &loginTables{servers: servers, stored: make(map[string]string), sites: make(map[string]*site), dir: t.TempDir()}
	tables.certificate, tables.key = selfSigned(t)
	serverTLS(t, servers)
	p := servers.Primary()
	for letter, encryption := range map[string]string{"s_": "scram-sha-256", "m_": "md5"} {
		for _, name := range columnRoles {
			if err := p.Exec(t.Context(), "SET password_encryption = '"+encryption+"'; CREATE ROLE "+letter+name+" LOGIN PASSWORD '"+tablePassword+"'"); err != nil {
				t.Fatal(err)
			}
		}
	}
	rows, err := p.Query(t.Context(), "SELECT rolname, rolpassword FROM pg_authid WHERE rolname LIKE '_\\__%'")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		tables.stored[row[0]] = row[1]
	}
	hba(t, servers, tableHBA)
	t.Cleanup(func() {
		for name := range tables.sites {
			delete(host.sites, name)
		}
		host.reload(t)
	})
	return tables
}

// site returns the site of a combination; the caller reloads.
func (l *loginTables) site(t *testing.T, c combination) *site {
	t.Helper()
	method, _, _ := strings.Cut(c.method, ", ")
	words := []string{"login", method, c.from}
	if c.from != "query" {
		words = append(words, c.kept)
	}
	words = append(words, l.mode(c))
	name := regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(strings.Join(words, "_")), "_")
	if s := l.sites[name]; s != nil {
		return s
	}
	s := newSite(name, l.servers)
	s.config.Credentials = &cluster.CredentialsConfig{User: l.servers.Superuser(), Password: l.servers.Password()}
	s.config.Auth = l.auth(t, name, c)
	s.config.ServerTLS = &cluster.ServerTLSConfig{Mode: "require", ChannelBinding: "prefer"}
	switch l.mode(c) {
	case "bound":
		s.config.ServerTLS.ChannelBinding = "require"
	case "clear":
		s.config.ServerTLS = &cluster.ServerTLSConfig{Mode: "disable"}
	}
	s.config.Monitor = &cluster.MonitorConfig{Interval: caddy.Duration(1e10)} // there are many of them
	s.handler = map[string]any{"tls": map[string]any{"certificate": l.certificate, "key": l.key}}
	l.sites[name] = s
	host.sites[name] = s
	return s
}

// mode is what lies between Fairway and the server.
func (*loginTables) mode(c combination) string {
	switch c.server {
	case "scram-sha-256, TLS":
		return "bound"
	case "password":
		return "clear"
	}
	return "tls"
}

// role is the one a combination logs in as: the server keeps of its password what is kept, and of a plain password a
// verifier unless it asks for md5.
func (*loginTables) role(c combination) string {
	if c.kept == "md5 hash" || c.kept == "password" && c.server == "md5" {
		return "m_" + columnRoles[c.server]
	}
	return "s_" + columnRoles[c.server]
}

// auth is the configuration of a combination: all roles of what is kept, in the way they are kept.
func (l *loginTables) auth(t *testing.T, name string, c combination) *cluster.AuthConfig {
	t.Helper()
	method, _, _ := strings.Cut(c.method, ", ")
	auth := &cluster.AuthConfig{Mode: c.from, Method: method}
	users := make(map[string]string)
	for role, stored := range l.stored {
		switch c.kept {
		case "password":
			users[role] = tablePassword
		case "md5 hash":
			if strings.HasPrefix(role, "m_") {
				users[role] = stored
			}
		default:
			if strings.HasPrefix(role, "s_") {
				users[role] = stored
			}
		}
	}
	switch c.from {
	case "user":
		auth.Users = users
	case "file":
		auth.File = filepath.Join(l.dir, name)
		var text strings.Builder
		for role, written := range maps.All(users) {
			fmt.Fprintf(&text, "%q %q\n", role, written)
		}
		if err := os.WriteFile(auth.File, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	case "trust":
		auth.Method = ""
	}
	return auth
}

// play logs in as the cell says, and compares.
func (l *loginTables) play(t *testing.T, c combination) {
	if c.want == notLoaded {
		l.refusedConfig(t, c)
		return
	}
	s := l.site(t, c)
	ip, port, _ := net.SplitHostPort(s.addr)
	dsn := fmt.Sprintf("host=%s port=%s user=%s dbname=postgres sslmode=disable", ip, port, l.role(c))
	if strings.HasSuffix(c.method, ", TLS") {
		dsn = strings.Replace(dsn, "sslmode=disable", "sslmode=verify-full sslrootcert="+l.certificate, 1)
	}
	if c.method == "scram-sha-256, TLS" {
		dsn += " channel_binding=require"
	}
	cmd := program(t.Context(), t, "psql", "-X", "-w", "-At", "-v", "VERBOSITY=verbose", dsn, "-c", "select current_user")
	cmd.Env = append(cmd.Env, "PGPASSWORD="+tablePassword)
	out, err := cmd.CombinedOutput()
	said := strings.TrimSpace(string(out))
	switch {
	case c.want == "yes" && (err != nil || said != l.role(c)):
		t.Errorf("not let in: %s", said)
	case c.want == "yes":
	case !slices.Contains([]string{"28000", "28P01"}, c.want):
		t.Errorf("the table says %q, which no test knows", c.want)
	case err == nil:
		t.Errorf("let in, want %s", c.want)
	default:
		l.wantState(t, c, said)
	}
}

// wantState asks for the SQLSTATE, which psql does not show for a failed login.
func (l *loginTables) wantState(t *testing.T, c combination, said string) {
	t.Helper()
	s := l.site(t, c)
	config, err := pgtest.Config(s.addr, l.role(c), tablePassword, "postgres")
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(c.method, ", TLS") {
		config.TLSConfig = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // psql has looked at the certificate
	}
	conn, err := pgconn.ConnectConfig(t.Context(), config)
	if err == nil {
		_ = conn.Close(context.WithoutCancel(t.Context()))
	}
	if sqlstate(err) != c.want {
		t.Errorf("%v, want %s; psql says %s", err, c.want, said)
	}
	if !strings.Contains(said, "FATAL:") {
		t.Errorf("psql says %s", said)
	}
}

// refusedConfig is a combination that is refused when the configuration is loaded.
func (l *loginTables) refusedConfig(t *testing.T, c combination) {
	t.Helper()
	s := newSite("not_loaded", l.servers)
	s.config.Credentials = &cluster.CredentialsConfig{User: "x"}
	s.config.Auth = l.auth(t, s.name, c)
	host.refuses(t, s, "an md5 hash, and clients are asked for SCRAM")
}

// refuses loads a configuration with one site more, which must be refused with these words.
func (h *caddyHost) refuses(t *testing.T, s *site, words string) {
	t.Helper()
	h.sites[s.name] = s
	document := h.document()
	delete(h.sites, s.name)
	status, answer, err := h.ask(http.MethodPost, "/load", document)
	if err != nil || status != http.StatusBadRequest || !strings.Contains(string(answer), words) {
		t.Errorf("status %d (%v), answer %.400s; want one with %q", status, err, answer, words)
	}
}

// TestWhatCannotWorkIsNotLoaded has the listener contradict the cluster.
func TestWhatCannotWorkIsNotLoaded(t *testing.T) {
	certificate, key := selfSigned(t)
	encryption := map[string]any{"certificate": certificate, "key": key}
	for _, c := range []struct {
		auth    cluster.AuthConfig
		handler map[string]any
		want    string // empty: it is loaded
	}{
		{cluster.AuthConfig{Method: "password"}, nil, "the listener has no TLS"},
		{cluster.AuthConfig{Method: "password", InsecureClientCleartext: true}, nil, ""},
		{cluster.AuthConfig{Method: "password"}, map[string]any{"tls": encryption}, ""},
		{cluster.AuthConfig{ChannelBinding: "require"}, nil, "takes clients without TLS"},
		{cluster.AuthConfig{ChannelBinding: "require"}, map[string]any{"tls": encryption}, "takes clients without TLS"},
		{cluster.AuthConfig{ChannelBinding: "require", Method: "md5"}, nil, "cannot be bound to TLS"},
		{cluster.AuthConfig{Mode: "file", File: certificate + ".none"}, nil, "no such file"},
		{cluster.AuthConfig{Mode: "file", File: certificate}, nil, "line 1"},
	} {
		s := newSite("contradiction", shared.servers)
		s.config.Auth, s.handler = &c.auth, c.handler
		if c.want != "" {
			host.refuses(t, s, c.want)
			continue
		}
		host.sites[s.name] = s
		host.reload(t)
		delete(host.sites, s.name)
		host.reload(t)
	}
}
