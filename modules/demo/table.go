package demo

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
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

// style is how a view is written: for a terminal with colours and block characters, or plain.
type style struct{ ansi bool }

// The colours of the states, as SGR parameters (ECMA-48).
const (
	green  = "32"
	yellow = "33"
	red    = "31"
	faint  = "2"
	bold   = "1"
)

// column is a column of the table; cells that are numbers stand to the right.
type column struct {
	title string
	right bool
	cell  func(style, backendRow, totals) (text, colour string)
}

// totals are the sums that shares are taken of.
type totals struct{ reads, writes float64 }

var columns = []column{
	{"BACKEND", false, func(_ style, r backendRow, _ totals) (string, string) { return r.name, bold }},
	{"ROLE", false, func(_ style, r backendRow, _ totals) (string, string) { return orDash(r.role), "" }},
	{"STATE", false, func(_ style, r backendRow, _ totals) (string, string) {
		return orDash(strings.ToUpper(r.state)), stateColour(r.state)
	}},
	{"SCORE", false, func(s style, r backendRow, _ totals) (string, string) { return s.bar(r), "" }},
	{"LAG", true, func(_ style, r backendRow, _ totals) (string, string) { return formatBytes(r.lag), "" }},
	{"READS", true, func(_ style, r backendRow, t totals) (string, string) { return share(r.reads, t.reads), "" }},
	{"WRITES", true, func(_ style, r backendRow, t totals) (string, string) { return share(r.writes, t.writes), "" }},
	{"PER S", true, func(_ style, r backendRow, _ totals) (string, string) { return formatRate(r.reads + r.writes), "" }},
	{"POOL", true, func(_ style, r backendRow, _ totals) (string, string) { return formatPool(r), "" }},
	{"TO KILL IT", false, func(_ style, r backendRow, _ totals) (string, string) { return killCommand(r), faint }},
}

// lines renders a view.
func (s style) lines(v view) []string {
	var sum totals
	for _, r := range v.backends {
		sum.reads += r.reads
		sum.writes += r.writes
	}
	texts, colours := make([][]string, len(v.backends)), make([][]string, len(v.backends))
	widths := make([]int, len(columns))
	for c, col := range columns {
		widths[c] = len(col.title)
		for i, r := range v.backends {
			text, colour := col.cell(s, r, sum)
			texts[i], colours[i] = append(texts[i], text), append(colours[i], colour)
			widths[c] = max(widths[c], utf8.RuneCountInString(text))
		}
	}
	var header []string
	for c, col := range columns {
		header = append(header, s.pad(col.title, faint, widths[c], col.right))
	}
	lines := []string{strings.TrimRight(strings.Join(header, "  "), " ")}
	for i := range v.backends {
		var cells []string
		for c, col := range columns {
			cells = append(cells, s.pad(texts[i][c], colours[i][c], widths[c], col.right))
		}
		lines = append(lines, strings.TrimRight(strings.Join(cells, "  "), " "))
	}
	lines = append(lines, "", v.load.String())
	if v.problem != "" {
		lines = append(lines, s.paint("no news from the admin API: "+v.problem, red))
	}
	for _, event := range v.events {
		lines = append(lines, s.paint(event, yellow))
	}
	return lines
}

// pad fills text up to a width and paints it.
func (s style) pad(text, colour string, width int, right bool) string {
	space := strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text)))
	if right {
		return space + s.paint(text, colour)
	}
	return s.paint(text, colour) + space
}

// paint colours text on a terminal.
func (s style) paint(text, colour string) string {
	if !s.ansi || colour == "" || text == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// bar draws a score as ten blocks and a number.
func (s style) bar(r backendRow) string {
	const width = 10
	if !r.scored {
		return "-"
	}
	full, empty := "#", "."
	if s.ansi {
		full, empty = "█", "░"
	}
	blocks := int(math.Round(min(max(r.score, 0), 1) * width))
	return strings.Repeat(full, blocks) + strings.Repeat(empty, width-blocks) + " " + strconv.FormatFloat(r.score, 'f', 2, 64)
}

// stateColour is green for a backend that serves, yellow for one on its way, red for one that does not.
func stateColour(state string) string {
	switch state {
	case "healthy":
		return green
	case "failed":
		return red
	case "":
		return ""
	default:
		return yellow
	}
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

// formatBytes shows a number of bytes in the largest unit that leaves at least one.
func formatBytes(n int64) string {
	if n < 0 {
		return "-"
	}
	units, value, unit := []string{"B", "KiB", "MiB", "GiB", "TiB"}, float64(n), 0
	for value >= 1024 && unit < len(units)-1 {
		value /= 1024
		unit++
	}
	if unit == 0 || value >= 100 {
		return strconv.FormatFloat(value, 'f', 0, 64) + " " + units[unit]
	}
	return strconv.FormatFloat(value, 'f', 1, 64) + " " + units[unit]
}

// orDash makes an empty cell visible.
func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
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
