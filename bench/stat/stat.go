// Package stat holds the statistics of the benchmark: quantiles, and a figure with its spread. It knows nothing of what
// was measured.
package stat

import (
	"math"
	"slices"
)

// Quantile returns the value below which the part q (0 to 1) of the values lies, interpolated between neighbors (type 7
// of Hyndman and Fan, what most programs do). The values need no order and are not changed. NaN when there are none.
func Quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	at := q * float64(len(sorted)-1)
	below := int(math.Floor(at))
	if below+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[below] + (at-float64(below))*(sorted[below+1]-sorted[below])
}

// Figure is a measured number with its spread over the rounds.
type Figure struct {
	Lower, Median, Upper float64 // the quartiles
	N                    int     // rounds
}

// Of sums up the values of all rounds. Without values its numbers are NaN.
func Of(values []float64) Figure {
	return Figure{
		Lower:  Quantile(values, 0.25),
		Median: Quantile(values, 0.5),
		Upper:  Quantile(values, 0.75),
		N:      len(values),
	}
}

// Ratios divides round by round: what was measured side by side is compared, and what disturbed the machine in that
// round disturbed both. The shorter list decides how many there are. Rounds whose divisor is not above zero are left out.
func Ratios(values, by []float64) []float64 {
	var ratios []float64
	for i := range min(len(values), len(by)) {
		if by[i] > 0 {
			ratios = append(ratios, values[i]/by[i])
		}
	}
	return ratios
}
