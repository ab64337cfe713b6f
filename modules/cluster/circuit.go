package cluster

import (
	"sync"
	"sync/atomic"
)

// CircuitState is the state of a backend's circuit breaker.
type CircuitState uint8

// The states of a circuit. The moves between them are closed → open → half-open
// → closed or open again; every other move is refused.
const (
	CircuitClosed   CircuitState = iota // HEALTHY: all requests pass; 0 in metrics
	CircuitHalfOpen                     // RECOVERING: a few trial requests pass; 1
	CircuitOpen                         // FAILED: none pass; 2
	circuitCount
)

// String returns the state as it stands in metrics and logs.
func (s CircuitState) String() string {
	switch s {
	case CircuitClosed:
		return "closed"
	case CircuitHalfOpen:
		return "half_open"
	case CircuitOpen:
		return "open"
	case circuitCount:
	}
	return "unknown"
}

// score is the circuit's part of the health score.
func (s CircuitState) score() float64 {
	switch s {
	case CircuitClosed:
		return 1
	case CircuitHalfOpen:
		return 0.5
	case CircuitOpen, circuitCount:
	}
	return 0
}

// circuit is the state machine of one backend. It lives as long as the backend;
// the breaker that judges comes from the settings in force, with each call. The
// closed state costs a turn two atomic loads.
type circuit struct {
	state     atomic.Uint32 // CircuitState; written under mu only
	turnFails atomic.Int32  // failed turns since the last success
	last      atomic.Bool   // set by the loop: this is the last fit candidate

	// changed is told about each move, with mu held: it must not block.
	changed func(from, to CircuitState)

	mu struct {
		sync.Mutex
		probeFails int    // failed probes since the last answer
		since      Mark   // when the state was entered
		trials     int    // trial requests of this half-open state, at most
		begun, ok  int    // trial requests let through, and how many succeeded
		lastBegun  Mark   // when the newest was let through
		epoch      uint32 // number of the half-open state, so that late trials are told apart
	}
}

// State returns the current state.
func (c *circuit) State() CircuitState { return CircuitState(c.state.Load()) }

// begin asks to let a request through. In half-open state it takes a trial and
// returns its epoch, which goes to success, failure or giveBack.
func (c *circuit) begin() (epoch uint32, ok bool) {
	if c.State() == CircuitClosed {
		return 0, true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.State() {
	case CircuitClosed:
		return 0, true
	case CircuitHalfOpen:
		if c.mu.begun >= c.mu.trials {
			return 0, false
		}
		c.mu.begun++
		c.mu.lastBegun = Now()
		return c.mu.epoch, true
	case CircuitOpen, circuitCount:
	}
	return 0, false
}

// success notes a turn that a server answered.
func (c *circuit) success(epoch uint32) {
	if c.turnFails.Load() != 0 {
		c.turnFails.Store(0)
	}
	if epoch == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.State() != CircuitHalfOpen || epoch != c.mu.epoch {
		return
	}
	if c.mu.ok++; c.mu.ok >= c.mu.trials {
		c.setState(CircuitClosed)
	}
}

// giveBack returns a trial that taught nothing.
func (c *circuit) giveBack(epoch uint32) {
	if epoch == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.State() == CircuitHalfOpen && epoch == c.mu.epoch && c.mu.begun > c.mu.ok {
		c.mu.begun--
	}
}

// failure notes a failed turn or dial. The epoch is that of the turn's trial, 0
// when it was none: a turn begun before the circuit opened says nothing about
// the trials.
func (c *circuit) failure(b Breaker, epoch uint32, failed, total int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turnFails.Add(1)
	switch c.State() {
	case CircuitClosed:
		c.judge(b, failed, total)
	case CircuitHalfOpen:
		if epoch == c.mu.epoch {
			c.setState(CircuitOpen)
		}
	case CircuitOpen, circuitCount:
	}
}

// dialFailure notes a failed dial: in half-open state it is always a trial's.
func (c *circuit) dialFailure(b Breaker, failed, total int) {
	c.mu.Lock()
	epoch := c.mu.epoch
	c.mu.Unlock()
	c.failure(b, epoch, failed, total)
}

// probe notes the outcome of a probe: n failures (a probe and what waited for
// its outcome), or an answer when n is 0.
func (c *circuit) probe(b Breaker, n, failed, total int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n == 0 {
		c.mu.probeFails = 0
		return
	}
	c.mu.probeFails += n
	switch c.State() {
	case CircuitClosed:
		c.judge(b, failed, total)
	case CircuitHalfOpen:
		c.setState(CircuitOpen)
	case CircuitOpen, circuitCount:
	}
}

// judge asks the breaker; mu is held.
func (c *circuit) judge(b Breaker, failed, total int) {
	e := Evidence{Consecutive: int(c.turnFails.Load()) + c.mu.probeFails, Failed: failed, Total: total}
	switch b.Judge(e) {
	case VerdictOpen:
		c.setState(CircuitOpen)
	case VerdictOpenUnlessLast:
		if !c.last.Load() {
			c.setState(CircuitOpen)
		}
	case VerdictStay:
	}
}

// tick moves on with time: an open circuit becomes half-open after the recovery
// timeout, and trials that have not ended for as long are given out anew, so
// that one endless request does not hold up the recovery.
func (c *circuit) tick(r Recovery) {
	if c.State() == CircuitClosed {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.State() {
	case CircuitOpen:
		if c.mu.since.Since() >= r.Timeout {
			c.halfOpen(r)
		}
	case CircuitHalfOpen:
		if c.mu.begun > c.mu.ok && c.mu.lastBegun.Since() >= r.Timeout {
			c.mu.begun = c.mu.ok
		}
	case CircuitClosed, circuitCount:
	}
}

// restarted makes an open circuit half-open at once: a new incarnation of the
// server has answered the probe.
func (c *circuit) restarted(r Recovery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.State() == CircuitOpen {
		c.halfOpen(r)
	}
}

// reset closes the circuit: the probe has found the primary well, or an operator
// wants it.
func (c *circuit) reset(r Recovery) {
	if c.State() == CircuitClosed && c.turnFails.Load() == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.State() == CircuitOpen {
		c.halfOpen(r)
	}
	if c.State() == CircuitHalfOpen {
		c.setState(CircuitClosed)
	}
	c.turnFails.Store(0)
	c.mu.probeFails = 0
}

// trip opens the circuit by an operator's wish.
func (c *circuit) trip() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.State() != CircuitOpen {
		c.setState(CircuitOpen)
	}
}

// halfOpen begins a round of trials; mu is held.
func (c *circuit) halfOpen(r Recovery) {
	if !c.setState(CircuitHalfOpen) {
		return
	}
	c.mu.trials = max(r.Trials, 1)
	c.mu.begun, c.mu.ok = 0, 0
	c.mu.epoch++
}

// moves lists the moves setState allows.
var moves = [circuitCount][circuitCount]bool{
	CircuitClosed:   {CircuitOpen: true},
	CircuitOpen:     {CircuitHalfOpen: true},
	CircuitHalfOpen: {CircuitClosed: true, CircuitOpen: true},
}

// setState is the only place that changes the state; mu is held. It refuses a
// wrong move and reports each right one.
func (c *circuit) setState(to CircuitState) bool {
	from := c.State()
	if !moves[from][to] {
		return false
	}
	c.state.Store(uint32(to))
	c.mu.since = Now()
	if to == CircuitClosed {
		c.turnFails.Store(0)
		c.mu.probeFails = 0
	}
	if c.changed != nil {
		c.changed(from, to)
	}
	return true
}
