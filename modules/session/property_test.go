package session

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// programSteps is about how long a program is.
const programSteps = 30

// number reads a number from the environment.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// The number of programs, half of them from a fixed seed, is FAIRWAY_PROGRAMS, the other seed FAIRWAY_SEED: see `make property`.
func TestEightClientsOnThreeServerConnectionsGetWhatTheyGetAlone(t *testing.T) {
	programs := number(t, "FAIRWAY_PROGRAMS", 96)
	seed := number(t, "FAIRWAY_SEED", rand.Uint64N(1_000_000))
	t.Logf("%d programs, half of them of seed 1, the others of FAIRWAY_SEED=%d", programs, seed)
	running := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, running) }) // after the cleanups of what starts below
	st := newStage(t, pg)
	p := st.proxy(t)
	began := time.Now()
	rounds := (programs + clients - 1) / clients
	for round := range rounds {
		from := uint64(1)
		if round >= rounds/2 {
			from = seed
		}
		if !st.round(t, p, from, round*clients) {
			return
		}
	}
	t.Logf("%d programs in %v", rounds*clients, time.Since(began).Round(time.Second))
}

// round plays eight programs; false when one of them found a difference, which is shrunk and told.
func (st *stage) round(t *testing.T, p *proxy, seed, first uint64) bool {
	t.Helper()
	programs := make([]program, clients)
	for who := range programs {
		programs[who] = generate(seed, first+uint64(who), who, programSteps)
	}
	found, err := st.compare(t.Context(), p, programs)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		return true
	}
	t.Errorf("seed %d, programs %d to %d: %s", seed, first, first+clients-1, found[0])
	smaller, last := st.shrink(t, programs)
	if smaller == nil {
		t.Errorf("with new server connections it did not come again; client %d played\n%s", found[0].who, programs[found[0].who])
		return false
	}
	t.Errorf("%s\nshrunk to\n%s", last, script(smaller))
	return false
}
