package integration_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// samples are the series of /metrics by their text, such as name{label="value"}.
type samples map[string]float64

// metrics reads /metrics.
func (h *caddyHost) metrics() (samples, error) {
	status, body, err := h.ask(http.MethodGet, "/metrics", nil)
	if err != nil || status != http.StatusOK {
		return nil, fmt.Errorf("GET /metrics: status %d, %w: %s", status, err, body)
	}
	all := make(samples)
	for lines := bufio.NewScanner(bytes.NewReader(body)); lines.Scan(); {
		line := lines.Text()
		at := strings.LastIndexByte(line, ' ')
		if at <= 0 || line[0] == '#' {
			continue
		}
		v, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("GET /metrics: %q: %w", line, err)
		}
		all[line[:at]] = v
	}
	return all, nil
}

// scrape reads /metrics; it cannot fail.
func scrape(t testing.TB) samples {
	t.Helper()
	all, err := host.metrics()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// sum adds up the series of a metric that have all these labels, each written name=value.
func (s samples) sum(metric string, labels ...string) float64 {
	sum := 0.0
	for series, v := range s {
		name, rest, _ := strings.Cut(series, "{")
		if name != metric {
			continue
		}
		if !slices.ContainsFunc(labels, func(label string) bool { return !hasLabel(rest, label) }) {
			sum += v
		}
	}
	return sum
}

// hasLabel looks for name=value in what stands between braces. Values of ours contain neither commas nor quotes.
func hasLabel(braces, label string) bool {
	name, v, _ := strings.Cut(label, "=")
	return slices.Contains(strings.Split(strings.TrimSuffix(braces, "}"), ","), name+`="`+v+`"`)
}

// since returns how much each series has grown since an earlier look.
func (s samples) since(before samples) samples {
	grown := make(samples, len(s))
	for series, v := range s {
		grown[series] = v - before[series]
	}
	return grown
}

// falls lists the counters that are lower than, or missing since, an earlier look.
func (s samples) falls(before samples) []string {
	var fallen []string
	for series, v := range before {
		if now, ok := s[series]; isCounter(series) && (!ok || now < v) {
			fallen = append(fallen, fmt.Sprintf("%s: %v, then %v", series, v, now))
		}
	}
	slices.Sort(fallen)
	return fallen
}

// isCounter knows counters, and the counters that histograms consist of, by their names.
func isCounter(series string) bool {
	name, _, _ := strings.Cut(series, "{")
	return strings.HasPrefix(name, "caddy_postgres_") && (strings.HasSuffix(name, "_total") ||
		strings.HasSuffix(name, "_count") || strings.HasSuffix(name, "_bucket") || strings.HasSuffix(name, "_sum"))
}

// statements is the number of turns of a class on a backend of the site. An empty class means all.
func (s *site) statements(m samples, backend, class string) float64 {
	labels := []string{"cluster=" + s.name, "backend=" + backend}
	if class != "" {
		labels = append(labels, "class="+class)
	}
	return m.sum("caddy_postgres_statements_total", labels...)
}

// shares returns the part of the site's reads that each backend has served, from 0 to 1, and how many there were.
func (s *site) shares(m samples) (map[string]float64, float64) {
	all := 0.0
	shares := make(map[string]float64)
	for name := range s.config.Backends {
		shares[name] = s.statements(m, name, "read")
		all += shares[name]
	}
	for name := range shares {
		if all > 0 {
			shares[name] /= all
		}
	}
	return shares, all
}
