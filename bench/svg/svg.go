// Package svg draws the plots of the benchmark: bars with whiskers, and curves. A plot is one file without script or
// fonts of its own, readable on a light and on a dark page.
package svg

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"

	"github.com/fairwaydb/fairway/bench/stat"
)

// style colors a plot by the page's scheme. The series' colors differ in brightness, too, for who cannot tell their hues.
const style = `<style>
text{font:12px system-ui,-apple-system,"Segoe UI","Liberation Sans",Arial,sans-serif;fill:#24292f}
.t{font-weight:600;font-size:14px}.s{font-size:11px;fill:#57606a}.v{font-size:10px;fill:#57606a}.g{stroke:#d0d7de;stroke-width:1}.a{stroke:#57606a;stroke-width:1}
.w{stroke:#24292f;stroke-width:1.2}.l{fill:none;stroke-width:2}
.f0{fill:#0969da}.l0{stroke:#0969da}.f1{fill:#e16f24}.l1{stroke:#e16f24}.f2{fill:#8250df}.l2{stroke:#8250df}
.f3{fill:#2da44e}.l3{stroke:#2da44e}.f4{fill:#8c959f}.l4{stroke:#8c959f}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.s,.v{fill:#9198a1}.g{stroke:#30363d}.a{stroke:#9198a1}.w{stroke:#e6edf3}
.f0{fill:#4493f8}.l0{stroke:#4493f8}.f1{fill:#f0883e}.l1{stroke:#f0883e}.f2{fill:#ab7df8}.l2{stroke:#ab7df8}
.f3{fill:#3fb950}.l3{stroke:#3fb950}.f4{fill:#9198a1}.l4{stroke:#9198a1}}
</style>
`

// The size of a plot and of the space around what is drawn.
const (
	width                    = 760
	left, right, top, bottom = 64, 16, 64, 44
)

// colors is how many series have a color of their own.
const colors = 5

// Series is what one color shows.
type Series struct {
	Name   string
	Color  int           // 0 to 4: blue, orange, purple, green, gray
	X      []float64     // of a curve; not used for bars
	Values []stat.Figure // one for each group, or for each X; those whose median is NaN are left out
}

// Plot is a drawing.
type Plot struct {
	Title  string
	Unit   string   // of the vertical axis
	Groups []string // names under the bars
	X      string   // name of the horizontal axis of curves
	Log    bool     // curves: the horizontal axis is logarithmic, but for 0
	Series []Series
}

// Bars draws a group of bars for each of Groups, with the median as the bar and the quartiles as a whisker.
func (p Plot) Bars() string {
	const height = 320
	d := p.begin(height)
	slot := float64(width-left-right) / float64(max(1, len(p.Groups)))
	bar := math.Min(42, slot*0.8/float64(max(1, len(p.Series))))
	for g, name := range p.Groups {
		var shown []int
		for i, s := range p.Series {
			if g < len(s.Values) && !math.IsNaN(s.Values[g].Median) {
				shown = append(shown, i)
			}
		}
		center := left + slot*(float64(g)+0.5)
		at := center - bar*float64(len(shown))/2
		for _, i := range shown {
			d.bar(at, bar, p.Series[i].Color, p.Series[i].Values[g])
			at += bar
		}
		above, below, _ := strings.Cut(name, ", ") // names side by side are too wide for one line
		d.text(center, height-bottom+18, "middle", "", above)
		d.text(center, height-bottom+33, "middle", "s", below)
	}
	return d.end()
}

// Curves draws a line for each series, with the quartiles as whiskers on its points.
func (p Plot) Curves() string {
	const height = 320
	d := p.begin(height)
	place, marks := p.horizontal()
	for _, mark := range marks {
		x := place(mark)
		fmt.Fprintf(&d.b, `<line class="a" x1="%s" y1="%s" x2="%s" y2="%s"/>`+"\n", n(x), n(d.y(0)), n(x), n(d.y(0)+4))
		d.text(x, height-bottom+18, "middle", "s", Short(mark))
	}
	d.text((left+width-right)/2, height-8, "middle", "s", p.X)
	for _, s := range p.Series {
		var points []string
		for i, x := range s.X {
			if f := s.Values[i]; !math.IsNaN(f.Median) {
				points = append(points, n(place(x))+","+n(d.y(f.Median)))
				d.whisker(place(x), f)
			}
		}
		fmt.Fprintf(&d.b, `<polyline class="l l%d" points="%s"/>`+"\n", s.Color%colors, strings.Join(points, " "))
		for _, point := range points {
			x, y, _ := strings.Cut(point, ",")
			fmt.Fprintf(&d.b, `<circle class="f%d" cx="%s" cy="%s" r="3.5"/>`+"\n", s.Color%colors, x, y)
		}
	}
	return d.end()
}

