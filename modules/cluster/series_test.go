package cluster

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairwaydb/fairway/modules/pool"
)

// seriesOf counts the series of a backend: gauges, and counters and histograms of this package and the pools'.
func seriesOf(t *testing.T, b *bed, backend string) (n int) {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(b.registry.Collectors()...)
	registry.MustRegister(pool.Collectors()...)
	if _, err := registry.Gather(); err != nil { // the next one sees what this one ends
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := make(map[string]string)
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels[labelCluster] == b.name && labels[labelBackend] == backend {
				n++
			}
		}
	}
	return n
}

func TestTheSeriesOfABackendThatHasLeftEndAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		claims := []*Claim{b.claim(t)}
		without := func(name string) {
			claims = append(claims, b.claim(t, func(s *Settings) {
				for i, e := range s.Backends {
					if e.Name == name {
						s.Backends = append(s.Backends[:i], s.Backends[i+1:]...)
						return
					}
				}
			}))
			after(time.Minute)
		}
		after(time.Second)
		failures := func() float64 { return gather(t, b)["caddy_postgres_backend_failures_total pg3 main"] }
		b.Topology().Member("pg3").Backend.metrics.failures.Add(7)
		before := failures()

		without("pg3")
		after(seriesTime - 2*time.Minute)
		if seriesOf(t, b, "pg3") == 0 {
			t.Error("the series have ended before their time")
		}
		claims = append(claims, b.claim(t)) // it comes back
		after(time.Minute)
		b.Topology().Member("pg3").Backend.metrics.failures.Inc()
		if got := failures(); got != before+1 {
			t.Errorf("a backend that came back counts %v, want %v", got, before+1)
		}
		after(2 * seriesTime)
		if seriesOf(t, b, "pg3") == 0 {
			t.Error("the series of a backend that is there have ended")
		}

		without("pg3")
		after(seriesTime)
		if n := seriesOf(t, b, "pg3"); n != 0 {
			t.Errorf("%d series are left of a backend that left an hour ago", n)
		}
		if seriesOf(t, b, "pg2") == 0 {
			t.Error("the series of another backend have ended")
		}
		claims = append(claims, b.claim(t))
		after(time.Minute)
		if got := failures(); got != 0 {
			t.Errorf("it begins with %v", got)
		}

		for _, c := range claims { // the cluster leaves the configuration
			c.Release()
		}
		after(seriesTime)
		for _, name := range []string{"pg1", "pg2", "pg3"} {
			if n := seriesOf(t, b, name); n != 0 {
				t.Errorf("%d series are left of %s", n, name)
			}
		}
	})
}

func TestTheSeriesOfBackendsThatHaveLeftAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended []string
		k := seriesKeeper{drops: []func(_, backend string){func(_, backend string) { ended = append(ended, backend) }}}
		for i := range seriesKept + 2 {
			name := fmt.Sprint("pg", i)
			k.enter("main", name)
			k.leave("main", name)
			after(time.Millisecond)
		}
		if got := strings.Join(ended, " "); got != "pg0 pg1" {
			t.Errorf("ended: %s", got)
		}
	})
}
