package session

import (
	"math/bits"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgsql"
	"github.com/fairwaydb/fairway/modules/pgwire"
	"github.com/fairwaydb/fairway/modules/routing"
)

// The collectors live as long as the process: counters survive reloads.
var (
	statementsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_postgres_statements_total", Help: "Turns by class of statement and backend that ran them.",
	}, []string{"cluster", "backend", "class"})
	statementSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "caddy_postgres_statement_seconds", Help: "Time of a turn from the client's request to the end of the reply.",
		Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	}, []string{"cluster", "backend"})
	routesTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_postgres_routes_total", Help: "Routing decisions by reason; local ones needed no server.",
	}, []string{"cluster", "reason"})
	retriesTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_postgres_retries_total", Help: "Requests sent once more, unseen by the client, by cause.",
	}, []string{"cluster", "cause"})
	pinsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_postgres_pins_total", Help: "Sessions that began to hold a server connection beyond the transaction, by reason.",
	}, []string{"cluster", "reason"})
	errorsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_postgres_statement_errors_total", Help: "Errors of servers passed to clients, by class of SQLSTATE.",
	}, []string{"cluster", "sqlstate_class"})
	loginsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_postgres_logins_total", Help: "Client connections by how their login ended.",
	}, []string{"cluster", "result"})
	endsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_postgres_sessions_ended_total", Help: "Sessions by how they ended.",
	}, []string{"cluster", "cause"})
	cancelsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_postgres_cancel_requests_total", Help: "Cancel requests of clients, by whether their key was known.",
	}, []string{"cluster", "known"})
	panics = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "caddy_postgres_panics_total", Help: "Sessions ended by a defect of the load balancer. Please report them.",
	})
	cacheEntries = prometheus.NewDesc("caddy_postgres_parse_cache_entries", "Texts in the cache of statement classes.", nil, nil)
	cacheBytes   = prometheus.NewDesc("caddy_postgres_parse_cache_bytes", "Memory taken by the cache of statement classes.", nil, nil)
	cacheHits    = prometheus.NewDesc("caddy_postgres_parse_cache_hits_total", "Statements whose class was in the cache.", nil, nil)
	cacheMisses  = prometheus.NewDesc("caddy_postgres_parse_cache_misses_total", "Statements that had to be parsed.", nil, nil)
	sessionsNow  = prometheus.NewDesc("caddy_postgres_sessions", "Connected clients by what their session does.", []string{"cluster", "state"}, nil)
)

// Collectors returns the package's metrics; they are the same objects at every call.
func Collectors() []prometheus.Collector {
	return []prometheus.Collector{
		statementsTotal, statementSeconds, routesTotal, retriesTotal, pinsTotal, errorsTotal, loginsTotal, endsTotal, cancelsTotal, panics, sessions,
	}
}

// Describe implements prometheus.Collector.
func (reg *Registry) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{sessionsNow, cacheEntries, cacheBytes, cacheHits, cacheMisses} {
		ch <- d
	}
}

// Collect implements prometheus.Collector: it counts the sessions by state and asks the classifiers for their figures.
func (reg *Registry) Collect(ch chan<- prometheus.Metric) {
	collectCaches(ch)
	type key struct{ cluster, state string }
	counts := make(map[key]float64)
	reg.mu.Lock()
	for _, s := range reg.mu.sessions {
		name := s.opts.Cluster.Name()
		for _, state := range [...]string{"idle", "waiting", "held"} {
			counts[key{name, state}] += 0
		}
		counts[key{name, s.doing()}]++
	}
	reg.mu.Unlock()
	for k, n := range counts {
		ch <- prometheus.MustNewConstMetric(sessionsNow, prometheus.GaugeValue, n, k.cluster, k.state)
	}
}

// collectCaches adds up the caches of all classifiers: they live as long as the process.
func collectCaches(ch chan<- prometheus.Metric) {
	classifiers.mu.Lock()
	sum := classifiers.retired
	for _, c := range classifiers.byNames {
		s := c.Stats()
		sum.Entries += s.Entries
		sum.Bytes += s.Bytes
		sum.Hits += s.Hits
		sum.Misses += s.Misses
	}
	classifiers.mu.Unlock()
	ch <- prometheus.MustNewConstMetric(cacheEntries, prometheus.GaugeValue, float64(sum.Entries))
	ch <- prometheus.MustNewConstMetric(cacheBytes, prometheus.GaugeValue, float64(sum.Bytes))
	ch <- prometheus.MustNewConstMetric(cacheHits, prometheus.CounterValue, float64(sum.Hits))
	ch <- prometheus.MustNewConstMetric(cacheMisses, prometheus.CounterValue, float64(sum.Misses))
}

// doing is what a session does, as seen from another goroutine.
func (s *Session) doing() string {
	switch {
	case s.waitsSince.Load() != 0:
		return "waiting"
	case s.heldSince.Load() != 0:
		return "held"
	}
	return "idle"
}

// How a login ended: the closed set of the label result.
const (
	loginOK       = "ok"
	loginProbe    = "probe"
	loginGone     = "gone"
	loginTimeout  = "timeout"
	loginTLS      = "tls"
	loginTooMany  = "too_many"
	loginShutdown = "shutdown"
	loginAuth     = "authentication"
	loginProtocol = "protocol"
	loginServer   = "server"
	loginOther    = "refused"
)

