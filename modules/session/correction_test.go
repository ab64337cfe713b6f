package session

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddyserver/caddy/v2"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgwire"
)

// standbyRefusals are functions that a standby refuses, by the SQLSTATE it has for them.
var standbyRefusals = map[string]string{
	pgwire.CodeReadOnlyTransaction:          "insert into refusing values ($1); select $1",
	pgwire.CodeFeatureNotSupported:          "select $1 + 0 * count(*)::int from refusing_unlogged",
	pgwire.CodeObjectNotInPrerequisiteState: "select $1 + 0 * (pg_current_wal_lsn() - '0/0')::int8::bit(8)::int",
	pgwire.CodeInternalError:                "select $1 + 0 * (pg_logical_emit_message(false, 'a', 'b') - '0/0')::int8::bit(8)::int",
}

// refusing makes them.
func refusing(t *testing.T) {
	t.Helper()
	sql := "drop table if exists refusing, refusing_unlogged; create table refusing (a int); create unlogged table refusing_unlogged (a int)"
	for code, body := range standbyRefusals {
		sql += fmt.Sprintf("; create or replace function refused_%s(int) returns int language sql volatile as $f$ %s $f$", code, body)
	}
	if err := pg.Primary().Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
	if err := pg.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	for code := range standbyRefusals {
		err := pg.Replicas()[0].Exec(t.Context(), "select refused_"+code+"(1)")
		if got := stateIn(err); got != code {
			t.Fatalf("a standby refuses with %s, want %s: %v", got, code, err)
		}
	}
}

func TestEveryRefusalOfAStandbyIsCorrectedOnceAndRemembered(t *testing.T) {
	refusing(t)
	core, logged := observer.New(zap.InfoLevel)
	p := startProxy(t, pg, func(_ *cluster.Config, o *Options) { o.Logger = zap.New(core) })
	lines := 0
	for code := range standbyRefusals {
		for i, mode := range protocols {
			t.Run(code+" "+mode.String(), func(t *testing.T) {
				// A shape of its own: what the other protocols have taught does not count.
				sql := fmt.Sprintf("/* route: replica */ select refused_%s($1) as c%d", code, i)
				c, before := p.connect(t, ""), corrections(p)
				for n := range 3 {
					if got := value[int](t, c, sql, mode, n+1); got != n+1 {
						t.Errorf("it returned %d", got)
					}
				}
				lines++
				if n := corrections(p) - before; n != 1 {
					t.Errorf("%v corrections, want one", n)
				}
			})
		}
		t.Run(code+" in a pipeline", func(t *testing.T) {
			c, before := p.connect(t, ""), corrections(p)
			for range 3 {
				var batch pgx.Batch
				for n := range 3 {
					batch.Queue(fmt.Sprintf("/* route: replica */ select refused_%s(%d) as p", code, n))
				}
				results := c.SendBatch(t.Context(), &batch)
				for n := range 3 {
					var got int
					if err := results.QueryRow().Scan(&got); err != nil || got != n {
						t.Errorf("%d: %d, %v", n, got, err)
					}
				}
				if err := results.Close(); err != nil {
					t.Error(err)
				}
			}
			lines++
			if n := corrections(p) - before; n < 1 || n > 4 {
				t.Errorf("%v corrections, want one, and as many for preparing", n)
			}
		})
	}
	if n := logged.FilterMessageSnippet("refused by a replica").Len(); n == 0 || n > lines {
		t.Errorf("%d lines in the log, want one a shape, of which there are %d", n, lines)
	}
	for _, l := range logged.All() {
		if _, ok := l.ContextMap()["sqlstate"]; !ok || len(l.Message) > 200 {
			t.Errorf("line %q %v", l.Message, l.ContextMap())
		}
	}
}

