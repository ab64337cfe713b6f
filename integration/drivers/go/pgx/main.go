// Command pgx is a program that uses pgx for what its native interface does: a pool of sessions, batches, COPY with binary
// values, notifications, and every way it has to run a statement.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/fairwaydb/fairway/integration/drivers/go/check"
)

var (
	url = os.Args[1]
	ctx = context.Background()

	modes = []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
		pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	}
)

func main() {
	check.Run("a read after a write is never stale, in any mode", ownWrites)
	check.Run("a pool of sessions, each with its statements", pool)
	check.Run("batches keep their order, and fail as a whole", batches)
	check.Run("COPY takes binary values, and nothing when it fails", copies)
	check.Run("values of many types, binary and text", values)
	check.Run("a context that ends cancels the client's own statement alone", cancels)
	check.Run("notifications arrive while the client is idle", notifications)
	check.Run("what lives in one session stays with it", sessionState)
	check.Run("many sessions commit conflicting transactions with retries", conflicts)
	check.Run("sessions outlive a restart of the primary", restart)
}

// connect opens a connection that the function closes which it returns.
func connect() (*pgx.Conn, func(), error) {
	c, err := pgx.Connect(ctx, url)
	return c, func() { _ = c.Close(ctx) }, err
}

// value is the only column of the only row.
func value[T any](q interface {
	QueryRow(context.Context, string, ...any) pgx.Row
}, sql string, args ...any,
) (v T, err error) {
	err = q.QueryRow(ctx, sql, args...).Scan(&v)
	return v, err
}

// want fails unless the statement returns that value.
func want[T any](q interface {
	QueryRow(context.Context, string, ...any) pgx.Row
}, wanted T, sql string, args ...any,
) error {
	got, err := value[T](q, sql, args...)
	if err == nil {
		err = check.Equal(got, wanted)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

// wantCode fails unless the error has that SQLSTATE.
func wantCode(err error, code string) error {
	if e := (*pgconn.PgError)(nil); !errors.As(err, &e) || e.Code != code {
		return fmt.Errorf("got %w, want SQLSTATE %s", err, code)
	}
	return nil
}

func ownWrites() error {
	c, done, err := connect()
	if err != nil {
		return err
	}
	defer done()
	for n := range 1000 {
		mode := modes[n%len(modes)]
		if _, err := c.Exec(ctx, "insert into own values ($1)", mode, n); err != nil {
			return err
		}
		if err := want(c, n, "select n from own where n = $1", mode, n); err != nil {
			return fmt.Errorf("%v: %w", mode, err)
		}
	}
	return nil
}

func pool() error {
	config, err := pgxpool.ParseConfig(url + "&pool_max_conns=30")
	if err != nil {
		return err
	}
	config.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, "set application_name = 'pooled'")
		return err
	}
	p, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer p.Close()
	errs := make(chan error)
	const clients, rounds = 60, 10
	for k := range clients {
		go func() {
			errs <- func() error {
				for i := range rounds {
					n := k*rounds + i
					err := pgx.BeginFunc(ctx, p, func(tx pgx.Tx) error {
						if _, err := tx.Exec(ctx, "insert into items values ($1, $2)", n, fmt.Sprint(n)); err != nil {
							return err
						}
						return want(tx, fmt.Sprint(n), "select s from items where n = $1", n)
					})
					if err != nil {
						return err
					}
					if err := want(p, "pooled", "select current_setting('application_name') from items limit 1 for share"); err != nil {
						return err
					}
				}
				return nil
			}()
		}()
	}
	for range clients {
		err = errors.Join(err, <-errs)
	}
	return errors.Join(err, want(p, clients*rounds, "select count(*) from (select from items for share) all_of_them"))
}

