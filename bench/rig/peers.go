//go:build linux

package rig

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// How many clients the proxies admit that have a number for it. HAProxy needs two files for each and is never shown as many.
const (
	maxClients        = 12000
	maxHAProxyClients = 2000
)

// quiet is the environment of the peers: nothing of the user's but the paths.
func (r *Rig) quiet() []string {
	return []string{"LC_ALL=C", "HOME=" + r.dir, "PATH=" + os.Getenv("PATH")}
}

// named makes a file's name the only one of its kind: there may be several of each proxy.
func named(name string, port int) string { return strconv.Itoa(port) + "-" + name }

// PgBouncer starts PgBouncer before the primary, in transaction mode. secure makes it ask its clients for SCRAM, with
// the server's own verifier, so that it logs in at the server as they do: no password is hashed on either side.
func (r *Rig) PgBouncer(ctx context.Context, secure bool) (*Peer, error) {
	binary, err := program("pgbouncer")
	if err != nil {
		return nil, err
	}
	port, err := r.port()
	if err != nil {
		return nil, err
	}
	auth := "trust"
	if secure {
		auth = "scram-sha-256"
	}
	users, err := r.write(named("pgbouncer.users", port), fmt.Sprintf("%q %q\n%q %q\n", User, "", Secure, r.verifier), r.account)
	if err != nil {
		return nil, err
	}
	host, server, err := net.SplitHostPort(r.Primary())
	if err != nil {
		return nil, err
	}
	config, err := r.write(named("pgbouncer.ini", port), fmt.Sprintf(`[databases]
%[1]s = host=%[2]s port=%[3]s dbname=%[1]s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %[4]d
unix_socket_dir =
auth_type = %[5]s
auth_file = %[6]s
pool_mode = transaction
default_pool_size = %[7]d
max_client_conn = %[8]d
listen_backlog = 4096
server_tls_sslmode = disable
log_connections = 0
log_disconnections = 0
log_stats = 0
`, Database, host, server, port, auth, users, PoolSize, maxClients), r.account)
	if err != nil {
		return nil, err
	}
	p := &Peer{Name: "pgbouncer", Addr: loopback(port)}
	// SIGTERM is its immediate shutdown.
	return p, r.start(ctx, p, r.account, r.quiet(), syscall.SIGTERM, binary, config)
}

// Pgpool starts Pgpool-II with load balancing before all servers. Reads go to the replicas alone, as they do through
// the other proxies.
func (r *Rig) Pgpool(ctx context.Context) (*Peer, error) {
	binary, err := program("pgpool")
	if err != nil {
		return nil, err
	}
	port, err := r.port()
	if err != nil {
		return nil, err
	}
	control, err := r.port()
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	fmt.Fprintf(&b, `backend_clustering_mode = 'streaming_replication'
listen_addresses = '127.0.0.1'
port = %d
socket_dir = '%[3]s'
pcp_listen_addresses = '127.0.0.1'
pcp_port = %[2]d
pcp_socket_dir = '%[3]s'
wd_ipc_socket_dir = '%[3]s'
pid_file_name = '%[3]s/pgpool.pid'
logdir = '%[3]s'
work_dir = '%[3]s'
num_init_children = 80
max_pool = 1
load_balance_mode = on
sr_check_user = 'postgres'
sr_check_database = 'postgres'
health_check_period = 0
pool_passwd = ''
`, port, control, r.dir)
	for i, addr := range append([]string{r.Primary()}, r.Replicas()...) {
		host, server, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "backend_hostname%[1]d = '%[2]s'\nbackend_port%[1]d = %[3]s\nbackend_weight%[1]d = %[4]d\n", i, host, server, min(i, 1))
		fmt.Fprintf(&b, "backend_application_name%d = 'pg%d'\nbackend_flag%[1]d = 'DISALLOW_TO_FAILOVER'\n", i, i+1)
	}
	config, err := r.write(named("pgpool.conf", port), b.String(), nil)
	if err != nil {
		return nil, err
	}
	commands, err := r.write(named("pcp.conf", port), "", nil)
	if err != nil {
		return nil, err
	}
	p := &Peer{Name: "pgpool", Addr: loopback(port)}
	// -n: in the foreground; -D: no memory of earlier runs. SIGINT is its fast shutdown.
	return p, r.start(ctx, p, nil, r.quiet(), syscall.SIGINT, binary, "-n", "-D", "-f", config, "-F", commands,
		"-a", filepath.Join(r.dir, "pool_hba.conf"))
}

