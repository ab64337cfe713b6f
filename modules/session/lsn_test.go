package session

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgwire"
)

// freeze stops the replay of all replicas and returns what lets it go on.
func freeze(t *testing.T) (thaw func()) {
	t.Helper()
	all := func(sql string) {
		for _, r := range pg.Replicas() {
			if err := r.Exec(context.WithoutCancel(t.Context()), sql); err != nil {
				t.Error(err)
			}
		}
	}
	frozen := true
	all("select pg_wal_replay_pause()")
	thaw = func() {
		if frozen {
			frozen = false
			all("select pg_wal_replay_resume()")
		}
	}
	t.Cleanup(thaw)
	return thaw
}

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// where tells how many rows of a table are seen, and whether on a standby.
func where(t *testing.T, c *pgx.Conn, name string, args ...any) (rows int, standby bool) {
	t.Helper()
	if err := c.QueryRow(t.Context(), "select (select count(*)::int from "+name+"), pg_is_in_recovery() from (select count(*) from "+name+") x", args...).Scan(&rows, &standby); err != nil {
		t.Fatal(err)
	}
	return rows, standby
}

func TestATokenCarriesASessionsWritesToAnother(t *testing.T) {
	p := startProxy(t, pg, nil)
	writer := p.connect(t, "")
	table(t, p, writer, "tokened", "a int")
	thaw := freeze(t)
	exec(t, writer, "insert into tokened values (1)")
	token := value[string](t, writer, "show fairway.lsn")
	if at, err := cluster.ParseLSN(token); err != nil || at == 0 {
		t.Fatalf("the token is %q", token)
	}
	ways := map[string]*pgx.Conn{}
	for name, sql := range map[string]string{
		"SET": "set fairway.min_lsn = '" + token + "'", "SET SESSION": "set session fairway.min_lsn to '" + strings.ToLower(token) + "'",
		"set_config": "select set_config('fairway.min_lsn', '" + token + "', false)",
	} {
		for _, mode := range protocols {
			c := p.connect(t, "")
			exec(t, c, sql, mode)
			ways[name+" "+mode.String()] = c
		}
	}
	ways["a bound value"] = p.connect(t, "")
	exec(t, ways["a bound value"], "select set_config('fairway.min_lsn', $1, false)", token)
	ways["eventual"] = p.connect(t, "fairway.consistency=eventual fairway.min_lsn="+token)
	ways["the startup packet"] = p.connect(t, "fairway.min_lsn="+token)
	ways["options"] = p.connect(t, "options='-c fairway.min_lsn="+token+"'")
	ways["a transaction"] = p.connect(t, "")
	for _, sql := range []string{"begin", "set fairway.min_lsn = '" + token + "'", "commit"} {
		exec(t, ways["a transaction"], sql)
	}
	without := p.connect(t, "")
	if rows, standby := where(t, without, "tokened"); rows != 0 || !standby {
		t.Errorf("without the token: %d rows, on a standby %v", rows, standby)
	}
	for name, c := range ways {
		for _, mode := range protocols {
			if rows, standby := where(t, c, "tokened", mode); rows != 1 || standby {
				t.Errorf("%s: %d rows, on a standby %v", name, rows, standby)
			}
		}
	}
	thaw()
	for name, c := range ways {
		until(t, name+" is served by a replica", func() bool {
			rows, standby := where(t, c, "tokened")
			if rows != 1 {
				t.Fatalf("%s: %d rows, on a standby %v", name, rows, standby)
			}
			return standby
		})
	}
}

func TestATokenIsAsDurableAsTheSettingThatHoldsIt(t *testing.T) {
	p := startProxy(t, pg, nil)
	writer := p.connect(t, "")
	table(t, p, writer, "token_tx", "a int")
	freeze(t)
	exec(t, writer, "insert into token_tx values (1)")
	set := "set fairway.min_lsn = '" + value[string](t, writer, "show fairway.lsn") + "'"
	local := strings.Replace(set, "set", "set local", 1)
	for _, tt := range []struct {
		name    string
		setup   []string
		standby bool
	}{
		{"rolled back", []string{"begin", set, "rollback"}, true},
		{"local", []string{"begin", local, "commit"}, true},
		{"committed", []string{"begin", set, "commit"}, false},
		{"a savepoint undone", []string{"begin", "savepoint a", set, "rollback to a", "commit"}, true},
		{"a savepoint undone after it", []string{"begin", set, "savepoint a", "reset fairway.min_lsn", "rollback to a", "commit"}, false},
		{"reset", []string{set, "reset fairway.min_lsn"}, true},
		{"reset all", []string{set, "reset all"}, true},
		{"discard all", []string{set, "discard all"}, true},
		{"set to default", []string{set, "set fairway.min_lsn to default"}, true},
		{"empty", []string{set, "set fairway.min_lsn = ''"}, true},
		{"zero", []string{set, "set fairway.min_lsn = '0/0'"}, true},
		{"of a read only transaction", []string{"begin read only", local}, false},
		{"of the session in a read only transaction", []string{"begin read only", set}, false},
		{"with a comment for a replica", []string{set, "set fairway.route = replica"}, false},
		{"none in a read only transaction", []string{"begin read only"}, true},
	} {
		for _, mode := range protocols {
			c := p.connect(t, "")
			for _, sql := range tt.setup {
				exec(t, c, sql, mode)
			}
			if _, standby := where(t, c, "token_tx", mode); standby != tt.standby {
				t.Errorf("%s (%v): on a standby %v", tt.name, mode, standby)
			}
		}
	}
	c := p.connect(t, "")
	exec(t, c, "begin read only")
	exec(t, c, "select set_config('fairway.min_lsn', $1, true)", "0/1")
	if _, standby := where(t, c, "token_tx"); standby {
		t.Error("a read only transaction that begins with a token nobody has read runs on a replica")
	}
	exec(t, c, "rollback")
	exec(t, c, "begin read only")
	if _, standby := where(t, c, "token_tx"); !standby {
		t.Fatal("a read only transaction ran on the primary")
	}
	_, err := c.Exec(t.Context(), local)
	sqlstate(t, err, pgwire.CodeActiveTransaction)
	exec(t, c, "rollback")
}

