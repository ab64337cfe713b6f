package postgres

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairwaydb/fairway/modules/cluster"
	_ "github.com/fairwaydb/fairway/modules/dns" // its options and metrics
	"github.com/fairwaydb/fairway/modules/docker"
)

// generated compares a page of the documentation with what it should be; -update
// writes it.
func generated(t *testing.T, page, want string) {
	t.Helper()
	path := "../../docs/" + page
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("docs/%s is not current: run make docs", page)
	}
}

const optionsIntro = `# Options

Made from the tables that read the Caddyfile (` + "`make docs`" + `).

How to read the tables: ` + "`<x>`" + ` is an argument, ` + "`[<x>]`" + ` may be left out, ` + "`a|b`" + ` is one of the words, ` + "`<x>...`" + ` is one or more, and
` + "`{ … }`" + ` is a block with a table of its own. Durations have a unit (` + "`500ms`, `30s`, `5m`, `1h`, `1d`" + `); sizes are bytes or have one (` + "`64KiB`, `16MiB`" + `: powers of 1024;
` + "`64kB`, `16MB`" + `: powers of 1000). Unknown and repeated options are errors. In JSON the options have the same names, durations may be written as strings, and sizes are bytes.
Passwords are placeholders: ` + "`{env.NAME}` or `{file./path}`" + `.

Settings of a cluster hold for all sessions at once when the configuration is reloaded; those of a listener hold for sessions that begin afterwards.

`

func TestDocsOptions(t *testing.T) {
	generated(t, "options.md", optionsIntro+
		"# The global option `postgres`\n\n"+new(App).Options().Markdown("postgres")+
		"\n# The handler `postgres <cluster>` in a route of `layer4`\n\n"+
		"The address of the server is best one of the network `pg`, as in `pg/:6432`: such a listener survives reloads without resetting a connection.\n\n"+
		new(Handler).Options().Markdown("layer4 › route › postgres")+
		"\n# The global option `docker_discovery`\n\n"+
		"Where Docker engines are, for the sources `docker` of clusters: see [discovery.md](discovery.md).\n\n"+
		new(docker.App).Options().Markdown("docker_discovery"))
}

// described is what a prometheus.Desc says of itself.
var described = regexp.MustCompile(`fqName: "([^"]+)", help: "(.*?)", (?:unit: "[^"]*", )?constLabels: \{\}, variableLabels: \{([^}]*)\}`)

func TestDocsMetrics(t *testing.T) {
	var rows []string
	seen := make(map[string]bool)
	for _, c := range slices.Concat(collectors, cluster.SourceCollectors()) {
		descs := make(chan *prometheus.Desc)
		go func() {
			c.Describe(descs)
			close(descs)
		}()
		for d := range descs {
			m := described.FindStringSubmatch(d.String())
			if m == nil {
				t.Fatalf("cannot read %s", d)
			}
			name, help, labels := m[1], m[2], m[3]
			if seen[name] {
				t.Errorf("%s is there twice", name)
			}
			seen[name] = true
			if !strings.HasPrefix(name, "caddy_postgres_") {
				t.Errorf("%s has another prefix than ours", name)
			}
			if labels != "" {
				labels = "`" + strings.ReplaceAll(labels, ",", "`, `") + "`"
			}
			rows = append(rows, fmt.Sprintf("| `%s` | %s | %s | %s |\n", name, kind(c, name), labels, help))
		}
	}
	slices.SortFunc(rows, func(a, b string) int {
		return strings.Compare(strings.ReplaceAll(a, "`", " "), strings.ReplaceAll(b, "`", " "))
	})
	generated(t, "metrics.md", "# Metrics\n\n"+
		"On Caddy's `/metrics`. Made from the collectors (`make docs`). Counters live as long as the process: a reload does not reset them. "+
		"The series of a backend that has left its cluster end an hour after it is gone, or sooner when more than 1000 others have left since: one of its name that comes back before goes on counting.\n\n"+
		"| Name | Type | Labels | Meaning |\n|---|---|---|---|\n"+strings.Join(rows, ""))
}

// kind is the type of a metric.
func kind(c prometheus.Collector, name string) string {
	switch c.(type) {
	case *prometheus.HistogramVec, prometheus.Histogram:
		return "histogram"
	}
	if strings.HasSuffix(name, "_total") {
		return "counter"
	}
	return "gauge"
}

// fenced matches an example in a page.
var (
	fenced = regexp.MustCompile("(?s)```caddyfile\n(.*?)```")
	global = regexp.MustCompile("(?s)```caddyfile-global\n(.*?)```")
)

func TestDocsShowWhatCaddyfilesTake(t *testing.T) {
	for _, page := range []string{"tls.md", "discovery.md"} {
		t.Run(page, func(t *testing.T) { examplesAdapt(t, "../../docs/"+page) })
	}
}

// examplesAdapt adapts each example of a page.
func examplesAdapt(t *testing.T, path string) {
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	examples := fenced.FindAllStringSubmatch(string(page), -1)
	if len(examples) == 0 {
		t.Fatalf("%s has no examples", path)
	}
	for _, m := range global.FindAllStringSubmatch(string(page), -1) {
		if _, err := adapt("{\n" + m[1] + "}\n"); err != nil {
			t.Errorf("%v\n%s", err, m[1])
		}
	}
	for _, m := range examples {
		input := "{\npostgres {\ncluster main {\n" + m[1] + "}\n}\n}\n"
		if strings.HasPrefix(m[1], "postgres ") {
			input = "{\nlayer4 {\npg/:6432 {\nroute {\n" + m[1] + "}\n}\n}\n}\n"
		}
		if _, err := adapt(input); err != nil {
			t.Errorf("%v\n%s", err, m[1])
		}
	}
}
