// Package demo is the command `caddy postgres-demo`: a PostgreSQL cluster of its own, Fairway before it, a light load
// and a table that shows what happens when a server is killed.
//
// It owns everything it starts: a directory, the servers in it, the configuration loaded into this process, and the
// clients of the load. All of it is gone when Run returns. It listens on the loopback interface only, because everybody
// is let in there without a password. It puts nothing between a client and the servers that a real installation would
// not have; the configuration it loads is printed to a file one can read.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/fairwaydb/fairway/modules/pgtest"
	"github.com/fairwaydb/fairway/modules/postgres"
	"github.com/fairwaydb/fairway/modules/status"
	"github.com/fairwaydb/fairway/modules/terminal"
)

// What the demo creates in its servers and its configuration.
const (
	demoRole     = "demo"
	demoDatabase = "demo"
	monitorRole  = "fairway"
	clusterName  = "demo"
)

// Options are the command's flags.
type Options struct {
	// Replicas is the number of streaming replicas. Default 0: the command says 2.
	Replicas int
	// Port is the TCP port on 127.0.0.1 for clients. 0 takes a free one.
	Port int
	// Admin is the address of the admin API. Default: a free port on 127.0.0.1.
	Admin string
	// Load is the number of clients of the background load; each runs at most 40 statements a second. 0 is none.
	Load int
	// For ends the demo by itself after this time. 0 goes on until the context ends.
	For time.Duration
	// Once shows the table once, after a few seconds of load, and ends.
	Once bool
	// Out receives everything the demo says. When it is a terminal the table stays in place.
	Out io.Writer
}

// demo is one run.
type demo struct {
	options Options
	screen  *terminal.Screen
	dir     string
	addr    string // of the proxy
	admin   string // of the admin API
	cluster *pgtest.Cluster
	load    *load
	keeper  *keeper
	watcher *status.Watcher
}

// Run runs the demo until the context ends, or as Options.For and Options.Once say, and takes everything down again.
// The end of the context is no error.
func Run(ctx context.Context, o Options) (err error) {
	d := &demo{options: o, screen: terminal.NewScreen(o.Out)}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Ends nested: what was started last is stopped first.
	if d.dir, err = makeDir(); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(d.dir)) }()
	if err := d.choosePorts(); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if err := d.startCluster(ctx); err != nil {
		return ended(ctx, fmt.Errorf("demo: %w", err))
	}
	defer func() { err = errors.Join(err, d.cluster.Close()) }()
	if err := d.startCaddy(); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer func() { err = errors.Join(err, stopCaddy()) }()
	if err := d.awaitHealth(ctx); err != nil {
		return ended(ctx, fmt.Errorf("demo: %w", err))
	}
	d.introduce()
	d.load = newLoad(d.addr, o.Load)
	d.load.start(ctx)
	defer d.load.wait()
	d.keeper = newKeeper(d.cluster)
	d.keeper.start(ctx)
	defer d.keeper.wait()
	d.watcher = status.NewWatcher(clusterName, d.fetchMetrics)
	d.watch(ctx)
	why := "time is up"
	if ctx.Err() != nil {
		why = context.Cause(ctx).Error()
	}
	d.screen.Keep()
	d.screen.Say("Stopping (" + why + "): clients are let finish, then Caddy, PostgreSQL and the directory go.")
	cancel()
	return nil
}

