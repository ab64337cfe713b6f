package demo

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairwaydb/fairway/modules/status"
	"github.com/fairwaydb/fairway/modules/terminal"
)

var update = flag.Bool("update", false, "write the golden files anew")

// sampleView has a row of each kind.
func sampleView() view {
	return view{
		backends: []backendRow{
			{Row: status.Row{Name: "pg1", Role: "primary", State: "healthy", Score: 1, Scored: true, Lag: -1, Writes: 40, Reads: 1, Open: 4, InUse: 1}, pid: 4711},
			{Row: status.Row{Name: "pg2", Role: "replica", State: "lagging", Score: 0.94, Scored: true, Lag: 17 << 20, Reads: 119, Open: 6, InUse: 2, Waiting: 3}, pid: 4712},
			{Row: status.Row{Name: "pg3", Role: "replica", State: "failed", Score: 0.2, Scored: true, Lag: 512, Open: 0}},
			{Row: status.Row{Name: "pg4", Lag: -1}, pid: 4714},
		},
		load:   loadSummary{clients: 4, rate: 160, total: 12345, failed: 2, slowest: 12345 * time.Microsecond, lastFail: "08006 connection to pg3 lost"},
		events: []string{"12:00:01 pg3 is dead; it comes back in 15s"},
	}
}

func TestTableGolden(t *testing.T) {
	trouble := sampleView()
	trouble.problem = "connection refused"
	cases := map[string]struct {
		style terminal.Style
		view  view
	}{
		"plain":       {terminal.Style{}, sampleView()},
		"terminal":    {terminal.Style{ANSI: true}, sampleView()},
		"trouble":     {terminal.Style{}, trouble},
		"nothing_yet": {terminal.Style{}, view{}},
	}
	for name, tt := range cases {
		t.Run(name, func(t *testing.T) {
			got := strings.Join(tt.view.lines(tt.style), "\n") + "\n"
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
