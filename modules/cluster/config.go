package cluster

import (
	"encoding/json"

	"github.com/caddyserver/caddy/v2"
)

// Config is the configuration of one cluster: apps.postgres.clusters.<name>.
// Where a value is not written its default holds; times are durations such as
// 500ms or 30s, sizes are bytes. Settings apply to all sessions at once.
//
// Placeholders ({env.NAME}, {file./path}) are replaced in addresses, names,
// passwords and paths when the configuration is loaded, so that no secret shows
// in it.
type Config struct {
	// Backends are the servers by name. The name labels metrics and stands in the
	// admin API; which server is the primary is found out, never configured.
	Backends map[string]*BackendConfig `json:"backends,omitempty"`

	// SourcesRaw are modules that find further backends. A configured backend
	// goes before a found one of the same name.
	SourcesRaw []json.RawMessage `json:"sources,omitempty" caddy:"namespace=postgres.sources inline_key=source"`

	// Credentials are the account of Fairway itself on every backend: for the
	// monitor, the catalog and auth query. Required.
	Credentials *CredentialsConfig `json:"credentials,omitempty"`

	// Auth is how clients prove who they are. Default: query.
	Auth *AuthConfig `json:"auth,omitempty"`

	// ServerTLS is the encryption of connections to the backends. Default: prefer.
	ServerTLS *ServerTLSConfig `json:"server_tls,omitempty"`

	// PolicyRaw is the module that chooses among the replicas that may serve a
	// read. Default: health_score.
	PolicyRaw json.RawMessage `json:"policy,omitempty" caddy:"namespace=postgres.policies inline_key=policy"`

	// Consistency is what reads may miss: "session" (never the session's own
	// writes), "strong" (nothing committed before the read arrived: on the primary) or "eventual"
	// (what a replica has not got yet). Default: session.
	Consistency string `json:"consistency,omitempty"`

	// Pool are the limits of the server connections.
	Pool *PoolConfig `json:"pool,omitempty"`

	// BreakerRaw is the module that takes failing replicas out. Default:
	// consecutive.
	BreakerRaw json.RawMessage `json:"breaker,omitempty" caddy:"namespace=postgres.breakers inline_key=breaker"`

	// MaxLag is the lag in bytes of WAL beyond which a replica gets no reads; -1
	// means no limit. Default: 16777216 (16 MiB).
	MaxLag int64 `json:"max_lag,omitempty"`

	// LagResume is the lag in bytes at which a replica that was too far behind
	// gets reads again. Default: half of max_lag.
	LagResume int64 `json:"lag_resume,omitempty"`

	// FailoverWait is how long a statement waits for a primary when there is none,
	// before it fails with 57P03; -1 not at all. Default: 10s.
	FailoverWait caddy.Duration `json:"failover_wait,omitempty"`

	// DrainTimeout is how long sessions may keep server connections of a backend
	// that was removed; -1 not at all. Default: 60s.
	DrainTimeout caddy.Duration `json:"drain_timeout,omitempty"`

	// Cooldown is the time after a change of the number of backends by the admin API
	// within which the next one is refused; -1 none. Changes of the configuration
	// and what sources find are not held up. Default: 30s.
	Cooldown caddy.Duration `json:"cooldown,omitempty"`

	// Catalog is "on" when the schema of each database is read from the primary, so
	// that functions, views, operators and policies are known by what they do, and
	// "off" when only the wording of a statement counts. Default: on.
	Catalog string `json:"catalog,omitempty"`

	// ReadFunctions are globs of functions that only read, whatever the catalog
	// says: app.get_*. Default: none.
	ReadFunctions []string `json:"read_functions,omitempty"`

	// WriteFunctions are globs of functions that write, whatever the catalog says.
	// They go before read_functions. Default: none.
	WriteFunctions []string `json:"write_functions,omitempty"`

	// KeepAlive is the time without traffic after which the system begins to probe
	// whether a server is still there; -1 never probes. Default: 1m.
	KeepAlive caddy.Duration `json:"keep_alive,omitempty"`

	// Monitor are the times of the monitor.
	Monitor *MonitorConfig `json:"monitor,omitempty"`

	// Health are the numbers of the health score.
	Health *HealthConfig `json:"health,omitempty"`

	// InsecureLiteralPasswords accepts passwords written in the configuration,
	// where the admin API and the autosave file show them. For tests and demos.
	// Default: false.
	InsecureLiteralPasswords bool `json:"insecure_literal_passwords,omitempty"`
}

// BackendConfig is one server.
type BackendConfig struct {
	// Address is host:port, or the absolute path of a Unix socket. Default port:
	// 5432.
	Address string `json:"address"`

	// Weight is the server's share of reads relative to the others. Default: 1.
	Weight float64 `json:"weight,omitempty"`

	// Priority orders the servers for the policy first, which takes the lowest,
	// then the first by name. Default: 0.
	Priority int `json:"priority,omitempty"`
}