// ended turns an error that only says that the user has had enough into none.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// makeDir creates the demo's directory. The servers may run as somebody else, who must be able to pass through.
func makeDir() (string, error) {
	dir, err := os.MkdirTemp("", "fairway-demo-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o711)
}

// choosePorts takes free ports where none are given and refuses those that somebody listens on. Caddy itself would not
// notice: it shares ports with other processes (SO_REUSEPORT).
func (d *demo) choosePorts() error {
	var err error
	if d.addr, err = freeAddress(net.JoinHostPort("127.0.0.1", strconv.Itoa(d.options.Port))); err != nil {
		return fmt.Errorf("port for clients: %w (choose another with --port)", err)
	}
	admin := d.options.Admin
	if admin == "" {
		admin = "127.0.0.1:0"
	}
	if d.admin, err = freeAddress(admin); err != nil {
		return fmt.Errorf("admin API: %w (choose another with --admin)", err)
	}
	return nil
}

// freeAddress returns an address nobody listens on: addr itself, with a port chosen by the system when it is 0.
func freeAddress(addr string) (string, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// startCluster starts PostgreSQL and creates the demo's role, database and table.
func (d *demo) startCluster(ctx context.Context) error {
	d.screen.Say(fmt.Sprintf("Starting PostgreSQL: one primary and %s …", plural(d.options.Replicas, "replica")))
	// The cluster ends when Run closes it, after the clients and Caddy, and not already with the context.
	c, err := pgtest.Start(context.WithoutCancel(ctx), pgtest.Options{Replicas: d.options.Replicas, Dir: filepath.Join(d.dir, "pg")})
	if err != nil {
		return err
	}
	d.cluster = c
	err = prepare(ctx, c.Primary())
	if err == nil {
		err = c.WaitCaughtUp(ctx)
	}
	if err != nil {
		return errors.Join(err, c.Close())
	}
	return nil
}

// prepare creates what the demo shows.
func prepare(ctx context.Context, n *pgtest.Node) error {
	for _, sql := range []string{
		"CREATE ROLE " + monitorRole + " LOGIN IN ROLE pg_monitor",
		"CREATE ROLE " + demoRole + " LOGIN",
		"CREATE DATABASE " + demoDatabase + " OWNER " + demoRole,
	} {
		if err := n.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return n.ExecIn(ctx, demoDatabase, `SET ROLE `+demoRole+`;
		CREATE TABLE items (id int PRIMARY KEY, name text NOT NULL, stock int NOT NULL) WITH (fillfactor = 50);
		INSERT INTO items SELECT i, 'item ' || i, 0 FROM generate_series(1, `+strconv.Itoa(items)+`) AS i`)
}

// startCaddy loads the demo's configuration into this process.
func (d *demo) startCaddy() error {
	text := d.caddyfile()
	if err := os.WriteFile(filepath.Join(d.dir, "Caddyfile"), []byte(text), 0o600); err != nil {
		return err
	}
	adapter := caddyconfig.GetAdapter("caddyfile")
	if adapter == nil {
		return errors.New("this binary has no Caddyfile adapter")
	}
	config, _, err := adapter.Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return fmt.Errorf("adapt the demo's Caddyfile: %w", err)
	}
	if err := caddy.Load(config, true); err != nil {
		return fmt.Errorf("load the demo's configuration: %w", err)
	}
	return nil
}

// nothing is a configuration without an admin API, which Stop would leave open, and without a log, which would go to the
// terminal again.
const nothing = `{
	"admin": {"disabled": true, "config": {"persist": false}},
	"logging": {"logs": {"default": {"writer": {"output": "discard"}}}}
}`

// gracePeriod is how long clients may finish their transactions when the demo ends, as long as Caddy's exit gives them.
const gracePeriod = 8 * time.Second

// stopCaddy lets the clients finish and takes the configuration out.
func stopCaddy() error {
	// What ended the demo is not to end the clients' transactions.
	ctx, stop := context.WithTimeout(context.Background(), gracePeriod)
	defer stop()
	postgres.Drain(ctx)
	return errors.Join(caddy.Load([]byte(nothing), true), caddy.Stop())
}

// awaitHealth waits until every cluster of the configuration has a primary, as the admin API tells.
func (d *demo) awaitHealth(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 30*time.Second, errors.New("it was not within 30 s"))
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var code int
		reply, err := d.get(ctx, "/postgres/health")
		if err == nil {
			code, err = reply.StatusCode, reply.Body.Close()
		}
		if code == http.StatusOK {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until GET /postgres/health is 200 (last: %d): %w; see %s", code,
				errors.Join(context.Cause(ctx), err), filepath.Join(d.dir, "caddy.log"))
		case <-tick.C:
		}
	}
}

// introduce says what runs and what one can do with it.
func (d *demo) introduce() {
	_, port, _ := net.SplitHostPort(d.addr)
	d.screen.Say("",
		"Fairway stands before it. Connect (on this machine everybody is let in without a password):",
		"",
		`    psql "host=127.0.0.1 port=`+port+` user=`+demoRole+` dbname=`+demoDatabase+`"`,
		"",
		"Ask where a read runs:  SELECT count(*), inet_server_port() FROM items;",
		"Kill a server with the command at the end of its line and watch. A dead server comes back after "+restartAfter.String()+";",
		"when it is the primary, a replica is promoted in its place after "+promoteAfter.String()+", as a failover manager would do.",
		"Reads do not fail and writes wait; only a write under way when the primary dies gets 08006: nobody knows if it happened.",
		"",
		"More:  curl http://"+d.admin+"/postgres/clusters   curl http://"+d.admin+"/metrics",
		"Configuration and log:  "+filepath.Join(d.dir, "Caddyfile")+"  "+filepath.Join(d.dir, "caddy.log"),
		"Ctrl-C stops everything and removes it.", "")
}

// plural is a number and a noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "one " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// client asks the admin API; without connections kept for later there is nothing to close at the end.
var client = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// get asks the admin API for a page, whose body the caller closes.
func (d *demo) get(ctx context.Context, path string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.admin+path, nil)
	if err != nil {
		return nil, err
	}
	return client.Do(request)
}

// fetchMetrics returns the metrics.
func (d *demo) fetchMetrics(ctx context.Context) (io.ReadCloser, error) {
	reply, err := d.get(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	if reply.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("GET /metrics: status %d", reply.StatusCode), reply.Body.Close())
	}
	return reply.Body, nil
}
