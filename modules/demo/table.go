package demo

import (
	"fmt"
	"strconv"
	"time"

	"github.com/fairwaydb/fairway/modules/status"
	"github.com/fairwaydb/fairway/modules/terminal"
)

// backendRow is what the table shows of one backend.
type backendRow struct {
	status.Row
	pid int // of the postmaster, 0 when none runs
}

// view is what the live part of the demo shows.
type view struct {
	backends []backendRow
	load     loadSummary
	events   []string // newest last
	problem  string   // why the numbers could not be read, "" when they could
}

// lines renders a view.
func (v view) lines(s terminal.Style) []string {
	rows, kill := make([]status.Row, len(v.backends)), make([]terminal.Cell, len(v.backends))
	for i, r := range v.backends {
		rows[i], kill[i] = r.Row, terminal.Cell{Text: killCommand(r), Colour: terminal.Faint}
	}
	lines := append(status.Table(s, rows, "TO KILL IT", kill), "", v.load.String())
	if v.problem != "" {
		lines = append(lines, s.Paint("no news from the admin API: "+v.problem, terminal.Red))
	}
	for _, event := range v.events {
		lines = append(lines, s.Paint(event, terminal.Yellow))
	}
	return lines
}

// killCommand is what to type to see the backend die.
func killCommand(r backendRow) string {
	if r.pid == 0 {
		return "(dead)"
	}
	return "kill -9 " + strconv.Itoa(r.pid)
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
