package integration_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"
)

// pgxModes are pgx's ways to run a query: with named statements, with the unnamed one, without the extended protocol.
var pgxModes = []pgx.QueryExecMode{
	pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
	pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
}

// staleReads is how often an insert is followed by a read of what it inserted.
const staleReads = 1000

// TestPgxNeverReadsStale inserts and reads, in each of pgx's modes.
func TestPgxNeverReadsStale(t *testing.T) {
	shared.table(t, "pgx_own", "n int primary key")
	for i, mode := range pgxModes {
		t.Run(mode.String(), func(t *testing.T) {
			c := shared.connect(t, "")
			for n := i * staleReads; n < (i+1)*staleReads; n++ {
				do(t, c, "insert into pgx_own values ($1)", mode, n)
				var found int
				if err := c.QueryRow(t.Context(), "select n from pgx_own where n = $1", mode, n).Scan(&found); err != nil {
					t.Fatalf("after insert %d: %v", n, err)
				}
			}
		})
	}
}

// TestPgxRunsTransactions commits, rolls back, nests, and ends failed ones, in each of pgx's modes.
func TestPgxRunsTransactions(t *testing.T) {
	for _, mode := range pgxModes {
		t.Run(mode.String(), func(t *testing.T) {
			shared.table(t, "pgx_tx", "n int unique")
			ctx, c := t.Context(), shared.connect(t, "")
			count := func(q interface {
				QueryRow(context.Context, string, ...any) pgx.Row
			},
			) (n int) {
				t.Helper()
				if err := q.QueryRow(ctx, "select count(*) from pgx_tx where n > $1", mode, 0).Scan(&n); err != nil {
					t.Fatal(err)
				}
				return n
			}
			insert := func(tx pgx.Tx, n int) error {
				_, err := tx.Exec(ctx, "insert into pgx_tx values ($1)", mode, n)
				return err
			}
			boom := errors.New("boom")
			err := pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
				return errors.Join(insert(tx, 1), pgx.BeginFunc(ctx, tx, func(nested pgx.Tx) error { return insert(nested, 2) }))
			})
			if err != nil || count(c) != 2 {
				t.Fatalf("committed: %d rows, %v", count(c), err)
			}
			err = pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
				if err := pgx.BeginFunc(ctx, tx, func(nested pgx.Tx) error { return errors.Join(insert(nested, 3), boom) }); !errors.Is(err, boom) {
					return err
				}
				if n := count(tx); n != 2 {
					t.Errorf("%d rows after a savepoint was rolled back", n)
				}
				return errors.Join(insert(tx, 4), boom)
			})
			if !errors.Is(err, boom) || count(c) != 2 {
				t.Fatalf("rolled back: %d rows, %v", count(c), err)
			}
			err = pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
				wantCode(t, "duplicate", insert(tx, 1), "23505")
				wantCode(t, "after an error", insert(tx, 5), "25P02")
				if s := c.PgConn().TxStatus(); s != 'E' {
					t.Errorf("status %c", s)
				}
				return nil
			})
			if !errors.Is(err, pgx.ErrTxCommitRollback) || count(c) != 2 {
				t.Fatalf("failed: %d rows, %v", count(c), err)
			}
			for _, level := range []pgx.TxIsoLevel{pgx.Serializable, pgx.RepeatableRead, pgx.ReadCommitted} {
				for _, access := range []pgx.TxAccessMode{pgx.ReadWrite, pgx.ReadOnly} {
					err := pgx.BeginTxFunc(ctx, c, pgx.TxOptions{IsoLevel: level, AccessMode: access}, func(tx pgx.Tx) error {
						if n := count(tx); n != 2 {
							t.Errorf("%s %s: %d rows", level, access, n)
						}
						if access == pgx.ReadOnly {
							wantCode(t, "write in READ ONLY", insert(tx, 6), "25006")
							return boom
						}
						return nil
					})
					if err != nil && !errors.Is(err, boom) {
						t.Errorf("%s %s: %v", level, access, err)
					}
				}
			}
		})
	}
}