// HAProxy starts HAProxy before the addresses: connections are spread over them in turn, and never looked into.
func (r *Rig) HAProxy(ctx context.Context, addrs []string) (*Peer, error) {
	binary, err := program("haproxy")
	if err != nil {
		return nil, err
	}
	port, err := r.port()
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	fmt.Fprintf(&b, `global
	maxconn %[1]d
defaults
	mode tcp
	maxconn %[1]d
	timeout connect 5s
	timeout client 1h
	timeout server 1h
listen postgresql
	bind 127.0.0.1:%[2]d
	balance roundrobin
`, maxHAProxyClients, port)
	for i, addr := range addrs {
		fmt.Fprintf(&b, "\tserver s%d %s\n", i+1, addr)
	}
	config, err := r.write(named("haproxy.cfg", port), b.String(), r.account)
	if err != nil {
		return nil, err
	}
	p := &Peer{Name: "haproxy", Addr: loopback(port)}
	return p, r.start(ctx, p, r.account, r.quiet(), syscall.SIGTERM, binary, "-db", "-f", config)
}

// FairwayOptions says how Fairway is set up.
type FairwayOptions struct {
	Backends []string // addresses of servers
	Secure   bool     // clients prove themselves by SCRAM, with the verifiers of the servers; else nobody is asked
	Pool     int      // server connections on each backend; default PoolSize
}

// Fairway starts Caddy with a cluster of the backends.
func (r *Rig) Fairway(ctx context.Context, o FairwayOptions) (*Peer, error) {
	binary, err := filepath.Abs(r.options.Caddy)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(binary); err != nil {
		return nil, fmt.Errorf("%w: run make build", err)
	}
	port, err := r.port()
	if err != nil {
		return nil, err
	}
	admin, err := r.port()
	if err != nil {
		return nil, err
	}
	config, err := r.write(named("Caddyfile", port), r.caddyfile(o, port, admin), nil)
	if err != nil {
		return nil, err
	}
	p := &Peer{Name: "fairway", Addr: loopback(port), Admin: loopback(admin)}
	env := append(r.quiet(), "XDG_CONFIG_HOME="+r.dir, "XDG_DATA_HOME="+r.dir)
	return p, r.start(ctx, p, nil, env, syscall.SIGTERM, binary, "run", "--adapter", "caddyfile", "--config", config)
}

// caddyfile is Fairway's configuration: defaults, but for what the peers are given, too.
func (r *Rig) caddyfile(o FairwayOptions, port, admin int) string {
	if o.Pool == 0 {
		o.Pool = PoolSize
	}
	auth := "trust"
	if o.Secure {
		auth = "query"
	}
	var backends strings.Builder
	for i, addr := range o.Backends {
		fmt.Fprintf(&backends, "\t\t\tbackend pg%d %s\n", i+1, addr)
	}
	return fmt.Sprintf(`{
	admin 127.0.0.1:%d
	persist_config off
	log {
		level WARN
	}
	postgres {
		grace_period 1s
		cluster main {
%s			credentials postgres
			auth %s
			server_tls disable
			pool {
				size %d
			}
		}
	}
	layer4 {
		pg/127.0.0.1:%d {
			route {
				postgres main
			}
		}
	}
}
`, admin, backends.String(), auth, o.Pool, port)
}
