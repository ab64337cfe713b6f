package session

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/routing"
)

func TestPreparedStatementsBelongToTheirSession(t *testing.T) {
	balanced := startProxy(t, pg, nil)
	crowded := startProxy(t, pg, func(c *cluster.Config, o *Options) { // everybody meets on one server connection
		c.Pool = &cluster.PoolConfig{Size: 1, StatementCache: 2}
		o.Route = routing.TargetPrimary
	})
	const rows = "drop table if exists ts; create table ts (a int primary key, b text); insert into ts values (1, 'one'), (2, 'two'), (3, 'three')"
	for _, c := range []struct{ name, script string }{
		{"a name taken", "P s select 1\nS\nP s select 2\nS\nB - s\nE - 0\nS"},
		{"a name taken, in one batch", "P s select 1\nP s select 2\nB - s\nE - 0\nS\nB - s\nE - 0\nS"},
		{"a name taken, in a transaction", "Q begin\nP s select 1\nS\nP s select 2\nS\nQ select 1\nQ rollback\nB - s\nE - 0\nS"},
		{"a name closed and used for another text", "P s select 1\nS\nC S s\nP s select 2\nS\nB - s\nE - 0\nS"},
		{"a name closed and reused in one batch", "P s select 1\nC S s\nP s select 2\nB - s\nE - 0\nS"},
		{"a Close undone by an error before it", "P s select 1\nS\nP - select 1/0\nB - -\nE - 0\nC S s\nS\nB - s\nE - 0\nS"},
		{"a Parse undone by an error before it", "P - select 1/0\nB - -\nE - 0\nP s select 2\nS\nB - s\nS\nP s select 3\nB - s\nE - 0\nS"},
		{"a Parse outlives the error after it", "P s select 1\nP - select 1/0\nB - -\nE - 0\nS\nB - s\nE - 0\nS"},
		{"a Parse outlives the rollback", "Q begin\nP s select 1\nS\nQ rollback\nB - s\nE - 0\nS"},
		{"an unknown statement", "B - nosuch\nE - 0\nS\nD S nosuch\nS\nC S nosuch\nS"},
		{"an unknown statement in a transaction", "Q begin\nQ select 1\nB - nosuch\nS\nQ select 1\nQ rollback"},
		{"an unknown statement in a transaction that has not begun", "Q begin\nB - nosuch\nS\nQ select 1\nQ rollback"},
		{"an unknown portal", "E nosuch 0\nS\nQ begin\nQ select 1\nE nosuch 0\nS\nQ select 1\nQ rollback"},
		{"an unknown unnamed statement", "B - -\nS\nD S -\nS"},
		{"the unnamed statement survives Sync", "P - select 1\nS\nB - -\nE - 0\nS\nB - -\nE - 0\nS"},
		{"the unnamed statement survives other named ones", "P - select 1\nS\nP s select 2\nB - s\nE - 0\nS\nB - -\nE - 0\nS"},
		{"a simple query destroys the unnamed statement", "P - select 1\nS\nQ select 2\nB - -\nS"},
		{"BEGIN as a query destroys the unnamed statement", "P - select 1\nS\nQ begin\nB - -\nS\nQ rollback"},
		{"a failed Parse destroys the unnamed statement", "P - select 1\nS\nP - selekt\nS\nB - -\nS"},
		{"a skipped Parse does not destroy the unnamed statement", "P - select 1\nS\nP s select 1/0\nB - s\nE - 0\nP - select 2\nS\nB - -\nE - 0\nS"},
		{"Close of the unnamed statement", "P - select 1\nS\nC S -\nS\nB - -\nS"},
		{"the same text in a failed transaction", "P s select 1\nS\nQ begin\nQ select 1/0\nP t select 1\nS\nB - s\nS\nQ rollback\nB - s\nE - 0\nS\nB - t\nS"},
		{"Close in a failed transaction", "P s select 1\nS\nQ begin\nQ select 1/0\nC S s\nS\nQ rollback\nB - s\nS"},
		{"ROLLBACK prepared in a failed transaction", "Q begin\nQ select 1/0\nP r rollback\nD S r\nS\nB - r\nE - 0\nS\nQ select 1"},
		{"DEALLOCATE ALL", "P s select 1\nP t select 2\nS\nQ deallocate all\nB - s\nS\nP s select 3\nB - s\nE - 0\nS"},
		{"DEALLOCATE ALL in a transaction rolled back", "P s select 1\nS\nQ begin\nQ deallocate all\nQ rollback\nB - s\nS"},
		{"DEALLOCATE of a statement of the protocol", "P s select 1\nS\nQ deallocate s\nB - s\nS\nP s select 3\nB - s\nE - 0\nS"},
		{"DEALLOCATE of a statement of the protocol, in a transaction", "P s select 1\nS\nQ begin\nQ deallocate s\nQ rollback\nB - s\nS"},
		{"DEALLOCATE of what is not there", "Q deallocate nosuch\nQ select 1"},
		{"DISCARD ALL forgets statements", "P s select 1\nS\nQ discard all\nB - s\nS"},
		{"DISCARD PLANS keeps statements", "P s select 1\nS\nQ discard plans\nB - s\nE - 0\nS"},
		{"the same text under two names", "P s select 1\nP t select 1\nC S s\nB - t\nE - 0\nS\nB - s\nS"},
		{"the same text with other types", "P s (23) select $1\nP t (25) select $1\nD S s\nD S t\nS"},
		{"a result type that changed", "P s select * from ts where a = 1\nS\nB - s\nE - 0\nS\nC S s\nS\nQ alter table ts add c int\nP s select * from ts where a = 1\nB - s\nE - 0\nS"},
		{"a result type that changed, in a transaction", "P s select * from ts where a = 1\nS\nB - s\nE - 0\nS\nQ begin\nQ alter table ts add c int\nP t select a, c from ts where a = 1\nB - t\nE - 0\nS\nQ commit\nB - t\nE - 0\nS"},
		{"more statements than a server connection keeps", "P a select 1\nP b select 2\nP c select 3\nP d select 4\nB - a\nE - 0\nB - d\nE - 0\nB - b\nE - 0\nS\nB - c\nE - 0\nS"},
		{"eviction undone by an error", "P a select 1\nP b select 2\nS\nP - select 1/0\nB - -\nE - 0\nP c select 3\nP d select 4\nS\nP e select 1\nB - e\nE - 0\nP f select 2\nB - f\nE - 0\nS\nB - a\nE - 0\nS"},
		{"search_path changed in a transaction", "P s select count(*) from ts\nB - s\nE - 0\nS\nQ begin\nQ set search_path = pg_catalog\nP t select count(*) from ts\nS\nQ rollback\nP t select count(*) from ts\nB - t\nE - 0\nS"},
	} {
		t.Run(c.name, func(t *testing.T) {
			same(t, balanced, rows, c.script)
			same(t, crowded, rows, c.script)
		})
	}
}

