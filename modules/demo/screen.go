package demo

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// screen shows views: on a terminal in place, elsewhere one below the other.
type screen struct {
	out   io.Writer
	style style
	shown int // lines of the view that stand on the terminal
}

// newScreen finds out whether out is a terminal that knows escape sequences.
func newScreen(out io.Writer) *screen { return &screen{out: out, style: style{ansi: isTerminal(out)}} }

// isTerminal reports whether out is one. NO_COLOR and TERM=dumb mean that it shall not be treated as one.
func isTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	if !ok || os.Getenv("TERM") == "" || os.Getenv("TERM") == "dumb" || os.Getenv("NO_COLOR") != "" {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// say writes lines that stay.
func (s *screen) say(lines ...string) {
	s.wipe()
	for _, line := range lines {
		fmt.Fprintln(s.out, line)
	}
}

// show writes a view over the one before.
func (s *screen) show(v view) {
	lines := s.style.lines(v)
	s.wipe()
	fmt.Fprintln(s.out, strings.Join(lines, "\n"))
	if s.style.ansi {
		s.shown = len(lines)
		return
	}
	fmt.Fprintln(s.out)
}

// keep leaves the last view on the terminal for good.
func (s *screen) keep() { s.shown = 0 }

// wipe takes the last view off the terminal: cursor up, erase to the end of the screen. Lines longer than the terminal
// is wide would be counted wrong, so wrapping is switched off while views are shown.
func (s *screen) wipe() {
	if s.shown > 0 {
		fmt.Fprintf(s.out, "\x1b[%dA\x1b[J", s.shown)
		s.shown = 0
	}
}

// wrap switches the wrapping of long lines on a terminal (DECAWM).
func (s *screen) wrap(on bool) {
	if !s.style.ansi {
		return
	}
	if on {
		fmt.Fprint(s.out, "\x1b[?7h")
		return
	}
	fmt.Fprint(s.out, "\x1b[?7l")
}
