package cluster

import (
	"maps"
	"time"

	"github.com/fairwaydb/fairway/modules/pgauth"
	"github.com/fairwaydb/fairway/modules/pool"
)

// Settings are a [Config] resolved: placeholders replaced, defaults filled in,
// files read, guests loaded. [Config.Settings] makes them; nobody changes them
// afterwards, so they may be read without a lock.
type Settings struct {
	// Backends are the configured backends by name. Sources may add more.
	Backends []Endpoint

	// Sources tell about further backends. They run while the settings are in
	// force.
	Sources []Source

	// Auth is where the passwords of clients are known from, Clients how they are
	// asked for them.
	Auth    AuthMode
	Clients ClientSettings

	// Policy is the decoded guest of postgres.policies, nil for the default. The
	// packages above give it its type.
	Policy any

	// Breaker judges the circuits.
	Breaker Breaker

	// Consistency is what a session's reads may miss.
	Consistency Consistency

	// Pool are the limits of the pools of one backend, PoolMode how long a
	// session holds a server connection. MaxPinned is the part of a pool that
	// pins may hold.
	Pool      pool.Limits
	PoolMode  PoolMode
	MaxPinned float64

	// MaxLag is the lag in bytes beyond which a replica gets no reads, LagResume
	// the one below which it gets them again. MaxLag 0: no limit.
	MaxLag, LagResume int64

	// FailoverWait is how long a statement waits for a primary, DrainTimeout how
	// long leaving backends keep the server connections in use.
	FailoverWait, DrainTimeout time.Duration

	// Cooldown is the time between two changes of the number of backends at run
	// time.
	Cooldown time.Duration

	// Catalog tells whether the schema of each database is read.
	Catalog bool

	// ReadFunctions and WriteFunctions are globs of function names that override
	// the catalog.
	ReadFunctions, WriteFunctions []string

	Monitor MonitorSettings
	Health  HealthSettings

	// login is the cluster's own account; server says how backends are dialled.
	login  login
	server serverSettings
	users  map[string]user
	usual  Usual     // of users
	file   *userFile // of AuthFile
	verify verifySettings
}

// MonitorSettings are the times of the monitors.
type MonitorSettings struct {
	// Interval is the time between probes, FastInterval the one while there is
	// no primary or after a failure.
	Interval, FastInterval time.Duration

	// Timeout bounds a probe, dial included.
	Timeout time.Duration

	// DownAfter is how many probes in a row must go unanswered before a primary
	// counts as gone; a refused connection counts at once.
	DownAfter int

	// Stale is how long the last answer is trusted while the server cannot be
	// asked for a reason that does not speak against it (too many connections,
	// a refused login).
	Stale time.Duration

	// Poll is the time between two looks at the replay position of replicas, and
	// between two samples of the primary, while sessions wait for their own
	// writes to arrive.
	Poll time.Duration
}

// HealthSettings are the numbers of the health score.
type HealthSettings struct {
	ErrorWeight, LatencyWeight, CircuitWeight float64

	// Window is the time errors are counted over, HalfLife that of the moving
	// average of latency.
	Window, HalfLife time.Duration

	// LatencyGood and below score 1, LatencyBad and above 0.
	LatencyGood, LatencyBad time.Duration

	// DegradedAt is the part of failed turns from which a backend is DEGRADED.
	DegradedAt float64

	// SlowStart is how long a backend that was taken (back) in needs to reach
	// its weight; it begins with SlowStartMin of it.
	SlowStart    time.Duration
	SlowStartMin float64
}

// Consistency is what a session's reads may miss.
type Consistency uint8

// The consistencies.
const (
	ConsistencySession  Consistency = iota // never the session's own writes
	ConsistencyEventual                    // anything a replica has not got yet
	ConsistencyStrong                      // nothing that was committed when the read arrived
)

