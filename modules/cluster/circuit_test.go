package cluster

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

var trio = &Consecutive{Threshold: 3, TrialRequests: 2}

// newCircuit makes a circuit that notes its moves.
func newCircuit() (*circuit, *[]string) {
	var moves []string
	c := new(circuit)
	c.changed = func(from, to CircuitState) { moves = append(moves, from.String()+">"+to.String()) }
	return c, &moves
}

func fail(c *circuit, b Breaker, n int) {
	for range n {
		c.failure(b, 0, 0, 0)
	}
}

func expectState(t *testing.T, c *circuit, want CircuitState) {
	t.Helper()
	if got := c.State(); got != want {
		t.Fatalf("circuit is %v, want %v", got, want)
	}
}

func TestFiveFailuresInARowOpenTheDefaultCircuit(t *testing.T) {
	c, _ := newCircuit()
	fail(c, defaultBreaker, 4)
	c.success(0)
	fail(c, defaultBreaker, 4)
	expectState(t, c, CircuitClosed)
	fail(c, defaultBreaker, 1)
	expectState(t, c, CircuitOpen)
}

func TestProbesAndTurnsCountTogether(t *testing.T) {
	c, _ := newCircuit()
	fail(c, trio, 2)
	c.probe(trio, 0, 0, 0) // an answer to the probe does not make the turns good
	expectState(t, c, CircuitClosed)
	c.probe(trio, 1, 0, 0)
	expectState(t, c, CircuitOpen)
}

func TestAnOpenCircuitRecoversByTrials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, moves := newCircuit()
		fail(c, trio, 3)
		if _, ok := c.begin(); ok {
			t.Error("an open circuit let a request through")
		}
		<-time.After(defaultRecoveryTimeout - 1)
		c.tick(trio.Recovery())
		expectState(t, c, CircuitOpen)
		<-time.After(1)
		c.tick(trio.Recovery())
		expectState(t, c, CircuitHalfOpen)

		first, ok1 := c.begin()
		second, ok2 := c.begin()
		_, ok3 := c.begin()
		if !ok1 || !ok2 || ok3 {
			t.Errorf("trials let through: %v %v %v, want two", ok1, ok2, ok3)
		}
		c.success(first)
		expectState(t, c, CircuitHalfOpen)
		c.success(second)
		expectState(t, c, CircuitClosed)
		want := []string{"closed>open", "open>half_open", "half_open>closed"}
		if got := *moves; len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
			t.Errorf("moves are %v", got)
		}
	})
}

func TestOneFailedTrialOpensAgainForTheWholeTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := newCircuit()
		fail(c, trio, 3)
		<-time.After(defaultRecoveryTimeout)
		c.tick(trio.Recovery())
		first, _ := c.begin()
		second, _ := c.begin()
		c.success(first)
		c.failure(trio, second, 0, 0)
		expectState(t, c, CircuitOpen)
		<-time.After(defaultRecoveryTimeout - 1)
		c.tick(trio.Recovery())
		expectState(t, c, CircuitOpen)
		<-time.After(1)
		c.tick(trio.Recovery())
		expectState(t, c, CircuitHalfOpen)
		c.success(second) // a trial of the round before says nothing about this one
		if third, ok := c.begin(); !ok || third == second {
			t.Errorf("trial %d (before: %d), let through %v", third, second, ok)
		}
	})
}

func TestTheCircuitJudgesTrialsOnlyByTheirOwnTurns(t *testing.T) {
	c, _ := newCircuit()
	fail(c, trio, 3)
	c.restarted(trio.Recovery())
	expectState(t, c, CircuitHalfOpen)
	c.failure(trio, 0, 0, 0) // of a turn begun before the circuit opened
	expectState(t, c, CircuitHalfOpen)
	c.dialFailure(trio, 0, 0)
	expectState(t, c, CircuitOpen)
	c.restarted(trio.Recovery())
	c.probe(trio, 1, 0, 0)
	expectState(t, c, CircuitOpen)
}

