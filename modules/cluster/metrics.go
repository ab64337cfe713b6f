package cluster

import (
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairwaydb/fairway/modules/pool"
)

// Labels of this package: names of clusters and backends, and closed sets.
const (
	labelCluster = "cluster"
	labelBackend = "backend"
)

var backendLabels = []string{labelCluster, labelBackend}

var (
	transitionsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_postgres_circuit_transitions_total",
		Help: "Moves of the circuit breaker, by the states it left and entered.",
	}, []string{labelCluster, labelBackend, "from", "to"})

	failuresTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_postgres_backend_failures_total",
		Help: "Turns and dials whose failure counts against the backend.",
	}, backendLabels)

	probeFailuresTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_postgres_backend_probe_failures_total",
		Help: "Probes of the monitor that were not answered.",
	}, backendLabels)

	failoversTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_postgres_failovers_total",
		Help: "Times another backend became the primary.",
	}, []string{labelCluster})

	joinsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_postgres_backend_joins_total",
		Help: "Times a backend was added to the cluster, by the configuration or by a source.",
	}, []string{labelCluster})

	leavesTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_postgres_backend_leaves_total",
		Help: "Times a backend was removed from the cluster.",
	}, []string{labelCluster})

	outageSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "caddy_postgres_primary_outage_seconds",
		Help:    "Time without a primary, until there was one again.",
		Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
	}, []string{labelCluster})

	cooldownRefusalsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_postgres_cooldown_refusals_total",
		Help: "Changes of the number of backends by the admin API that came too soon after the last one.",
	}, []string{labelCluster})

	authQueriesTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_postgres_auth_queries_total",
		Help: "Queries for the verifier of a user, by outcome.",
	}, []string{labelCluster, "outcome"})
)

// backendMetrics are the counters of one backend.
type backendMetrics struct {
	failures, probeFailures prometheus.Counter
}

func newBackendMetrics(cluster, backend string) *backendMetrics {
	return &backendMetrics{
		failures:      failuresTotal.WithLabelValues(cluster, backend),
		probeFailures: probeFailuresTotal.WithLabelValues(cluster, backend),
	}
}

// clusterMetrics are the counters of one cluster.
type clusterMetrics struct {
	failovers, joins, leaves, cooldowns prometheus.Counter
	outages                             prometheus.Observer
}

func newClusterMetrics(cluster string) *clusterMetrics {
	return &clusterMetrics{
		failovers: failoversTotal.WithLabelValues(cluster),
		joins:     joinsTotal.WithLabelValues(cluster),
		leaves:    leavesTotal.WithLabelValues(cluster),
		outages:   outageSeconds.WithLabelValues(cluster),
		cooldowns: cooldownRefusalsTotal.WithLabelValues(cluster),
	}
}

func transitions(cluster, backend string, from, to CircuitState) prometheus.Counter {
	return transitionsTotal.WithLabelValues(cluster, backend, from.String(), to.String())
}

// dropSeries ends what is counted of a backend.
func dropSeries(cluster, backend string) {
	labels := prometheus.Labels{labelCluster: cluster, labelBackend: backend}
	transitionsTotal.DeletePartialMatch(labels)
	failuresTotal.DeletePartialMatch(labels)
	probeFailuresTotal.DeletePartialMatch(labels)
	pool.DropSeries(cluster, backend)
}

func init() { DropSeriesWith(dropSeries) }

func authQueries(cluster string, err error) prometheus.Counter {
	outcome := "answered"
	if err != nil {
		outcome = "failed"
	}
	return authQueriesTotal.WithLabelValues(cluster, outcome)
}

// Collectors returns the collectors of this package: the counters, and gauges
// that are read from the topologies of the registry's clusters at scrape time.
// The counters are the process's; the same collectors go into each registry of
// Prometheus.
func (r *Registry) Collectors() []prometheus.Collector {
	return []prometheus.Collector{
		transitionsTotal, failuresTotal, probeFailuresTotal, failoversTotal, outageSeconds, cooldownRefusalsTotal, authQueriesTotal,
		joinsTotal, leavesTotal,
		&gauges{registry: r},
	}
}

// sourceCollectors are those of the sources' packages.
var sourceCollectors struct {
	sync.Mutex
	all []prometheus.Collector
}

// AddCollectors makes the metrics of a source's package known, once, from its init:
// they are the process's, like those of this package.
func AddCollectors(collectors ...prometheus.Collector) {
	sourceCollectors.Lock()
	defer sourceCollectors.Unlock()
	sourceCollectors.all = append(sourceCollectors.all, collectors...)
}

