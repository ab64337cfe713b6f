package integration_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile" // POST /load
	_ "github.com/caddyserver/caddy/v2/modules/filestorage"
	_ "github.com/caddyserver/caddy/v2/modules/logging"
	_ "github.com/caddyserver/caddy/v2/modules/metrics"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgtest"
	_ "github.com/fairwaydb/fairway/modules/postgres" // what is tested
)

// host is the Caddy of this process.
var host *caddyHost

// caddyHost is what Caddy is told and where it can be asked.
type caddyHost struct {
	dir   string
	admin string // host:port of the admin API
	sites map[string]*site
	level string        // of the log; "" is INFO
	grace time.Duration // an option of the app that means nothing while Caddy runs: reloads vary it
}

// site is one cluster of servers, its configuration, and the address where clients reach it.
type site struct {
	name    string
	addr    string
	servers *pgtest.Cluster
	config  *cluster.Config
	handler map[string]any // options of the handler, beside the cluster
}

// startCaddy chooses the address of the admin API. Caddy itself starts with the first configuration.
func startCaddy(dir string) (*caddyHost, error) {
	admin, err := freeAddress()
	return &caddyHost{dir: dir, admin: admin, sites: make(map[string]*site), grace: 2 * time.Second}, err
}

// ports are the ports that were given out. Caddy listens on them by and by, so that the kernel's own choice would not do: it may
// give the same port to another server of the tests meanwhile, or to a connection.
var ports = struct {
	sync.Mutex
	last int
}{last: firstPort + os.Getpid()%(lastPort-firstPort)}

// The kernel chooses none of these by itself on Linux, where it begins with 32768, nor elsewhere.
const (
	firstPort = 20000
	lastPort  = 32767
)

// freeAddress returns an address on the loopback interface that nobody listens on, another one each time.
func freeAddress() (string, error) {
	ports.Lock()
	defer ports.Unlock()
	var failed error
	for range lastPort - firstPort {
		if ports.last++; ports.last > lastPort {
			ports.last = firstPort
		}
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(ports.last))
		l, err := net.Listen("tcp", addr)
		if err == nil {
			return addr, l.Close()
		}
		failed = err
	}
	return "", fmt.Errorf("no port is free: %w", failed)
}

// newSite makes a site of all servers of a cluster, with the defaults of every option but those that keep tests short.
func newSite(name string, servers *pgtest.Cluster) *site {
	addr, err := freeAddress()
	if err != nil {
		panic(err)
	}
	config := &cluster.Config{
		Backends:    make(map[string]*cluster.BackendConfig),
		Credentials: &cluster.CredentialsConfig{User: monitorRole},
		Auth:        &cluster.AuthConfig{Mode: "trust"},
		// The shorter the runs, the shorter the memory: what one run left behind must not decide where the next one reads. At
		// 30 seconds it is the default.
		Health: &cluster.HealthConfig{
			HalfLife:  caddy.Duration(min(5*time.Second, benchTime/6)),
			SlowStart: caddy.Duration(2 * time.Second),
		},
		InsecureLiteralPasswords: true,
	}
	for _, n := range servers.Nodes() {
		config.Backends[n.Name()] = &cluster.BackendConfig{Address: n.Addr()}
	}
	return &site{name: name, addr: addr, servers: servers, config: config}
}

// document is the whole configuration as JSON.
func (h *caddyHost) document() []byte {
	clusters, listeners := map[string]any{}, map[string]any{}
	for name, s := range h.sites {
		clusters[name] = s.config
		handler := map[string]any{"handler": "postgres", "cluster": name}
		maps.Copy(handler, s.handler)
		listeners[name] = map[string]any{
			"listen": []string{"pg/" + s.addr},
			"routes": []any{map[string]any{"handle": []any{handler}}},
		}
	}
	document, err := json.Marshal(map[string]any{
		"admin":   map[string]any{"listen": h.admin, "config": map[string]any{"persist": false}},
		"storage": map[string]any{"module": "file_system", "root": filepath.Join(h.dir, "caddy")},
		"logging": map[string]any{"logs": map[string]any{"default": map[string]any{
			"writer":  map[string]any{"output": "file", "filename": h.logFile(), "roll": false},
			"exclude": []string{"admin.api"}, // each request of the tests
			"level":   h.level,
		}}},
		"apps": map[string]any{
			"postgres": map[string]any{"clusters": clusters, "grace_period": caddy.Duration(h.grace)},
			"layer4":   map[string]any{"servers": listeners},
			// Roots stay in the storage above: the machine's are none of our business.
			"pki": map[string]any{"certificate_authorities": map[string]any{"local": map[string]any{"install_trust": false}}},
		},
	})
	if err != nil {
		panic(err)
	}
	return document
}

// verdict looks for what no test would see: sessions that panicked.
func (h *caddyHost) verdict() error {
	metrics, err := h.metrics()
	if err != nil {
		return err
	}
	if n := metrics.sum("caddy_postgres_panics_total"); n != 0 {
		return fmt.Errorf("%v sessions panicked", n)
	}
	return nil
}

