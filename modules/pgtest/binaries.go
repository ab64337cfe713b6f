package pgtest

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ErrNoBinaries means that no PostgreSQL server is installed where FindBinaries looks. Its text names the remedy.
var ErrNoBinaries = errors.New("no PostgreSQL server binaries (initdb, postgres) found in $PGBIN, $PATH or " +
	"/usr/lib/postgresql/*/bin: install a server (Debian and Ubuntu: apt-get install postgresql; " +
	"macOS: brew install postgresql) or set PGBIN to the directory that holds them")

// packaged are the places where distributions put a server that is not on the path, one directory per major version.
var packaged = []string{
	"/usr/lib/postgresql/*/bin",          // Debian, Ubuntu
	"/usr/pgsql-*/bin",                   // the PostgreSQL project's RPMs
	"/usr/local/opt/postgresql@*/bin",    // Homebrew on Intel
	"/opt/homebrew/opt/postgresql@*/bin", // Homebrew on Apple silicon
}

// FindBinaries returns the directory of a PostgreSQL server's binaries: $PGBIN if it is set, else the first directory of
// $PATH with a server in it, else the newest version among the places where distributions put them. Symbolic links are
// resolved, so that a link to initdb alone leads to the whole installation. It returns ErrNoBinaries when there is none.
func FindBinaries() (string, error) {
	if dir := os.Getenv("PGBIN"); dir != "" {
		if found := serverDir(dir); found != "" {
			return found, nil
		}
		return "", fmt.Errorf("PGBIN=%s holds no initdb and postgres: %w", dir, ErrNoBinaries)
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if found := serverDir(dir); found != "" {
			return found, nil
		}
	}
	for _, pattern := range packaged {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			return "", fmt.Errorf("look for binaries in %s: %w", pattern, err)
		}
		slices.SortFunc(dirs, func(a, b string) int { return cmp.Compare(majorVersion(b), majorVersion(a)) })
		for _, dir := range dirs {
			if found := serverDir(dir); found != "" {
				return found, nil
			}
		}
	}
	return "", ErrNoBinaries
}

// serverDir returns the directory in which dir's postgres really lies if initdb is there too, else "".
func serverDir(dir string) string {
	if dir == "" {
		return "" // an empty element of PATH means the working directory: never run binaries from there
	}
	real, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres"))
	if err != nil {
		return ""
	}
	home := filepath.Dir(real)
	if !hasBinary(home, "postgres") || !hasBinary(home, "initdb") {
		return ""
	}
	return home
}

// hasBinary reports whether dir holds an executable file of that name.
func hasBinary(dir, name string) bool {
	info, err := os.Stat(filepath.Join(dir, name))
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

// majorVersion is the number in a path such as /usr/lib/postgresql/15/bin, 0 when there is none.
func majorVersion(dir string) int {
	for _, part := range strings.Split(filepath.ToSlash(dir), "/") {
		digits := part[strings.LastIndexAny(part, "-@")+1:]
		if major, err := strconv.Atoi(digits); err == nil {
			return major
		}
	}
	return 0
}