// horizontal returns where an x lies and which of them get a mark.
func (p Plot) horizontal() (place func(float64) float64, marks []float64) {
	low, high := math.Inf(1), math.Inf(-1)
	seen := make(map[float64]bool)
	for _, s := range p.Series {
		for _, x := range s.X {
			low, high = math.Min(low, x), math.Max(high, x)
			if !seen[x] {
				seen[x] = true
				marks = append(marks, x)
			}
		}
	}
	scale := func(x float64) float64 { return x }
	if p.Log {
		scale = func(x float64) float64 { return math.Log(math.Max(x, math.Max(low, 1))) }
	}
	from, to := scale(low), scale(high)
	if to <= from {
		to = from + 1
	}
	return func(x float64) float64 {
		return left + 12 + (scale(x)-from)/(to-from)*(width-left-right-24)
	}, marks
}

// drawing is a plot in the making.
type drawing struct {
	b      strings.Builder
	height float64
	max    float64 // value at the upper end of the vertical axis
}

// begin draws title, legend and vertical axis.
func (p Plot) begin(height float64) *drawing {
	d := &drawing{height: height}
	highest := 0.0
	for _, s := range p.Series {
		for _, f := range s.Values {
			for _, v := range []float64{f.Median, f.Upper} {
				if !math.IsNaN(v) {
					highest = math.Max(highest, v)
				}
			}
		}
	}
	step := Step(highest)
	d.max = math.Max(step, math.Ceil(highest/step)*step)
	fmt.Fprintf(&d.b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %s" width="%d" height="%s" role="img" aria-label="%s">`+"\n",
		width, n(height), width, n(height), html.EscapeString(p.Title))
	d.b.WriteString(style)
	d.text(left, 20, "start", "t", p.Title)
	d.text(8, top-12, "start", "s", p.Unit)
	for v := 0.0; v <= d.max*1.0001; v += step {
		class := "g"
		if v == 0 {
			class = "a"
		}
		fmt.Fprintf(&d.b, `<line class="%s" x1="%d" y1="%s" x2="%d" y2="%s"/>`+"\n", class, left, n(d.y(v)), width-right, n(d.y(v)))
		d.text(left-8, d.y(v)+4, "end", "s", Short(v))
	}
	at := float64(width - right)
	for i := len(p.Series) - 1; i >= 0; i-- {
		s := p.Series[i]
		at -= float64(7 * len(s.Name))
		d.text(at, 42, "start", "", s.Name)
		fmt.Fprintf(&d.b, `<rect class="f%d" x="%s" y="32" width="12" height="12" rx="2"/>`+"\n", s.Color%colors, n(at-17))
		at -= 34
	}
	return d
}

// y is the height of a value.
func (d *drawing) y(v float64) float64 {
	return d.height - bottom - v/d.max*(d.height-top-bottom)
}

func (d *drawing) bar(x, w float64, color int, f stat.Figure) {
	y := d.y(f.Median)
	fmt.Fprintf(&d.b, `<rect class="f%d" x="%s" y="%s" width="%s" height="%s"/>`+"\n", color%colors, n(x+1), n(y), n(w-2), n(d.y(0)-y))
	d.whisker(x+w/2, f)
	upper := f.Median
	if f.Upper > upper {
		upper = f.Upper
	}
	d.text(x+w/2, d.y(upper)-4, "middle", "v", Short(f.Median))
}

// whisker draws the quartiles, when there is more than one round.
func (d *drawing) whisker(x float64, f stat.Figure) {
	if f.N < 2 {
		return
	}
	fmt.Fprintf(&d.b, `<path class="w" d="M%s %sV%s"/>`+"\n", n(x), n(d.y(f.Lower)), n(d.y(f.Upper)))
}

func (d *drawing) text(x, y float64, anchor, class, s string) {
	fmt.Fprintf(&d.b, `<text x="%s" y="%s" text-anchor="%s"`, n(x), n(y), anchor)
	if class != "" {
		fmt.Fprintf(&d.b, ` class="%s"`, class)
	}
	fmt.Fprintf(&d.b, ">%s</text>\n", html.EscapeString(s))
}

func (d *drawing) end() string {
	d.b.WriteString("</svg>\n")
	return d.b.String()
}

// n writes a coordinate.
func n(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }

// Step is a round distance between grid lines, so that there are four to eight of them up to the value.
func Step(highest float64) float64 {
	if !(highest > 0) {
		return 1
	}
	size := math.Pow(10, math.Floor(math.Log10(highest)))
	switch r := highest / size; {
	case r < 1.5:
		return size / 5
	case r < 4:
		return size / 2
	default:
		return size
	}
}

// Short writes a number in few characters: 12k for 12,000, three digits otherwise.
func Short(v float64) string {
	switch a := math.Abs(v); {
	case a >= 999_500:
		return strconv.FormatFloat(v/1e6, 'g', 3, 64) + "M"
	case a >= 10_000:
		return strconv.FormatFloat(math.Round(v/100)/10, 'f', -1, 64) + "k"
	case a >= 100:
		return strconv.FormatFloat(math.Round(v), 'f', -1, 64)
	default:
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
}