func TestATokenOfTheFutureIsReadOnThePrimary(t *testing.T) {
	p := startProxy(t, pg, nil)
	c := p.connect(t, "")
	table(t, p, c, "token_future", "a int")
	exec(t, c, "set fairway.min_lsn = 'FFFFFFFF/0'")
	for range 50 {
		if _, standby := where(t, c, "token_future"); standby {
			t.Fatal("a replica claims to have it")
		}
	}
	if got := value[string](t, c, "show fairway.lsn"); got != "FFFFFFFF/0" {
		t.Errorf("passed on as %s", got)
	}
}

func TestShowTellsTheSettingsOfOurs(t *testing.T) {
	p := startProxy(t, pg, nil)
	table(t, p, p.connect(t, ""), "shown", "a int")
	for _, mode := range protocols {
		c := p.connect(t, "")
		shows := func(when, setting, want string) {
			t.Helper()
			if got := value[string](t, c, "SHOW fairway."+setting, mode); got != want {
				t.Errorf("%s (%v): fairway.%s is %q, want %q", when, mode, setting, got, want)
			}
		}
		shows("at first", "route", "auto")
		shows("at first", "consistency", "session")
		shows("at first", "min_lsn", "0/0")
		shows("before any write", "lsn", "0/0")
		exec(t, c, "set fairway.min_lsn = '0/5'; set fairway.consistency = eventual", pgx.QueryExecModeSimpleProtocol)
		shows("when set", "min_lsn", "0/5")
		shows("when set", "consistency", "eventual")
		shows("before any write, with a token of another", "lsn", "0/5")
		exec(t, c, "insert into shown values (1)")
		token := value[string](t, c, "show Fairway.LSN", mode)
		if at, err := cluster.ParseLSN(token); err != nil || at <= 5 {
			t.Errorf("after a write it is %q", token)
		}
		exec(t, c, "begin")
		exec(t, c, "set local fairway.min_lsn = 'A/0'", mode)
		shows("in a transaction", "min_lsn", "A/0")
		shows("in a transaction", "lsn", "A/0")
		exec(t, c, "rollback")
		shows("after it", "min_lsn", "0/5")
		thaw := freeze(t)
		exec(t, c, "insert into shown values (1)")
		exec(t, c, "begin read only")
		if _, standby := where(t, c, "shown"); !standby {
			t.Error("an eventual read ran on the primary")
		}
		_, err := c.Exec(t.Context(), "show fairway.lsn", mode)
		sqlstate(t, err, pgwire.CodeObjectNotInPrerequisiteState) // that replica can not tell
		exec(t, c, "rollback")
		thaw()
		exec(t, c, "reset fairway.consistency")
		if err := pg.WaitCaughtUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		until(t, "a replica has the write", func() bool { _, standby := where(t, c, "shown"); return standby })
		exec(t, c, "begin read only")
		if _, standby := where(t, c, "shown"); !standby {
			t.Error("a read only transaction ran on the primary")
		}
		if at, err := cluster.ParseLSN(value[string](t, c, "show fairway.lsn", mode)); err != nil || at <= 5 {
			t.Errorf("in a transaction on a replica it is %X, %v", at, err)
		}
		exec(t, c, "commit")
	}
}

func TestAPreparedShowTellsWhatHoldsWhenItRuns(t *testing.T) {
	p := startProxy(t, pg, nil)
	c := p.connect(t, "")
	table(t, p, c, "shown_prepared", "a int")
	c = p.connect(t, "")
	if _, err := c.Prepare(t.Context(), "pos", "show fairway.lsn"); err != nil {
		t.Fatal(err)
	}
	if got := value[string](t, c, "pos"); got != "0/0" {
		t.Errorf("before any write it is %q", got)
	}
	last := "0/0"
	for range 3 {
		exec(t, c, "insert into shown_prepared values (1)")
		if got := value[string](t, c, "pos"); got == last {
			t.Errorf("after another write it is %q still", got)
		} else {
			last = got
		}
	}
}

func TestASettingOfTheRoleCounts(t *testing.T) {
	p := startProxy(t, pg, nil)
	admin := p.connect(t, "")
	table(t, p, admin, "role_setting", "a int")
	exec(t, admin, "drop role if exists routed_role")
	exec(t, admin, "create role routed_role superuser login")
	exec(t, admin, "alter role routed_role set fairway.route = 'primary'")
	if err := pg.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "the role's sessions run on the primary", func() bool {
		c := p.connect(t, "user=routed_role")
		defer c.Close(t.Context())
		_, standby := where(t, c, "role_setting")
		return !standby && value[string](t, c, "show fairway.route") == "primary"
	})
	c := p.connect(t, "user=routed_role")
	exec(t, c, "set fairway.route = auto")
	until(t, "the session overrides it", func() bool { _, standby := where(t, c, "role_setting"); return standby })
	exec(t, c, "reset fairway.route")
	if _, standby := where(t, c, "role_setting"); standby {
		t.Error("RESET does not bring the role's setting back")
	}
}