// TestPgxSharesPreparedStatements has many connections prepare the same and other statements on a small pool of servers.
func TestPgxSharesPreparedStatements(t *testing.T) {
	shared.table(t, "pgx_prepared", "n int, s text")
	config, err := pgxpool.ParseConfig(shared.connString(appRole, appRole))
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns, config.ConnConfig.StatementCacheCapacity = 40, 8 // small: statements are closed and prepared again
	clients, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer clients.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	errs := make(chan error)
	const workers, rounds = 40, 50
	for w := range workers {
		go func() {
			errs <- func() error {
				for i := range rounds {
					k := (w + i) % 24
					var got int
					// k is part of the text: 24 statements, of which each client keeps 8.
					if err := clients.QueryRow(ctx, fmt.Sprintf("select %d + count(*)::int + $1 from pgx_prepared where s = $2", k), i, "x").Scan(&got); err != nil {
						return err
					}
					if got != k+i {
						return fmt.Errorf("statement %d with %d gave %d", k, i, got)
					}
					if _, err := clients.Exec(ctx, "insert into pgx_prepared values ($1, $2)", i, fmt.Sprint(w)); err != nil {
						return err
					}
				}
				return nil
			}()
		}()
	}
	for range workers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if n := value[int](t, shared.connect(t, ""), "select count(*) from pgx_prepared where s <> ''"); n > workers*rounds {
		t.Errorf("%d rows for %d inserts", n, workers*rounds)
	}
	// A name that is prepared anew with another text, and what is prepared is gone after deallocation.
	c := shared.connect(t, "")
	for i := range 20 {
		if _, err := c.Prepare(ctx, "mine", fmt.Sprintf("select %d + $1::int", i)); err != nil {
			t.Fatal(err)
		}
		if n := value[int](t, c, "mine", 1); n != i+1 {
			t.Fatalf("%d: %d", i, n)
		}
		if err := c.Deallocate(ctx, "mine"); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, "a statement that is gone", c.PgConn().ExecPrepared(ctx, "mine", nil, nil, nil).Read().Err, "26000")
}

