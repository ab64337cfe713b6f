package terminal

import (
	"fmt"
	"io"
	"strings"
)

// Screen shows views: on a terminal in place, elsewhere one below the other. One
// goroutine at a time uses it. What cannot be written is lost: nobody looks.
type Screen struct {
	// Style is how the views are to be written.
	Style Style

	out   io.Writer
	shown int // lines of the view that stand on the terminal
}

// NewScreen finds out whether out is a terminal that knows escape sequences.
func NewScreen(out io.Writer) *Screen { return &Screen{out: out, Style: StyleOf(out)} }

// Say writes lines that stay.
func (s *Screen) Say(lines ...string) {
	s.wipe()
	for _, line := range lines {
		_, _ = fmt.Fprintln(s.out, line)
	}
}

// Show writes a view over the one before.
func (s *Screen) Show(lines []string) {
	s.wipe()
	_, _ = fmt.Fprintln(s.out, strings.Join(lines, "\n"))
	if s.Style.ANSI {
		s.shown = len(lines)
		return
	}
	_, _ = fmt.Fprintln(s.out)
}

// Keep leaves the last view on the terminal for good.
func (s *Screen) Keep() { s.shown = 0 }

// wipe takes the last view off the terminal: cursor up, erase to the end of the screen.
func (s *Screen) wipe() {
	if s.shown > 0 {
		_, _ = fmt.Fprintf(s.out, "\x1b[%dA\x1b[J", s.shown)
		s.shown = 0
	}
}

// Wrap switches the wrapping of long lines on a terminal (DECAWM). It is to be off
// while views are shown: lines longer than the terminal is wide would be counted
// wrong.
func (s *Screen) Wrap(on bool) {
	if !s.Style.ANSI {
		return
	}
	if on {
		_, _ = fmt.Fprint(s.out, "\x1b[?7h")
		return
	}
	_, _ = fmt.Fprint(s.out, "\x1b[?7l")
}
