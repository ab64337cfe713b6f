//go:build linux

// Package rig starts what the benchmark compares: PostgreSQL, Fairway, PgBouncer, Pgpool-II and HAProxy, each on free
// loopback ports, with its files in one temporary directory, and stops them again. It measures nothing.
//
// Everything it starts is a direct child, is stopped by its process id and dies with this process.
package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fairwaydb/fairway/modules/pgtest"
)

// What every database of the rig has.
const (
	Database = "bench"
	User     = "bench" // let in without a password
	Secure   = "bench_scram"
	Password = "not a secret: for the benchmark alone" // of Secure, checked by SCRAM-SHA-256
)

// PoolSize is how many server connections each pooler may open for one user and database on one server.
const PoolSize = 20

// Options says what Start builds.
type Options struct {
	Replicas int       // streaming replicas beside the primary
	Scale    int       // pgbench's scale: 100,000 rows each
	Caddy    string    // the binary with Fairway in it
	Listen   string    // listen_addresses of the servers; default 127.0.0.1
	Log      io.Writer // a line for each step; default: nothing
}

// Rig is a PostgreSQL cluster and the proxies before it. Its methods may not be called concurrently.
type Rig struct {
	options  Options
	dir      string
	bin      string // PostgreSQL's binaries
	account  *syscall.Credential
	cluster  *pgtest.Cluster
	verifier string // of Secure
	peers    []*Peer

	ports struct {
		sync.Mutex
		taken map[int]bool
	}
}

// Peer is something pgbench can connect to: a proxy, or a server itself.
type Peer struct {
	Name  string
	Addr  string // host:port
	Admin string // host:port of Caddy's admin endpoint, "" for others
	proc  *process
	rig   *Rig
}

// PID is the process that was started, 0 for a server of PostgreSQL: what it costs is not the proxy's.
func (p *Peer) PID() int {
	if p.proc == nil {
		return 0
	}
	return p.proc.pid
}

// Log returns the last lines of what the peer has written.
func (p *Peer) Log(lines int) string {
	if p.proc == nil {
		return ""
	}
	return tail(p.proc.log, lines)
}

// Stop ends the peer and waits for its end. It may be called twice.
func (p *Peer) Stop() error {
	if p.proc == nil {
		return nil
	}
	p.rig.peers = slices.DeleteFunc(p.rig.peers, func(other *Peer) bool { return other == p })
	err := p.proc.stop()
	return err
}

// Start builds the PostgreSQL cluster with pgbench's tables and the two roles. The proxies are started one by one.
// On an error nothing is left behind.
func Start(ctx context.Context, o Options) (*Rig, error) {
	if o.Log == nil {
		o.Log = io.Discard
	}
	if o.Listen == "" {
		o.Listen = "127.0.0.1"
	}
	r := &Rig{options: o}
	r.ports.taken = make(map[int]bool)
	if err := r.build(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("build the rig: %w", err), r.Close())
	}
	return r, nil
}

// build does what Start promises.
func (r *Rig) build(ctx context.Context) error {
	var err error
	if r.bin, err = pgtest.FindBinaries(); err != nil {
		return err
	}
	if r.account, err = unprivileged(); err != nil {
		return err
	}
	if r.dir, err = os.MkdirTemp("", "fairway-bench-"); err != nil {
		return err
	}
	// The programs that are not this user's read their configuration in it.
	if err := os.Chmod(r.dir, 0o755); err != nil {
		return err
	}
	r.cluster, err = pgtest.Start(ctx, pgtest.Options{
		Bin: r.bin,
		Log: r.options.Log,
		Settings: map[string]string{
			"shared_buffers":   "128MB",
			"max_connections":  "600",
			"listen_addresses": r.options.Listen,
			"autovacuum":       "off", // nothing changes while it is measured
		},
	})
	if err != nil {
		return err
	}
	if err := r.fill(ctx); err != nil {
		return err
	}
	for range r.options.Replicas {
		if _, err := r.cluster.AddReplica(ctx, ""); err != nil {
			return err
		}
	}
	return r.cluster.WaitCaughtUp(ctx)
}

// large fills the table of large results: 1 MiB in 1,024 rows, stored as they are.
const large = `
CREATE TABLE large (id int PRIMARY KEY, filler text);
ALTER TABLE large ALTER filler SET STORAGE PLAIN;
INSERT INTO large SELECT i, repeat(chr(97 + i % 26), 1000) FROM generate_series(1, 1024) i;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC;
VACUUM ANALYZE;`