func TestPgxPipelines(t *testing.T) {
	shared.table(t, "pgx_piped", "n int primary key")
	ctx, c := t.Context(), shared.connect(t, "")
	for _, mode := range pgxModes {
		do(t, c, "delete from pgx_piped")
		b := &pgx.Batch{}
		for i := range 100 {
			b.Queue("insert into pgx_piped values ($1)", i)
			b.Queue("select count(*) from pgx_piped").QueryRow(func(row pgx.Row) error {
				var n int
				if err := row.Scan(&n); err != nil || n != i+1 {
					return fmt.Errorf("%d rows after %d inserts: %w", n, i+1, err)
				}
				return nil
			})
		}
		config := c.Config()
		config.DefaultQueryExecMode = mode
		other, err := pgx.ConnectConfig(ctx, config)
		if err != nil {
			t.Fatal(err)
		}
		if err := other.SendBatch(ctx, b).Close(); err != nil {
			t.Errorf("%v: %v", mode, err)
		}
		bad := &pgx.Batch{}
		bad.Queue("insert into pgx_piped values (1000)")
		bad.Queue("insert into pgx_piped values (1)")
		bad.Queue("insert into pgx_piped values (1001)")
		wantCode(t, mode.String(), other.SendBatch(ctx, bad).Close(), "23505")
		if n := value[int](t, other, "select count(*) from pgx_piped"); n != 100 {
			t.Errorf("%v: %d rows after a batch that failed", mode, n)
		}
		_ = other.Close(ctx)
	}
	// Several segments in flight; the failure of one leaves the next alone.
	p := c.PgConn().StartPipeline(ctx)
	for _, sql := range []string{"insert into pgx_piped values (2000)", "insert into pgx_piped values (1)", "insert into pgx_piped values (2001)"} {
		p.SendQueryParams(sql, nil, nil, nil, nil)
		if err := p.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	var codes []string
	for syncs := 0; syncs < 3; {
		result, err := p.GetResults()
		if err != nil {
			codes = append(codes, sqlstate(err))
			continue
		}
		switch result := result.(type) {
		case *pgconn.PipelineSync:
			syncs++
		case *pgconn.ResultReader:
			if _, err := result.Close(); err != nil {
				codes = append(codes, sqlstate(err))
			}
		}
	}
	if err := p.Close(); err != nil || strings.Join(codes, " ") != "23505" {
		t.Errorf("errors %v, %v", codes, err)
	}
	if n := value[int](t, c, "select count(*) from pgx_piped where n >= 2000"); n != 2 {
		t.Errorf("%d of two good segments", n)
	}
}

func TestPgxCopies(t *testing.T) {
	shared.table(t, "pgx_copied", "n int primary key, s text")
	ctx, c := t.Context(), shared.connect(t, "")
	const rows = 50_000
	n, err := c.CopyFrom(ctx, pgx.Identifier{"pgx_copied"}, []string{"n", "s"},
		pgx.CopyFromSlice(rows, func(i int) ([]any, error) { return []any{i, strings.Repeat("x", i%100)}, nil }))
	if err != nil || n != rows {
		t.Fatalf("%d rows, %v", n, err)
	}
	// The client gives up half-way: nothing is kept.
	_, err = c.CopyFrom(ctx, pgx.Identifier{"pgx_copied"}, []string{"n", "s"}, pgx.CopyFromFunc(func() func() ([]any, error) {
		i := rows
		return func() ([]any, error) {
			if i++; i > rows+5000 {
				return nil, errors.New("out of rows")
			}
			return []any{i, "y"}, nil
		}
	}()))
	wantCode(t, "a copy given up", err, "57014")
	// The server gives up half-way.
	_, err = c.PgConn().CopyFrom(ctx, strings.NewReader(strings.Repeat("-1\ttwice\n", 100_000)), "copy pgx_copied from stdin")
	wantCode(t, "a copy refused", err, "23505")
	var out strings.Builder
	if _, err := c.PgConn().CopyTo(ctx, &out, "copy pgx_copied to stdout"); err != nil || strings.Count(out.String(), "\n") != rows {
		t.Fatalf("%d lines came out, %v", strings.Count(out.String(), "\n"), err)
	}
	if got := value[int](t, c, "select count(*) from pgx_copied"); got != rows {
		t.Errorf("%d rows", got)
	}
}

func TestPgxCancelsByContext(t *testing.T) {
	other := shared.connect(t, "")
	for range 5 {
		c := shared.connect(t, "")
		config := c.Config()
		config.BuildContextWatcherHandler = func(pg *pgconn.PgConn) ctxwatch.Handler {
			return &pgconn.CancelRequestContextWatcherHandler{Conn: pg, DeadlineDelay: 10 * time.Second}
		}
		c, err := pgx.ConnectConfig(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, err = c.Exec(ctx, "select pg_sleep(30)")
		cancel()
		wantCode(t, "a statement out of time", err, "57014")
		if value[int](t, c, "select 1") != 1 {
			t.Error("the session does not go on")
		}
		_ = c.Close(t.Context())
	}
	if value[int](t, other, "select 1") != 1 {
		t.Error("another session was hit")
	}
}

func TestPgxListens(t *testing.T) {
	a, b := shared.connect(t, ""), shared.connect(t, "")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	do(t, a, "listen pgx_channel")
	for i := range 20 {
		if i%2 == 0 {
			do(t, b, "select pg_notify('pgx_channel', $1)", fmt.Sprint(i))
		} else {
			do(t, b, "notify pgx_channel, '"+fmt.Sprint(i)+"'")
		}
		n, err := a.WaitForNotification(ctx)
		if err != nil || n.Payload != fmt.Sprint(i) {
			t.Fatalf("notification %d: %v, %v", i, n, err)
		}
	}
	// In a transaction it comes with the commit, and a LISTEN rolled back was none.
	do(t, a, "unlisten *")
	do(t, a, "begin")
	do(t, a, "listen pgx_channel")
	do(t, a, "rollback")
	do(t, b, "notify pgx_channel, 'void'")
	do(t, a, "listen pgx_other")
	do(t, b, "begin")
	do(t, b, "notify pgx_other, 'with the commit'")
	do(t, b, "commit")
	if n, err := a.WaitForNotification(ctx); err != nil || n.Payload != "with the commit" {
		t.Fatalf("%v, %v", n, err)
	}
}

// TestPreparingAnewAfterTheTableChanged does what drivers do when a statement they keep does not fit its table any more:
// they prepare the text under another name. That must not give them the plan that was refused.
func TestPreparingAnewAfterTheTableChanged(t *testing.T) {
	shared.table(t, "changed", "a int")
	ctx, c := t.Context(), shared.connect(t, "").PgConn()
	const text = "select * from changed for share" // on the primary, always the same server connection
	run := func(name string) (int, error) {
		if _, err := c.Prepare(ctx, name, text, nil); err != nil {
			t.Fatalf("prepare %s: %v", name, err)
		}
		result := c.ExecPrepared(ctx, name, nil, nil, nil)
		columns := len(result.FieldDescriptions())
		_, err := result.Close()
		return columns, err
	}
	if _, err := run("before"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exec(ctx, "alter table changed add column b int").ReadAll(); err != nil {
		t.Fatal(err)
	}
	// PostgreSQL refuses this; pgx describes the portal, so that the statement may also be prepared again unseen.
	if _, err := c.ExecPrepared(ctx, "before", nil, nil, nil).Close(); err != nil && sqlstate(err) != "0A000" {
		t.Errorf("the statement prepared before: %v", err)
	}
	for _, name := range []string{"after", "later"} {
		if _, err := run(name); err != nil {
			t.Errorf("the statement prepared %s: %v", name, err)
		}
	}
}

// TestRowsHaveTheColumnsThatWereDescribed executes statements by what their Describe said before their table changed, as
// pgx and asyncpg do: rows of another shape would be read wrong, so that only PostgreSQL's refusal will do.
func TestRowsHaveTheColumnsThatWereDescribed(t *testing.T) {
	const text = "select * from described_rows for share" // on the primary
	ctx := t.Context()
	for name, elsewhere := range map[string]bool{"on the same server connection": false, "on another server connection": true} {
		t.Run(name, func(t *testing.T) {
			shared.table(t, "described_rows", "a int")
			do(t, shared.connect(t, ""), "insert into described_rows values (1)")
			c, other := shared.connect(t, "").PgConn(), shared.connect(t, "")
			described, err := c.Prepare(ctx, "described", text, nil)
			if err != nil {
				t.Fatal(err)
			}
			if result := c.ExecStatement(ctx, described, nil, nil, nil).Read(); result.Err != nil {
				t.Fatal(result.Err)
			}
			if _, err := c.Exec(ctx, "alter table described_rows add column b int").ReadAll(); err != nil {
				t.Fatal(err)
			}
			if elsewhere { // the server connection used last is the one that is lent next
				do(t, other, "begin")
				do(t, other, "select 1")
			}
			result := c.ExecStatement(ctx, described, nil, nil, nil).Read()
			if result.Err != nil {
				wantCode(t, "a statement whose table has changed", result.Err, "0A000")
			} else if got, want := len(result.Rows[0]), len(described.Fields); got != want {
				t.Errorf("%d columns were described, a row has %d", want, got)
			}
		})
	}
}
