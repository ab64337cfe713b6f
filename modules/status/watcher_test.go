package status

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

const scrape = `# HELP caddy_postgres_backend_role 1 for the role the backend has.
# TYPE caddy_postgres_backend_role gauge
caddy_postgres_backend_role{backend="pg1",cluster="demo",role="primary"} 1
caddy_postgres_backend_role{backend="pg1",cluster="demo",role="replica"} 0
caddy_postgres_backend_role{backend="pg2",cluster="demo",role="replica"} 1
caddy_postgres_backend_role{backend="pg9",cluster="other",role="replica"} 1
caddy_postgres_backend_state{backend="pg1",cluster="demo",state="healthy"} 1
caddy_postgres_backend_state{backend="pg2",cluster="demo",state="lagging"} 1
caddy_postgres_backend_state{backend="pg2",cluster="demo",state="healthy"} 0
caddy_postgres_backend_health_score{backend="pg1",cluster="demo"} 0.75
caddy_postgres_backend_lag_bytes{backend="pg1",cluster="demo"} 0
caddy_postgres_backend_lag_bytes{backend="pg2",cluster="demo"} 1.048576e+06
caddy_postgres_pool_connections{backend="pg2",cluster="demo",state="idle"} 3
caddy_postgres_pool_connections{backend="pg2",cluster="demo",state="in_use"} 2
caddy_postgres_pool_connections{backend="pg2",cluster="demo",state="waiting"} 1
go_goroutines 12
broken{backend="pg1
`

func statements(pg1write, pg2read string) string {
	return scrape + `caddy_postgres_statements_total{backend="pg1",class="write",cluster="demo"} ` + pg1write + `
caddy_postgres_statements_total{backend="pg2",class="read",cluster="demo"} ` + pg2read + "\n"
}

func TestRowsComeFromMetricsAndRatesFromTwoOfThem(t *testing.T) {
	w, began := NewWatcher("demo", nil), time.Now()
	read := func(text string) []sample {
		samples, err := readSamples(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		return samples
	}
	w.digest(read(statements("10", "100")), began)
	got := w.digest(read(statements("30", "300")), began.Add(2*time.Second))
	want := []Row{
		{Name: "pg1", Role: "primary", State: "healthy", Score: 0.75, Scored: true, Lag: -1, Writes: 10},
		{Name: "pg2", Role: "replica", State: "lagging", Lag: 1 << 20, Reads: 100, Open: 5, InUse: 2, Waiting: 1},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestParseSample(t *testing.T) {
	cases := map[string]struct {
		line string
		want sample
		ok   bool
	}{
		"no labels":              {"up 1", sample{"up", map[string]string{}, 1}, true},
		"empty braces":           {"up{} 1", sample{"up", map[string]string{}, 1}, true},
		"escapes and a brace":    {`a{x="1\"}",y="b\\"} 2e3`, sample{"a", map[string]string{"x": `1"}`, "y": `b\`}, 2000}, true},
		"a time behind":          {"up 1 1700000000000", sample{"up", map[string]string{}, 1}, true},
		"a comment":              {"# up 1", sample{}, false},
		"an empty line":          {"", sample{}, false},
		"an unterminated string": {`a{x="1`, sample{}, false},
		"no number":              {"up one", sample{}, false},
	}
	for name, tt := range cases {
		t.Run(name, func(t *testing.T) {
			got, ok := parseSample(tt.line)
			if ok != tt.ok || (ok && !reflect.DeepEqual(got, tt.want)) {
				t.Errorf("got %+v, %t", got, ok)
			}
		})
	}
}