func TestWhatMustNotRunTwiceIsNotCorrected(t *testing.T) {
	refusing(t)
	p := startProxy(t, pg, nil)
	const bad = "select refused_25006(7)"
	for _, tt := range []struct {
		name  string
		setup []string
		sql   string
	}{
		{"in a read only transaction", []string{"begin read only", "/* route: replica */ select count(*) from refusing"}, bad},
		{"in one that the hint took to a replica", []string{"/* route: replica */ begin read only", "select count(*) from refusing"}, bad},
		{"in a session that is read only", []string{"set default_transaction_read_only = on"}, "/* route: replica */ " + bad},
		{"when rows have gone out", nil, "/* route: replica */ select case when g = 200000 then refused_25006(g) else g end from generate_series(1, 200000) g"},
	} {
		for _, mode := range protocols {
			t.Run(tt.name+" "+mode.String(), func(t *testing.T) {
				c, before := p.connect(t, ""), corrections(p)
				for _, sql := range tt.setup {
					exec(t, c, sql, mode)
				}
				_, err := c.Exec(t.Context(), tt.sql, mode)
				sqlstate(t, err, pgwire.CodeReadOnlyTransaction)
				if n := corrections(p) - before; n != 0 {
					t.Errorf("%v corrections", n)
				}
			})
		}
	}
	c := p.connect(t, "")
	_, err := c.Exec(t.Context(), "/* route: replica */ begin read only; "+bad+"; commit", pgx.QueryExecModeSimpleProtocol)
	sqlstate(t, err, pgwire.CodeReadOnlyTransaction)
	exec(t, c, "rollback")
	if n := value[int](t, c, "select count(*) from refusing"); n != 0 {
		t.Errorf("%d rows were written", n)
	}
}

func TestACorrectionIsRememberedThroughAReload(t *testing.T) {
	refusing(t)
	var config *cluster.Config
	p := startProxy(t, pg, func(c *cluster.Config, _ *Options) { config = c })
	const sql = "/* route: replica */ select refused_25006(9)"
	exec(t, p.connect(t, ""), sql)
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.WithoutCancel(t.Context())})
	defer cancel()
	settings, err := config.Settings(ctx, p.cluster.Name(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.cluster.Claim(settings).Release()
	p.waitFit(t, len(pg.Replicas()))
	before := corrections(p)
	for _, c := range []*pgx.Conn{p.connect(t, ""), p.connect(t, "")} {
		exec(t, c, sql)
	}
	if n := corrections(p) - before; n != 0 {
		t.Errorf("%v corrections after a reload", n)
	}
}

func TestLinesInTheLogAreLimited(t *testing.T) {
	l := lineLimit{window: time.Minute, most: 2}
	now := time.Unix(1, 0)
	for i, want := range []bool{true, true, false, false} {
		if _, ok := l.allow(now.Add(time.Duration(i) * time.Second)); ok != want {
			t.Errorf("line %d: %v", i, ok)
		}
	}
	if left, ok := l.allow(now.Add(time.Minute)); !ok || left != 2 {
		t.Errorf("after the window: %v, %d left out", ok, left)
	}
	if left, ok := l.allow(now.Add(time.Minute)); !ok || left != 0 {
		t.Errorf("then: %v, %d left out", ok, left)
	}
}

// A prepared write that a later hint sends to a replica is the replica's to refuse: only its text is known to be wrong there.
func TestDoubtfulStatementsCorrectThemselvesAndCertainWritesDoNot(t *testing.T) {
	refusing(t)
	p := startProxy(t, pg, nil)
	for _, mode := range protocols {
		c := p.connect(t, "")
		exec(t, c, "set fairway.route = replica")
		if got := value[int](t, c, "select refused_25006(3)", mode); got != 3 {
			t.Errorf("%v: a doubtful function returned %d", mode, got)
		}
		_, err := c.Exec(t.Context(), "insert into refusing values (1)", mode)
		sqlstate(t, err, pgwire.CodeReadOnlyTransaction)
		var e *pgconn.PgError
		if !errors.As(err, &e) || e.Hint == "" {
			t.Errorf("%v: the error is not ours: %v", mode, err)
		}
		exec(t, c, "begin")
		_, err = c.Exec(t.Context(), "insert into refusing values (1)", mode)
		sqlstate(t, err, pgwire.CodeReadOnlyTransaction)
		exec(t, c, "rollback")
		exec(t, c, "reset fairway.route")
		exec(t, c, "begin")
		exec(t, c, "insert into refusing values (1)")
		exec(t, c, "/* route: replica */ insert into refusing values (2)", mode) // the transaction is where it is
		exec(t, c, "rollback")
	}
}
