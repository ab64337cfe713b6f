package session

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/fairwaydb/fairway/modules/catalog"
	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgtest"
	_ "github.com/fairwaydb/fairway/modules/routing" // registers the policies
)

// pg is one primary (pg1) with two replicas, shared by the tests of the package; tests that break servers start their own.
var pg *pgtest.Cluster

func TestMain(m *testing.M) {
	var err error
	pg, err = pgtest.Start(context.Background(), pgtest.Options{Replicas: 2})
	if err != nil {
		fmt.Fprintln(os.Stderr, "start PostgreSQL:", err)
		os.Exit(1) //nolint:forbidigo // the main of a test binary
	}
	code := m.Run()
	if err := pg.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "stop PostgreSQL:", err)
		code = 1
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code) //nolint:forbidigo // the main of a test binary
}

// proxy is a cluster behind a listener of its own.
type proxy struct {
	cluster *cluster.Cluster
	addr    string
}

var proxies struct {
	sync.Mutex
	n int
}

// startProxy serves the PostgreSQL cluster until the test ends. change adapts the configuration.
func startProxy(t testing.TB, servers *pgtest.Cluster, change func(*cluster.Config, *Options)) *proxy {
	t.Helper()
	proxies.Lock()
	proxies.n++
	name := fmt.Sprintf("test%d", proxies.n)
	proxies.Unlock()

	config := &cluster.Config{
		Backends:                 map[string]*cluster.BackendConfig{},
		Credentials:              &cluster.CredentialsConfig{User: servers.Superuser(), Password: servers.Password(), Database: "postgres"},
		Auth:                     &cluster.AuthConfig{Mode: "trust"},
		InsecureLiteralPasswords: true,
	}
	for _, n := range servers.Nodes() {
		config.Backends[n.Name()] = &cluster.BackendConfig{Address: n.Addr()}
	}
	options := &Options{Logger: zap.NewNop()}
	if change != nil {
		change(config, options)
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	t.Cleanup(cancel)
	settings, err := config.Settings(ctx, name, nil)
	if err != nil {
		t.Fatal(err)
	}
	registry := cluster.NewRegistry(zap.NewNop)
	c := registry.Reference(name)
	claim := c.Claim(settings)
	options.Cluster = c
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { Serve(conn, nil, options) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		serving.Wait()
		claim.Release()
		c.Unreference()
	})
	p := &proxy{cluster: c, addr: listener.Addr().String()}
	p.waitFit(t, len(servers.Replicas()))
	p.waitCatalog(t)
	return p
}

// waitCatalog waits until the schema of the database postgres is known as it is now: until then reads go to the primary.
func (p *proxy) waitCatalog(t testing.TB) {
	t.Helper()
	keeper := catalog.Open(p.cluster, "postgres")
	defer keeper.Close()
	mark := keeper.Changed()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); keeper.Facts() == nil || keeper.Facts().Since < mark; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("the catalog was not read")
		}
	}
}

// waitFit waits until there is a primary and so many replicas serve reads.
func (p *proxy) waitFit(t testing.TB, replicas int) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	for {
		changed := p.cluster.Changed()
		fit := 0
		for _, m := range p.cluster.Topology().Members {
			if m.Fit {
				fit++
			}
		}
		if p.cluster.Topology().Primary != nil && fit == replicas {
			return
		}
		select {
		case <-changed:
		case <-deadline.C:
			var b strings.Builder
			for _, m := range p.cluster.Topology().Members {
				fmt.Fprintf(&b, "%s %s %s %s; ", m.Backend.Name(), m.Role, m.State, m.Reason)
			}
			t.Fatalf("cluster did not become ready with %d replicas: %s", replicas, b.String())
		}
	}
}

// connect opens a client connection; it is closed when the test ends.
func (p *proxy) connect(t testing.TB, extra string) *pgx.Conn {
	t.Helper()
	host, port, _ := net.SplitHostPort(p.addr)
	conn, err := pgx.Connect(t.Context(), fmt.Sprintf("host=%s port=%s user=postgres dbname=postgres sslmode=disable %s", host, port, extra))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}
