package docker

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairwaydb/fairway/modules/cluster"
)

func init() {
	cluster.AddCollectors(eventsTotal, listsTotal, listSeconds, streamsLostTotal, &gauges{})
}

var (
	eventsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_postgres_docker_events_total",
		Help: "Events of a Docker engine that made its containers be listed.",
	}, []string{"engine"})

	listsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_postgres_docker_lists_total",
		Help: "Times the containers of a Docker engine were listed, by outcome.",
	}, []string{"engine", "outcome"})

	listSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "caddy_postgres_docker_list_seconds",
		Help:    "Time to list the containers of a Docker engine.",
		Buckets: []float64{.001, .005, .01, .05, .1, .5, 1, 5, 10},
	}, []string{"engine"})

	streamsLostTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_postgres_docker_streams_lost_total",
		Help: "Streams of events of a Docker engine that broke, or could not be opened.",
	}, []string{"engine"})
)

// engineMetrics are the metrics of one engine.
type engineMetrics struct {
	events, answered, failed, streamsLost prometheus.Counter
	seconds                               prometheus.Observer
}

func newEngineMetrics(host string) *engineMetrics {
	return &engineMetrics{
		events:   eventsTotal.WithLabelValues(host),
		answered: listsTotal.WithLabelValues(host, "answered"), failed: listsTotal.WithLabelValues(host, "failed"),
		streamsLost: streamsLostTotal.WithLabelValues(host),
		seconds:     listSeconds.WithLabelValues(host),
	}
}

// listed counts a list.
func (m *engineMetrics) listed(took time.Duration, err error) {
	if err != nil {
		m.failed.Inc()
		return
	}
	m.answered.Inc()
	m.seconds.Observe(took.Seconds())
}

var (
	descUp      = prometheus.NewDesc("caddy_postgres_docker_up", "1 while a Docker engine answers.", []string{"engine"}, nil)
	descFound   = prometheus.NewDesc("caddy_postgres_docker_backends", "Containers that are backends of a cluster.", []string{"cluster"}, nil)
	descLeftOut = prometheus.NewDesc("caddy_postgres_docker_containers_left_out",
		"Containers that have the labels of a cluster's backends and cannot be used; the log says why.", []string{"cluster"}, nil)
)

// gauges collects what the watchers and the sources know.
type gauges struct{}

// Describe implements prometheus.Collector.
func (*gauges) Describe(ch chan<- *prometheus.Desc) {
	ch <- descUp
	ch <- descFound
	ch <- descLeftOut
}

// Collect implements prometheus.Collector.
func (*gauges) Collect(ch chan<- prometheus.Metric) {
	up := make(map[string]float64)
	watchers.Range(func(_, value any) bool {
		if w, ok := value.(*watcher); ok && w.isStarted() {
			v := 0.0
			if w.isUp() {
				v = 1
			}
			up[w.host] = max(up[w.host], v)
		}
		return true
	})
	for host, v := range up {
		ch <- prometheus.MustNewConstMetric(descUp, prometheus.GaugeValue, v, host)
	}
	for cluster, n := range running.sums() {
		ch <- prometheus.MustNewConstMetric(descFound, prometheus.GaugeValue, float64(n.found), cluster)
		ch <- prometheus.MustNewConstMetric(descLeftOut, prometheus.GaugeValue, float64(n.left), cluster)
	}
}
