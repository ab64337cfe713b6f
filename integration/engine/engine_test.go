//go:build engine

// Package engine_test runs Fairway before PostgreSQL servers in containers of a real
// Docker engine, which it starts itself (make test-engine). It needs root.
package engine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/logging"
	_ "github.com/caddyserver/caddy/v2/modules/metrics"

	_ "github.com/fairwaydb/fairway/modules/docker"
	"github.com/fairwaydb/fairway/modules/dockertest"
	_ "github.com/fairwaydb/fairway/modules/postgres"
)

const (
	image   = "fairway-postgres:test"
	network = "fairway-test"
)

// bench is the engine with its servers, and Fairway before them.
type bench struct {
	t      *testing.T
	engine *dockertest.Engine
	init   string // scripts for the primary's first start
	client string // where clients connect to
	admin  string
}

// free returns an address that nobody listens on.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// up starts the engine, the image and the network.
func up(t *testing.T) *bench {
	t.Helper()
	dir, err := os.MkdirTemp("", "fe-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	engine, err := dockertest.Start(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := engine.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	b := &bench{t: t, engine: engine, init: filepath.Join(dir, "init"), client: free(t), admin: free(t)}
	if err := engine.PostgresImage(t.Context(), "../../tools/postgres-image/build.sh", image); err != nil {
		t.Fatal(err)
	}
	b.docker("network", "create", network)
	if err := os.Mkdir(b.init, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.init, "replication.sh"), []byte("echo 'host replication all all trust' >>\"$PGDATA/pg_hba.conf\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return b
}

// docker runs the docker command.
func (b *bench) docker(args ...string) string {
	b.t.Helper()
	out, err := b.engine.Docker(b.t.Context(), args...)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// primary runs the primary.
func (b *bench) primary(name string, extra ...string) {
	b.t.Helper()
	args := append([]string{
		"run", "--detach", "--name", name, "--network", network, "--volume", b.init + ":/docker-entrypoint-initdb.d:ro",
		"--env", "POSTGRES_HOST_AUTH_METHOD=trust", "--label", "fairway.cluster=main", "--publish", "127.0.0.1::5432",
	}, extra...)
	b.docker(append(args, image, "postgres", "-c", "fsync=off", "-c", "max_wal_senders=10")...)
}

// replica runs a replica that clones itself from the primary.
func (b *bench) replica(name, primary string) {
	b.t.Helper()
	address := b.docker("inspect", "--format", "{{(index .NetworkSettings.Networks \""+network+"\").IPAddress}}", primary)
	b.docker("run", "--detach", "--name", name, "--network", network, "--label", "fairway.cluster=main", "--publish", "127.0.0.1::5432",
		"--entrypoint", "sh", image, "-c", `test -s "$PGDATA/PG_VERSION" ||
			until pg_basebackup --host `+address+` --username postgres --pgdata "$PGDATA" --write-recovery-conf --wal-method stream --checkpoint fast; do sleep 0.2; done
			chmod 700 "$PGDATA"; exec postgres -c "listen_addresses=*" -c fsync=off`)
}

// load puts a configuration in force; reload tells one from the next.
func (b *bench) load(source string, reload int) {
	b.t.Helper()
	text := fmt.Sprintf(`{
	admin %s
	persist_config off
	log {
		output discard
	}
	docker_discovery {
		host %s
	}
	postgres {
		grace_period %ds
		cluster main {
			%s
			credentials postgres
			auth trust
			health {
				slow_start %ds
			}
		}
	}
	layer4 {
		pg/%s {
			route {
				postgres main
			}
		}
	}
}
`, b.admin, b.engine.Host, 1+reload%2, source, 1+reload%2, b.client)
	body, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := caddy.Load(body, true); err != nil {
		b.t.Fatal(err)
	}
}

// backend is what the admin API tells of one.
type backend struct {
	Name, Address, Role, State, Reason string
	Fit                                bool
}

// backends asks the admin API.
func (b *bench) backends() map[string]backend {
	all := make(map[string]backend)
	response, err := http.Get("http://" + b.admin + "/postgres/clusters/main")
	if err != nil {
		return all
	}
	defer response.Body.Close()
	var view struct{ Backends []backend }
	body, err := io.ReadAll(response.Body)
	if err != nil || json.Unmarshal(body, &view) != nil {
		return all
	}
	for _, one := range view.Backends {
		all[one.Name] = one
	}
	return all
}

// until polls for a condition and returns how long it took.
func (b *bench) until(what string, limit time.Duration, holds func() bool) time.Duration {
	b.t.Helper()
	began := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		<-tick.C
		if time.Since(began) > limit {
			b.t.Fatalf("not within %v: %s: %+v", limit, what, b.backends())
		}
	}
	return time.Since(began)
}

// streams tells whether a replica streams, by the primary's own word.
func (b *bench) streams(primary string, replicas int) bool {
	out, err := b.engine.Docker(b.t.Context(), "exec", primary, "psql", "-U", "postgres", "-Atc",
		"SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND application_name = 'walreceiver'")
	return err == nil && strings.TrimSpace(out) == fmt.Sprint(replicas)
}

// traffic are clients that read and write until they are stopped.
type traffic struct {
	stop            context.CancelFunc
	wg              sync.WaitGroup
	reads, failures atomic.Int64
	first           atomic.Pointer[error]
}

func (b *bench) traffic(clients int) *traffic {
	ctx, stop := context.WithCancel(b.t.Context())
	tr := &traffic{stop: stop}
	for i := range clients {
		tr.wg.Go(func() {
			for ctx.Err() == nil {
				if err := b.session(ctx, tr, i); err != nil && ctx.Err() == nil {
					tr.failures.Add(1)
					tr.first.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	return tr
}

// session is one client until something fails.
func (b *bench) session(ctx context.Context, tr *traffic, i int) error {
	c, err := pgx.Connect(ctx, "postgres://postgres@"+b.client+"/postgres?sslmode=disable")
	if err != nil {
		return err
	}
	defer c.Close(context.WithoutCancel(ctx))
	for n := 0; ctx.Err() == nil; n++ {
		if n%10 == 0 {
			if _, err := c.Exec(ctx, "UPDATE counters SET n = n + 1 WHERE id = $1", i); err != nil {
				return err
			}
		}
		var id int
		if err := c.QueryRow(ctx, "SELECT id FROM counters WHERE id = $1", i).Scan(&id); err != nil {
			return err
		}
		tr.reads.Add(1)
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Millisecond):
		}
	}
	return nil
}

// end stops the clients; none may have seen an error.
func (tr *traffic) end(t *testing.T) {
	t.Helper()
	tr.stop()
	tr.wg.Wait()
	if n := tr.failures.Load(); n > 0 {
		t.Errorf("%d errors under %d reads, the first: %v", n, tr.reads.Load(), *tr.first.Load())
	}
	if tr.reads.Load() == 0 {
		t.Error("no client has read anything")
	}
}

func TestContainersComeAndGoUnderLoad(t *testing.T) {
	b := up(t)
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	b.primary("pg0")
	b.load("source docker", 0)
	b.until("the primary serves", time.Minute, func() bool { return b.backends()["pg0"].Role == "primary" })
	c, err := pgx.Connect(t.Context(), "postgres://postgres@"+b.client+"/postgres?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exec(t.Context(), "CREATE TABLE counters AS SELECT id, 0 AS n FROM generate_series(0, 99) id"); err != nil {
		t.Fatal(err)
	}
	c.Close(t.Context())
	load := b.traffic(8)

	for i := 1; i <= 2; i++ {
		name := fmt.Sprintf("pg%d", i)
		b.replica(name, "pg0")
		b.until(name+" streams", time.Minute, func() bool {
			if one := b.backends()[name]; one.Fit && !b.streams("pg0", i) {
				t.Fatalf("%s serves before it streams: %+v", name, one)
			}
			return b.streams("pg0", i)
		})
		took := b.until(name+" serves", 3*time.Second, func() bool { return b.backends()[name].Fit })
		t.Logf("%s serves %v after it streams", name, took)
		b.load("source docker", i) // a reload changes nothing
		if one := b.backends()[name]; !one.Fit {
			t.Errorf("%s after a reload: %+v", name, one)
		}
	}

	b.docker("restart", "--time", "20", "pg1")
	b.until("pg1 is back", 10*time.Second, func() bool { return b.backends()["pg1"].Fit })
	b.docker("stop", "--time", "20", "pg2")
	b.until("pg2 is gone", 5*time.Second, func() bool { _, there := b.backends()["pg2"]; return !there })
	b.docker("start", "pg2")
	b.until("pg2 is back", 10*time.Second, func() bool { return b.backends()["pg2"].Fit })
	b.docker("kill", "--signal", "HUP", "pg2") // reads its configuration again: no reason to leave
	if _, there := b.backends()["pg2"]; !there {
		t.Error("pg2 has left for a SIGHUP")
	}
	load.end(t)

	// The same from the machine's side: by the ports that are published.
	b.load("source docker {\n\t\t\t\tpublished\n\t\t\t}", 3)
	b.until("all are reached by published ports", 10*time.Second, func() bool {
		all := b.backends()
		n := 0
		for _, one := range all {
			if strings.HasPrefix(one.Address, "127.0.0.1:") && (one.Fit || one.Role == "primary") {
				n++
			}
		}
		return n == 3
	})

	// A container that is removed without a word leaves too.
	b.docker("rm", "--force", "pg2")
	b.until("pg2 is removed", 5*time.Second, func() bool { _, there := b.backends()["pg2"]; return !there })
}
