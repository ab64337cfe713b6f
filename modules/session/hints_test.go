package session

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	dto "github.com/prometheus/client_model/go"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgwire"
)

// stateIn returns the SQLSTATE of an error of the server, "" when it is none.
func stateIn(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// protocols are the ways a statement without parameters is sent.
var protocols = []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec, pgx.QueryExecModeCacheStatement}

func TestHintsDecideWhereAStatementRuns(t *testing.T) {
	p := startProxy(t, pg, nil)
	maker := p.connect(t, "")
	table(t, p, maker, "hinted", "a int")
	exec(t, maker, "insert into hinted values (1)")
	exec(t, maker, "create or replace function hinted_volatile() returns bool language sql volatile as 'select pg_is_in_recovery()'")
	if err := pg.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.waitCatalog(t)
	const standby = "select pg_is_in_recovery() from hinted"
	for _, c := range []struct {
		name    string
		setup   []string
		sql     string
		standby bool
	}{
		{"nothing said", nil, standby, true},
		{"a comment for the primary", nil, "/* route: primary */ " + standby, false},
		{"a comment for a replica", nil, "/* route: replica */ select hinted_volatile() from hinted", true},
		{"a function in doubt without a comment", nil, "select hinted_volatile() from hinted", false},
		{"the setting for the primary", []string{"set fairway.route = 'primary'"}, standby, false},
		{"the setting for a replica", []string{"set fairway.route to replica"}, "select hinted_volatile() from hinted", true},
		{"a comment against the setting", []string{"set fairway.route = 'primary'"}, "/* route: replica */ " + standby, true},
		{"the setting set and reset", []string{"set fairway.route = 'primary'", "reset fairway.route"}, standby, true},
		{"the setting set by a function", []string{"select set_config('fairway.route', 'primary', false)"}, standby, false},
		{"the setting set in a transaction that failed", []string{"begin", "set fairway.route = 'primary'", "rollback"}, standby, true},
		{"capital letters", []string{"set fairway.route = 'Primary'"}, standby, false},
		{"auto", []string{"set fairway.route = 'primary'", "set fairway.route = auto"}, standby, true},
	} {
		for _, mode := range protocols {
			t.Run(c.name+"/"+mode.String(), func(t *testing.T) {
				conn := p.connect(t, "")
				for _, sql := range c.setup {
					exec(t, conn, sql, mode)
				}
				var got bool
				if err := conn.QueryRow(t.Context(), c.sql, mode).Scan(&got); err != nil {
					t.Fatal(err)
				}
				if got != c.standby {
					t.Errorf("on a standby: %v", got)
				}
			})
		}
	}
}

func TestAHintInTheStartupPacketHolds(t *testing.T) {
	p := startProxy(t, pg, nil)
	table(t, p, p.connect(t, ""), "hinted_start", "a int")
	exec(t, p.connect(t, ""), "insert into hinted_start values (1)")
	if err := pg.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn := p.connect(t, "fairway.route=primary")
	for range 10 {
		if value[bool](t, conn, "select pg_is_in_recovery() from hinted_start") {
			t.Fatal("ran on a replica")
		}
	}
	if got := value[string](t, conn, "show fairway.route"); got != "primary" {
		t.Errorf("fairway.route is %q", got)
	}
}

func TestAWriteThatIsSentToAReplicaIsRefused(t *testing.T) {
	p := startProxy(t, pg, nil)
	conn := p.connect(t, "")
	table(t, p, conn, "hinted_write", "a int")
	if err := pg.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, mode := range protocols {
		_, err := conn.Exec(t.Context(), "/* route: replica */ insert into hinted_write values (1)", mode)
		if stateIn(err) != pgwire.CodeReadOnlyTransaction {
			t.Errorf("%v: %v", mode, err)
		}
		exec(t, conn, "insert into hinted_write values (1)", mode)
	}
}

func TestABadValueOfASettingOfOursIsAnError(t *testing.T) {
	p := startProxy(t, pg, nil)
	for _, sql := range []string{
		"set fairway.route = 'somewhere'", "set fairway.consistency to 'perhaps'", "select set_config('fairway.route', 'nowhere', false)",
	} {
		for _, mode := range protocols {
			conn := p.connect(t, "")
			_, err := conn.Exec(t.Context(), sql, mode)
			if stateIn(err) != pgwire.CodeInvalidParameterValue {
				t.Errorf("%s (%v): %v", sql, mode, err)
			}
			tx, err := conn.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(t.Context(), sql, mode); stateIn(err) != pgwire.CodeInvalidParameterValue {
				t.Errorf("%s in a transaction (%v): %v", sql, mode, err)
			}
			if status := conn.PgConn().TxStatus(); status != 'E' {
				t.Errorf("%s: the transaction is in state %c", sql, status)
			}
			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := value[string](t, conn, "select coalesce(current_setting('fairway.route', true), '')"); got != "" {
				t.Errorf("fairway.route is %q", got)
			}
		}
	}
}

