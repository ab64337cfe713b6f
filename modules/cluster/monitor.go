package cluster

import (
	"context"
	"time"
)

// monitor watches one backend in a goroutine of its own: it probes at intervals,
// at once after an alarm, and looks at the WAL position while sessions wait for
// their own writes. It decides nothing; the cluster's loop gets what it learns.
type monitor struct {
	b       *Backend
	prober  prober
	sampler *sampler
	hurry   func() bool // the cluster has no primary
	report  func(ctx context.Context, o outcome)

	alarmed chan struct{} // a turn or dial failed: probe now
	wanted  chan struct{} // the primary is to be sampled
	polled  chan struct{} // the replay position is to be watched

	// Only run's goroutine uses what follows.
	probedAt, sampledAt Mark
	fastUntil           Mark
	failing             bool
	life                string // incarnation at the last probe, whose connection the looks use
	poll                pollState
}

// outcome is the result of a probe.
type outcome struct {
	b     *Backend
	facts facts
	took  time.Duration // the server's time to answer
	err   error         // nil: facts hold
}

// fastProbes is how many probes at the fast interval follow an alarm.
const fastProbes = 10

func newMonitor(b *Backend, p prober) *monitor {
	return &monitor{
		b: b, prober: p,
		alarmed: make(chan struct{}, 1), wanted: make(chan struct{}, 1), polled: make(chan struct{}, 1),
	}
}

// alarm makes the monitor probe as soon as the fast interval allows.
func (m *monitor) alarm() { signal(m.alarmed) }

// signal sends without waiting: one signal pending is enough.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run watches until ctx ends.
func (m *monitor) run(ctx context.Context) {
	defer m.prober.close()
	probe, sample, poll := time.NewTimer(0), stopped(), stopped()
	defer probe.Stop()
	defer sample.Stop()
	defer poll.Stop()
	for {
		s := &m.b.settings().Monitor
		select {
		case <-ctx.Done():
			return
		case <-m.alarmed:
			m.fastUntil = Now().Add(fastProbes * s.FastInterval)
			probe.Reset(max(0, s.FastInterval-m.probedAt.Since()))
		case <-probe.C:
			m.probe(ctx, s)
			probe.Reset(m.pause(s))
		case <-m.wanted:
			sample.Reset(max(0, s.Poll-m.sampledAt.Since()))
		case <-sample.C:
			if !m.sample(ctx, s) {
				probe.Reset(max(0, s.FastInterval-m.probedAt.Since()))
			}
		case <-m.polled:
			m.poll = pollState{}
			poll.Reset(0)
		case <-poll.C:
			if next := m.look(ctx, s); next > 0 {
				poll.Reset(next)
			}
		}
	}
}

// stopped returns a timer that is not set.
func stopped() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// pause is the time until the next probe: short while there is no primary, after
// a failure of a turn, and while probes fail before the circuit opens.
func (m *monitor) pause(s *MonitorSettings) time.Duration {
	if m.hurry() || Now() < m.fastUntil || (m.failing && m.b.circuit.State() != CircuitOpen) {
		return s.FastInterval
	}
	return s.Interval
}

// probe asks the server and reports.
func (m *monitor) probe(ctx context.Context, s *MonitorSettings) {
	m.probedAt = Now()
	timed, cancel := context.WithTimeout(ctx, s.Timeout)
	o := outcome{b: m.b}
	o.facts, o.took, o.err = m.prober.probe(timed)
	cancel()
	if ctx.Err() == nil {
		m.failing, m.life = o.err != nil, o.facts.incarnation
		m.report(ctx, o)
	}
}

// sample asks the primary where its WAL is. It returns false when the server
// should be probed instead.
func (m *monitor) sample(ctx context.Context, s *MonitorSettings) bool {
	m.sampler.begin()
	m.sampledAt = Now()
	timed, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	at, err := m.prober.position(timed)
	if err != nil || at.recovery {
		return false
	}
	m.sampler.sampled(m.b, m.life, at, true)
	return true
}

// pollState tells how long a replica has been polled without moving.
type pollState struct {
	last  LSN
	still int
}

// Polls without progress after which a replica is polled at longer intervals:
// its replay is paused, or nothing arrives.
const (
	stillPolls  = 50
	stillFactor = 5
)

// look asks a replica what it has replayed and returns the time until it should
// be asked again, 0 when it has caught up or cannot tell.
func (m *monitor) look(ctx context.Context, s *MonitorSettings) time.Duration {
	timed, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	at, err := m.prober.position(timed)
	if err != nil || !at.recovery || m.sampler.replayed(m.b, m.life, at) {
		return 0
	}
	if at.replay != m.poll.last {
		m.poll = pollState{last: at.replay}
		return s.Poll
	}
	if m.poll.still++; m.poll.still > stillPolls {
		return stillFactor * s.Poll
	}
	return s.Poll
}
