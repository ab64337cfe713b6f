package terminal

import (
	"bytes"
	"slices"
	"testing"
)

func TestATableIsAsWideAsItsCells(t *testing.T) {
	columns := []Column{{"NAME", false}, {"LAG", true}}
	rows := [][]Cell{{{"pg1", Bold}, {"-", ""}}, {{"résumé", ""}, {"1.5 KiB", Red}}}
	want := []string{"NAME        LAG", "pg1           -", "résumé  1.5 KiB"}
	if got := (Style{}).Table(columns, rows); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	want = []string{"\x1b[2mNAME\x1b[0m        \x1b[2mLAG\x1b[0m", "\x1b[1mpg1\x1b[0m           -", "résumé  \x1b[31m1.5 KiB\x1b[0m"}
	if got := (Style{ANSI: true}).Table(columns, rows); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestBarsAndBytes(t *testing.T) {
	for value, want := range map[float64]string{-1: ".......... -1.00", 0.44: "####...... 0.44", 1: "########## 1.00", 7: "########## 7.00"} {
		if got := (Style{}).Bar(value); got != want {
			t.Errorf("%v is %q, want %q", value, got, want)
		}
	}
	if got := (Style{ANSI: true}).Bar(0.5); got != "█████░░░░░ 0.50" {
		t.Errorf("got %q", got)
	}
	for n, want := range map[int64]string{-1: "-", 0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 17 << 20: "17.0 MiB", 200 << 30: "200 GiB", 5 << 50: "5120 TiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}

func TestViewsStandInEachOthersPlaceOnATerminal(t *testing.T) {
	var out bytes.Buffer
	s := NewScreen(&out)
	if s.Style.ANSI {
		t.Fatal("a buffer is no terminal")
	}
	s.Wrap(false)
	s.Show([]string{"a", "b"})
	s.Show([]string{"c"})
	if got := out.String(); got != "a\nb\n\nc\n\n" {
		t.Errorf("plain: %q", got)
	}
	out.Reset()
	s.Style.ANSI = true
	s.Wrap(false)
	s.Show([]string{"a", "b"})
	s.Show([]string{"c"})
	s.Say("said")
	s.Show([]string{"d"})
	s.Keep()
	s.Wrap(true)
	s.Say("end")
	if got := out.String(); got != "\x1b[?7la\nb\n\x1b[2A\x1b[Jc\n\x1b[1A\x1b[Jsaid\nd\n\x1b[?7hend\n" {
		t.Errorf("terminal: %q", got)
	}
}