// fill makes the roles, pgbench's tables and the one for large results, before there is a replica that would have to
// replay it.
func (r *Rig) fill(ctx context.Context) error {
	primary := r.cluster.Primary()
	hba := filepath.Join(r.cluster.Dir(), primary.Name(), "data", "pg_hba.conf")
	rules, err := os.ReadFile(hba)
	if err != nil {
		return err
	}
	// Before the others: the first line that fits decides.
	rules = append([]byte("host all "+Secure+" 127.0.0.1/32 scram-sha-256\n"), rules...)
	if err := os.WriteFile(hba, rules, 0o600); err != nil {
		return err
	}
	for _, sql := range []string{
		"SELECT pg_reload_conf()",
		"CREATE ROLE " + User + " LOGIN",
		"CREATE ROLE " + Secure + " LOGIN PASSWORD '" + Password + "'",
		"CREATE DATABASE " + Database + " OWNER " + User,
	} {
		if err := primary.Exec(ctx, sql); err != nil {
			return err
		}
	}
	if r.verifier, err = primary.Value(ctx, "SELECT rolpassword FROM pg_authid WHERE rolname = '"+Secure+"'"); err != nil {
		return err
	}
	if err := r.initialize(ctx, primary.Addr()); err != nil {
		return err
	}
	// Each statement by itself: VACUUM does not run in a transaction.
	for _, sql := range splitStatements(large) {
		if err := primary.ExecIn(ctx, Database, sql); err != nil {
			return err
		}
	}
	return nil
}

// Close stops everything and removes the files.
func (r *Rig) Close() error {
	var errs []error
	for _, p := range slices.Backward(slices.Clone(r.peers)) {
		errs = append(errs, p.Stop())
	}
	if r.cluster != nil {
		errs = append(errs, r.cluster.Close())
	}
	if r.dir != "" {
		errs = append(errs, os.RemoveAll(r.dir))
	}
	return errors.Join(errs...)
}

// Dir is the rig's directory; what is written there goes with it.
func (r *Rig) Dir() string { return r.dir }

// Bin is the directory of PostgreSQL's binaries, pgbench among them.
func (r *Rig) Bin() string { return r.bin }

// Primary is the address of the primary.
func (r *Rig) Primary() string { return r.cluster.Primary().Addr() }

// Replicas are the addresses of the replicas.
func (r *Rig) Replicas() []string {
	var addrs []string
	for _, n := range r.cluster.Replicas() {
		addrs = append(addrs, n.Addr())
	}
	return addrs
}

// Exec runs SQL on the primary, in the database of the benchmark, as the superuser.
func (r *Rig) Exec(ctx context.Context, sql string) error {
	return r.cluster.Primary().ExecIn(ctx, Database, sql)
}

// Direct is the primary itself.
func (r *Rig) Direct() *Peer { return &Peer{Name: "direct", Addr: r.Primary(), rig: r} }

// port picks a loopback port nobody listens on, away from the range of clients' own ports.
func (r *Rig) port() (int, error) {
	r.ports.Lock()
	defer r.ports.Unlock()
	for range 1000 {
		port := 10000 + rand.IntN(22000)
		if r.ports.taken[port] {
			continue
		}
		l, err := net.Listen("tcp", loopback(port))
		if err != nil {
			continue
		}
		l.Close()
		r.ports.taken[port] = true
		return port, nil
	}
	return 0, errors.New("no free port on 127.0.0.1 between 10000 and 32000")
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// start launches a proxy and waits until a query through it succeeds.
func (r *Rig) start(ctx context.Context, p *Peer, account *syscall.Credential, env []string, quit syscall.Signal, argv ...string) error {
	began := time.Now()
	var err error
	if p.proc, err = launch(p.Name, r.dir, account, env, quit, argv...); err != nil {
		return err
	}
	p.rig = r
	r.peers = append(r.peers, p)
	ask := func(ctx context.Context) error { return probe(ctx, p.Addr) }
	if err := p.proc.until(ctx, ask); err != nil {
		return errors.Join(err, p.Stop())
	}
	fmt.Fprintf(r.options.Log, "%s: ready on %s, pid %d (%d ms)\n", p.Name, p.Addr, p.PID(), time.Since(began).Milliseconds())
	return nil
}

// probe asks one question through an address.
func probe(ctx context.Context, addr string) error {
	for _, account := range [][2]string{{User, ""}, {Secure, Password}} {
		config, err := pgtest.Config(addr, account[0], account[1], Database)
		if err != nil {
			return err
		}
		conn, err := pgconn.ConnectConfig(ctx, config)
		if err != nil {
			if account[0] == User {
				continue // this peer asks everybody for a password
			}
			return err
		}
		_, err = conn.Exec(ctx, "SELECT abalance FROM pgbench_accounts WHERE aid = 1").ReadAll()
		return errors.Join(err, conn.Close(ctx))
	}
	return nil
}

// write writes a configuration file that the account can read and nobody else.
func (r *Rig) write(name, text string, account *syscall.Credential) (string, error) {
	path := filepath.Join(r.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return "", err
	}
	if account == nil {
		return path, nil
	}
	return path, os.Chown(path, int(account.Uid), int(account.Gid))
}

// program finds a binary in $PATH or where Debian keeps those of services.
func program(name string) (string, error) {
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/usr/local/sbin") {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed: run tools/setup.sh peers", name)
}
