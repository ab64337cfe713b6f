package session

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

func TestAPreparedShowThatWasRefusedOnceIsAskedAgain(t *testing.T) {
	p := startProxy(t, pg, nil)
	table(t, p, p.connect(t, ""), "shown_refused", "a int")
	c := p.connect(t, "")
	if _, err := c.Prepare(t.Context(), "pos", "show fairway.lsn"); err != nil {
		t.Fatal(err)
	}
	exec(t, c, "set fairway.consistency = eventual")
	thaw := freeze(t)
	exec(t, c, "insert into shown_refused values (1)")
	before := value[string](t, c, "pos")
	for range 2 {
		exec(t, c, "begin read only")
		if _, standby := where(t, c, "shown_refused"); !standby {
			t.Fatal("an eventual read ran on the primary")
		}
		_, err := c.Exec(t.Context(), "pos")
		sqlstate(t, err, pgwire.CodeObjectNotInPrerequisiteState)
		exec(t, c, "rollback")
		if got := value[string](t, c, "pos"); got < before || got == "0/0" {
			t.Errorf("after the refusal it is %q, before it %q", got, before)
		}
	}
	thaw()
}

func TestShowOfASettingOfOursHasTheTagOfAShow(t *testing.T) {
	p := startProxy(t, pg, nil)
	c := p.connect(t, "")
	for _, name := range []string{"route", "consistency", "min_lsn", "lsn"} {
		for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec, pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheStatement} {
			tag, err := c.Exec(t.Context(), "show fairway."+name, mode)
			if err != nil || tag.String() != "SHOW" {
				t.Errorf("fairway.%s (%v): %q, %v", name, mode, tag, err)
			}
		}
	}
	c2 := dialPeer(t, p.addr)
	got := c2.play("P - show fairway.route\nB - -\nD P -\nE - 0\nP - select 1\nB - -\nE - 0\nS\nP - show fairway.route\nB - -\nE - 1\nE - 0\nS\nQ show fairway.route", nil)
	for i, tags := range []string{`C "SHOW\x00" C "SELECT 1\x00"`, `C "SHOW\x00"`, `C "SHOW\x00"`} {
		var have []string
		for _, line := range got[i] {
			if strings.HasPrefix(line, "C ") || strings.HasPrefix(line, "E ") {
				have = append(have, line)
			}
		}
		if strings.Join(have, " ") != tags {
			t.Errorf("%d: %q", i, got[i])
		}
	}
}