// stop takes the configuration out. One without an admin API comes in between, for Stop leaves that open.
func (h *caddyHost) stop() error {
	return errors.Join(caddy.Load([]byte(`{"admin":{"disabled":true,"config":{"persist":false}}}`), true), caddy.Stop())
}

func (h *caddyHost) logFile() string { return filepath.Join(h.dir, "caddy.log") }

// logTail returns the last lines of Caddy's log.
func (h *caddyHost) logTail(lines int) string {
	text, err := os.ReadFile(h.logFile())
	if err != nil {
		return err.Error()
	}
	all := strings.SplitAfter(string(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "")
}

// stacks returns what the goroutines of sessions and pools do, for tests that found something to hang.
func stacks() string {
	buffer := make([]byte, 4<<20)
	var ours strings.Builder
	for stack := range strings.SplitSeq(string(buffer[:runtime.Stack(buffer, true)]), "\n\n") {
		if strings.Contains(stack, "modules/session.") || strings.Contains(stack, "modules/pool.") {
			ours.WriteString(stack + "\n\n")
		}
	}
	return ours.String()
}

// startSite starts servers of its own for a test and serves them until its end. change adapts the configuration.
func startSite(t *testing.T, o pgtest.Options, change func(*site)) *site {
	t.Helper()
	servers, err := pgtest.Start(context.WithoutCancel(t.Context()), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := servers.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := prepare(servers); err != nil {
		t.Fatal(err)
	}
	return serve(t, strings.ToLower(t.Name()), servers, change)
}

// serve adds a site before servers that run already, and removes it at the end of the test.
func serve(t *testing.T, name string, servers *pgtest.Cluster, change func(*site)) *site {
	t.Helper()
	s := newSite(name, servers)
	if change != nil {
		change(s)
	}
	host.sites[name] = s
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of Caddy's log:\n%s", host.logTail(25))
		}
		delete(host.sites, name)
		host.reload(t)
	})
	host.reload(t)
	s.awaitReady(t, len(servers.Replicas()))
	return s
}

// awaitReady waits until there is a primary and so many replicas are healthy and serve reads at full weight.
func (s *site) awaitReady(t testing.TB, replicas int) {
	t.Helper()
	await(t, 30*time.Second, fmt.Sprintf("cluster %s is ready with %d replicas", s.name, replicas), func() (string, bool) {
		v, fit := s.look(t), 0
		for _, b := range v.Backends {
			if b.Fit && b.State == "healthy" && b.Weight >= 1 {
				fit++
			}
		}
		return v.String(), v.Primary != nil && fit == replicas
	})
	if replicas > 0 {
		s.awaitCatalog(t)
	}
}

// awaitCatalog waits until the schema of the database that most tests use is known: until then reads go to the primary.
func (s *site) awaitCatalog(t testing.TB) {
	t.Helper()
	await(t, 30*time.Second, "the schema is known", func() (string, bool) {
		return host.knowsSchema(s.name)
	})
}

// await polls until something holds; what it last said is in the failure.
func await(t testing.TB, limit time.Duration, what string, holds func() (said string, ok bool)) {
	t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		said, ok := holds()
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within %v: %s; last: %s", limit, what, said)
		}
	}
}

// connString is what libpq and the drivers call a connection string.
func (s *site) connString(user, database string) string {
	ip, port, _ := net.SplitHostPort(s.addr)
	return fmt.Sprintf("host=%s port=%s user='%s' dbname=%s sslmode=disable", ip, port, user, database)
}

// connect opens a connection as the ordinary program; it is closed when the test ends. extra is more of a connection
// string.
func (s *site) connect(t testing.TB, extra string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), s.connString(appRole, appRole)+" "+extra)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

// table creates a table by way of the proxy, anew if it exists, and waits until all replicas have it.
func (s *site) table(t testing.TB, name, columns string) {
	t.Helper()
	c := s.connect(t, "")
	do(t, c, "drop table if exists "+name)
	do(t, c, "create table "+name+" ("+columns+")")
	if err := s.servers.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = c.Close(t.Context())
}

// replicas returns the names of the replicas, sorted.
func (s *site) replicas() []string {
	names := make(map[string]bool)
	for _, n := range s.servers.Replicas() {
		names[n.Name()] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// do runs a statement that must succeed.
func do(t testing.TB, c *pgx.Conn, sql string, args ...any) pgconn.CommandTag {
	t.Helper()
	tag, err := c.Exec(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return tag
}

// value returns the only column of the only row of a statement that must succeed.
func value[T any](t testing.TB, c *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := c.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// sqlstate is the code of a PostgreSQL error, "" for every other.
func sqlstate(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// wantCode fails the test unless the error has one of these codes.
func wantCode(t testing.TB, what string, err error, codes ...string) {
	t.Helper()
	if !slices.Contains(codes, sqlstate(err)) {
		t.Fatalf("%s: got %v, want SQLSTATE %s", what, err, strings.Join(codes, " or "))
	}
}