func TestATrialThatTaughtNothingIsGivenBack(t *testing.T) {
	c, _ := newCircuit()
	fail(c, trio, 3)
	c.restarted(trio.Recovery())
	for range 10 {
		epoch, ok := c.begin()
		if !ok {
			t.Fatal("no trial left")
		}
		c.giveBack(epoch)
	}
	expectState(t, c, CircuitHalfOpen)
}

func TestATrialWithoutEndDoesNotHoldUpTheRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := newCircuit()
		fail(c, trio, 3)
		c.restarted(trio.Recovery())
		first, _ := c.begin()
		c.begin() // never ends
		c.success(first)
		<-time.After(defaultRecoveryTimeout)
		c.tick(trio.Recovery())
		third, ok := c.begin()
		if !ok {
			t.Fatal("no trial is given out anew")
		}
		c.success(third)
		expectState(t, c, CircuitClosed)
	})
}

func TestResetAndTripMoveByTheRules(t *testing.T) {
	c, moves := newCircuit()
	c.reset(trio.Recovery())
	c.trip()
	c.trip()
	expectState(t, c, CircuitOpen)
	c.reset(trio.Recovery())
	expectState(t, c, CircuitClosed)
	if len(*moves) != 3 {
		t.Errorf("moves are %v", *moves)
	}
}

// rateBreaker opens whenever it is asked, unless the backend is the last.
type rateBreaker struct{ Consecutive }

func (*rateBreaker) Judge(Evidence) Verdict { return VerdictOpenUnlessLast }

func TestTheLastFitCandidateIsNotTakenOutByItsErrorRate(t *testing.T) {
	c, _ := newCircuit()
	c.last.Store(true)
	fail(c, &rateBreaker{}, 100)
	expectState(t, c, CircuitClosed)
	c.last.Store(false)
	fail(c, &rateBreaker{}, 1)
	expectState(t, c, CircuitOpen)
}

func TestWrongMovesAreRefused(t *testing.T) {
	allowed := map[string]bool{"closed>open": true, "open>half_open": true, "half_open>closed": true, "half_open>open": true}
	for from := range circuitCount {
		for to := range circuitCount {
			c := new(circuit)
			c.state.Store(uint32(from))
			if got, want := c.setState(to), allowed[from.String()+">"+to.String()]; got != want {
				t.Errorf("from %v to %v: %v, want %v", from, to, got, want)
			}
		}
	}
}

// TestTheCircuitNeverLetsMoreThroughThanItsTrials plays random histories: between two states there are never more trials
// out than allowed, an open circuit lets none through, and the moves are those of the design.
func TestTheCircuitNeverLetsMoreThroughThanItsTrials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rnd := rand.New(rand.NewPCG(1, 2))
		var out []uint32
		begun := 0
		c := new(circuit)
		c.changed = func(_, to CircuitState) {
			if to == CircuitHalfOpen {
				begun = 0
			}
		}
		take := func() (epoch uint32) {
			i := rnd.IntN(len(out))
			epoch = out[i]
			out = append(out[:i], out[i+1:]...)
			return epoch
		}
		for range 100_000 {
			switch n := rnd.IntN(10); {
			case n < 4:
				state := c.State()
				epoch, ok := c.begin()
				switch {
				case state == CircuitOpen && ok:
					t.Fatal("an open circuit let a request through")
				case ok:
					out = append(out, epoch)
				}
				if state == CircuitHalfOpen && ok {
					if begun++; begun > 2 {
						t.Fatalf("%d trials let through", begun)
					}
				}
			case len(out) == 0:
			case n < 6:
				c.success(take())
			case n < 8:
				c.failure(trio, take(), 0, 0)
			case n == 8 && rnd.IntN(20) == 0:
				<-time.After(defaultRecoveryTimeout)
				if c.State() == CircuitHalfOpen {
					begun = 0 // trials are given out anew
				}
				c.tick(trio.Recovery())
			}
		}
	})
}
