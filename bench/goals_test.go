//go:build linux

package main

import (
	"math"
	"slices"
	"testing"

	"github.com/fairwaydb/fairway/bench/stat"
)

func TestAGateFailsOnlyWhenTheBetterQuartileIsBeyondIt(t *testing.T) {
	for _, c := range []struct {
		name          string
		gate, goal    float64
		lower         bool
		figure        stat.Figure
		holds, reache bool
	}{
		{"below", 1.6, 1.1, true, stat.Figure{Lower: 0.9, Median: 1, Upper: 1.2}, true, true},
		{"the median is beyond, the better quartile is not", 1.6, 1.1, true, stat.Figure{Lower: 1.5, Median: 1.7, Upper: 2}, true, false},
		{"on the gate", 1.6, 1.1, true, stat.Figure{Lower: 1.6, Median: 1.7, Upper: 2}, true, false},
		{"beyond", 1.6, 1.1, true, stat.Figure{Lower: 1.61, Median: 1.7, Upper: 2}, false, false},
		{"higher is better", 0.8, 1, false, stat.Figure{Lower: 0.5, Median: 0.7, Upper: 0.8}, true, false},
		{"higher is better, beyond", 0.8, 1, false, stat.Figure{Lower: 0.5, Median: 0.7, Upper: 0.79}, false, false},
		{"no gate", none, 1, false, stat.Figure{Lower: 0.1, Median: 0.1, Upper: 0.1}, true, false},
		{"zero", 0, 0, true, stat.Of([]float64{0}), true, true},
		{"nothing was measured", 0, 0, true, stat.Of(nil), false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := outcome{goal{gate: c.gate, goal: c.goal, lower: c.lower}, c.figure}
			if o.holds() != c.holds || o.reached() != c.reache {
				t.Errorf("holds %v, reached %v; want %v, %v", o.holds(), o.reached(), c.holds, c.reache)
			}
		})
	}
}

// measured are two rounds of a cell.
func measured() rounds {
	return rounds{
		direct:    {{TPS: 100, P50: 10, P99: 100}, {TPS: 50, P50: 20, P99: 100}},
		pgbouncer: {{TPS: 80, CPU: 10, P50: 20, P99: 200}, {TPS: 40, CPU: 20, P50: 40, P99: 150}},
		fairway:   {{TPS: 40, CPU: 15, P50: 25, P99: 300}, {TPS: 40, CPU: 20, P50: 30, P99: 100}},
	}
}

func TestRatiosAreOfTheSameRound(t *testing.T) {
	r := measured()
	for name, c := range map[string]struct{ got, want []float64 }{
		"TPS":           {against(pgbouncer, tps)(r), []float64{0.5, 1}},
		"CPU":           {against(pgbouncer, cpu)(r), []float64{1.5, 1}},
		"added latency": {added(p50)(r), []float64{1.5, 0.5}},
		"added p99":     {added(p99)(r), []float64{2, 0}},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s: got %v, want %v", name, c.got, c.want)
		}
	}
}

func TestEveryGoalHasItsCellWithItsPeers(t *testing.T) {
	byName := make(map[string]cell)
	for _, c := range cells() {
		if _, twice := byName[c.name]; twice || c.name == "" {
			t.Errorf("cell %q is there twice or has no name", c.name)
		}
		byName[c.name] = c
		if !slices.Contains(c.peers, fairway) {
			t.Errorf("cell %s does not measure Fairway", c.name)
		}
	}
	ids := make(map[string]int)
	for _, c := range comparisons() {
		ids[c.id]++
		in, ok := byName[c.cell]
		if !ok {
			t.Errorf("%s %s: there is no cell %s", c.id, c.text, c.cell)
			continue
		}
		full := make(rounds)
		for _, peer := range in.peers {
			full[peer] = []sample{{TPS: 1, CPU: 1, P50: 2, P99: 2}}
		}
		if full[direct] != nil {
			full[direct][0].P50, full[direct][0].P99 = 1, 1
		}
		if got := c.ratio(full); len(got) != 1 || math.IsNaN(got[0]) {
			t.Errorf("%s %s: cell %s gives %v", c.id, c.text, c.cell, got)
		}
	}
	for id, want := range map[string]int{"a1": 3, "a2": 6, "a3": 4, "b1": 3, "b2": 6, "c": 2, "d": 2, "f": 2} {
		if ids[id] != want {
			t.Errorf("%d goals %s, want %d", ids[id], id, want)
		}
	}
}

func TestTheShortRunHasTheGatesOfSixteenClients(t *testing.T) {
	chosen, err := settings{}.chosen()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range chosen {
		names = append(names, c.name)
	}
	want := []string{"one/simple/16", "one/prepared/16", "three/simple/16", "three/prepared/16"}
	if !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
}

func TestCellsThatWereNotMeasuredHaveNoOutcome(t *testing.T) {
	got := judge(map[string]rounds{"one/simple/16": measured()})
	var ids []string
	for _, o := range got {
		ids = append(ids, o.id)
	}
	if want := []string{"a1", "a3", "b1"}; !slices.Equal(ids, want) {
		t.Errorf("got %q, want %q", ids, want)
	}
}
