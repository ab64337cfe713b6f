package session

import (
	"strings"
	"testing"
	"time"
)

func TestNothingOfASessionReachesTheNextOne(t *testing.T) {
	p := startProxy(t, pg, toPrimary)
	admin := p.connect(t, "")
	exec(t, admin, "drop sequence if exists leaks")
	exec(t, admin, "create sequence leaks")
	var large strings.Builder // more than is gathered, so that the turn is duplex
	for range 40 {
		large.WriteString("P - select length('" + strings.Repeat("x", 4000) + "')\nB - -\nE - 0\n")
	}
	const set = "P - set app.leak = 'x'\nB - -\nE - 0\n"
	for _, c := range []struct{ name, script, look, want string }{
		{"SET", "Q set app.leak = 'x'", "Q select coalesce(nullif(current_setting('app.leak', true), ''), 'none')", "none"},
		{"SET before Flush, Sync later", set + "H\nS", "Q select coalesce(nullif(current_setting('app.leak', true), ''), 'none')", "none"},
		{"SET at the end of a large pipeline", large.String() + set + "S", "Q select coalesce(nullif(current_setting('app.leak', true), ''), 'none')", "none"},
		{"RESET ALL and ROLLBACK TO", "Q set app.leak = 'x'\nQ begin\nQ savepoint a\nQ reset all\nQ rollback to a\nQ commit", "Q select coalesce(nullif(current_setting('app.leak', true), ''), 'none')", "none"},
		{"RESET in a transaction that fails", "Q set app.leak = 'x'\nQ begin\nQ reset app.leak\nQ select 1/0\nQ commit", "Q select coalesce(nullif(current_setting('app.leak', true), ''), 'none')", "none"},
		{"a temporary table at the end of a large pipeline", large.String() + "P - create temp table leaked (a int)\nB - -\nE - 0\nS", "Q select coalesce(to_regclass('pg_temp.leaked')::text, 'none')", "none"},
		{"a sequence read in a transaction", "Q select nextval('leaks')", "Q begin\nQ select 1\nQ select currval('leaks')", "55000"},
		{"a sequence drawn by another session since", "Q select nextval('leaks'), currval('leaks')", "Q select currval('leaks')", "55000"},
		{"a sequence drawn between two looks", "Q select nextval('leaks')", "Q select currval('leaks')", "55000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			other := dialPeer(t, p.addr)
			if strings.Contains(c.name, "between") {
				other.play(c.look, nil)
			}
			first := dialPeer(t, p.addr)
			if groups := first.play(c.script, nil); strings.Contains(c.name, "RESET in") == false && strings.Contains(strings.Join(groups[len(groups)-1], ""), "ERROR") {
				t.Fatal(groups)
			}
			first.say("X")
			first.flush()
			_ = first.conn.Close()
			groups := other.play(c.look, nil)
			if got := strings.Join(groups[len(groups)-1], " "); !strings.Contains(got, c.want) {
				t.Errorf("the next session sees %s", got)
			}
		})
	}
}

func TestAClientThatLeavesBeforeItsSettingsAreKnownLeavesNoTrace(t *testing.T) {
	p := startProxy(t, pg, toPrimary)
	for range 20 {
		c := dialPeer(t, p.addr)
		c.say("Q set app.left = 'x'")
		c.say("X")
		c.flush()
		_ = c.conn.Close()
		next := dialPeer(t, p.addr)
		got := next.play("Q select coalesce(nullif(current_setting('app.left', true), ''), 'none')", nil)
		if !strings.Contains(strings.Join(got[0], " "), "none") {
			t.Fatalf("the next session sees %q", got)
		}
		_ = next.conn.Close()
	}
}

// session finds the session of a client.
func (p *peer) session() *Session {
	sessions.mu.Lock()
	defer sessions.mu.Unlock()
	return sessions.mu.byPID[p.pid]
}

func TestADrainLetsTransactionsEnd(t *testing.T) {
	p := startProxy(t, pg, nil)
	admin := p.connect(t, "")
	table(t, p, admin, "drained", "a int")
	const ended = "E FATAL 57P01 terminating connection due to administrator command"
	last := func(groups [][]string) string { g := groups[len(groups)-1]; return g[len(g)-1] }

	idle := dialPeer(t, p.addr)
	idle.session().askToLeave()
	if typ, body := idle.frame(5 * time.Second); shown(typ, body) != ended {
		t.Errorf("an idle client got %s", shown(typ, body))
	}

	inTx := dialPeer(t, p.addr)
	inTx.play("Q begin\nQ insert into drained values (1)", nil)
	inTx.session().askToLeave()
	if got := last(inTx.play("Q commit", []int{2})); got != `Z "I"` {
		t.Errorf("COMMIT got %s", got)
	}
	if typ, body := inTx.frame(5 * time.Second); shown(typ, body) != ended {
		t.Errorf("after its transaction a client got %s", shown(typ, body))
	}

	// In the middle of a message.
	half := dialPeer(t, p.addr)
	half.play("Q begin\nQ insert into drained values (2)", nil)
	whole := []byte("Q\x00\x00\x00\x23insert into drained values (3)\x00")
	if _, err := half.conn.Write(whole[:12]); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		half.session().askToLeave()
		if typ, body := half.frame(50 * time.Millisecond); typ != 0 {
			t.Fatalf("in the middle of a message a client got %s", shown(typ, body))
		}
	}
	if _, err := half.conn.Write(whole[12:]); err != nil {
		t.Fatal(err)
	}
	if typ, body := half.frame(5 * time.Second); shown(typ, body) != `C "INSERT 0 1\x00"` {
		t.Errorf("got %s", shown(typ, body))
	}

	// In the middle of a COPY.
	copies := dialPeer(t, p.addr)
	copies.play("Q copy drained from stdin", nil)
	for range 5 {
		copies.session().askToLeave()
		copies.say("d 4")
		copies.flush()
		if typ, body := copies.frame(50 * time.Millisecond); typ != 0 {
			t.Fatalf("in the middle of a COPY a client got %s", shown(typ, body))
		}
	}
	if got := last(copies.play("c", []int{2})); got != `Z "I"` {
		t.Errorf("the COPY ended with %s", got)
	}
}
