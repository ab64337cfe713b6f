package session

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/routing"
)

// narrow is a proxy where everybody meets on one server connection.
func narrow(t *testing.T) *proxy {
	t.Helper()
	return startProxy(t, pg, func(c *cluster.Config, o *Options) {
		c.Pool = &cluster.PoolConfig{Size: 1}
		o.Route = routing.TargetPrimary
	})
}

// answered tells what a client got for the last line that asks for an answer.
func (p *peer) answered(lines ...string) string {
	p.t.Helper()
	groups := p.play(strings.Join(lines, "\n"), nil)
	return fmt.Sprint(groups[len(groups)-1])
}

// runs fails unless the statement s of the client returns the value.
func (p *peer) runs(value string) {
	p.t.Helper()
	if got := p.answered("B - s", "E - 0", "S"); !strings.Contains(got, fmt.Sprintf(`D "\x00\x01\x00\x00\x00\x01%s"`, value)) {
		p.t.Errorf("the statement that returns %s: %s", value, got)
	}
}

func TestAStatementThatTheServerHasLostIsPreparedAgainUnseen(t *testing.T) {
	for name, lose := range map[string]string{
		"DEALLOCATE in code":                "do $$begin deallocate all; end$$",
		"DEALLOCATE in a text that is run":  "do $$begin execute 'deal' || 'locate all'; end$$",
		"DEALLOCATE in a function":          "select tdealloc()",
		"DEALLOCATE in a hidden function":   "select thidden()",
		"DEALLOCATE ALL":                    "deallocate all",
		"DEALLOCATE ALL beside a statement": "select 1; deallocate all",
	} {
		t.Run(name, func(t *testing.T) {
			p := narrow(t)
			if err := pg.Primary().Exec(t.Context(), `create or replace function tdealloc() returns void language plpgsql as $$begin deallocate all; end$$;
				create or replace function thidden() returns void language plpgsql as $$begin execute 'deal' || 'locate all'; end$$`); err != nil {
				t.Fatal(err)
			}
			one, other, simple := dialPeer(t, p.addr), dialPeer(t, p.addr), dialPeer(t, p.addr)
			one.answered("P s select 1", "D S s", "S")
			other.answered("P s select 2", "P t select 3", "P u select 4", "P v select 5", "P w select 6", "S")
			for range 3 {
				one.runs("1")
				other.runs("2")
				if got := other.answered("B - s", "E - 0", "B - t", "E - 0", "B - u", "E - 0", "B - v", "E - 0", "B - w", "E - 0", "S"); strings.Contains(got, "ERROR") {
					t.Errorf("a pipeline: %s", got)
				}
				if got := simple.answered("Q " + lose); strings.Contains(got, "ERROR") {
					t.Fatal(got)
				}
			}
			one.runs("1")
			other.runs("2")
			if got := other.answered("Q begin", "B - s", "E - 0", "S", "Q rollback"); strings.Contains(got, "ERROR") {
				t.Error(got)
			}
		})
	}
}

func TestAStatementThatCodeDeallocatesInATransactionIsPreparedAgain(t *testing.T) {
	p := narrow(t)
	c := dialPeer(t, p.addr)
	c.answered("P s select 1", "S")
	c.runs("1")
	c.answered("Q begin")
	c.answered("Q do $$begin deallocate all; end$$")
	c.runs("1")
	c.answered("Q rollback")
	c.answered("Q begin")
	c.answered("Q do $$begin execute 'deal' || 'locate all'; end$$")
	if got := c.answered("B - s", "E - 0", "S"); !strings.Contains(got, `26000 prepared statement "s" does not exist`) {
		t.Error(got)
	}
	c.answered("Q rollback")
	c.runs("1")
}

func TestSQLDoesNotReachTheStatementsThatSessionsShare(t *testing.T) {
	p := narrow(t)
	one, other := dialPeer(t, p.addr), dialPeer(t, p.addr)
	one.answered("P s select 1", "S")
	one.runs("1")
	name := sharedName([]byte("select 1"), []byte{0, 0}, noSettings)
	if got := other.answered("Q select name from pg_prepared_statements"); !strings.Contains(got, name) {
		t.Fatalf("%s is not among the statements: %s", name, got)
	}
	for _, sql := range []string{"deallocate " + name, "execute " + name, "select 1; deallocate " + name, "explain execute " + name, "prepare " + name + " as select 2"} {
		if got := other.answered("Q " + sql); !strings.Contains(got, "26000") {
			t.Errorf("%s: %s", sql, got)
		}
		if got := other.answered("P - "+sql, "B - -", "E - 0", "S"); !strings.Contains(sql, ";") && !strings.Contains(got, "26000") {
			t.Errorf("%s in the extended protocol: %s", sql, got)
		}
	}
	one.answered("Q begin")
	one.runs("1")
}

