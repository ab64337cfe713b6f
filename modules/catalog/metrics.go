package catalog

import "github.com/prometheus/client_golang/prometheus"

var (
	loadSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "caddy_postgres_catalog_load_seconds",
		Help:    "Time to read what the schema of a database tells about its functions and relations.",
		Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	}, []string{"cluster"})

	failuresTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_postgres_catalog_failures_total",
		Help: "Times the catalog of a database could not be read.",
	}, []string{"cluster"})

	descNames = prometheus.NewDesc("caddy_postgres_catalog_names",
		"Names known from the catalogs of all databases in use.", []string{"cluster"}, nil)
)

func loads(cluster string) prometheus.Observer   { return loadSeconds.WithLabelValues(cluster) }
func failures(cluster string) prometheus.Counter { return failuresTotal.WithLabelValues(cluster) }

// Collectors returns the collectors of this package. They are the process's: the same go into each registry.
func Collectors() []prometheus.Collector {
	return []prometheus.Collector{loadSeconds, failuresTotal, gauges{}}
}

// gauges collects what the keepers hold.
type gauges struct{}

// Describe implements [prometheus.Collector].
func (gauges) Describe(ch chan<- *prometheus.Desc) { ch <- descNames }

// Collect implements [prometheus.Collector].
func (gauges) Collect(ch chan<- prometheus.Metric) {
	sizes := map[string]int{}
	keepers.mu.Lock()
	for key, k := range keepers.all {
		sizes[key.c.Name()] += k.facts.Load().Size()
	}
	keepers.mu.Unlock()
	for name, n := range sizes {
		ch <- prometheus.MustNewConstMetric(descNames, prometheus.GaugeValue, float64(n), name)
	}
}