// String returns the word of the configuration.
func (c Consistency) String() string {
	switch c {
	case ConsistencyEventual:
		return "eventual"
	case ConsistencyStrong:
		return "strong"
	case ConsistencySession:
	}
	return "session"
}

// ParseConsistency reads the word of the configuration.
func ParseConsistency(s string) (Consistency, bool) {
	switch s {
	case "session":
		return ConsistencySession, true
	case "eventual":
		return ConsistencyEventual, true
	case "strong":
		return ConsistencyStrong, true
	}
	return 0, false
}

// TLSMode is libpq's sslmode, see
// https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION.
type TLSMode uint8

// The TLS modes.
const (
	TLSPrefer     TLSMode = iota // encrypted if the server can, unverified
	TLSDisable                   // never encrypted
	TLSAllow                     // encrypted if the server wants it, unverified
	TLSRequire                   // encrypted, unverified unless a CA is given
	TLSVerifyCA                  // the certificate is signed by the CA
	TLSVerifyFull                // and names the server
)

// login is the cluster's own account on the backends.
type login struct {
	user, database string
	secret         pgauth.Secret
}

// user is a configured user: auth user.
type user struct {
	configured string // the word of the configuration, resolved
	stored     pgauth.Stored
	password   string // empty when only the verifier or the hash is known
}

// verifySettings are the numbers of auth query.
type verifySettings struct {
	sql             string
	timeout         time.Duration
	ttl, missingTTL time.Duration
	size            int
}

// sameLogin tells whether a connection of our own account made under s may go on
// under o.
func (s *Settings) sameLogin(o *Settings) bool {
	return s == o || (s.server.same(&o.server) && s.login.user == o.login.user && s.login.database == o.login.database &&
		s.login.secret.Password == o.login.secret.Password && s.Monitor.Timeout == o.Monitor.Timeout)
}

// sameAuth tells whether what users have proved under s holds under o.
func (s *Settings) sameAuth(o *Settings) bool {
	return s.Auth == o.Auth && s.Clients.Method == o.Clients.Method && s.verify.sql == o.verify.sql && s.filePath() == o.filePath() &&
		s.login.user == o.login.user && s.login.database == o.login.database &&
		maps.EqualFunc(s.users, o.users, func(a, b user) bool { return a.configured == b.configured })
}

// filePath is where the file of users is, "" without one.
func (s *Settings) filePath() string {
	if s.file == nil {
		return ""
	}
	return s.file.path
}

// defaultSettings are in force while nothing is claimed.
var defaultSettings = newSettings()

// newSettings returns the defaults.
func newSettings() *Settings {
	return &Settings{
		Auth:         AuthQuery,
		Breaker:      defaultBreaker,
		Pool:         pool.DefaultLimits(),
		MaxPinned:    0.75,
		MaxLag:       16 << 20,
		LagResume:    8 << 20,
		FailoverWait: 10 * time.Second,
		DrainTimeout: 60 * time.Second,
		Cooldown:     30 * time.Second,
		Catalog:      true,
		Monitor: MonitorSettings{
			Interval:     time.Second,
			FastInterval: 100 * time.Millisecond,
			Timeout:      2 * time.Second,
			DownAfter:    2,
			Stale:        30 * time.Second,
			Poll:         20 * time.Millisecond,
		},
		Health: HealthSettings{
			ErrorWeight: 0.4, LatencyWeight: 0.4, CircuitWeight: 0.2,
			Window: 30 * time.Second, HalfLife: 5 * time.Second,
			LatencyGood: 100 * time.Millisecond, LatencyBad: 2 * time.Second,
			DegradedAt: 0.5,
			SlowStart:  10 * time.Second, SlowStartMin: 0.1,
		},
		login:  login{database: "postgres"},
		server: serverSettings{mode: TLSPrefer, tls: unverified(), keepAlive: time.Minute},
		verify: verifySettings{
			sql: defaultAuthSQL, timeout: 5 * time.Second,
			size: 10_000,
		},
	}
}