func TestASharedStatementIsParsedAnewWhenItsResultChanged(t *testing.T) {
	p := startProxy(t, pg, func(c *cluster.Config, o *Options) {
		c.Pool = &cluster.PoolConfig{Size: 1}
		o.Route = routing.TargetPrimary
	})
	old, admin, fresh := dialPeer(t, p.addr), dialPeer(t, p.addr), dialPeer(t, p.addr)
	admin.play("Q drop table if exists tplan; create table tplan (a int); insert into tplan values (1)", nil)
	const prepare = "P s select * from tplan\nS\n"
	old.play(prepare+"B - s\nE - 0\nS", nil)
	admin.play("Q alter table tplan add b int", nil)
	for _, c := range []*peer{fresh, old} {
		script := "B - s\nE - 0\nS"
		if c == fresh {
			script = prepare + script
		}
		groups := c.play(script, nil)
		if got := groups[len(groups)-1]; len(got) != 4 || got[2] != `C "SELECT 1\x00"` {
			t.Errorf("after ALTER TABLE: %q", got)
		}
	}
}

// TestAClientThatDescribedItsFirstPortalHearsOfAnotherShape: pgjdbc describes the portal of a prepared statement once, and afterwards
// binds with a format for each of the columns it was told of.
func TestAClientThatDescribedItsFirstPortalHearsOfAnotherShape(t *testing.T) {
	for name, size := range map[string]int{"on the same server connection": 1, "on another server connection": 2} {
		t.Run(name, func(t *testing.T) {
			p := startProxy(t, pg, func(c *cluster.Config, o *Options) {
				c.Pool = &cluster.PoolConfig{Size: size}
				o.Route = routing.TargetPrimary
			})
			old, admin := dialPeer(t, p.addr), dialPeer(t, p.addr)
			admin.play("Q drop table if exists tportal; create table tportal (a int); insert into tportal values (1)", nil)
			old.play("P s select * from tportal\nS", nil)
			for _, script := range []string{"B - s\nD P -\nE - 0\nS", "B - s\nE - 0\nS"} {
				if got := old.play(script, nil)[0]; !slices.Contains(got, `C "SELECT 1\x00"`) {
					t.Errorf("before ALTER TABLE: %q", got)
				}
			}
			if size > 1 { // the server connection used last is the one that is lent next
				admin.play("Q begin; alter table tportal add b int; commit; begin", nil)
			} else {
				admin.play("Q alter table tportal add b int", nil)
			}
			if got := fmt.Sprint(old.play("B - s\nE - 0\nS", nil)); !strings.Contains(got, "0A000") || !strings.Contains(got, "cached plan must not change result type") {
				t.Errorf("after ALTER TABLE: %q", got)
			}
			if got := old.play("P t select * from tportal\nB - t\nD P -\nE - 0\nS", nil)[0]; !slices.Contains(got, `C "SELECT 1\x00"`) {
				t.Errorf("prepared anew: %q", got)
			}
			old.say("X")
			old.flush()
		})
	}
}