// SourceCollectors returns what [AddCollectors] was given.
func SourceCollectors() []prometheus.Collector {
	sourceCollectors.Lock()
	defer sourceCollectors.Unlock()
	return slices.Clone(sourceCollectors.all)
}

// gauges collects what topologies show.
type gauges struct{ registry *Registry }

func gauge(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("caddy_postgres_"+name, help, labels, nil)
}

var (
	descPrimary = gauge("cluster_primary_up", "1 while the cluster has a primary.", labelCluster)
	descFit     = gauge("cluster_fit_replicas", "Replicas that may serve reads.", labelCluster)

	descUp       = gauge("backend_up", "1 while the last probe was answered.", backendLabels...)
	descRole     = gauge("backend_role", "1 for the role the backend has.", labelCluster, labelBackend, "role")
	descState    = gauge("backend_state", "1 for the state the backend is in.", labelCluster, labelBackend, "state")
	descFitOne   = gauge("backend_fit", "1 while the backend may serve reads as a replica.", backendLabels...)
	descScore    = gauge("backend_health_score", "Health from 0 (worst) to 1.", backendLabels...)
	descPart     = gauge("backend_health_score_part", "Parts of the health score, from 0 to 1.", labelCluster, labelBackend, "part")
	descCircuit  = gauge("backend_circuit_state", "State of the circuit breaker: 0 closed, 1 half-open, 2 open.", backendLabels...)
	descWeight   = gauge("backend_weight", "Configured weight, reduced during the slow start.", backendLabels...)
	descLag      = gauge("backend_lag_bytes", "WAL the replica has not replayed yet.", backendLabels...)
	descLagTime  = gauge("backend_lag_seconds", "Age of the last transaction the replica has replayed, 0 without lag.", backendLabels...)
	descLatency  = gauge("backend_latency_seconds", "Moving average of the time to the first reply byte.", backendLabels...)
	descInFlight = gauge("backend_in_flight", "Turns running on the backend.", backendLabels...)
	descTimeline = gauge("backend_timeline", "Timeline the server is on.", backendLabels...)
	descPool     = gauge("pool_connections", "Server connections and their queue, over all identities.", labelCluster, labelBackend, "state")
)

// Describe implements prometheus.Collector.
func (*gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descPrimary, descFit, descUp, descRole, descState, descFitOne, descScore, descPart, descCircuit, descWeight,
		descLag, descLagTime, descLatency, descInFlight, descTimeline, descPool,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	counted.sweep()
	for _, c := range g.registry.Clusters() {
		t := c.Topology()
		if len(t.Members) == 0 {
			continue
		}
		fit := 0
		for _, m := range t.Members {
			if m.Fit {
				fit++
			}
			m.collect(c.name, ch)
		}
		send(ch, descPrimary, truth(t.Primary != nil), c.name)
		send(ch, descFit, float64(fit), c.name)
	}
}

// collect sends the gauges of one member.
func (m *Member) collect(cluster string, ch chan<- prometheus.Metric) {
	b := m.Backend
	for d, v := range map[*prometheus.Desc]float64{
		descUp: truth(m.Up), descFitOne: truth(m.Fit), descScore: m.Score, descCircuit: float64(b.Circuit()),
		descWeight: m.Weight, descLag: float64(m.LagBytes), descLagTime: m.LagTime.Seconds(),
		descLatency: m.Latency.Seconds(), descInFlight: float64(b.InFlight()), descTimeline: float64(m.Timeline),
	} {
		send(ch, d, v, cluster, b.name)
	}
	for role := range roleCount {
		send(ch, descRole, truth(role == m.Role), cluster, b.name, role.String())
	}
	for state := range stateCount {
		send(ch, descState, truth(state == m.State), cluster, b.name, state.String())
	}
	send(ch, descPart, m.Parts.Errors, cluster, b.name, "errors")
	send(ch, descPart, m.Parts.Latency, cluster, b.name, "latency")
	send(ch, descPart, m.Parts.Circuit, cluster, b.name, "circuit")
	var sum pool.Stats
	for _, s := range b.Pools() {
		sum.Idle += s.Idle
		sum.InUse += s.InUse
		sum.Waiting += s.Waiting
		sum.Opening += s.Opening
	}
	send(ch, descPool, float64(sum.Idle), cluster, b.name, "idle")
	send(ch, descPool, float64(sum.InUse), cluster, b.name, "in_use")
	send(ch, descPool, float64(sum.Waiting), cluster, b.name, "waiting")
	send(ch, descPool, float64(sum.Opening), cluster, b.name, "opening")
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func send(ch chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}
