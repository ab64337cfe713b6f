//go:build linux

package main

import (
	"context"
	"fmt"
	"math"
	"net"
	"regexp"
	"strings"
	"time"

	"github.com/fairwaydb/fairway/bench/stat"
	"github.com/fairwaydb/fairway/bench/svg"
)

// The largest crowds and clusters of the curves.
const (
	mostIdle     = 10000
	mostBackends = 50
	loopbacks    = mostBackends / 2 // addresses of each of the two replicas
)

// curves are the sizes the curves are measured at.
type curves struct {
	idle, storm, beside, backends, statements []int
	rounds                                    int
	span                                      time.Duration // of a round of our own clients
}

// sizes are those of this run.
func (b *bench) sizes() curves {
	if b.smoke {
		return curves{
			idle: []int{0, 100}, storm: []int{100}, beside: []int{0, 100}, backends: []int{1, 6}, statements: []int{1, 100},
			rounds: 1, span: 300 * time.Millisecond,
		}
	}
	return curves{
		idle:       []int{0, 1000, 5000, mostIdle},
		storm:      []int{250, 500, 1000, 2000},
		beside:     []int{0, 2000, 5000},
		backends:   []int{1, 3, 10, 25, mostBackends},
		statements: []int{1, 1000, 10000, 100000},
		rounds:     min(3, b.rounds), span: b.round / 2,
	}
}

// manyAddresses reports whether the servers must be reachable under many addresses.
func (s settings) manyAddresses() bool { return s.full || s.scale || s.smoke }

// addresses lists n loopback addresses, as listen_addresses wants them.
func addresses(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("127.0.0.%d", i+1))
	}
	return strings.Join(all, ",")
}

// backends names n servers: the primary, and the two replicas under as many addresses as it takes. To a balancer these
// are n servers.
func backends(primary string, replicas []string, n int) ([]string, error) {
	all := []string{primary}
	for i := range n - 1 {
		_, port, err := net.SplitHostPort(replicas[i%len(replicas)])
		if err != nil {
			return nil, err
		}
		all = append(all, net.JoinHostPort(fmt.Sprintf("127.0.0.%d", i/len(replicas)+1), port))
	}
	return all, nil
}

// measureScale measures the curves and puts tables and plots of them where the report finds them.
func (b *bench) measureScale(ctx context.Context, sections, plots map[string]string) error {
	match, err := regexp.Compile(b.only)
	if err != nil {
		return fmt.Errorf("--only: %w", err)
	}
	var text strings.Builder
	for _, curve := range []struct {
		name    string
		measure func(context.Context, curves, map[string]string) (string, error)
	}{
		{"idle", b.idleCurve},
		{"storm", b.stormCurve},
		{"beside", b.besideCurve},
		{"backends", b.backendsCurve},
		{"statements", b.statementsCurve},
	} {
		if b.scale && !match.MatchString(curve.name) {
			continue
		}
		section, err := curve.measure(ctx, b.sizes(), plots)
		if err != nil {
			return fmt.Errorf("scale: %s: %w", curve.name, err)
		}
		text.WriteString(section + "\n")
	}
	sections["scale"] = text.String()
	return nil
}

// table is a Markdown table in the making.
type table struct{ strings.Builder }

func (t *table) head(columns ...string) {
	t.row(columns...)
	t.WriteString("|" + strings.Repeat("---|", len(columns)) + "\n")
}

func (t *table) row(columns ...string) { t.WriteString("| " + strings.Join(columns, " | ") + " |\n") }

// curve collects points for a plot.
type curve struct{ svg.Series }

func newCurve(name string, color int) *curve { return &curve{svg.Series{Name: name, Color: color}} }

func (c *curve) add(x int, f stat.Figure) {
	c.X = append(c.X, float64(x))
	c.Values = append(c.Values, f)
}

// draw draws curves over one axis.
func draw(name, unit, x string, log bool, all ...*curve) string {
	p := svg.Plot{Title: name, Unit: unit, X: x, Log: log}
	for _, c := range all {
		p.Series = append(p.Series, c.Series)
	}
	return p.Curves()
}

// plotLink is the Markdown of a plot on the page.
func plotLink(file, what string) string { return fmt.Sprintf("![%s](benchmarks/%s)\n", what, file) }

// single is a figure of one number.
func single(v float64) stat.Figure { return stat.Figure{Lower: v, Median: v, Upper: v, N: 1} }

// mebibytes turns bytes into MiB.
func mebibytes(bytes int64) float64 { return math.Round(float64(bytes)/(1<<20)*10) / 10 }