// TestAStatementIsPreparedAnewWhereItsTableHasChanged: what the client is told when it prepares again must be what the server says
// that has refused the statement before, however far the replicas are.
func TestAStatementIsPreparedAnewWhereItsTableHasChanged(t *testing.T) {
	p := startProxy(t, pg, nil)
	old, admin := dialPeer(t, p.addr), dialPeer(t, p.addr)
	admin.play("Q drop table if exists tanew; create table tanew (a int)", nil)
	if err := pg.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	old.play("P s select * from tanew for share\nD S s\nS\nB - s\nE - 0\nS", nil)
	for _, r := range pg.Replicas() {
		if err := r.PauseReplay(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.ResumeReplay(context.Background()) })
	}
	admin.play("Q alter table tanew add added int", nil)
	if got := fmt.Sprint(old.play("B - s\nE - 0\nS", nil)); !strings.Contains(got, "0A000") {
		t.Errorf("after ALTER TABLE: %q", got)
	}
	if got := fmt.Sprint(old.play("P t select * from tanew for share\nD S t\nS", nil)); !strings.Contains(got, "added") {
		t.Errorf("prepared anew: %q", got)
	}
	if got := old.play("B - t\nE - 0\nS", nil)[0]; !slices.Contains(got, `C "SELECT 0\x00"`) {
		t.Errorf("executed: %q", got)
	}
}

// TestAFetchHasTheRowsOfItsCursor: servers never compare what a prepared FETCH returns with what it returned before its cursor was there.
func TestAFetchHasTheRowsOfItsCursor(t *testing.T) {
	p := startProxy(t, pg, nil)
	a, b := dialPeer(t, p.addr), dialPeer(t, p.addr)
	const fetch = "B - s\nD P -\nE - 0\nS"
	a.play("P s fetch all from fetched\n"+fetch, nil)
	b.play("Q begin\nQ select 1 for update", nil) // takes the server connection that knows the statement
	a.play("Q declare fetched cursor with hold for select 42", nil)
	if got := fmt.Sprint(a.play("B - s\nE - 0\nS", nil)); !strings.Contains(got, "FETCH 1") {
		t.Errorf("it gets %s", got)
	}
	b.play("Q rollback", nil)
}