func TestConsistencyIsASettingOfTheSession(t *testing.T) {
	p := startProxy(t, pg, nil)
	table(t, p, p.connect(t, ""), "consistent", "a int")
	conn := p.connect(t, "")
	if err := pg.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	const standby = "select pg_is_in_recovery() from consistent union all select pg_is_in_recovery() limit 1"
	for _, r := range pg.Replicas() {
		if err := r.Exec(t.Context(), "select pg_wal_replay_pause()"); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := r.Exec(t.Context(), "select pg_wal_replay_resume()"); err != nil {
				t.Error(err)
			}
		}()
	}
	exec(t, conn, "set fairway.consistency = 'eventual'")
	exec(t, conn, "insert into consistent values (1)")
	if !value[bool](t, conn, standby) {
		t.Error("an eventual read ran on the primary")
	}
	exec(t, conn, "set fairway.consistency = 'strong'")
	if value[bool](t, conn, standby) {
		t.Error("a strong read ran on a replica that stands still")
	}
}

func TestWhatAStandbyRefusedRunsOnThePrimaryNextTime(t *testing.T) {
	p := startProxy(t, pg, func(c *cluster.Config, _ *Options) {
		c.ReadFunctions = []string{"liar"} // somebody says that it only reads
	})
	conn := p.connect(t, "")
	table(t, p, conn, "corrected", "a int")
	exec(t, conn, "create or replace function liar(int) returns int language sql volatile as 'insert into corrected values ($1) returning a'")
	if err := pg.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.waitCatalog(t)
	other := p.connect(t, "")
	before := corrections(p)
	for i := range 5 {
		if got := value[int](t, other, "select liar($1)", i); got != i {
			t.Fatalf("%d", got)
		}
		if err := pg.WaitCaughtUp(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := corrections(p) - before; n != 1 {
		t.Errorf("%v corrections, want one", n)
	}
	if n := value[int](t, conn, "select count(*) from corrected"); n != 5 {
		t.Errorf("%d rows", n)
	}
}

func TestASchemaChangeCountsAtOnceForWhoMadeIt(t *testing.T) {
	p := startProxy(t, pg, nil)
	conn := p.connect(t, "")
	table(t, p, conn, "schema_change", "a int")
	exec(t, conn, "insert into schema_change values (1)")
	for i := range 20 {
		volatility := []string{"stable", "volatile"}[i%2]
		exec(t, conn, "create or replace function schema_changed() returns bool language sql "+volatility+" as 'select pg_is_in_recovery()'")
		if value[bool](t, conn, "select schema_changed() from schema_change") && volatility == "volatile" {
			t.Fatal("a volatile function ran on a replica")
		}
	}
	exec(t, conn, "create or replace function schema_changed() returns bool language sql stable as 'select pg_is_in_recovery()'")
	if err := pg.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !value[bool](t, conn, "select schema_changed() from schema_change"); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("a function that is stable now stays on the primary")
		}
	}
}

// corrections counts the statements that a standby refused.
func corrections(p *proxy) float64 {
	var m dto.Metric
	if err := metricsFor(p.cluster.Name()).retries.correction.Write(&m); err != nil {
		panic(err)
	}
	return m.GetCounter().GetValue()
}

// What a role's default says about transactions is followed as soon as it holds, and what the session says instead as well.
func TestTheDefaultsOfTransactionsFollowTheirSettings(t *testing.T) {
	s := &Session{settings: noSettings}
	check := func(readOnly, serializable bool) {
		t.Helper()
		if s.defaultReadOnly() != readOnly || s.defaultSerializable() != serializable {
			t.Errorf("read only %v, serializable %v", s.defaultReadOnly(), s.defaultSerializable())
		}
	}
	check(false, false)
	s.had, s.began = map[string]string{"default_transaction_isolation": "Serializable", "default_transaction_read_only": "on"}, 1
	check(true, true)
	s.settings = newSettings(map[string]string{"default_transaction_isolation": "read committed"})
	check(true, false)
	s.settings = newSettings(map[string]string{"default_transaction_isolation": "serializable", "default_transaction_read_only": "off"})
	check(false, true)
	s.settings = noSettings
	s.had, s.began = nil, 2
	check(false, false)
	if n := testing.AllocsPerRun(100, func() { s.defaultSerializable() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkTheDefaultsOfTransactions(b *testing.B) {
	s := &Session{
		settings: newSettings(map[string]string{"application_name": "a", "datestyle": "ISO", "extra_float_digits": "3", "timezone": "UTC"}),
		had:      map[string]string{"search_path": "public"},
	}
	for b.Loop() {
		if s.defaultSerializable() {
			b.Fatal("serializable")
		}
	}
}
