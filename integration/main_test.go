// Package integration_test runs Fairway as its users do: Caddy with a configuration, real PostgreSQL servers behind it,
// and in front of it psql, pgbench and the drivers of three languages.
//
// One Caddy serves the whole test binary. A [site] is one PostgreSQL cluster with its configuration and its listener;
// the shared one lives as long as the binary, tests that break servers add a site of their own and remove it again, so
// that every one of them is also a reload under the others' sessions. Nothing runs in parallel: the tests measure.
//
// FAIRWAY_PGBENCH_SECONDS is the length of each pgbench run (default 2); FAIRWAY_PYTHON is a Python that has the
// drivers of drivers/requirements.txt (default: the one the Makefile creates).
package integration_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/caddyserver/caddy/v2"

	"github.com/fairwaydb/fairway/modules/pgtest"
)

// shared is the site that tests use which leave servers alone: pg1 is its primary, pg2 and pg3 are its replicas.
var shared *site

func TestMain(m *testing.M) {
	code, err := run(m)
	if code == 0 && err == nil {
		// Locks in the storage of certificates are looked after for some seconds after their end.
		err = goleak.Find(goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code) //nolint:forbidigo // the main of a test binary
}

// run brings everything up, runs the tests and takes everything down again.
func run(m *testing.M) (code int, err error) {
	// What psql, pgbench and the drivers read from their surroundings must not lead them elsewhere.
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "PG") && name != "PGBIN" {
			_ = os.Unsetenv(name)
		}
	}
	if err := readBenchTime(); err != nil {
		return 1, err
	}
	dir, err := os.MkdirTemp("", "fi-") // short, for Unix sockets lie in it
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// The servers may run as another account, which must be able to pass through.
	if err := errors.Join(os.Chmod(dir, 0o711), os.Setenv("TMPDIR", dir),
		os.Setenv("XDG_CONFIG_HOME", filepath.Join(dir, "config")), os.Setenv("XDG_DATA_HOME", filepath.Join(dir, "data"))); err != nil {
		return 1, err
	}
	servers, err := pgtest.Start(context.Background(), pgtest.Options{Replicas: 2, Dir: filepath.Join(dir, "main")})
	if err != nil {
		return 1, fmt.Errorf("start PostgreSQL: %w", err)
	}
	defer func() { err = errors.Join(err, servers.Close()) }()
	if err := prepare(servers); err != nil {
		return 1, err
	}
	if host, err = startCaddy(dir); err != nil {
		return 1, err
	}
	shared = newSite("main", servers)
	host.sites[shared.name] = shared
	if err := caddy.Load(host.document(), true); err != nil {
		return 1, fmt.Errorf("load the configuration: %w", err)
	}
	if err := host.awaitHealth(); err != nil {
		return 1, err
	}
	code = m.Run()
	err = errors.Join(host.verdict(), host.stop())
	if code != 0 || err != nil {
		fmt.Fprintf(os.Stderr, "the end of Caddy's log:\n%s", host.logTail(40))
	}
	return code, err
}

// Roles and databases that every site has.
const (
	monitorRole = "fairway" // Fairway's own
	appRole     = "app"     // of ordinary programs, and their database
	benchRole   = "bench"   // pgbench's, and its database: its server connections are counted
)

// prepare creates the roles and databases, and waits until the replicas have them.
func prepare(servers *pgtest.Cluster) error {
	ctx := context.Background()
	for _, sql := range []string{
		"CREATE ROLE " + monitorRole + " LOGIN IN ROLE pg_monitor",
		"CREATE ROLE " + appRole + " LOGIN",
		"CREATE DATABASE " + appRole + " OWNER " + appRole,
		"CREATE ROLE " + benchRole + " LOGIN",
		"CREATE DATABASE " + benchRole + " OWNER " + benchRole,
	} {
		if err := servers.Primary().Exec(ctx, sql); err != nil {
			return err
		}
	}
	return servers.WaitCaughtUp(ctx)
}
