// Package pgtest runs a real PostgreSQL cluster on this machine, one primary and streaming replicas, for tests and for
// the demo, and scripted peers that speak the protocol over a pipe.
//
// It owns the directory of its cluster, the server processes in it and their ports. It never touches a server it did
// not start, needs neither Docker nor a running PostgreSQL, and works for every user, root included: PostgreSQL refuses
// to run as root, so everything then runs as another account. Tests of every layer and the demo call it; no package that
// serves clients may import it.
//
// Servers die with the process that started them: each postmaster is a direct child, started and waited for by a
// goroutine that stays locked to its OS thread, because Linux delivers the parent-death signal when the *thread* that
// forked ends (prctl(2), PR_SET_PDEATHSIG). The signal is SIGQUIT, PostgreSQL's immediate shutdown. Where the system has
// no such signal, Close or the end of Start's context is what stops them.
package pgtest

import (
	"crypto/rand"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Authentication methods of Options.Auth. See https://www.postgresql.org/docs/current/auth-methods.html.
const (
	// AuthTrust lets everybody on the loopback interface in without a password.
	AuthTrust = "trust"
	// AuthSCRAM asks every role for its password by SCRAM-SHA-256.
	AuthSCRAM = "scram-sha-256"
)

// startLimit bounds the wait for a server to become ready, and for a replica to begin streaming, when the caller's
// context has no nearer deadline: a machine that needs longer than this is broken, not slow.
const startLimit = 90 * time.Second

// Options says what Start builds. The zero value is a single primary with trust authentication.
type Options struct {
	// Replicas is the number of streaming replicas. Default 0. The primary is named pg1, the replicas pg2, pg3, ….
	Replicas int
	// SynchronousReplicas is how many replicas must have flushed a commit before the primary reports it
	// (synchronous_standby_names = 'ANY n (*)'). Default 0: asynchronous. A promoted replica starts asynchronous.
	SynchronousReplicas int
	// Dir is where the cluster lives; it must be empty or not exist, and the account the servers run as must be able to
	// reach it. Default: a fresh directory in the system's place for temporary files. Close removes what Start created.
	Dir string
	// Bin is the directory of PostgreSQL's binaries. Default: found by FindBinaries.
	Bin string
	// Version is a PostgreSQL version such as 18.1.0 whose binaries FetchBinaries brings, instead of the machine's. It is ignored
	// when Bin is given.
	Version string
	// Account is the operating-system user the servers run as when this process is root. Default: postgres, else nobody.
	// Without root it is ignored and everything runs as the current user.
	Account string
	// Auth is AuthTrust (default) or AuthSCRAM, for every role, database and for replication.
	Auth string
	// Superuser is the name of the bootstrap role. Default postgres.
	Superuser string
	// Password is the superuser's. Default: a random one.
	Password string
	// Settings are added to postgresql.conf of every server and override the defaults meant for tests
	// (fsync=off, max_connections=300, shared_buffers=16MB and others, see defaultSettings).
	Settings map[string]string
	// Log receives a line for each step taken, not the servers' own logs (Node.LogTail). Default: nothing is written.
	Log io.Writer
}

// defaultSettings are what makes a server quick and able to be replicated. The loss of fsync matters only when the
// machine dies, not when the server does: tests that kill a postmaster are not affected.
var defaultSettings = map[string]string{
	"fsync":                        "off",
	"listen_addresses":             "127.0.0.1",
	"wal_level":                    "replica",
	"hot_standby":                  "on",
	"max_wal_senders":              "20",
	"max_replication_slots":        "20",
	"max_connections":              "300",
	"max_prepared_transactions":    "10",
	"shared_buffers":               "16MB",
	"wal_init_zero":                "off",
	"checkpoint_timeout":           "30min",
	"wal_retrieve_retry_interval":  "200ms",
	"wal_receiver_status_interval": "1s",
	"logging_collector":            "off",
	"log_line_prefix":              "%m [%p] %u@%d ",
	"lc_messages":                  "C",
	"timezone":                     "UTC",
	"log_timezone":                 "UTC",
}

// withDefaults returns o with every field filled in, or what is wrong with it.
func (o Options) withDefaults() (Options, error) {
	if o.Replicas < 0 || o.SynchronousReplicas < 0 || o.SynchronousReplicas > o.Replicas {
		return o, fmt.Errorf("%d synchronous of %d replicas: not possible", o.SynchronousReplicas, o.Replicas)
	}
	if o.Auth == "" {
		o.Auth = AuthTrust
	}
	if o.Auth != AuthTrust && o.Auth != AuthSCRAM {
		return o, fmt.Errorf("authentication method %q: want %q or %q", o.Auth, AuthTrust, AuthSCRAM)
	}
	if o.Superuser == "" {
		o.Superuser = "postgres"
	}
	if o.Password == "" {
		o.Password = rand.Text()
	}
	if o.Log == nil {
		o.Log = io.Discard
	}
	settings := maps.Clone(defaultSettings)
	maps.Copy(settings, o.Settings)
	o.Settings = settings
	return o, nil
}

// configuration renders settings as lines of postgresql.conf, sorted by name.
func configuration(settings map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&b, "%s = %s\n", name, quoteSetting(settings[name]))
	}
	return b.String()
}

// quoteSetting quotes a value for postgresql.conf, where quotes are doubled and backslashes begin escapes.
// See https://www.postgresql.org/docs/current/config-setting.html.
func quoteSetting(value string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(value) + "'"
}

// quoteConninfo quotes a value of a libpq connection string.
// See https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-KEYWORD-VALUE.
func quoteConninfo(value string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
}

// quoteLiteral quotes a value for SQL with standard_conforming_strings on, as the servers of this package have it.
func quoteLiteral(value string) string {
	return "'" + strings.ReplaceAll(value, "'", "''") + "'"
}
