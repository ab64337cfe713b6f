package demo

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Metrics the table is made of. They are Fairway's own; docs/metrics.md explains them.
const (
	metricRole       = "caddy_postgres_backend_role"
	metricState      = "caddy_postgres_backend_state"
	metricScore      = "caddy_postgres_backend_health_score"
	metricLag        = "caddy_postgres_backend_lag_bytes"
	metricPool       = "caddy_postgres_pool_connections"
	metricStatements = "caddy_postgres_statements_total"
)

// bodyLimit bounds what is read of an answer of the admin API.
const bodyLimit = 16 << 20

// watcher reads the metrics from the admin API and keeps the counters of the last time, to tell rates.
type watcher struct {
	url   string
	since time.Time
	last  map[string]counts // by backend
}

// counts are statements by what they do.
type counts struct{ reads, writes float64 }

// newWatcher reads from an admin API's address.
func newWatcher(admin string) *watcher { return &watcher{url: "http://" + admin + "/metrics"} }

// rows returns a row for each backend of the demo's cluster, sorted by name.
func (w *watcher) rows(ctx context.Context) ([]backendRow, error) {
	var samples []sample
	status, err := get(ctx, w.url, func(body io.Reader) (err error) {
		samples, err = readSamples(body)
		return err
	})
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("GET %s: status %d", w.url, status)
	}
	return w.digest(samples, time.Now()), nil
}

// digest makes rows of samples.
func (w *watcher) digest(samples []sample, now time.Time) []backendRow {
	rows, sums := make(map[string]*backendRow), make(map[string]counts)
	for _, s := range samples {
		name := s.labels["backend"]
		if name == "" || s.labels["cluster"] != clusterName {
			continue
		}
		r := rows[name]
		if r == nil {
			r = &backendRow{name: name, lag: -1}
			rows[name] = r
		}
		sums[name] = s.enter(r, sums[name])
	}
	passed := now.Sub(w.since).Seconds()
	var sorted []backendRow
	for name, r := range rows {
		if before, ok := w.last[name]; ok && passed > 0 {
			r.reads = max(0, sums[name].reads-before.reads) / passed
			r.writes = max(0, sums[name].writes-before.writes) / passed
		}
		if r.role != "replica" {
			r.lag = -1
		}
		sorted = append(sorted, *r)
	}
	w.since, w.last = now, sums
	slices.SortFunc(sorted, func(a, b backendRow) int { return cmp.Compare(a.name, b.name) })
	return sorted
}

// enter puts one sample into a row, or adds it to the counts.
func (s sample) enter(r *backendRow, sum counts) counts {
	switch s.name {
	case metricRole:
		if s.value == 1 {
			r.role = s.labels["role"]
		}
	case metricState:
		if s.value == 1 {
			r.state = s.labels["state"]
		}
	case metricScore:
		r.score, r.scored = s.value, true
	case metricLag:
		r.lag = int64(s.value)
	case metricPool:
		switch s.labels["state"] {
		case "in_use":
			r.inUse = int(s.value)
			r.open += int(s.value)
		case "idle":
			r.open += int(s.value)
		case "waiting":
			r.waiting = int(s.value)
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

// client asks the admin API; without connections kept for later there is nothing to close at the end.
var client = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// get asks for a page and lets read, when it is not nil, have the body.
func get(ctx context.Context, url string, read func(io.Reader) error) (status int, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	if read != nil {
		err = read(io.LimitReader(response.Body, bodyLimit))
	}
	return response.StatusCode, err
}
