package session

import (
	"strings"
	"testing"
)

func TestWhatIsBoundLateInALargeSegmentIsUpToDate(t *testing.T) {
	p := startProxy(t, pg, nil)
	c := dialPeer(t, p.addr)
	c.answered("Q drop table if exists shown_late; create table shown_late (a int)")
	c = dialPeer(t, p.addr)
	c.answered("P s show fairway.lsn", "P w (25) select length($1)", "P set (25,25) select set_config('fairway.route', $1, false)", "S")
	if got := c.answered("B - s", "E - 0", "S"); !strings.Contains(got, "0/0") {
		t.Fatal(got)
	}
	c.answered("Q insert into shown_late values (1)")
	large := "B - w " + strings.Repeat("x", gatherLimit)
	got := c.answered(large, "E - 0", large, "E - 0", "B - s", "E - 0", "S")
	at := strings.LastIndex(got, `D "`)
	row := got[at:]
	if strings.Contains(row, "0/0") || !strings.Contains(row, "/") || !strings.Contains(row, `C "SHOW`) {
		t.Errorf("the position, late: %s", row)
	}
	if got := c.answered("B - set nowhere x", "E - 0", "S"); !strings.Contains(got, "22023") {
		t.Errorf("a value that settings of ours cannot have: %.300s", got)
	}
	huge := " " + strings.Repeat("x", bodyLimit)
	if got := c.answered("B - set nowhere"+huge, "E - 0", "S"); !strings.Contains(got, "22023") || !strings.Contains(got, "fairway.route") {
		t.Errorf("a value that settings of ours cannot have, in a large message: %.300s", got)
	}
	if got := c.answered("B - set primary"+huge, "E - 0", "S"); strings.Contains(got, "E ERROR") {
		t.Errorf("a value that they can have: %.300s", got)
	}
}
