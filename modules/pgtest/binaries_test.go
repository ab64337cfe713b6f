package pgtest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestFindBinaries(t *testing.T) {
	// A server in install, reached by links that lie apart from it, as distributions and containers make them.
	install, links, empty := t.TempDir(), t.TempDir(), t.TempDir()
	install, err := filepath.EvalSymlinks(install)
	must(t, err)
	for _, name := range []string{"postgres", "initdb"} {
		must(t, os.WriteFile(filepath.Join(install, name), nil, 0o755))
		must(t, os.Symlink(filepath.Join(install, name), filepath.Join(links, name)))
	}
	defer func(old []string) { packaged = old }(packaged)
	packaged = nil
	cases := map[string]struct {
		pgbin, path string
		packaged    []string
		want        string
	}{
		"the variable wins over the path":      {pgbin: install, path: links, want: install},
		"a variable that is wrong is an error": {pgbin: empty, path: links},
		"a link on the path leads home":        {path: empty + string(os.PathListSeparator) + links, want: install},
		"packages are looked at last":          {path: empty, packaged: []string{empty, install}, want: install},
		"nothing anywhere is an error":         {path: empty},
	}
	for name, tt := range cases {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PGBIN", tt.pgbin)
			t.Setenv("PATH", tt.path)
			packaged = tt.packaged
			got, err := FindBinaries()
			if got != tt.want || (tt.want == "" && !errors.Is(err, ErrNoBinaries)) {
				t.Fatalf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestMajorVersion(t *testing.T) {
	for dir, want := range map[string]int{
		"/usr/lib/postgresql/15/bin":           15,
		"/usr/pgsql-9/bin":                     9,
		"/opt/homebrew/opt/postgresql@17/bin":  17,
		"/home/somebody/installation/bin/here": 0,
	} {
		if got := majorVersion(dir); got != want {
			t.Errorf("%s: got %d, want %d", dir, got, want)
		}
	}
}
