//go:build linux

package main

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/fairwaydb/fairway/bench/stat"
	"github.com/fairwaydb/fairway/bench/svg"
)

// number writes a figure's number: three digits that count.
func number(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return "–"
	case a >= 100:
		return strconv.FormatFloat(math.Round(v), 'f', 0, 64)
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case v == 0:
		return "0"
	default:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
}

// spread writes a figure as "median (lower quartile to upper quartile)".
func spread(f stat.Figure) string {
	if f.N < 2 || math.IsNaN(f.Median) {
		return number(f.Median)
	}
	return fmt.Sprintf("%s (%s–%s)", number(f.Median), number(f.Lower), number(f.Upper))
}

// bound writes a gate or a goal.
func (g goal) bound(v float64) string {
	switch {
	case math.IsNaN(v):
		return "–"
	case v == 0:
		return "0"
	}
	sign := "≥ "
	if g.lower {
		sign = "≤ "
	}
	text := sign + strconv.FormatFloat(v, 'g', -1, 64)
	if g.unit != "" {
		text += " " + g.unit
	}
	return text
}

// verdicts says how an outcome stands.
func (o outcome) verdicts() string {
	var said []string
	if !math.IsNaN(o.gate) {
		said = append(said, map[bool]string{true: "gate holds", false: "**gate fails**"}[o.holds()])
	}
	if !math.IsNaN(o.goal.goal) {
		said = append(said, map[bool]string{true: "goal reached", false: "goal missed"}[o.reached()])
	}
	return strings.Join(said, ", ")
}

// goalTable is the table of goals with what was measured.
func goalTable(outcomes []outcome) string {
	var b strings.Builder
	b.WriteString("| | What | Gate | Goal | Measured: median (quartiles) | |\n|---|---|---|---|---|---|\n")
	sorted := slices.Clone(outcomes)
	slices.SortStableFunc(sorted, func(x, y outcome) int { return cmp.Compare(x.id, y.id) })
	for _, o := range sorted {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", o.id, o.text, o.bound(o.gate), o.bound(o.goal.goal), spread(o.figure), o.verdicts())
	}
	return b.String()
}

// cellTable is everything that was measured of the cells.
func cellTable(chosen []cell, found map[string]rounds) string {
	var b strings.Builder
	b.WriteString("| Servers | Load | Through | TPS | CPU per transaction, µs | p50, µs | p99, µs | Memory, MiB |\n|---|---|---|---|---|---|---|---|\n")
	for _, c := range chosen {
		for i, peer := range c.peers {
			servers, load := string(c.scene), c.describe()
			if i > 0 {
				servers, load = "", ""
			}
			samples := found[c.name][peer]
			figure := func(pick func(sample) float64) stat.Figure { return stat.Of(values(samples, pick)) }
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %s |\n", servers, load, title(peer),
				spread(figure(tps)), spread(figure(cpu)), number(figure(p50).Median), number(figure(p99).Median), number(figure(pss).Median))
		}
	}
	return b.String()
}

// memoryTable is what an idle client costs.
func memoryTable(clients int, found []perClient) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d clients that have logged in by SCRAM and run one transaction each, and then do nothing; KiB for each of them:\n\n", clients)
	b.WriteString("| | RSS | goroutines' stacks | objects in use |\n|---|---|---|---|\n")
	for _, m := range found {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", title(m.peer), spread(stat.Of(m.rss)), spread(stat.Of(m.stack)), spread(stat.Of(m.heap)))
	}
	return b.String()
}

// title is how a peer is called in tables and plots.
func title(peer string) string {
	return map[string]string{
		direct: "direct", fairway: "Fairway", pgbouncer: "PgBouncer", pgpool: "Pgpool-II", haproxy: "HAProxy",
	}[peer]
}

// hue is the color of a peer in every plot.
var hue = map[string]int{fairway: 0, pgbouncer: 1, pgpool: 2, haproxy: 3, direct: 4}

// cellPlot draws one number of the cells whose names have the prefix, for all peers.
func cellPlot(name, unit, prefix string, chosen []cell, found map[string]rounds, pick func(sample) float64) string {
	p := svg.Plot{Title: name, Unit: unit}
	var here []cell
	for _, c := range chosen {
		if strings.HasPrefix(c.name, prefix) && c.script == "" {
			here = append(here, c)
			p.Groups = append(p.Groups, c.describe())
		}
	}
	for _, peer := range []string{direct, pgbouncer, pgpool, haproxy, fairway} {
		s := svg.Series{Name: title(peer), Color: hue[peer]}
		there := false
		for _, c := range here {
			f := stat.Of(values(found[c.name][peer], pick))
			there = there || !math.IsNaN(f.Median)
			s.Values = append(s.Values, f)
		}
		if there {
			p.Series = append(p.Series, s)
		}
	}
	return p.Bars()
}

// cellPlots are the plots of a full run, by file name.
func cellPlots(chosen []cell, found map[string]rounds) map[string]string {
	return map[string]string{
		"tps-one-node.svg":    cellPlot("Transactions per second, one server, simple protocol", "TPS", "one/simple/", chosen, found, tps),
		"cpu-one-node.svg":    cellPlot("CPU of the proxy per transaction, one server, simple protocol", "µs", "one/simple/", chosen, found, cpu),
		"tps-three-nodes.svg": cellPlot("Transactions per second, primary and two replicas", "TPS", "three/", chosen, found, tps),
		"cpu-three-nodes.svg": cellPlot("CPU of the proxy per transaction, primary and two replicas", "µs", "three/", chosen, found, cpu),
	}
}

// replace puts text between the marks of a section of the page.
func replace(page, section, text string) (string, error) {
	begin, end := "<!-- "+section+" -->\n", "<!-- /"+section+" -->"
	from := strings.Index(page, begin)
	to := strings.Index(page, end)
	if from < 0 || to < from {
		return "", fmt.Errorf("the page has no section between %q and %q", strings.TrimSpace(begin), end)
	}
	return page[:from+len(begin)] + "\n" + strings.TrimSpace(text) + "\n\n" + page[to:], nil
}

// publish writes sections into the page and plots into the directory beside it that bears its name.
func publish(path string, sections, plots map[string]string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	page := string(text)
	for section, text := range sections {
		if page, err = replace(page, section, text); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	dir := strings.TrimSuffix(path, filepath.Ext(path))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, drawing := range plots {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(drawing), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(path, []byte(page), 0o644)
}
