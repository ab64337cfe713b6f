package main

import (
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/fairwaydb/fairway/integration/drivers/go/check"
)

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
				case check.Code(err, "40001") != nil:
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
