package stat

import (
	"math"
	"slices"
	"testing"
)

func TestQuantilesLieBetweenNeighbors(t *testing.T) {
	values := []float64{4, 1, 3, 2}
	for q, want := range map[float64]float64{0: 1, 0.25: 1.75, 0.5: 2.5, 0.75: 3.25, 1: 4} {
		if got := Quantile(values, q); got != want {
			t.Errorf("quantile %v of %v: got %v, want %v", q, values, got, want)
		}
	}
	if !slices.Equal(values, []float64{4, 1, 3, 2}) {
		t.Errorf("the values were changed: %v", values)
	}
	if got := Quantile([]float64{7}, 0.99); got != 7 {
		t.Errorf("of one value: got %v", got)
	}
	if got := Quantile(nil, 0.5); !math.IsNaN(got) {
		t.Errorf("of none: got %v", got)
	}
}

func TestAFigureHasTheQuartilesOfItsRounds(t *testing.T) {
	if got, want := Of([]float64{1, 2, 3, 4, 5}), (Figure{Lower: 2, Median: 3, Upper: 4, N: 5}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestRatiosArePairedByRound(t *testing.T) {
	got := Ratios([]float64{10, 20, 30, 40}, []float64{5, 0, 10})
	if want := []float64{2, 3}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