// CredentialsConfig is Fairway's own account. It needs LOGIN, CONNECT and the
// role pg_monitor; auth query needs to read pg_authid, or a query of its own.
type CredentialsConfig struct {
	// User is the role. Required.
	User string `json:"user,omitempty"`

	// Password is the role's password: a placeholder. Default: none (the servers
	// must trust us).
	Password string `json:"password,omitempty"`

	// Database is the one to connect to. Default: postgres.
	Database string `json:"database,omitempty"`
}

// AuthConfig is how clients prove who they are.
type AuthConfig struct {
	// Mode is "query" (the servers are asked what they keep of their users'
	// passwords), "user" (the users are listed), "file" (the users are listed in a
	// file) or "trust" (everybody is believed). Default: query.
	Mode string `json:"mode,omitempty"`

	// Method is how clients are asked: "scram-sha-256" (all of them), "md5" (those
	// whose password is kept as an md5 hash; all others by SCRAM) or "password" (in
	// clear, over TLS). The words and their meaning are those of pg_hba.conf.
	// Default: scram-sha-256.
	Method string `json:"method,omitempty"`

	// ChannelBinding says whether logins by SCRAM are bound to the TLS connection:
	// "prefer" (if client and certificate can), "require" or "disable". Default:
	// prefer.
	ChannelBinding string `json:"channel_binding,omitempty"`

	// Users are the users of mode user: name to password (a placeholder), SCRAM
	// verifier or md5 hash as in pg_authid. A verifier must be the server's own copy,
	// or the server will refuse the key that it reveals. Default: none.
	Users map[string]string `json:"users,omitempty"`

	// File is the path of the file of mode file: lines of "user" "password", where the
	// password may be a SCRAM verifier or an md5 hash, as PgBouncer's auth_file. It is
	// read again when it changes. Default: none.
	File string `json:"file,omitempty"`

	// Query returns, as the last column of its only row, what is kept of the password
	// of the user $1: a SCRAM verifier or an md5 hash. It runs with search_path
	// pg_catalog. Default: reads pg_authid, which needs a superuser; without one,
	// call a SECURITY DEFINER function.
	Query string `json:"query,omitempty"`

	// Timeout bounds an auth query, connecting included. Default: 5s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// CacheTTL is how long an answer of the servers serves further logins. Until it
	// is over new passwords are refused. Default: 0, each login asks.
	CacheTTL caddy.Duration `json:"cache_ttl,omitempty"`

	// CacheMissingTTL is the same for users that do not exist. Default: 0.
	CacheMissingTTL caddy.Duration `json:"cache_missing_ttl,omitempty"`

	// CacheSize is how many users are remembered: for the time of cache_ttl, and for
	// logins while no server can be asked. Default: 10000.
	CacheSize int `json:"cache_size,omitempty"`

	// InsecureClientCleartext lets the method password ask clients that do not use
	// TLS: whoever sees the network sees the passwords. Default: false.
	InsecureClientCleartext bool `json:"insecure_client_cleartext,omitempty"`

	// InsecureServerCleartext sends passwords in clear to servers that ask for them on
	// connections without TLS. Default: false.
	InsecureServerCleartext bool `json:"insecure_server_cleartext,omitempty"`
}

// ServerTLSConfig is the encryption of connections to the backends: libpq's
// sslmode and what goes with it. Unix sockets are never encrypted.
type ServerTLSConfig struct {
	// Mode is "disable", "allow", "prefer", "require", "verify-ca" or
	// "verify-full". With a ca, require is verify-ca. Default: prefer; verify-full
	// when ca, crl or server_name is given.
	Mode string `json:"mode,omitempty"`

	// CA is the path of a file with the certificates of the authorities to trust,
	// PEM. Read when the configuration is loaded. Default: the system's.
	CA string `json:"ca,omitempty"`

	// CRL are the paths of files with lists of revoked certificates, PEM; each
	// authority needs one. They are read again when they change. Default: none,
	// nothing is revoked.
	CRL []string `json:"crl,omitempty"`

	// Certificate is the path of a file, PEM, with the certificate that is shown to
	// servers that ask for one, for all users alike. It is read again when it
	// changes. Default: none.
	Certificate string `json:"cert,omitempty"`

	// Key is the path of the file with its key, PEM. Default: none.
	Key string `json:"key,omitempty"`

	// ServerName is the name the certificates must bear, and the one asked for.
	// Default: the host of each address.
	ServerName string `json:"server_name,omitempty"`

	// ChannelBinding says whether our logins by SCRAM are bound to the TLS connection:
	// "prefer" (if the server offers it), "require" or "disable". Default: prefer.
	ChannelBinding string `json:"channel_binding,omitempty"`

	// Negotiation is "postgres" (the server is asked whether it has TLS) or "direct"
	// (the connection begins with the handshake, which saves a round trip;
	// PostgreSQL 17 and later). Default: postgres.
	Negotiation string `json:"negotiation,omitempty"`
}

