package cluster

import "time"

// Breaker is the interface of the guest modules in namespace postgres.breakers.
// A breaker is settings only: it says when a circuit opens and how it recovers.
// The state itself is the backend's and outlives reloads. The methods are called
// with a lock held: they must be fast, must not block, and must be safe for
// concurrent use.
type Breaker interface {
	// Judge is asked after each failure of a closed circuit.
	Judge(e Evidence) Verdict

	// Recovery says how an open circuit recovers.
	Recovery() Recovery
}

// Evidence is what a breaker judges by.
type Evidence struct {
	// Consecutive counts the failures since the last success, turns and probes
	// together. It is at least 1.
	Consecutive int

	// Failed and Total count the turns of the score's window (30 s).
	Failed, Total int
}

// Verdict is a breaker's answer.
type Verdict uint8

// The verdicts.
const (
	VerdictStay           Verdict = iota // the circuit stays closed
	VerdictOpen                          // it opens
	VerdictOpenUnlessLast                // it opens unless this is the last fit candidate: for error rates and latency
)

// Recovery is how an open circuit recovers.
type Recovery struct {
	// Timeout is how long the circuit stays open before trial requests are let
	// through.
	Timeout time.Duration

	// Trials is how many trial requests are let through at most, and how many
	// must succeed to close the circuit.
	Trials int
}

// defaultBreaker is used where no settings are in force.
var defaultBreaker Breaker = &Consecutive{}
