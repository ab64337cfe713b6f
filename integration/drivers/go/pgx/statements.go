package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fairwaydb/fairway/integration/drivers/go/check"
)

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
		err = errors.Join(err, check.Code(with.SendBatch(ctx, &bad).Close(), "23505"), want(with, 0, "select count(*) from items"))
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
	if err := check.Code(err, "23505"); err != nil {
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