func batches() error {
	c, done, err := connect()
	if err != nil {
		return err
	}
	defer done()
	if _, err := c.Exec(ctx, "delete from items"); err != nil {
		return err
	}
	for _, mode := range modes {
		var b pgx.Batch
		for n := range 200 {
			b.Queue("insert into items values ($1, $2)", n, mode.String())
			b.Queue("select count(*) from items where s = $1", mode.String()).QueryRow(func(row pgx.Row) error {
				var count int
				if err := row.Scan(&count); err != nil {
					return err
				}
				return check.Equal(count, n+1)
			})
		}
		b.Queue("delete from items")
		config := c.Config().Copy()
		config.DefaultQueryExecMode = mode
		with, err := pgx.ConnectConfig(ctx, config)
		if err != nil {
			return err
		}
		err = with.SendBatch(ctx, &b).Close()
		var bad pgx.Batch
		bad.Queue("insert into items values (1000, 'gone')")
		bad.Queue("insert into items values (1001, 'gone'), (1000, 'twice')")
		bad.Queue("insert into items values (1002, 'gone')")
		err = errors.Join(err, wantCode(with.SendBatch(ctx, &bad).Close(), "23505"), want(with, 0, "select count(*) from items"))
		_ = with.Close(ctx)
		if err != nil {
			return fmt.Errorf("%v: %w", mode, err)
		}
	}
	return nil
}

func copies() error {
	c, done, err := connect()
	if err != nil {
		return err
	}
	defer done()
	columns, rows := []string{"n", "s"}, 20_000
	from := func(first int) pgx.CopyFromSource {
		return pgx.CopyFromSlice(rows, func(i int) ([]any, error) { return []any{first + i, strings.Repeat("é", i%50)}, nil })
	}
	if n, err := c.CopyFrom(ctx, pgx.Identifier{"items"}, columns, from(0)); err != nil || n != int64(rows) {
		return fmt.Errorf("%d rows, %w", n, err)
	}
	_, err = c.CopyFrom(ctx, pgx.Identifier{"items"}, columns, from(rows/2))
	if err := wantCode(err, "23505"); err != nil {
		return err
	}
	tx, err := c.Begin(ctx)
	if err != nil {
		return err
	}
	if _, err := tx.CopyFrom(ctx, pgx.Identifier{"items"}, columns, from(rows)); err != nil {
		return err
	}
	if err := errors.Join(want(tx, 2*rows, "select count(*) from items"), tx.Rollback(ctx)); err != nil {
		return err
	}
	var out strings.Builder
	if _, err := c.PgConn().CopyTo(ctx, &out, "copy (select s from items order by n) to stdout"); err != nil {
		return err
	}
	return errors.Join(check.Equal(strings.Count(out.String(), "\n"), rows), want(c, rows, "select count(*) from items"))
}

func values() error {
	c, done, err := connect()
	if err != nil {
		return err
	}
	defer done()
	now := time.Date(2026, 2, 28, 12, 30, 15, 123456000, time.UTC)
	big := strings.Repeat("ünïcödé \\ ' ☃ ", 200_000)
	for _, mode := range modes {
		err := errors.Join(
			want(c, int64(1)<<60, "select $1::int8", mode, int64(1)<<60),
			want(c, "12345678901234567890.123", "select $1::numeric::text", mode, "12345678901234567890.123"),
			want(c, []byte{0, 255, 0}, "select $1::bytea", mode, []byte{0, 255, 0}),
			want(c, []*int{new(int), nil}, "select $1::int[]", mode, []*int{new(int), nil}),
			want(c, (*string)(nil), "select $1::text", mode, (*string)(nil)),
			want(c, map[string]any{"a": []any{1.0, nil}}, "select $1::jsonb", mode, `{"a": [1, null]}`),
			want(c, big, "select $1::text", mode, big),
		)
		if err != nil {
			return fmt.Errorf("%v: %w", mode, err)
		}
		if got, err := value[time.Time](c, "select $1::timestamptz", mode, now); err != nil || !got.Equal(now) {
			return fmt.Errorf("%v: %v, %w", mode, got, err)
		}
	}
	if _, err := c.Exec(ctx, "insert into files values ('big', $1)", []byte(big)); err != nil {
		return err
	}
	return want(c, []byte(big), "select content from files where name = $1", "big")
}

func cancels() error {
	other, done, err := connect()
	if err != nil {
		return err
	}
	defer done()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return err
	}
	config.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: c, DeadlineDelay: 10 * time.Second}
	}
	c, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	for range 5 {
		limited, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		_, err := c.Exec(limited, "select pg_sleep(30)")
		cancel()
		if err := errors.Join(wantCode(err, "57014"), want(c, 1, "select 1"), want(other, 2, "select 2")); err != nil {
			return err
		}
	}
	_, err = c.Exec(ctx, "set statement_timeout = '50ms'")
	_, timeout := c.Exec(ctx, "select pg_sleep(30)")
	return errors.Join(err, wantCode(timeout, "57014"))
}

