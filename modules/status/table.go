package status

import (
	"strconv"
	"strings"

	"github.com/fairwaydb/fairway/modules/terminal"
)

// column is a column of the table.
type column struct {
	terminal.Column
	cell func(terminal.Style, *Row, totals) (text string, colour terminal.Colour)
}

// totals are the sums that shares are taken of.
type totals struct{ reads, writes float64 }

var columns = []column{
	{terminal.Column{Title: "BACKEND"}, func(_ terminal.Style, r *Row, _ totals) (string, terminal.Colour) { return r.Name, terminal.Bold }},
	{terminal.Column{Title: "ROLE"}, func(_ terminal.Style, r *Row, _ totals) (string, terminal.Colour) { return terminal.OrDash(r.Role), "" }},
	{terminal.Column{Title: "STATE"}, func(_ terminal.Style, r *Row, _ totals) (string, terminal.Colour) {
		return terminal.OrDash(strings.ToUpper(r.State)), terminal.StateColour(r.State)
	}},
	{terminal.Column{Title: "SCORE"}, func(s terminal.Style, r *Row, _ totals) (string, terminal.Colour) { return bar(s, r), "" }},
	{terminal.Column{Title: "LAG", Right: true}, func(_ terminal.Style, r *Row, _ totals) (string, terminal.Colour) { return terminal.Bytes(r.Lag), "" }},
	{terminal.Column{Title: "READS", Right: true}, func(_ terminal.Style, r *Row, t totals) (string, terminal.Colour) { return share(r.Reads, t.reads), "" }},
	{terminal.Column{Title: "WRITES", Right: true}, func(_ terminal.Style, r *Row, t totals) (string, terminal.Colour) {
		return share(r.Writes, t.writes), ""
	}},
	{terminal.Column{Title: "PER S", Right: true}, func(_ terminal.Style, r *Row, _ totals) (string, terminal.Colour) {
		return formatRate(r.Reads + r.Writes), ""
	}},
	{terminal.Column{Title: "POOL", Right: true}, func(_ terminal.Style, r *Row, _ totals) (string, terminal.Colour) { return formatPool(r), "" }},
}

// Table returns the lines of a table of the rows, the titles first. extra is one
// more column at the end, with a cell for each row; nil is none.
func Table(s terminal.Style, rows []Row, title string, extra []terminal.Cell) []string {
	var sum totals
	for i := range rows {
		sum.reads += rows[i].Reads
		sum.writes += rows[i].Writes
	}
	titles, cells := make([]terminal.Column, len(columns)), make([][]terminal.Cell, len(rows))
	for c, col := range columns {
		titles[c] = col.Column
		for i := range rows {
			text, colour := col.cell(s, &rows[i], sum)
			cells[i] = append(cells[i], terminal.Cell{Text: text, Colour: colour})
		}
	}
	if title != "" {
		titles = append(titles, terminal.Column{Title: title})
		for i := range rows {
			cells[i] = append(cells[i], extra[i])
		}
	}
	return s.Table(titles, cells)
}

// bar draws the score.
func bar(s terminal.Style, r *Row) string {
	if !r.Scored {
		return "-"
	}
	return s.Bar(r.Score)
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
func formatPool(r *Row) string {
	pool := strconv.Itoa(r.InUse) + "/" + strconv.Itoa(r.Open)
	if r.Waiting > 0 {
		pool += " +" + strconv.Itoa(r.Waiting)
	}
	return pool
}
