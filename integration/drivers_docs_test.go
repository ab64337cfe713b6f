package integration_test

import (
	"encoding/json"
	"encoding/xml"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// driverRow is a row of the table of docs/drivers.md.
type driverRow struct{ version, url, program string }

// driverTable reads the first table of docs/drivers.md.
func driverTable(t *testing.T) map[string]driverRow {
	t.Helper()
	page, err := os.ReadFile("../docs/drivers.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "\n|---|---|---|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	rows := make(map[string]driverRow)
	for line := range strings.SplitSeq(table, "\n") {
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		if len(cells) != 5 {
			t.Fatalf("a row of %d cells: %s", len(cells), line)
		}
		_, program, _ := strings.Cut(cells[4], "](../integration/")
		rows[cells[0]] = driverRow{version: cells[1], url: strings.Trim(cells[3], "`"), program: strings.TrimSuffix(program, ")")}
	}
	return rows
}

// pinnedVersions reads the versions of the drivers from the files that the package managers follow.
func pinnedVersions(t *testing.T) map[string]string {
	t.Helper()
	read := func(path string) []byte {
		text, err := os.ReadFile(filepath.Join("drivers", path))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	// match returns the only group of an expression that must be found.
	match := func(path, expression string) string {
		m := regexp.MustCompile(expression).FindSubmatch(read(path))
		if m == nil {
			t.Fatalf("%s: nothing matches %s", path, expression)
		}
		return string(m[1])
	}
	var pom struct {
		Version string `xml:"dependencies>dependency>version"`
	}
	if err := xml.Unmarshal(read("java/pom.xml"), &pom); err != nil {
		t.Fatal(err)
	}
	var node struct{ Dependencies map[string]string }
	if err := json.Unmarshal(read("node/package.json"), &node); err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"pgx":            match("go/go.mod", `jackc/pgx/v5 v(\S+)`),
		"lib/pq":         match("go/go.mod", `lib/pq v(\S+)`),
		"psycopg 3":      match("python/requirements.txt", `psycopg\[binary\]==(\S+)`),
		"psycopg 2":      match("python/requirements.txt", `psycopg2-binary==(\S+)`),
		"asyncpg":        match("python/requirements.txt", `asyncpg==(\S+)`),
		"SQLAlchemy":     match("python/requirements.txt", `SQLAlchemy==(\S+)`),
		"node-postgres":  node.Dependencies["pg"],
		"pgjdbc":         pom.Version,
		"tokio-postgres": match("rust/tokio-postgres/Cargo.toml", `tokio-postgres = "=(\S+)"`),
		"sqlx":           match("rust/sqlx/Cargo.toml", `sqlx = \{ version = "=([^"]+)"`),
	}
}

// TestDriverTableSaysWhatIsTested compares docs/drivers.md with the programs and the versions that are pinned for them.
func TestDriverTableSaysWhatIsTested(t *testing.T) {
	table, pinned := driverTable(t), pinnedVersions(t)
	var tested []string
	for _, d := range drivers {
		tested = append(tested, d.name)
		row, ok := table[d.name]
		if !ok {
			t.Errorf("docs/drivers.md does not have %s", d.name)
			continue
		}
		if row.url != d.url {
			t.Errorf("docs/drivers.md connects %s with %s, the tests with %s", d.name, row.url, d.url)
		}
		if d.name == "libpq" {
			continue // the system's
		}
		if row.version != pinned[d.name] {
			t.Errorf("docs/drivers.md says %s %s, pinned is %q", d.name, row.version, pinned[d.name])
		}
	}
	if got := slices.Sorted(maps.Keys(table)); !slices.Equal(got, slices.Sorted(slices.Values(tested))) {
		t.Errorf("docs/drivers.md has %v, tested are %v", got, tested)
	}
	for name, row := range table {
		if _, err := os.Stat(row.program); err != nil {
			t.Errorf("docs/drivers.md: the program of %s: %v", name, err)
		}
	}
}

// TestDriverLocksNameNoRegistry looks for addresses in the lock files: where packages come from is the matter of the machine.
func TestDriverLocksNameNoRegistry(t *testing.T) {
	for path, allowed := range map[string]string{
		"node/package-lock.json": "", "rust/Cargo.lock": "https://github.com/rust-lang/crates.io-index", "python/requirements.txt": "",
	} {
		text, err := os.ReadFile(filepath.Join("drivers", path))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`"resolved".*|source = "[^"]*"|https?://\S*/-/\S*`).FindAllString(string(text), -1) {
			if allowed == "" || !strings.Contains(m, allowed) {
				t.Errorf("%s names a place: %s", path, m)
				break
			}
		}
	}
}
