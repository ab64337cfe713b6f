package postgres

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/fairwaydb/fairway/caddyfile"
	"github.com/fairwaydb/fairway/modules/docker"
)

var update = flag.Bool("update", false, "rewrite the golden files and the generated pages")

// caddyfiles is where goldens and examples are.
const caddyfiles = "../../caddyfile"

// dashes part a golden into the Caddyfile and what becomes of it.
const dashes = "----------\n"

// goldens calls f for each golden of a folder: it returns what becomes of the
// Caddyfile.
func goldens(t *testing.T, folder string, f func(t *testing.T, input string) string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(caddyfiles, "testdata", folder, "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d goldens, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			input, want, ok := strings.Cut(string(text), dashes)
			if !ok {
				t.Fatal("it has no line of ten dashes")
			}
			got := strings.TrimRight(f(t, input), "\n") + "\n"
			if got == want {
				return
			}
			if !*update {
				t.Fatalf("got\n%s\nwant\n%s", got, want)
			}
			if err := os.WriteFile(file, []byte(input+dashes+got), 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestGoldenAdapt(t *testing.T) {
	goldens(t, "adapt", func(t *testing.T, input string) string {
		body, err := adapt(input)
		if err != nil {
			t.Fatal(err)
		}
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, body, "", "\t"); err != nil {
			t.Fatal(err)
		}
		return pretty.String()
	})
}

func TestGoldenErrors(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("FAIRWAY_PASSWORD", "example") // the goldens are the same on every machine
	goldens(t, "errors", func(t *testing.T, input string) string {
		err := validate(input)
		if err == nil {
			t.Fatal("it is valid")
		}
		return err.Error()
	})
}

// validate does what caddy validate does.
func validate(input string) error {
	body, err := adapt(input)
	if err != nil {
		return err
	}
	var cfg caddy.Config
	if err := caddy.StrictUnmarshalJSON(body, &cfg); err != nil {
		return err
	}
	return caddy.Validate(&cfg)
}

// TestGoldenForEveryOption makes sure that each option of each table is written in
// a golden of both kinds.
func TestGoldenForEveryOption(t *testing.T) {
	for _, folder := range []string{"adapt", "errors"} {
		files, err := filepath.Glob(filepath.Join(caddyfiles, "testdata", folder, "*.txt"))
		if err != nil {
			t.Fatal(err)
		}
		written := make(map[string]bool)
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			input, _, _ := strings.Cut(string(text), dashes)
			for line := range strings.Lines(input) {
				if word, _, _ := strings.Cut(strings.TrimSpace(line), " "); word != "" {
					written[word] = true
				}
			}
		}
		everyOption(new(App).Options(), func(o *caddyfile.Option) {
			if !written[o.Name] {
				t.Errorf("no golden in %s has the option %s", folder, o.Name)
			}
		})
		everyOption(append(new(Handler).Options(), new(docker.App).Options()...), func(o *caddyfile.Option) {
			if !written[o.Name] {
				t.Errorf("no golden in %s has the option %s", folder, o.Name)
			}
		})
	}
}

// everyOption calls f for each option of a table, of its blocks and of its guests.
func everyOption(table caddyfile.Options, f func(o *caddyfile.Option)) {
	for i := range table {
		o := &table[i]
		f(o)
		if o.Block != nil {
			everyOption(o.Block(), f)
		}
		if o.Guest == "" {
			continue
		}
		for _, m := range caddy.GetModules(o.Guest) {
			if guest, ok := m.New().(caddyfile.Tabled); ok {
				everyOption(guest.Options(), f)
			}
		}
	}
}

func TestEveryExampleIsValid(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	t.Setenv("FAIRWAY_PASSWORD", "example")
	t.Chdir("../..") // paths in examples are written for the top of the repository
	files, err := filepath.Glob("caddyfile/examples/*.Caddyfile")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d examples, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := validate(string(text)); err != nil {
				t.Error(err)
			}
		})
	}
}