// loginResult sorts the SQLSTATE of a failed login.
func loginResult(code string) string {
	switch {
	case len(code) != 5:
		return loginOther
	case code[:2] == "28":
		return loginAuth
	case code[:2] == "08" || code == pgwire.CodeFeatureNotSupported:
		return loginProtocol
	case code[:2] == "57" || code[:2] == "53":
		return loginServer
	}
	return loginOther
}

// How a session ended.
const (
	endGoodbye = "goodbye"
	endLost    = "connection_lost"
	endError   = "error"
)

// clusterMetrics are the children of one cluster, resolved once.
type clusterMetrics struct {
	name    string
	retries struct{ dial, lost, conflict, correction prometheus.Counter }
	routes  []prometheus.Counter
	local   prometheus.Counter

	mu       sync.RWMutex
	backends map[string]*backendMetrics
}

// backendMetrics are the children of one backend.
type backendMetrics struct {
	statements [pgsql.KindUnknown + 1]prometheus.Counter
	seconds    prometheus.Observer
}

var clusters sync.Map // of *clusterMetrics by name

func metricsFor(name string) *clusterMetrics {
	if m, ok := clusters.Load(name); ok {
		return m.(*clusterMetrics)
	}
	m := &clusterMetrics{name: name, backends: make(map[string]*backendMetrics)}
	m.retries.dial = retriesTotal.WithLabelValues(name, "dial")
	m.retries.lost = retriesTotal.WithLabelValues(name, "connection_lost")
	m.retries.conflict = retriesTotal.WithLabelValues(name, "recovery_conflict")
	m.retries.correction = retriesTotal.WithLabelValues(name, "correction")
	reasons := routing.Reasons()
	m.routes = make([]prometheus.Counter, len(reasons)+2)
	for _, r := range append([]routing.Reason{routing.ReasonNone}, reasons...) {
		m.routes[r] = routesTotal.WithLabelValues(name, r.String())
	}
	m.local = m.routes[routing.ReasonLocal]
	actual, _ := clusters.LoadOrStore(name, m)
	return actual.(*clusterMetrics)
}

func (m *clusterMetrics) backend(name string) *backendMetrics {
	m.mu.RLock()
	b := m.backends[name]
	m.mu.RUnlock()
	if b != nil {
		return b
	}
	b = &backendMetrics{seconds: statementSeconds.WithLabelValues(m.name, name)}
	for k := range b.statements {
		b.statements[k] = statementsTotal.WithLabelValues(m.name, name, pgsql.Kind(k).String())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if other := m.backends[name]; other != nil {
		return other
	}
	m.backends[name] = b
	return b
}

// dropSeries ends what is counted of a backend that is gone.
func dropSeries(name, backend string) {
	if m, ok := clusters.Load(name); ok {
		m := m.(*clusterMetrics)
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.backends, backend)
	}
	labels := prometheus.Labels{"cluster": name, "backend": backend}
	statementsTotal.DeletePartialMatch(labels)
	statementSeconds.DeletePartialMatch(labels)
}

func init() { cluster.DropSeriesWith(dropSeries) }

func (m *clusterMetrics) route(r routing.Reason) prometheus.Counter { return m.routes[r] }

func (m *clusterMetrics) login(result string) prometheus.Counter {
	return loginsTotal.WithLabelValues(m.name, result)
}

func (m *clusterMetrics) ended(cause string) prometheus.Counter {
	return endsTotal.WithLabelValues(m.name, cause)
}

func (m *clusterMetrics) cancel(known bool) prometheus.Counter {
	label := "false"
	if known {
		label = "true"
	}
	return cancelsTotal.WithLabelValues(m.name, label)
}

// pin counts the reasons of fresh, one by one: the label is a closed set.
func (m *clusterMetrics) pin(fresh pgsql.Effects) {
	for fresh != 0 {
		bit := pgsql.Effects(1) << bits.TrailingZeros32(uint32(fresh))
		fresh &^= bit
		pinsTotal.WithLabelValues(m.name, bit.String()).Inc()
	}
}

func (m *clusterMetrics) sqlError(code string) {
	class := "XX"
	if len(code) == 5 {
		class = code[:2]
	}
	if _, known := sqlstateClasses[class]; !known {
		class = "other" // extensions and users make up their own
	}
	errorsTotal.WithLabelValues(m.name, class).Inc()
}

// sqlstateClasses are the classes of PostgreSQL's own errors.
// See https://www.postgresql.org/docs/current/errcodes-appendix.html
var sqlstateClasses = map[string]struct{}{
	"03": {}, "08": {}, "09": {}, "0A": {}, "0B": {}, "0F": {}, "0L": {}, "0P": {}, "0Z": {}, "20": {}, "21": {}, "22": {}, "23": {},
	"24": {}, "25": {}, "26": {}, "27": {}, "28": {}, "2B": {}, "2D": {}, "2F": {}, "34": {}, "38": {}, "39": {}, "3B": {}, "3D": {},
	"3F": {}, "40": {}, "42": {}, "44": {}, "53": {}, "54": {}, "55": {}, "57": {}, "58": {}, "F0": {}, "HV": {}, "P0": {}, "XX": {},
}

// observe counts a turn that a server has answered.
func (s *Session) observe(class *pgsql.Class) {
	b := s.lease.metrics
	b.statements[class.Kind].Inc()
	b.seconds.Observe(time.Duration(monotonic() - s.turn.started).Seconds())
}
