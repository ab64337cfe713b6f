package postgres

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// The pages below are made from the code: `make docs` writes them, the tests say when that was forgotten.

func init() {
	if flag.Lookup("update") == nil {
		flag.Bool("update", false, "rewrite the generated pages and golden files")
	}
}

// page compares the page of docs/ with what it should be, or rewrites it.
func page(t *testing.T, name, want string) {
	t.Helper()
	path := filepath.Join("..", "..", "docs", name)
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("docs/%s is not what the code says: run make docs", name)
	}
}

func TestDocsListEveryOption(t *testing.T) {
	page(t, "options.md", "# Options\n\n"+
		"Made from the tables that read the Caddyfile (`make docs`). In JSON the names are the same; the comments of the config structs say more.\n\n"+
		"The options of the app apply to everybody as soon as a reload has succeeded, those of the handler to sessions that start after it.\n\n"+
		new(App).Options().Markdown("postgres")+"\n"+
		new(Handler).Options().Markdown("layer4 › postgres <cluster>"))
}

// description matches what a descriptor prints: it has no accessors.
var description = regexp.MustCompile(`^Desc\{fqName: "([^"]+)", help: "(.*?)", (?:unit: "[^"]*", )?constLabels: \{\}, variableLabels: \{(.*)\}\}$`)

// kind is the type of the metrics of a collector.
func kind(c prometheus.Collector, name string) string {
	switch c.(type) {
	case *prometheus.HistogramVec, prometheus.Histogram:
		return "histogram"
	case *prometheus.CounterVec:
		return "counter"
	}
	if strings.HasSuffix(name, "_total") {
		return "counter"
	}
	return "gauge"
}

func TestDocsListEveryMetric(t *testing.T) {
	var rows []string
	for _, c := range collectors {
		descs := make(chan *prometheus.Desc)
		go func() {
			defer close(descs)
			c.Describe(descs)
		}()
		for d := range descs {
			m := description.FindStringSubmatch(d.String())
			if m == nil {
				t.Fatalf("can not read %s", d)
			}
			labels := "`" + strings.Join(strings.Split(m[3], ","), "`, `") + "`"
			if m[3] == "" {
				labels = ""
			}
			rows = append(rows, fmt.Sprintf("| `%s` | %s | %s | %s |\n", m[1], kind(c, m[1]), labels, m[2]))
			if !strings.HasPrefix(m[1], "caddy_postgres_") {
				t.Errorf("%s has not the prefix caddy_postgres_", m[1])
			}
		}
	}
	slices.SortFunc(rows, func(a, b string) int {
		return strings.Compare(strings.ReplaceAll(a, "`", " "), strings.ReplaceAll(b, "`", " "))
	})
	page(t, "metrics.md", "# Metrics\n\n"+
		"On Caddy's `/metrics`. Made from the collectors (`make docs`). Counters live as long as the process: a reload does not reset them.\n\n"+
		"| Name | Type | Labels | Meaning |\n|---|---|---|---|\n"+strings.Join(rows, ""))
}
