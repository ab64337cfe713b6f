package session

import (
	"slices"
	"testing"
)

func TestCopyIsAnsweredAsByOneServer(t *testing.T) {
	p := startProxy(t, pg, nil)
	const rows = "drop table if exists tc; create table tc (a int primary key); insert into tc values (1), (2)"
	const check = "\nQ select count(*) from tc"
	for _, c := range []struct{ name, script string }{
		{"out", "Q copy tc to stdout\nQ copy (select a from tc) to stdout"},
		{"out through the extended protocol", "P - copy tc to stdout\nB - -\nE - 0\nS"},
		{"in", "Q copy tc from stdin\nd 3\nd 4\nc" + check},
		{"in, given up by the client", "Q copy tc from stdin\nd 3\nf no more" + check},
		{"in, bad data and then the end", "Q copy tc from stdin\nd x\nc" + check},
		{"in, bad data and the client never ends it", "Q copy tc from stdin\nd x \\\nH" + check},
		{"in, twice in one query", "Q copy tc from stdin; copy tc from stdin\nd 3\nc\nd 4\nc" + check},
		{"in and a query after it", "Q copy tc from stdin; select 5\nd 3\nc" + check},
		{"in, in a transaction", "Q begin\nQ copy tc from stdin\nd 3\nc\nQ rollback" + check},
		{"in through the extended protocol, Sync at the end", "P - copy tc from stdin\nB - -\nE - 0\nH\nd 3\nc\nS" + check},
		{"in through the extended protocol, Sync before the data", "P - copy tc from stdin\nB - -\nE - 0 \\\nS\nd 3\nc\nS" + check},
		{"in through the extended protocol, Sync before bad data", "P - copy tc from stdin\nB - -\nE - 0 \\\nS\nd x\nc\nS" + check},
		{"in through the extended protocol, given up", "P - copy tc from stdin\nB - -\nE - 0 \\\nS\nd 3\nf no more\nS" + check},
		{"left-over copy messages are ignored", "d 3\nc\nQ select 1"},
	} {
		t.Run(c.name, func(t *testing.T) { same(t, p, rows, c.script) })
	}
}

// TestACopyWithACloseBehindItIsCompleted: the Close of a shared statement is answered without the server, so nothing disturbs the COPY.
// The Sync behind it is one that the server ignores all the same.
func TestACopyWithACloseBehindItIsCompleted(t *testing.T) {
	p := startProxy(t, pg, nil)
	table(t, p, p.connect(t, ""), "copy_close", "a int")
	c := dialPeer(t, p.addr)
	groups := c.play("P s copy copy_close from stdin\nS\nB - s\nE - 0\nC S s\nS\nd 7\nc \\\nS\nQ select a from copy_close", nil)
	want := [][]string{
		{`1 ""`, `Z "I"`}, {`2 ""`, `G "\x00\x00\x01\x00\x00"`}, {`C "COPY 1\x00"`, `3 ""`, `Z "I"`},
	}
	for i := range want {
		if i >= len(groups) || !slices.Equal(groups[i], want[i]) {
			t.Fatalf("got %q, want %q", groups, want)
		}
	}
	if got := groups[3]; !slices.Contains(got, `C "SELECT 1\x00"`) {
		t.Errorf("the row was not kept: %q", got)
	}
}
