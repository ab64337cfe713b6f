package session

import (
	"runtime"
	"strings"
	"testing"
	"time"
	"weak"

	"github.com/fairwaydb/fairway/modules/catalog"
)

// Each change of a schema makes new facts, of megabytes where it is large. Idle sessions that have asked them at different times
// must not keep them all.
func TestAnIdleSessionKeepsNoOldSchema(t *testing.T) {
	p := startProxy(t, pg, nil)
	admin := p.connect(t, "")
	table(t, p, admin, "facts_kept", "a int")
	var large strings.Builder // more than is gathered, so that the turn is duplex
	for range 40 {
		large.WriteString("P - select length('" + strings.Repeat("x", 4000) + "')\nB - -\nE - 0\n")
	}
	const write = "Q insert into facts_kept values (1)\n"
	for _, c := range []struct{ name, script string }{
		{"a login", ""},
		{"a read", "Q select a from facts_kept"},
		{"a write", write},
		{"a read behind a write", write + "Q select a from facts_kept"},
		{"an error", "Q select a / 0 from facts_kept"},
		{"a statement that no parser knows", "Q selekt"},
		{"the extended protocol", "P s select a from facts_kept\nB - s\nE - 0\nS"},
		{"a pipeline", "P s select a from facts_kept\nB - s\nE - 0\nP - select 2\nB - -\nE - 0\nS"},
		{"a Flush, and a Sync later", "P s select a from facts_kept\nB - s\nE - 0\nH\nS"},
		{"more than is gathered", large.String() + "S"},
		{"COPY", "Q copy facts_kept to stdout"},
		{"an open transaction", "Q begin\nQ select a from facts_kept"},
		{"a pin", "Q create temp table facts_pin (a int)"},
		{"a question about the route", "Q explain (route) select a from facts_kept"},
		{"one while a transaction waits", "Q begin\nQ select 1\nQ explain (route) select a from facts_kept"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p.waitCatalog(t)
			keeper := catalog.Open(p.cluster, "postgres")
			defer keeper.Close()
			client := dialPeer(t, p.addr)
			old := weak.Make(keeper.Facts())
			if c.script != "" {
				client.play(c.script, nil)
			}
			p.waitCatalog(t) // which is read anew
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for deadline := time.Now().Add(5 * time.Second); old.Value() != nil; <-tick.C {
				if time.Now().After(deadline) {
					t.Fatal("the session keeps the facts of its last statement")
				}
				runtime.GC()
			}
			runtime.KeepAlive(client)
		})
	}
}
