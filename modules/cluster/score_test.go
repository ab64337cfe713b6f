package cluster

import (
	"math"
	"testing"
	"time"
)

var health = &defaultSettings.Health

func near(a, b float64) bool { return math.Abs(a-b) < 0.01 }

func TestThePartsOfTheScore(t *testing.T) {
	for _, test := range []struct {
		name          string
		failed, total int
		latency       time.Duration
		circuit       CircuitState
		parts         Parts
		score         float64
	}{
		{"idle and well", 0, 0, 0, CircuitClosed, Parts{1, 1, 1}, 1},
		{"fast without errors", 0, 100, 100 * time.Millisecond, CircuitClosed, Parts{1, 1, 1}, 1},
		{"half of the turns fail", 50, 100, 0, CircuitClosed, Parts{0.5, 1, 1}, 0.8},
		{"all turns fail", 100, 100, 0, CircuitClosed, Parts{0, 1, 1}, 0.6},
		{"slow", 0, 100, 2 * time.Second, CircuitClosed, Parts{1, 0, 1}, 0.6},
		{"slower than slow", 0, 100, time.Minute, CircuitClosed, Parts{1, 0, 1}, 0.6},
		{"in the middle", 0, 100, 1050 * time.Millisecond, CircuitClosed, Parts{1, 0.5, 1}, 0.8},
		{"recovering", 0, 0, 0, CircuitHalfOpen, Parts{1, 1, 0.5}, 0.9},
		{"failed", 0, 0, 0, CircuitOpen, Parts{1, 1, 0}, 0.8},
		{"as bad as it gets", 1, 1, time.Hour, CircuitOpen, Parts{0, 0, 0}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := health.parts(test.failed, test.total, test.latency, test.circuit)
			if !near(p.Errors, test.parts.Errors) || !near(p.Latency, test.parts.Latency) || !near(p.Circuit, test.parts.Circuit) {
				t.Errorf("parts are %+v", p)
			}
			if s := health.score(p); !near(s, test.score) {
				t.Errorf("score is %v, want %v", s, test.score)
			}
		})
	}
}

func TestErrorsLeaveTheWindow(t *testing.T) {
	var s score
	at := Mark(1000 * time.Second)
	for i := range 10 {
		s.add(at.Add(time.Duration(i)*time.Second), 0, i%2 == 0, time.Second)
	}
	for _, test := range []struct {
		after         time.Duration
		failed, total int
	}{
		{9 * time.Second, 5, 10},
		{29 * time.Second, 5, 10},
		{30 * time.Second, 4, 9},
		{31 * time.Second, 4, 8},
		{38 * time.Second, 0, 1},
		{39 * time.Second, 0, 0},
		{10 * time.Minute, 0, 0},
	} {
		if f, n := s.errors(at.Add(test.after), 30*time.Second); f != test.failed || n != test.total {
			t.Errorf("after %v: %d of %d failed, want %d of %d", test.after, f, n, test.failed, test.total)
		}
	}
	s.add(at.Add(10*time.Minute), 0, true, time.Second) // the ring has come round
	if f, n := s.errors(at.Add(10*time.Minute), 30*time.Second); f != 1 || n != 1 {
		t.Errorf("%d of %d failed after the ring has come round", f, n)
	}
}

func TestLatencyIsAMovingAverageWhateverTheTraffic(t *testing.T) {
	for _, perSecond := range []int{10, 100, 5000} {
		var s score
		at, step := Mark(1000*time.Second), time.Second/time.Duration(perSecond)
		run := func(d time.Duration, latency time.Duration) {
			for end := at.Add(d); at < end; at = at.Add(step) {
				s.add(at, latency, false, 5*time.Second)
			}
		}
		run(time.Minute, 100*time.Millisecond)
		if l := s.latency(); !near(l.Seconds(), 0.1) {
			t.Errorf("%d/s: latency is %v", perSecond, l)
		}
		run(5*time.Second, 300*time.Millisecond) // one half-life later it is half-way
		if l := s.latency(); math.Abs(l.Seconds()-0.2) > 0.015 {
			t.Errorf("%d/s: latency is %v after one half-life", perSecond, l)
		}
	}
}

func TestLatencyDriftsToTheProbeWithoutTraffic(t *testing.T) {
	var s score
	at := Mark(1000 * time.Second)
	s.probe(at, 10*time.Millisecond, 5*time.Second)
	if l := s.latency(); l != 10*time.Millisecond {
		t.Errorf("latency is %v after the first probe", l)
	}
	for range 3000 { // traffic: probes do not count
		at = at.Add(20 * time.Millisecond)
		s.add(at, time.Second, false, 5*time.Second)
		if at%Mark(time.Second) == 0 {
			s.probe(at, time.Millisecond, 5*time.Second)
		}
	}
	if l := s.latency(); !near(l.Seconds(), 1) {
		t.Errorf("latency is %v under traffic", l)
	}
	for range 6 { // the first of them still sees the traffic
		at = at.Add(time.Second)
		s.probe(at, 0, 5*time.Second)
	}
	if l := s.latency(); math.Abs(l.Seconds()-0.5) > 0.1 {
		t.Errorf("latency is %v one half-life after the traffic", l)
	}
	for range 60 {
		at = at.Add(time.Second)
		s.probe(at, 0, 5*time.Second)
	}
	if l := s.latency(); l > 10*time.Millisecond {
		t.Errorf("latency is %v a minute after the traffic", l)
	}
}

func TestTheSlowStartGrowsEvenly(t *testing.T) {
	for after, want := range map[time.Duration]float64{
		-time.Second: 0.1, 0: 0.1, 5 * time.Second: 0.55, 10 * time.Second: 1, time.Hour: 1,
	} {
		if got := health.slowStart(after); !near(got, want) {
			t.Errorf("after %v: %v, want %v", after, got, want)
		}
	}
	if off := (&HealthSettings{}).slowStart(0); off != 1 {
		t.Errorf("without slow start: %v", off)
	}
}

func TestATurnDoesNotAllocate(t *testing.T) {
	b := NewBackend("pg1", "db:5432")
	if n := testing.AllocsPerRun(1000, func() {
		turn, _ := b.BeginTurn()
		_ = b.CaughtUp(1, true)
		b.EndTurn(turn, time.Millisecond, nil)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkTurn(b *testing.B) {
	be := NewBackend("pg1", "db:5432")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			turn, _ := be.BeginTurn()
			be.EndTurn(turn, time.Millisecond, nil)
		}
	})
}
