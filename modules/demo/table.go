package demo

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/fairwaydb/fairway/modules/terminal"
)

// backendRow is what the table shows of one backend.
type backendRow struct {
	name, role, state string
	score             float64 // 0 to 1
	scored            bool    // false while nothing is known
	lag               int64   // bytes behind the primary; negative: not known or no replica
	reads, writes     float64 // statements a second
	open, inUse       int     // server connections
	waiting           int     // sessions that wait for one
	pid               int     // of the postmaster, 0 when none runs
}

// view is what the live part of the demo shows.
type view struct {
	backends []backendRow
	load     loadSummary
	events   []string // newest last
	problem  string   // why the numbers could not be read, "" when they could
}

// column is a column of the table; cells that are numbers stand to the right.
type column struct {
	title string
	right bool
	cell  func(terminal.Style, backendRow, totals) (text string, colour terminal.Colour)
}

// totals are the sums that shares are taken of.
type totals struct{ reads, writes float64 }

var columns = []column{
	{"BACKEND", false, func(_ terminal.Style, r backendRow, _ totals) (string, terminal.Colour) { return r.name, terminal.Bold }},
	{"ROLE", false, func(_ terminal.Style, r backendRow, _ totals) (string, terminal.Colour) { return terminal.OrDash(r.role), "" }},
	{"STATE", false, func(_ terminal.Style, r backendRow, _ totals) (string, terminal.Colour) {
		return terminal.OrDash(strings.ToUpper(r.state)), terminal.StateColour(r.state)
	}},
	{"SCORE", false, func(s terminal.Style, r backendRow, _ totals) (string, terminal.Colour) { return bar(s, r), "" }},
	{"LAG", true, func(_ terminal.Style, r backendRow, _ totals) (string, terminal.Colour) { return terminal.Bytes(r.lag), "" }},
	{"READS", true, func(_ terminal.Style, r backendRow, t totals) (string, terminal.Colour) { return share(r.reads, t.reads), "" }},
	{"WRITES", true, func(_ terminal.Style, r backendRow, t totals) (string, terminal.Colour) { return share(r.writes, t.writes), "" }},
	{"PER S", true, func(_ terminal.Style, r backendRow, _ totals) (string, terminal.Colour) { return formatRate(r.reads + r.writes), "" }},
	{"POOL", true, func(_ terminal.Style, r backendRow, _ totals) (string, terminal.Colour) { return formatPool(r), "" }},
	{"TO KILL IT", false, func(_ terminal.Style, r backendRow, _ totals) (string, terminal.Colour) { return killCommand(r), terminal.Faint }},
}

// lines renders a view.
func (v view) lines(s terminal.Style) []string {
	var sum totals
	for _, r := range v.backends {
		sum.reads += r.reads
		sum.writes += r.writes
	}
	titles, rows := make([]terminal.Column, len(columns)), make([][]terminal.Cell, len(v.backends))
	for c, col := range columns {
		titles[c] = terminal.Column{Title: col.title, Right: col.right}
		for i, r := range v.backends {
			text, colour := col.cell(s, r, sum)
			rows[i] = append(rows[i], terminal.Cell{Text: text, Colour: colour})
		}
	}
	lines := append(s.Table(titles, rows), "", v.load.String())
	if v.problem != "" {
		lines = append(lines, s.Paint("no news from the admin API: "+v.problem, terminal.Red))
	}
	for _, event := range v.events {
		lines = append(lines, s.Paint(event, terminal.Yellow))
	}
	return lines
}

// bar draws the score.
func bar(s terminal.Style, r backendRow) string {
	if !r.scored {
		return "-"
	}
	return s.Bar(r.score)
}

// killCommand is what to type to see the backend die.
func killCommand(r backendRow) string {
	if r.pid == 0 {
		return "(dead)"
	}
	return "kill -9 " + strconv.Itoa(r.pid)
}

// share is a part of a sum in percent.
func share(part, sum float64) string {
	if sum <= 0 {
		return "-"
	}
	return strconv.FormatFloat(100*part/sum, 'f', 0, 64) + "%"
}

// formatRate shows statements a second.
func formatRate(rate float64) string { return strconv.FormatFloat(max(rate, 0), 'f', 0, 64) }

// formatPool shows server connections in use and open, and who waits for one.
func formatPool(r backendRow) string {
	pool := strconv.Itoa(r.inUse) + "/" + strconv.Itoa(r.open)
	if r.waiting > 0 {
		pool += " +" + strconv.Itoa(r.waiting)
	}
	return pool
}

// loadSummary is what the background load has seen.
type loadSummary struct {
	clients  int
	rate     float64 // statements a second
	total    int64
	failed   int64
	slowest  time.Duration // since the last summary
	lastFail string        // SQLSTATE and text, or the network's error
}

// String is one line.
func (l loadSummary) String() string {
	if l.clients == 0 {
		return "load: none"
	}
	line := fmt.Sprintf("load: %d clients, %.0f statements/s, %d in all, slowest just now %s, %d errors",
		l.clients, l.rate, l.total, l.slowest.Round(time.Millisecond), l.failed)
	if l.lastFail != "" {
		line += " (last: " + l.lastFail + ")"
	}
	return line
}
