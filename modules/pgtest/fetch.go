package pgtest

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
)

// artifact is a build of PostgreSQL's server (postgres, initdb, pg_ctl) that Maven's central repository has for each version.
const artifact = "io.zonky.test.postgres:embedded-postgres-binaries-"

// cacheVariable names the directory that keeps fetched servers.
const cacheVariable = "FAIRWAY_POSTGRES_CACHE"

// fetching lets one test binary fetch a version once; two processes may do it at the same time, the first one's result stays.
var fetching sync.Mutex

// FetchBinaries returns the directory of the binaries of that very PostgreSQL version, such as 18.1.0, for tests that compare with
// another version than the machine's. What is not there yet is fetched with Maven's ordinary client (mvn, with its own
// configuration) and kept in $FAIRWAY_POSTGRES_CACHE; default: /var/cache/fairway for root, else the user's cache directory.
func FetchBinaries(ctx context.Context, version string) (string, error) {
	fetching.Lock()
	defer fetching.Unlock()
	cache, err := cacheDir()
	if err != nil {
		return "", fmt.Errorf("fetch PostgreSQL %s: %w", version, err)
	}
	home := filepath.Join(cache, "postgresql-"+version)
	if found := serverDir(filepath.Join(home, "bin")); found != "" {
		return found, nil
	}
	if err := fetch(ctx, version, cache, home); err != nil {
		return "", fmt.Errorf("fetch PostgreSQL %s: %w", version, err)
	}
	if found := serverDir(filepath.Join(home, "bin")); found != "" {
		return found, nil
	}
	return "", fmt.Errorf("fetch PostgreSQL %s: what was fetched into %s holds no server", version, home)
}

// cacheDir is a directory that the account of the servers can reach.
func cacheDir() (string, error) {
	if dir := os.Getenv(cacheVariable); dir != "" {
		return dir, os.MkdirAll(dir, 0o755)
	}
	if os.Geteuid() == 0 {
		return "/var/cache/fairway", os.MkdirAll("/var/cache/fairway", 0o755)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(dir, "fairway")
	return dir, os.MkdirAll(dir, 0o755)
}

// fetch downloads the artifact, unpacks it beside home and gives it its name at the end.
func fetch(ctx context.Context, version, cache, home string) (err error) {
	work, err := os.MkdirTemp(cache, "fetch-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	platform := runtime.GOOS + "-" + strings.Replace(runtime.GOARCH, "arm64", "arm64v8", 1)
	if err := run(exec.CommandContext(ctx, "mvn", "-q", "-B", "dependency:copy", "-Dmdep.useBaseVersion=true",
		"-Dartifact="+artifact+platform+":"+version, "-DoutputDirectory="+work)); err != nil {
		return err
	}
	jars, err := filepath.Glob(filepath.Join(work, "*.jar"))
	if err != nil || len(jars) != 1 {
		return fmt.Errorf("mvn copied %d archives: %w", len(jars), err)
	}
	packed := filepath.Join(work, "server.txz")
	if err := extract(jars[0], ".txz", packed); err != nil {
		return err
	}
	unpacked := filepath.Join(work, "unpacked")
	if err := os.Mkdir(unpacked, 0o755); err != nil {
		return err
	}
	if err := run(exec.CommandContext(ctx, "tar", "-xJf", packed, "-C", unpacked)); err != nil {
		return err
	}
	if err := os.Rename(unpacked, home); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

// extract writes the only file of an archive whose name ends so.
func extract(archive, suffix, to string) (err error) {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, z.Close()) }()
	for _, f := range z.File {
		if strings.HasSuffix(f.Name, suffix) {
			return copyOut(f, to)
		}
	}
	return fmt.Errorf("%s holds no %s file", archive, suffix)
}

func copyOut(f *zip.File, to string) (err error) {
	in, err := f.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in) //nolint:gosec // an archive of a registry we chose, not a stranger's
	return err
}
