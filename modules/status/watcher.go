// Package status shows what the backends of a running cluster do, read from the
// metrics on its admin endpoint: as rows, and as a table for people.
package status

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Metrics the rows are made of. They are Fairway's own; docs/metrics.md explains them.
const (
	metricRole       = "caddy_postgres_backend_role"
	metricState      = "caddy_postgres_backend_state"
	metricScore      = "caddy_postgres_backend_health_score"
	metricLag        = "caddy_postgres_backend_lag_bytes"
	metricPool       = "caddy_postgres_pool_connections"
	metricStatements = "caddy_postgres_statements_total"
)

// Row is what is known of one backend.
type Row struct {
	Name, Role, State string
	Score             float64 // 0 to 1
	Scored            bool    // false while nothing is known
	Lag               int64   // bytes behind the primary; negative: not known or no replica
	Reads, Writes     float64 // statements a second
	Open, InUse       int     // server connections
	Waiting           int     // sessions that wait for one
}

// Watcher reads the metrics again and again and keeps the counters of the last
// time, to tell rates. One goroutine at a time uses it.
type Watcher struct {
	cluster string
	fetch   func(ctx context.Context) (io.ReadCloser, error)
	since   time.Time
	last    map[string]counts // by backend
}

// counts are statements by what they do.
type counts struct{ reads, writes float64 }

// NewWatcher watches a cluster. fetch returns the page /metrics of the admin
// endpoint, whose body the watcher closes.
func NewWatcher(cluster string, fetch func(ctx context.Context) (io.ReadCloser, error)) *Watcher {
	return &Watcher{cluster: cluster, fetch: fetch}
}

// bodyLimit bounds what is read of an answer of the admin API.
const bodyLimit = 64 << 20

// Rows returns a row for each backend of the cluster, by name. Rates are those since
// the call before, 0 in the first one.
func (w *Watcher) Rows(ctx context.Context) ([]Row, error) {
	body, err := w.fetch(ctx)
	if err != nil {
		return nil, err
	}
	samples, err := readSamples(io.LimitReader(body, bodyLimit))
	if err = errors.Join(err, body.Close()); err != nil {
		return nil, err
	}
	return w.digest(samples, time.Now()), nil
}

// digest makes rows of samples.
func (w *Watcher) digest(samples []sample, now time.Time) []Row {
	rows, sums := make(map[string]*Row), make(map[string]counts)
	for _, s := range samples {
		name := s.labels["backend"]
		if name == "" || s.labels["cluster"] != w.cluster {
			continue
		}
		r := rows[name]
		if r == nil {
			r = &Row{Name: name, Lag: -1}
			rows[name] = r
		}
		sums[name] = s.enter(r, sums[name])
	}
	passed := now.Sub(w.since).Seconds()
	var sorted []Row
	for name, r := range rows {
		if before, ok := w.last[name]; ok && passed > 0 {
			r.Reads = max(0, sums[name].reads-before.reads) / passed
			r.Writes = max(0, sums[name].writes-before.writes) / passed
		}
		if r.Role != "replica" {
			r.Lag = -1
		}
		sorted = append(sorted, *r)
	}
	w.since, w.last = now, sums
	slices.SortFunc(sorted, func(a, b Row) int { return cmp.Compare(a.Name, b.Name) })
	return sorted
}

// enter puts one sample into a row, or adds it to the counts.
func (s sample) enter(r *Row, sum counts) counts {
	switch s.name {
	case metricRole:
		if s.value == 1 {
			r.Role = s.labels["role"]
		}
	case metricState:
		if s.value == 1 {
			r.State = s.labels["state"]
		}
	case metricScore:
		r.Score, r.Scored = s.value, true
	case metricLag:
		r.Lag = int64(s.value)
	case metricPool:
		switch s.labels["state"] {
		case "in_use":
			r.InUse = int(s.value)
			r.Open += int(s.value)
		case "idle":
			r.Open += int(s.value)
		case "waiting":
			r.Waiting = int(s.value)
		}
	case metricStatements:
		if s.labels["class"] == "read" {
			sum.reads += s.value
		} else {
			sum.writes += s.value
		}
	}
	return sum
}

// sample is one line of the metrics.
type sample struct {
	name   string
	labels map[string]string
	value  float64
}

// readSamples reads Prometheus' text format as far as it is needed: comments and what cannot be read are passed over.
// See https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format.
func readSamples(r io.Reader) ([]sample, error) {
	var samples []sample
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if s, ok := parseSample(lines.Text()); ok {
			samples = append(samples, s)
		}
	}
	return samples, lines.Err()
}

// parseSample reads `name{label="value",…} number`.
func parseSample(line string) (sample, bool) {
	s := sample{labels: make(map[string]string)}
	at := strings.IndexAny(line, "{ ")
	if at <= 0 || line[0] == '#' {
		return s, false
	}
	s.name = line[:at]
	rest := line[at:]
	if rest[0] == '{' {
		rest = rest[1:]
		for !strings.HasPrefix(rest, "}") {
			name, after, found := strings.Cut(rest, "=")
			if !found {
				return s, false
			}
			quoted, err := strconv.QuotedPrefix(after)
			if err != nil {
				return s, false
			}
			if s.labels[name], err = strconv.Unquote(quoted); err != nil {
				return s, false
			}
			rest = strings.TrimPrefix(after[len(quoted):], ",")
		}
		rest = rest[1:]
	}
	number, _, _ := strings.Cut(strings.TrimSpace(rest), " ") // a time may follow
	var err error
	s.value, err = strconv.ParseFloat(number, 64)
	return s, err == nil
}
