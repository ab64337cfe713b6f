package dns

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairwaydb/fairway/modules/cluster"
)

func init() { cluster.AddCollectors(lookupsTotal, running) }

var lookupsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
	Name: "caddy_postgres_dns_lookups_total",
	Help: "Look-ups of the names of sources, by outcome.",
}, []string{"cluster", "outcome"})

// sourceMetrics are the counters of one source.
type sourceMetrics struct{ answered, failed prometheus.Counter }

func newSourceMetrics(cluster string) *sourceMetrics {
	return &sourceMetrics{
		answered: lookupsTotal.WithLabelValues(cluster, "answered"),
		failed:   lookupsTotal.WithLabelValues(cluster, "failed"),
	}
}

var descUp = prometheus.NewDesc("caddy_postgres_dns_up", "1 while the name of a source is resolved.", []string{"cluster", "name"}, nil)

// running are the names that are looked up now, and whether that works.
var running = &states{of: make(map[[2]string]*state)}

// state is that of one name.
type state struct {
	runs int
	up   bool
}

// states collects the gauges; it is safe for concurrent use.
type states struct {
	mu sync.Mutex
	of map[[2]string]*state
}

func (s *states) add(cluster, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := [2]string{cluster, name}
	if s.of[key] == nil {
		s.of[key] = new(state)
	}
	s.of[key].runs++
}

func (s *states) set(cluster, name string, up bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if one := s.of[[2]string{cluster, name}]; one != nil {
		one.up = up
	}
}

func (s *states) remove(cluster, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := [2]string{cluster, name}
	if s.of[key].runs--; s.of[key].runs == 0 {
		delete(s.of, key)
	}
}

// Describe implements prometheus.Collector.
func (*states) Describe(ch chan<- *prometheus.Desc) { ch <- descUp }

// Collect implements prometheus.Collector.
func (s *states) Collect(ch chan<- prometheus.Metric) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, one := range s.of {
		v := 0.0
		if one.up {
			v = 1
		}
		ch <- prometheus.MustNewConstMetric(descUp, prometheus.GaugeValue, v, key[0], key[1])
	}
}
