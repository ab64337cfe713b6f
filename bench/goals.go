//go:build linux

package main

import (
	"fmt"
	"math"
	"strings"

	"github.com/fairwaydb/fairway/bench/stat"
)

// goal is a line of the table of goals. A gate must hold; a goal is where we want to be.
type goal struct {
	id    string
	text  string
	unit  string  // of the figure, "" for a ratio
	gate  float64 // NaN: there is none
	goal  float64 // NaN: there is none
	lower bool    // lower is better
}

// outcome is a goal with what was measured.
type outcome struct {
	goal
	figure stat.Figure
}

// holds reports whether the gate holds. Only what is beyond it in the better quarter of the rounds already is a failure:
// one noisy round is none.
func (o outcome) holds() bool {
	switch {
	case math.IsNaN(o.gate):
		return true
	case o.lower:
		return o.figure.Lower <= o.gate
	default:
		return o.figure.Upper >= o.gate
	}
}

// reached reports whether the median reaches the goal.
func (o outcome) reached() bool {
	switch {
	case math.IsNaN(o.goal.goal):
		return true
	case o.lower:
		return o.figure.Median <= o.goal.goal
	default:
		return o.figure.Median >= o.goal.goal
	}
}

// none is a gate or a goal that does not exist.
var none = math.NaN()

// comparison makes goals of the cells.
type comparison struct {
	goal
	cell  string
	ratio func(rounds) []float64
}

// against divides Fairway's numbers by another's, round by round.
func against(peer string, pick func(sample) float64) func(rounds) []float64 {
	return func(r rounds) []float64 { return stat.Ratios(values(r[fairway], pick), values(r[peer], pick)) }
}

// added divides the latency Fairway adds to the server's by what PgBouncer adds to it.
func added(pick func(sample) float64) func(rounds) []float64 {
	over := func(r rounds, peer string) []float64 {
		var found []float64
		for i := range min(len(r[peer]), len(r[direct])) {
			found = append(found, pick(r[peer][i])-pick(r[direct][i]))
		}
		return found
	}
	return func(r rounds) []float64 { return stat.Ratios(over(r, fairway), over(r, pgbouncer)) }
}

// comparisons are the goals that are ratios of what the cells measure.
func comparisons() []comparison {
	var all []comparison
	add := func(id, text, cell string, gate, want float64, lower bool, ratio func(rounds) []float64) {
		all = append(all, comparison{goal{id: id, text: text, gate: gate, goal: want, lower: lower}, cell, ratio})
	}
	for _, n := range []int{1, 16, 64} {
		add("a1", fmt.Sprintf("TPS vs PgBouncer, %s", clients(n)), fmt.Sprintf("one/simple/%d", n), none, 1, false, against(pgbouncer, tps))
	}
	for n, want := range []float64{1: 1.2, 16: 1.5, 64: 2} {
		if want > 0 {
			add("a2", fmt.Sprintf("TPS vs Pgpool-II, simple, %s", clients(n)), fmt.Sprintf("three/simple/%d", n), none, want, false, against(pgpool, tps))
		}
	}
	for _, cell := range []string{"extended/16", "prepared/16", "prepared/64"} {
		add("a2", "TPS vs Pgpool-II, "+protocol(cell), "three/"+cell, none, 4, false, against(pgpool, tps))
	}
	for n, want := range []float64{1: 0.7, 16: 0.7, 64: 1, 256: 1.6} {
		if want > 0 {
			add("a3", fmt.Sprintf("TPS vs direct, %s", clients(n)), fmt.Sprintf("one/simple/%d", n), none, want, false, against(direct, tps))
		}
	}
	for _, n := range []int{1, 16, 64} {
		add("b1", fmt.Sprintf("CPU per transaction vs PgBouncer, %s", clients(n)), fmt.Sprintf("one/simple/%d", n), 1.6, 1.1, true, against(pgbouncer, cpu))
	}
	for _, n := range []int{1, 16, 64} {
		add("b2", fmt.Sprintf("CPU per transaction vs Pgpool-II, simple, %s", clients(n)), fmt.Sprintf("three/simple/%d", n), 0.9, 0.4, true, against(pgpool, cpu))
	}
	for _, cell := range []string{"extended/16", "prepared/16", "prepared/64"} {
		add("b2", "CPU per transaction vs Pgpool-II, "+protocol(cell), "three/"+cell, 0.5, 0.2, true, against(pgpool, cpu))
	}
	add("c", "latency added at 1 client vs what PgBouncer adds, p50", "one/simple/1", none, 1, true, added(p50))
	add("c", "latency added at 1 client vs what PgBouncer adds, p99", "one/simple/1", none, 1.2, true, added(p99))
	add("d", "large results vs PgBouncer, TPS", "one/large/4", none, 1.2, false, against(pgbouncer, tps))
	add("d", "large results vs PgBouncer, CPU per MB", "one/large/4", 0.8, 0.5, true, against(pgbouncer, cpu))
	add("f", "login per transaction vs PgBouncer, SCRAM on both sides, TPS", "one/connect/8", none, 1, false, against(pgbouncer, tps))
	add("f", "login per transaction vs PgBouncer, SCRAM on both sides, CPU", "one/connect/8", none, 1.3, true, against(pgbouncer, cpu))
	return all
}

// protocol writes "prepared/16" out.
func protocol(cell string) string {
	mode, n, _ := strings.Cut(cell, "/")
	return mode + ", " + n + " clients"
}

// clients writes a number of clients.
func clients(n int) string {
	if n == 1 {
		return "1 client"
	}
	return fmt.Sprintf("%d clients", n)
}

// judge joins the goals with what was measured; cells that were not measured have no outcome.
func judge(found map[string]rounds) []outcome {
	var all []outcome
	for _, c := range comparisons() {
		if r, ok := found[c.cell]; ok {
			all = append(all, outcome{c.goal, stat.Of(c.ratio(r))})
		}
	}
	return all
}
