package cluster

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// gather reads all metrics of a registry: name and label values to value.
func gather(t *testing.T, b *bed) map[string]float64 {
	t.Helper()
	pedantic := prometheus.NewPedanticRegistry()
	pedantic.MustRegister(b.registry.Collectors()...)
	families, err := pedantic.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	values := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			key := f.GetName()
			for _, l := range m.GetLabel() {
				key += " " + l.GetValue()
			}
			values[key] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return values
}

func TestTheMetricsAreNamedByTheRulesAndComplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		b.claim(t)
		after(time.Second)
		failovers := gather(t, b)["caddy_postgres_failovers_total main"]
		b.servers["pg1"].fail(errDown)
		after(2 * time.Second)
		b.servers["pg2"].set(func(f *facts) { *f = primaryAt(2, 2000).f })
		after(2 * time.Second)

		values := gather(t, b)
		values["failovers"] = values["caddy_postgres_failovers_total main"] - failovers
		for key, want := range map[string]float64{
			"caddy_postgres_cluster_primary_up main":        1,
			"caddy_postgres_cluster_fit_replicas main":      0,
			"caddy_postgres_backend_up pg2 main":            1,
			"caddy_postgres_backend_up pg1 main":            0,
			"caddy_postgres_backend_role pg2 main primary":  1,
			"caddy_postgres_backend_role pg2 main replica":  0,
			"caddy_postgres_backend_state pg1 main failed":  1,
			"caddy_postgres_backend_state pg3 main lagging": 1,
			"caddy_postgres_backend_circuit_state pg1 main": 2,
			"caddy_postgres_backend_timeline pg2 main":      2,
			"caddy_postgres_pool_connections pg2 main idle": 0,
			"failovers": 1,
			"caddy_postgres_backend_health_score pg2 main":              1,
			"caddy_postgres_backend_in_flight pg2 main":                 0,
			"caddy_postgres_backend_health_score_part pg1 main circuit": 0,
		} {
			if got, ok := values[key]; !ok || got != want {
				t.Errorf("%s is %v (%v), want %v", key, got, ok, want)
			}
		}
	})
}
