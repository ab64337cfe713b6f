package demo

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

// sampleView has a row of each kind.
func sampleView() view {
	return view{
		backends: []backendRow{
			{name: "pg1", role: "primary", state: "healthy", score: 1, scored: true, lag: -1, writes: 40, reads: 1, open: 4, inUse: 1, pid: 4711},
			{name: "pg2", role: "replica", state: "lagging", score: 0.94, scored: true, lag: 17 << 20, reads: 119, open: 6, inUse: 2, waiting: 3, pid: 4712},
			{name: "pg3", role: "replica", state: "failed", score: 0.2, scored: true, lag: 512, open: 0},
			{name: "pg4", lag: -1, pid: 4714},
		},
		load:   loadSummary{clients: 4, rate: 160, total: 12345, failed: 2, slowest: 12345 * time.Microsecond, lastFail: "08006 connection to pg3 lost"},
		events: []string{"12:00:01 pg3 is dead; it comes back in 15s"},
	}
}

func TestTableGolden(t *testing.T) {
	trouble := sampleView()
	trouble.problem = "connection refused"
	cases := map[string]struct {
		style style
		view  view
	}{
		"plain":       {style{}, sampleView()},
		"terminal":    {style{ansi: true}, sampleView()},
		"trouble":     {style{}, trouble},
		"nothing_yet": {style{}, view{}},
	}
	for name, tt := range cases {
		t.Run(name, func(t *testing.T) {
			got := strings.Join(tt.style.lines(tt.view), "\n") + "\n"
			file := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestFormatBytes(t *testing.T) {
	for n, want := range map[int64]string{
		-1: "-", 0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 16 << 20: "16.0 MiB", 150 << 30: "150 GiB", 1 << 62: "4194304 TiB",
	} {
		if got := formatBytes(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}

func TestScreenDrawsOverTheLastViewOnATerminal(t *testing.T) {
	var out bytes.Buffer
	s := &screen{out: &out, style: style{ansi: true}}
	s.show(view{})
	first := out.Len()
	s.show(view{})
	// Three lines: the header, an empty one and the load.
	if got := out.String()[first:]; !strings.HasPrefix(got, "\x1b[3A\x1b[J") {
		t.Errorf("the second view begins with %q", got)
	}
	out.Reset()
	s.style.ansi = false
	s.wipe()
	out.Reset()
	s.show(view{})
	s.show(view{})
	if strings.Contains(out.String(), "\x1b") {
		t.Errorf("escape sequences in plain output: %q", out.String())
	}
	if isTerminal(&out) {
		t.Error("a buffer counts as a terminal")
	}
}
