package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/fairwaydb/fairway/integration/drivers/go/check"
)

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
		if err := errors.Join(check.Code(err, "57014"), want(c, 1, "select 1"), want(other, 2, "select 2")); err != nil {
			return err
		}
	}
	_, err = c.Exec(ctx, "set statement_timeout = '50ms'")
	_, timeout := c.Exec(ctx, "select pg_sleep(30)")
	return errors.Join(err, check.Code(timeout, "57014"))
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
		check.Code(elsewhere, "42P01"),
		want(c, 1, "select n from mine"),
		want(c, true, "select pg_try_advisory_lock(7)"), want(other, false, "select pg_try_advisory_lock(7)"),
		want(c, true, "select pg_advisory_unlock(7)"), want(other, true, "select pg_try_advisory_lock(7)"),
		want(c, "9MB", "select current_setting('work_mem') from items limit 1"),
		want(other, "4MB", "select current_setting('work_mem') from items limit 1"),
	)
}