func notifications() error {
	c, done, err := connect()
	if err != nil {
		return err
	}
	defer done()
	other, otherDone, err := connect()
	if err != nil {
		return err
	}
	defer otherDone()
	limited, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if _, err := c.Exec(ctx, "listen pgx_channel"); err != nil {
		return err
	}
	for i := range 10 {
		if _, err := other.Exec(ctx, "select pg_notify('pgx_channel', $1)", fmt.Sprint(i)); err != nil {
			return err
		}
		n, err := c.WaitForNotification(limited)
		if err != nil {
			return err
		}
		if err := check.Equal(n.Payload, fmt.Sprint(i)); err != nil {
			return err
		}
	}
	return nil
}

func sessionState() error {
	c, done, err := connect()
	if err != nil {
		return err
	}
	defer done()
	other, otherDone, err := connect()
	if err != nil {
		return err
	}
	defer otherDone()
	for _, sql := range []string{"create temp table mine (n int)", "insert into mine values (1)", "set work_mem = '9MB'"} {
		if _, err := c.Exec(ctx, sql); err != nil {
			return err
		}
	}
	_, elsewhere := other.Exec(ctx, "select * from mine")
	return errors.Join(
		wantCode(elsewhere, "42P01"),
		want(c, 1, "select n from mine"),
		want(c, true, "select pg_try_advisory_lock(7)"), want(other, false, "select pg_try_advisory_lock(7)"),
		want(c, true, "select pg_advisory_unlock(7)"), want(other, true, "select pg_try_advisory_lock(7)"),
		want(c, "9MB", "select current_setting('work_mem') from items limit 1"),
		want(other, "4MB", "select current_setting('work_mem') from items limit 1"),
	)
}

func conflicts() error {
	setup, done, err := connect()
	if err != nil {
		return err
	}
	defer done()
	if _, err := setup.Exec(ctx, "delete from items; insert into items values (1, '0')"); err != nil {
		return err
	}
	var clients sync.WaitGroup
	errs := make([]error, 4)
	for k := range errs {
		clients.Go(func() {
			c, done, err := connect()
			if err != nil {
				errs[k] = err
				return
			}
			defer done()
			for i := 0; i < 20; {
				err := pgx.BeginTxFunc(ctx, c, pgx.TxOptions{IsoLevel: pgx.Serializable}, func(tx pgx.Tx) error {
					s, err := value[string](tx, "select s from items where n = 1")
					if err != nil {
						return err
					}
					_, err = tx.Exec(ctx, "update items set s = $1::text::int + 1 where n = 1", s)
					return err
				})
				switch {
				case err == nil:
					i++
				case wantCode(err, "40001") != nil:
					errs[k] = err
					return
				}
			}
		})
	}
	clients.Wait()
	return errors.Join(errors.Join(errs...), want(setup, fmt.Sprint(20*len(errs)), "select s from items where n = 1 for share"))
}

func restart() error {
	p, err := pgxpool.New(ctx, url+"&pool_max_conns=5&pool_min_conns=5")
	if err != nil {
		return err
	}
	defer p.Close()
	var conns []*pgxpool.Conn
	work := func(round int) error {
		for i, c := range conns {
			for j, mode := range modes {
				n := 10_000 + 1000*round + 100*i + j
				err := pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
					_, err := tx.Exec(ctx, "insert into items values ($1, $2)", mode, n, "around the restart")
					return err
				})
				if err != nil {
					return fmt.Errorf("%v, connection %d: %w", mode, i, err)
				}
				if err := errors.Join(want(c, "around the restart", "select s from items where n = $1", mode, n),
					want(c, fmt.Sprintf("%dMB", 5+i), "select current_setting('work_mem') from items limit 1", mode)); err != nil {
					return fmt.Errorf("%v, connection %d: %w", mode, i, err)
				}
			}
		}
		return nil
	}
	for i := range 5 {
		c, err := p.Acquire(ctx)
		if err != nil {
			return err
		}
		defer c.Release()
		if _, err := c.Exec(ctx, fmt.Sprintf("set work_mem = '%dMB'", 5+i)); err != nil {
			return err
		}
		conns = append(conns, c)
	}
	if err := errors.Join(work(0), check.Restart()); err != nil {
		return err
	}
	return work(1)
}