// PoolConfig are the limits of the server connections of each backend.
type PoolConfig struct {
	// Mode is how long a session holds a server connection: "transaction" (until
	// its transaction ends) or "session" (from its first statement until the client
	// leaves: everything runs on the primary). It holds for sessions that begin
	// after a reload. Default: transaction.
	Mode string `json:"mode,omitempty"`

	// Size is the number of server connections for one user and database on one
	// backend. Default: 20.
	Size int `json:"size,omitempty"`

	// MaxServerConnections is the number of server connections to one backend, over
	// all users and databases; -1 means no limit. Default: 80.
	MaxServerConnections int `json:"max_server_connections,omitempty"`

	// MaxLifetime is the age at which a server connection is closed, give or take
	// 10 %; -1 never. Default: 1h.
	MaxLifetime caddy.Duration `json:"max_lifetime,omitempty"`

	// IdleTimeout is how long a server connection may be idle; -1 for ever.
	// Default: 10m.
	IdleTimeout caddy.Duration `json:"idle_timeout,omitempty"`

	// ConnectTimeout bounds a dial, login included. Default: 5s.
	ConnectTimeout caddy.Duration `json:"connect_timeout,omitempty"`

	// WaitTimeout is how long a session waits for a server connection before it
	// gets 53300. Default: 30s.
	WaitTimeout caddy.Duration `json:"wait_timeout,omitempty"`

	// MaxWaiters is how many sessions may wait at one backend. Default: 10000.
	MaxWaiters int `json:"max_waiters,omitempty"`

	// StatementCache is the number of prepared statements kept on a server
	// connection. Default: 256.
	StatementCache int `json:"statement_cache,omitempty"`

	// MaxPinned is the part of a pool, from 0 to 1, that sessions may hold outside
	// transactions (temporary tables, LISTEN, advisory locks). Default: 0.75.
	MaxPinned float64 `json:"max_pinned,omitempty"`
}

// MonitorConfig are the times of the monitor, which asks every backend for its
// role and position.
type MonitorConfig struct {
	// Interval is the time between probes. Default: 1s.
	Interval caddy.Duration `json:"interval,omitempty"`

	// FastInterval is the time between probes while there is no primary, and after
	// a failure. Default: 100ms.
	FastInterval caddy.Duration `json:"fast_interval,omitempty"`

	// Timeout bounds a probe, connecting included. Default: 2s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// DownAfter is the number of probes in a row without an answer after which the
	// primary counts as gone; a refused connection counts at once. Default: 2.
	DownAfter int `json:"down_after,omitempty"`

	// Stale is how long the last answer is trusted while a server cannot be asked
	// for a reason that does not speak against it, such as too many connections.
	// Default: 30s.
	Stale caddy.Duration `json:"stale,omitempty"`

	// Poll is the time between two looks at the replay positions while sessions
	// wait for their own writes to arrive. Default: 20ms.
	Poll caddy.Duration `json:"poll,omitempty"`
}

// HealthConfig are the numbers of the health score: the weighted mean of three
// parts, each from 0 to 1.
type HealthConfig struct {
	// ErrorWeight is the weight of the error rate: 1 without errors, 0 when all
	// turns failed. Default: 0.4. When one weight is written the others are 0
	// unless written too.
	ErrorWeight float64 `json:"error_weight,omitempty"`

	// LatencyWeight is the weight of the latency. Default: 0.4.
	LatencyWeight float64 `json:"latency_weight,omitempty"`

	// CircuitWeight is the weight of the circuit: 1 closed, 0.5 half-open, 0 open.
	// Default: 0.2.
	CircuitWeight float64 `json:"circuit_weight,omitempty"`

	// Window is the time errors are counted over, up to 60s. Default: 30s.
	Window caddy.Duration `json:"window,omitempty"`

	// HalfLife is that of the moving average of latency. Default: 5s.
	HalfLife caddy.Duration `json:"half_life,omitempty"`

	// LatencyGood is the latency up to which its part is 1. Default: 100ms.
	LatencyGood caddy.Duration `json:"latency_good,omitempty"`

	// LatencyBad is the latency from which on its part is 0. Default: 2s.
	LatencyBad caddy.Duration `json:"latency_bad,omitempty"`

	// DegradedAt is the error rate, from 0 to 1, from which on a backend is shown
	// as DEGRADED. Default: 0.5.
	DegradedAt float64 `json:"degraded_at,omitempty"`

	// SlowStart is how long a backend that is taken (back) in needs to reach its
	// weight; -1 means no slow start. Default: 10s.
	SlowStart caddy.Duration `json:"slow_start,omitempty"`

	// SlowStartMin is the part of its weight, from 0 to 1, that it begins with.
	// Default: 0.1.
	SlowStartMin float64 `json:"slow_start_min,omitempty"`
}