func TestDeallocateInAPipelineIsThatOfOneServer(t *testing.T) {
	p := narrow(t)
	const made = "P s select 1\nS\n"
	for name, script := range map[string]string{
		"beside a statement":          "P - deallocate s\nB - -\nE - 0\nP - select 2\nB - -\nE - 0\nS\nB - s\nS",
		"behind a statement":          "P - select 2\nB - -\nE - 0\nP - deallocate s\nB - -\nE - 0\nS\nB - s\nS",
		"of several":                  "P t select 2\nS\nP - deallocate s\nB - -\nE - 0\nP - deallocate t\nB - -\nE - 0\nS\nB - s\nS\nB - t\nS",
		"and prepared again":          "P - deallocate s\nB - -\nE - 0\nP s select 2\nB - s\nE - 0\nS\nB - s\nE - 0\nS",
		"and bound":                   "P - deallocate s\nB - -\nE - 0\nB - s\nE - 0\nS\nP s select 2\nB - s\nE - 0\nS",
		"undone by an error before":   "P - select 1/0\nB - -\nE - 0\nP - deallocate s\nB - -\nE - 0\nS\nB - s\nE - 0\nS",
		"outlives the error after it": "P - deallocate s\nB - -\nE - 0\nP - select 1/0\nB - -\nE - 0\nS\nB - s\nE - 0\nS",
		"twice":                       "P - deallocate s\nB - -\nE - 0\nP - deallocate s\nB - -\nE - 0\nS\nB - s\nS",
		"in a transaction":            "Q begin\nQ select 1\nP - deallocate s\nB - -\nE - 0\nP - select 2\nB - -\nE - 0\nS\nQ rollback\nB - s\nS",
		"in a failed transaction":     "Q begin\nQ select 1/0\nP - deallocate s\nB - -\nE - 0\nS\nQ rollback\nB - s\nE - 0\nS",
		"prepared":                    "P d deallocate s\nS\nB - d\nE - 0\nP - select 2\nB - -\nE - 0\nS\nB - s\nS\nP s select 3\nS\nB - d\nE - 0\nP - select 2\nB - -\nE - 0\nS\nB - s\nS\nB - d\nE - 0\nS",
		"in a portal":                 "Q begin\nP - deallocate s\nB x -\nS\nE x 0\nP - select 2\nB - -\nE - 0\nS\nB - s\nS\nQ rollback",
		"flushed":                     "P - deallocate s\nB - -\nE - 0\nH\nP - select 2\nB - -\nE - 0\nS\nB - s\nS",
		"of what PREPARE made":        "Q prepare q as select 5\nP - deallocate q\nB - -\nE - 0\nP - select 2\nB - -\nE - 0\nS\nQ execute q\nB - s\nE - 0\nS",
		"ALL and prepared again":      "P - deallocate all\nB - -\nE - 0\nP s select 2\nB - s\nE - 0\nS\nB - s\nE - 0\nS",
		"ALL and bound":               "P - deallocate all\nB - -\nE - 0\nB - s\nE - 0\nS\nB - s\nS",
		"ALL undone":                  "P - select 1/0\nB - -\nE - 0\nP - deallocate all\nB - -\nE - 0\nP s select 2\nS\nB - s\nE - 0\nS\nP t select 1\nB - t\nE - 0\nS",
		"ALL outlives an error":       "P - deallocate all\nB - -\nE - 0\nP - select 1/0\nB - -\nE - 0\nP s select 3\nS\nB - s\nE - 0\nS",
		"ALL prepared":                "P d deallocate all\nS\nB - d\nE - 0\nP s select 2\nB - s\nE - 0\nS\nB - s\nE - 0\nS\nB - d\nS",
		"DISCARD ALL":                 "P - discard all\nB - -\nE - 0\nS\nB - s\nS\nP s select 2\nB - s\nE - 0\nS",
		"DISCARD ALL refused":         "Q begin\nQ select 1\nP - discard all\nB - -\nE - 0\nS\nQ rollback\nB - s\nE - 0\nS",
	} {
		t.Run(name, func(t *testing.T) {
			same(t, p, "", made+script)
			same(t, p, "", made+"B - s\nE - 0\nS\n"+script)
		})
	}
}
