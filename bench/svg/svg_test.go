package svg

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/fairwaydb/fairway/bench/stat"
)

// elements parses a drawing and counts its elements by name.
func elements(t *testing.T, drawing string) map[string]int {
	t.Helper()
	found := make(map[string]int)
	d := xml.NewDecoder(strings.NewReader(drawing))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatalf("%v in:\n%s", err, drawing)
		}
		if e, ok := token.(xml.StartElement); ok {
			found[e.Name.Local]++
		}
	}
}

func figure(median float64) stat.Figure {
	return stat.Figure{Lower: median * 0.9, Median: median, Upper: median * 1.1, N: 5}
}

func TestBarsAreDrawnForWhatWasMeasured(t *testing.T) {
	nothing := stat.Of(nil)
	p := Plot{
		Title: "A & B <c>", Unit: "TPS", Groups: []string{"16 clients, simple", "one"},
		Series: []Series{
			{Name: "x", Values: []stat.Figure{figure(10), figure(20)}},
			{Name: "y", Color: 1, Values: []stat.Figure{figure(5), nothing}},
		},
	}
	drawing := p.Bars()
	got := elements(t, drawing)
	if got["rect"] != 3+2 { // bars and the legend
		t.Errorf("%d rectangles, want 3 bars and 2 in the legend", got["rect"])
	}
	if got["path"] != 3 {
		t.Errorf("%d whiskers, want 3", got["path"])
	}
	if got["script"] != 0 || !strings.Contains(drawing, "prefers-color-scheme:dark") {
		t.Error("a plot has no script and colors for a dark page")
	}
	if strings.Contains(drawing, "NaN") {
		t.Error("what was not measured is drawn")
	}
}

func TestCurvesHaveAPointForEachNumber(t *testing.T) {
	p := Plot{Title: "t", X: "clients", Log: true, Series: []Series{
		{Name: "x", X: []float64{1, 100, 100000}, Values: []stat.Figure{figure(1), stat.Of(nil), figure(3)}},
	}}
	drawing := p.Curves()
	got := elements(t, drawing)
	if got["circle"] != 2 || got["polyline"] != 1 {
		t.Errorf("%d points and %d lines, want 2 and 1", got["circle"], got["polyline"])
	}
	if strings.Contains(drawing, "NaN") || strings.Contains(drawing, "Inf") {
		t.Error("a place on the plot is not a number")
	}
}

func TestCurvesOfOnePointAndOfNothingAreDrawn(t *testing.T) {
	for _, p := range []Plot{
		{Series: []Series{{X: []float64{0}, Values: []stat.Figure{figure(0)}}}},
		{},
	} {
		for _, drawing := range []string{p.Curves(), p.Bars()} {
			elements(t, drawing)
			if strings.Contains(drawing, "NaN") || strings.Contains(drawing, "Inf") {
				t.Errorf("a place is not a number:\n%s", drawing)
			}
		}
	}
}

func TestZeroHasAPlaceOnALogarithmicAxis(t *testing.T) {
	p := Plot{Log: true, Series: []Series{{X: []float64{0, 10, 100}}}}
	place, marks := p.horizontal()
	if len(marks) != 3 || math.IsNaN(place(0)) || place(0) >= place(10) || place(10) >= place(100) {
		t.Errorf("0, 10 and 100 lie at %v, %v, %v", place(0), place(10), place(100))
	}
}

func TestGridLinesAreRoundAndNotTooMany(t *testing.T) {
	for _, highest := range []float64{0.003, 0.9, 1, 1.4, 1.6, 3.9, 4.1, 9.9, 12345, 700} {
		if lines := highest / Step(highest); lines < 2 || lines > 10 {
			t.Errorf("up to %v there are %v lines", highest, lines)
		}
	}
	if Step(0) != 1 || Step(math.NaN()) != 1 {
		t.Error("an empty plot has no step")
	}
}

func TestNumbersAreShort(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.754: "0.754", 12.34: "12.3", 8927: "8927", 27345: "27.3k", 123456: "123.5k", 1234567: "1.23M"} {
		if got := Short(v); got != want {
			t.Errorf("%v: got %q, want %q", v, got, want)
		}
	}
}
