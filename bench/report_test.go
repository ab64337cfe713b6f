//go:build linux

package main

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/fairwaydb/fairway/bench/stat"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNumbersHaveThreeDigitsThatCount(t *testing.T) {
	for v, want := range map[float64]string{12345.6: "12346", 123.4: "123", 12.34: "12.3", 1.234: "1.23", 0.051: "0.05", 0: "0", -2.5: "-2.50"} {
		if got := number(v); got != want {
			t.Errorf("%v: got %q, want %q", v, got, want)
		}
	}
	if got := number(math.NaN()); got != "–" {
		t.Errorf("nothing: got %q", got)
	}
	if got := spread(stat.Figure{Lower: 1, Median: 2, Upper: 3, N: 5}); got != "2.00 (1.00–3.00)" {
		t.Errorf("got %q", got)
	}
}

func TestTheTableOfGoalsSaysWhatHoldsAndWhatIsMissed(t *testing.T) {
	text := goalTable([]outcome{
		{goal{id: "e", text: "memory", unit: "KB", gate: 12, goal: 6, lower: true}, stat.Of([]float64{8, 8, 8})},
		{goal{id: "b1", text: "CPU", gate: 1.6, goal: 1.1, lower: true}, stat.Of([]float64{2, 2})},
		{goal{id: "a1", text: "TPS", gate: none, goal: 1}, stat.Of([]float64{1.5, 1.5})},
	})
	for _, want := range []string{
		"| e | memory | ≤ 12 KB | ≤ 6 KB | 8.00 (8.00–8.00) | gate holds, goal missed |\n",
		"| b1 | CPU | ≤ 1.6 | ≤ 1.1 | 2.00 (2.00–2.00) | **gate fails**, goal missed |\n",
		"| a1 | TPS | – | ≥ 1 | 1.50 (1.50–1.50) | goal reached |\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in:\n%s", want, text)
		}
	}
	if strings.Index(text, "| a1 ") > strings.Index(text, "| e ") {
		t.Error("goals are not in order")
	}
}

func TestSectionsAreReplacedBetweenTheirMarks(t *testing.T) {
	dir := t.TempDir()
	page := filepath.Join(dir, "page.md")
	if err := os.WriteFile(page, []byte("before\n<!-- a -->\nold\n<!-- /a -->\nafter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time nothing more is changed
		if err := publish(page, map[string]string{"a": "new\n"}, map[string]string{"p.svg": "<svg/>"}); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		if want := "before\n<!-- a -->\n\nnew\n\n<!-- /a -->\nafter\n"; string(got) != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "page", "p.svg")); err != nil {
		t.Error(err)
	}
	if err := publish(page, map[string]string{"b": ""}, nil); err == nil {
		t.Error("a section that the page has not is no error")
	}
}

func TestTheDocumentedPageHasEverySection(t *testing.T) {
	text, err := os.ReadFile("../docs/benchmarks.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, section := range []string{"machine", "goals", "cells", "memory", "scale-machine", "scale"} {
		if _, err := replace(string(text), section, "x"); err != nil {
			t.Error(err)
		}
	}
}

func TestThePlotsShowTheirCells(t *testing.T) {
	chosen, err := settings{full: true}.chosen()
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]rounds)
	for _, c := range chosen {
		found[c.name] = make(rounds)
		for _, peer := range c.peers {
			found[c.name][peer] = []sample{{TPS: 1000, CPU: 10}, {TPS: 2000, CPU: 20}}
		}
	}
	for name, drawing := range cellPlots(chosen, found) {
		if !strings.Contains(drawing, "Fairway") || strings.Contains(drawing, "NaN") {
			t.Errorf("%s is not right:\n%s", name, drawing)
		}
	}
}

func TestTheCommandLineSaysHowLong(t *testing.T) {
	for _, c := range []struct {
		args   string
		round  string
		rounds int
	}{
		{"", "5s", 7}, {"--full", "3s", 5}, {"--smoke", "1s", 1}, {"--full --rounds 9 --round 4s", "4s", 9},
	} {
		s, err := parse(strings.Fields(c.args), t.Output())
		if err != nil || s.round.String() != c.round || s.rounds != c.rounds {
			t.Errorf("%q: got %v × %d, %v", c.args, s.round, s.rounds, err)
		}
	}
	for _, bad := range []string{"--round 1500ms", "--rounds -1", "extra", "--no-such"} {
		if _, err := parse(strings.Fields(bad), t.Output()); err == nil {
			t.Errorf("%q is no error", bad)
		}
	}
}

func TestAMetricIsFoundByItsWholeName(t *testing.T) {
	text := "# HELP go_x help\ngo_x_total 5\ngo_x 1.5e+06\n"
	if got, err := metric(text, "go_x"); err != nil || got != 1.5e6 {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := metric(text, "go_y"); err == nil {
		t.Error("a metric that is not there is no error")
	}
}

func TestClientsShareTheStatementsOut(t *testing.T) {
	for _, count := range []int{1, 100, 1000, 100000} {
		seen := make(map[int]bool)
		for client := range statementClients {
			for turn := range max(1, count/statementClients) {
				i := statementOf(count, client, turn)
				if i < 0 || i >= count {
					t.Fatalf("%d statements: number %d", count, i)
				}
				seen[i] = true
			}
		}
		if len(seen) < count*9/10 {
			t.Errorf("%d statements: only %d are used", count, len(seen))
		}
	}
}

func TestTwoReplicasAreManyBackends(t *testing.T) {
	all, err := backends("127.0.0.1:1", []string{"127.0.0.1:2", "127.0.0.1:3"}, mostBackends)
	if err != nil {
		t.Fatal(err)
	}
	listening := "," + addresses(loopbacks) + ","
	seen := make(map[string]bool)
	for _, addr := range all {
		host, _, _ := strings.Cut(addr, ":")
		if seen[addr] || !strings.Contains(listening, ","+host+",") {
			t.Errorf("%s is there twice, or nobody listens on it", addr)
		}
		seen[addr] = true
	}
	if len(all) != mostBackends || all[0] != "127.0.0.1:1" {
		t.Errorf("got %q", all)
	}
}

func TestAddressesAreDistinctLoopbacks(t *testing.T) {
	if got := addresses(3); got != "127.0.0.1,127.0.0.2,127.0.0.3" {
		t.Errorf("got %q", got)
	}
}
