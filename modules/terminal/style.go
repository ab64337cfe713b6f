// Package terminal writes tables for people: on a terminal with colours, block
// characters and in place, elsewhere as plain text, one table below the other.
package terminal

import (
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Colour is how a text is painted: the parameters of SGR (ECMA-48), "" not at all.
type Colour string

// The colours in use.
const (
	Green  Colour = "32"
	Yellow Colour = "33"
	Red    Colour = "31"
	Faint  Colour = "2"
	Bold   Colour = "1"
)

// Style is how texts are written: for a terminal with colours and block
// characters, or plain. The zero value is plain.
type Style struct{ ANSI bool }

// StyleOf returns the style that suits out. NO_COLOR and TERM=dumb mean that it
// shall not be treated as a terminal.
func StyleOf(out io.Writer) Style {
	file, ok := out.(*os.File)
	if !ok || os.Getenv("TERM") == "" || os.Getenv("TERM") == "dumb" || os.Getenv("NO_COLOR") != "" {
		return Style{}
	}
	info, err := file.Stat()
	return Style{ANSI: err == nil && info.Mode()&os.ModeCharDevice != 0}
}

// Paint colours text on a terminal.
func (s Style) Paint(text string, c Colour) string {
	if !s.ANSI || c == "" || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// Bar draws a number from 0 to 1 as ten blocks and the number.
func (s Style) Bar(value float64) string {
	const width = 10
	full, empty := "#", "."
	if s.ANSI {
		full, empty = "█", "░"
	}
	blocks := int(math.Round(min(max(value, 0), 1) * width))
	return strings.Repeat(full, blocks) + strings.Repeat(empty, width-blocks) + " " + strconv.FormatFloat(value, 'f', 2, 64)
}

// Column is a column of a table; numbers stand to the right.
type Column struct {
	Title string
	Right bool
}

// Cell is one field of a table.
type Cell struct {
	Text   string
	Colour Colour
}

// Table returns the lines of a table, the titles first. Each row has a cell for
// each column.
func (s Style) Table(columns []Column, rows [][]Cell) []string {
	widths, header := make([]int, len(columns)), make([]Cell, len(columns))
	for c, column := range columns {
		header[c] = Cell{column.Title, Faint}
		widths[c] = utf8.RuneCountInString(column.Title)
		for _, row := range rows {
			widths[c] = max(widths[c], utf8.RuneCountInString(row[c].Text))
		}
	}
	lines := []string{s.line(columns, header, widths)}
	for _, row := range rows {
		lines = append(lines, s.line(columns, row, widths))
	}
	return lines
}

// line writes one row.
func (s Style) line(columns []Column, row []Cell, widths []int) string {
	cells := make([]string, len(row))
	for c, cell := range row {
		space := strings.Repeat(" ", max(0, widths[c]-utf8.RuneCountInString(cell.Text)))
		if cells[c] = s.Paint(cell.Text, cell.Colour) + space; columns[c].Right {
			cells[c] = space + s.Paint(cell.Text, cell.Colour)
		}
	}
	return strings.TrimRight(strings.Join(cells, "  "), " ")
}

// StateColour is green for a backend that serves, yellow for one on its way, red
// for one that does not.
func StateColour(state string) Colour {
	switch state {
	case "healthy":
		return Green
	case "failed":
		return Red
	case "":
		return ""
	}
	return Yellow
}

// Bytes writes a number of bytes in the largest unit that leaves at least one, a
// dash for a negative number.
func Bytes(n int64) string {
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

// OrDash makes an empty cell visible.
func OrDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
