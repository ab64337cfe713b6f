package pool

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// closings reads the counters of closed connections.
func closings(m *Metrics) (n [reasonCount]int) {
	for r := reasonNone + 1; r < reasonCount; r++ {
		n[r] = int(value(m.closings[r]))
	}
	return n
}

// value reads one counter.
func value(c prometheus.Counter) float64 {
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil || len(families) != 1 {
		return -1
	}
	return families[0].GetMetric()[0].GetCounter().GetValue()
}

func TestMetricsCanBeRegisteredAndAreNamedByTheRules(t *testing.T) {
	MetricsFor("c", "b")
	registry := prometheus.NewPedanticRegistry()
	for _, c := range Collectors() {
		if err := registry.Register(c); err != nil {
			t.Fatal(err)
		}
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "caddy_postgres_pool_") {
			t.Errorf("%s lacks the prefix", f.GetName())
		}
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}

func TestMetricsOfNobodyCountNothing(t *testing.T) {
	var m *Metrics
	m.opened()
	m.closed(reasonIdle)
	m.dialFailed()
	m.waited(time.Second, nil)
	m.refused(ErrTooManyWaiters)
	m.cancelled(nil)
}

func TestWaitsAreCountedByOutcome(t *testing.T) {
	v := newServer(t)
	s := v.newSet(t, Limits{Size: 1})
	m := s.metrics
	numbers := func() [5]float64 {
		return [...]float64{
			value(m.waits[outcomeServed]), value(m.waits[outcomeDialFailed]), value(m.waits[outcomeTimeout]),
			value(m.failures), value(m.openings),
		}
	}
	before := numbers()
	acquire(t, s, alice).Release()
	v.refuse(errRefused)
	_, _ = s.Acquire(t.Context(), bob)
	after := numbers()
	for i, want := range [...]float64{1, 1, 0, 1, 1} {
		if got := after[i] - before[i]; got != want {
			t.Errorf("number %d: %v, want %v", i, got, want)
		}
	}
}
