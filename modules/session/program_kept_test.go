package session

import (
	"fmt"
	"strings"
	"testing"
)

// counterexamples are shrunk programs that once got another answer through Fairway than alone, as [script] writes them.
var counterexamples = []struct{ name, script string }{
	{
		name: "COPY data that the server refuses before it has read the client's CopyFail",
		script: `client 6:
			new
			P - copy c6.u (id) from stdin \
			B - - \
			E - 0 \
			d x \
			f why \
			S
			Q select 1`,
	},
}

// programsOf reads what [script] wrote. Each client's program is one step.
func programsOf(text string) []program {
	programs := make([]program, clients)
	who := 0
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if n, err := fmt.Sscanf(line, "client %d:", &who); n == 1 && err == nil {
			programs[who] = program{nil}
			continue
		}
		programs[who][0] = append(programs[who][0], line)
	}
	return programs
}

func TestCounterexamplesStaySolved(t *testing.T) {
	st := newStage(t, pg)
	for _, c := range counterexamples {
		t.Run(c.name, func(t *testing.T) {
			p := st.proxy(t)
			for range 3 {
				found, err := st.compare(t.Context(), p, programsOf(c.script))
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range found {
					t.Error(m)
				}
			}
		})
	}
}
