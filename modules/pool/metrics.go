package pool

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// reason is why a connection was closed. A closed set: it is a metric label.
type reason uint8

const (
	reasonNone     reason = iota
	reasonBroken          // writing failed
	reasonCancel          // a cancel may still be under way
	reasonTainted         // Taint
	reasonStatus          // released inside a transaction or with replies outstanding
	reasonPending         // released with unread or unsent bytes
	reasonClosed          // closed by its holder
	reasonEnd             // found dead when lent
	reasonUnasked         // the server had said something unasked
	reasonRetired         // opened before Retire
	reasonLifetime        // max_lifetime
	reasonIdle            // idle_timeout
	reasonEvicted         // made room for another identity
	reasonSurplus         // beyond limits that have been lowered
	reasonShutdown        // the Set was closed
	reasonCount
)

// String returns the label value.
func (r reason) String() string {
	return [reasonCount]string{
		"none", "broken", "cancel", "tainted", "status", "pending", "closed", "dead", "unasked", "retired", "lifetime",
		"idle", "evicted", "surplus", "shutdown",
	}[r]
}

// Outcomes of waits and cancels. Closed sets: they are metric labels.
const (
	outcomeServed     = "served"
	outcomeTimeout    = "timeout"
	outcomeQueueFull  = "queue_full"
	outcomeDialFailed = "dial_failed"
	outcomeLeft       = "left"

	cancelSent   = "sent"
	cancelFailed = "failed"
	cancelLate   = "late"
)

var (
	openedTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_postgres_pool_opened_total",
		Help: "Server connections opened.",
	}, []string{"cluster", "backend"})
	closedTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_postgres_pool_closed_total",
		Help: "Server connections closed, by reason.",
	}, []string{"cluster", "backend", "reason"})
	dialFailuresTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_postgres_pool_dial_failures_total",
		Help: "Server connections that could not be opened.",
	}, []string{"cluster", "backend"})
	waitSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "caddy_postgres_pool_wait_seconds",
		Help:    "Time sessions waited for a server connection, those that found an idle one not counted.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	}, []string{"cluster", "backend"})
	waitsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_postgres_pool_waits_total",
		Help: "Waits for a server connection, by outcome.",
	}, []string{"cluster", "backend", "outcome"})
	cancelsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_postgres_pool_cancels_total",
		Help: "Cancel requests for server connections, by outcome; late: the statement's session had let go.",
	}, []string{"cluster", "backend", "outcome"})
)

// Collectors returns the collectors of this package, to be registered in every registry that shows them. The numbers
// of open, idle and leased connections are not among them: they are read from [Set.Stats] at scrape time by cluster.
func Collectors() []prometheus.Collector {
	return []prometheus.Collector{openedTotal, closedTotal, dialFailuresTotal, waitSeconds, waitsTotal, cancelsTotal}
}

// Metrics counts for one backend. Its methods are safe for concurrent use and on nil.
type Metrics struct {
	openings prometheus.Counter
	closings [reasonCount]prometheus.Counter
	failures prometheus.Counter
	wait     prometheus.Observer
	waits    map[string]prometheus.Counter
	cancels  map[string]prometheus.Counter
}

// MetricsFor returns the metrics of a backend; the same labels give the same series.
func MetricsFor(cluster, backend string) *Metrics {
	m := &Metrics{
		openings: openedTotal.WithLabelValues(cluster, backend),
		failures: dialFailuresTotal.WithLabelValues(cluster, backend),
		wait:     waitSeconds.WithLabelValues(cluster, backend),
		waits:    make(map[string]prometheus.Counter),
		cancels:  make(map[string]prometheus.Counter),
	}
	for r := reasonNone + 1; r < reasonCount; r++ {
		m.closings[r] = closedTotal.WithLabelValues(cluster, backend, r.String())
	}
	for _, o := range []string{outcomeServed, outcomeTimeout, outcomeQueueFull, outcomeDialFailed, outcomeLeft} {
		m.waits[o] = waitsTotal.WithLabelValues(cluster, backend, o)
	}
	for _, o := range []string{cancelSent, cancelFailed, cancelLate} {
		m.cancels[o] = cancelsTotal.WithLabelValues(cluster, backend, o)
	}
	return m
}

// DropSeries ends what is counted of a backend that is gone: no Metrics of its labels may be in use.
func DropSeries(cluster, backend string) {
	labels := prometheus.Labels{"cluster": cluster, "backend": backend}
	openedTotal.DeletePartialMatch(labels)
	closedTotal.DeletePartialMatch(labels)
	dialFailuresTotal.DeletePartialMatch(labels)
	waitSeconds.DeletePartialMatch(labels)
	waitsTotal.DeletePartialMatch(labels)
	cancelsTotal.DeletePartialMatch(labels)
}

func (m *Metrics) opened() {
	if m != nil {
		m.openings.Inc()
	}
}

func (m *Metrics) closed(why reason) {
	if m != nil {
		m.closings[why].Inc()
	}
}

func (m *Metrics) dialFailed() {
	if m != nil {
		m.failures.Inc()
	}
}

// waited records a wait that ended with err.
func (m *Metrics) waited(d time.Duration, err error) {
	if m == nil {
		return
	}
	m.wait.Observe(d.Seconds())
	m.waits[waitOutcome(err)].Inc()
}

// refused records a wait that was not begun.
func (m *Metrics) refused(err error) {
	if m != nil {
		m.waits[waitOutcome(err)].Inc()
	}
}

func waitOutcome(err error) string {
	switch {
	case err == nil:
		return outcomeServed
	case errors.Is(err, ErrWaitTimeout):
		return outcomeTimeout
	case errors.Is(err, ErrTooManyWaiters):
		return outcomeQueueFull
	case errors.As(err, new(*DialError)):
		return outcomeDialFailed
	}
	return outcomeLeft
}

func (m *Metrics) cancelled(err error) {
	switch {
	case m == nil:
	case err == nil:
		m.cancels[cancelSent].Inc()
	case errors.Is(err, errCancelLate):
		m.cancels[cancelLate].Inc()
	default:
		m.cancels[cancelFailed].Inc()
	}
}
