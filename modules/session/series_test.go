package session

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairwaydb/fairway/modules/pgsql"
)

func TestTheSeriesOfABackendEndAndBeginAnew(t *testing.T) {
	shown := func() string {
		registry := prometheus.NewRegistry()
		registry.MustRegister(statementsTotal, statementSeconds)
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var all strings.Builder
		for _, f := range families {
			for _, m := range f.GetMetric() {
				if text := m.String(); strings.Contains(text, `"series"`) && strings.Contains(text, `"pg1"`) {
					all.WriteString(f.GetName() + " " + text + "\n")
				}
			}
		}
		return all.String()
	}
	count := func() {
		metricsFor("series").backend("pg1").statements[pgsql.KindRead].Inc()
	}
	count()
	count()
	if got := shown(); !strings.Contains(got, "value:2") || !strings.Contains(got, "caddy_postgres_statement_seconds") {
		t.Fatalf("got %s", got)
	}
	dropSeries("series", "pg1")
	if got := shown(); got != "" {
		t.Errorf("left: %s", got)
	}
	count()
	if got := shown(); !strings.Contains(got, "value:1") {
		t.Errorf("after it came back: %s", got)
	}
}
