// Command pq is a program that uses lib/pq by way of database/sql: a pool that prepares statements anew wherever it has to,
// COPY as a prepared statement, several statements in one string, and a listener that connects again by itself.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/lib/pq"

	"github.com/fairwaydb/fairway/integration/drivers/go/check"
)

var (
	url = os.Args[1]
	ctx = context.Background()
)

func main() {
	db, err := sql.Open("postgres", url)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	db.SetMaxOpenConns(20)
	check.Run("a read after a write is never stale on one connection", func() error { return ownWrites(db) })
	check.Run("transactions, and what follows their errors", func() error { return transactions(db) })
	check.Run("statements prepared on a pool", func() error { return prepared(db) })
	check.Run("several statements in one string, several results", func() error { return several(db) })
	check.Run("COPY as a prepared statement, and one that fails", func() error { return copies(db) })
	check.Run("values, as text and with binary_parameters", func() error { return values(db) })
	check.Run("a context that ends cancels the statement", func() error { return cancels(db) })
	check.Run("a listener hears, and connects again after a restart of the primary", listener)
	check.Run("sessions outlive a restart of the primary", func() error { return restart(db) })
	if err := db.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// queryer is a pool, a connection or a transaction.
type queryer interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
}

func want[T any](q queryer, wanted T, text string, args ...any) error {
	var got T
	err := q.QueryRowContext(ctx, text, args...).Scan(&got)
	if err == nil {
		err = check.Equal(got, wanted)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", text, err)
	}
	return nil
}

func ownWrites(db *sql.DB) error {
	c, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	for n := range 500 {
		if _, err := c.ExecContext(ctx, "insert into own values ($1)", n); err != nil {
			return err
		}
		if err := want(c, n, "select n from own where n = $1", n); err != nil {
			return err
		}
	}
	return nil
}

func transactions(db *sql.DB) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	_, err = tx.Exec("insert into items values (1, 'one')")
	_, twice := tx.Exec("insert into items values (1, 'again')")
	_, aborted := tx.Exec("select 1")
	if err := errors.Join(err, check.Code(twice, "23505"), check.Code(aborted, "25P02"), tx.Rollback()); err != nil {
		return err
	}
	for _, level := range []sql.IsolationLevel{sql.LevelReadCommitted, sql.LevelRepeatableRead, sql.LevelSerializable} {
		tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: level, ReadOnly: true})
		if err != nil {
			return err
		}
		empty := want(tx, 0, "select count(*) from items where n = 1")
		_, write := tx.Exec("insert into items values (1, 'no')")
		if err := errors.Join(empty, check.Code(write, "25006"), tx.Rollback()); err != nil {
			return fmt.Errorf("%v: %w", level, err)
		}
		if tx, err = db.BeginTx(ctx, &sql.TxOptions{Isolation: level}); err != nil {
			return err
		}
		_, err = tx.Exec("insert into items values ($1, 'yes')", int(level)+1)
		if err := errors.Join(err, tx.Commit()); err != nil {
			return fmt.Errorf("%v: %w", level, err)
		}
	}
	return want(db, 3, "select count(*) from (select from items for share) all_of_them")
}

func prepared(db *sql.DB) error {
	// One statement, which database/sql prepares on each connection that happens to run it.
	insert, err := db.Prepare("insert into items values ($1, $2)")
	if err != nil {
		return err
	}
	defer insert.Close()
	read, err := db.Prepare("select s from items where n = $1 for share")
	if err != nil {
		return err
	}
	defer read.Close()
	errs := make(chan error)
	const clients, rounds = 40, 10
	for k := range clients {
		go func() {
			errs <- func() error {
				for i := range rounds {
					n := 1000 + k*rounds + i
					if _, err := insert.Exec(n, fmt.Sprint(n)); err != nil {
						return err
					}
					var s string
					if err := read.QueryRow(n).Scan(&s); err != nil {
						return fmt.Errorf("row %d: %w", n, err)
					}
					if err := check.Equal(s, fmt.Sprint(n)); err != nil {
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
	return errors.Join(err, want(db, clients*rounds, "select count(*) from (select from items where n >= 1000 for share) all_of_them"))
}

func several(db *sql.DB) error {
	// One simple Query: one implicit transaction on one server.
	_, err := db.Exec("delete from items; insert into items values (1, 'a'); insert into items values (2, 'b')")
	_, fails := db.Exec("insert into items values (3, 'c'); select 1/0; insert into items values (4, 'd')")
	if err := errors.Join(err, check.Code(fails, "22012")); err != nil {
		return err
	}
	rows, err := db.Query("insert into items values (5, 'e'); select n from items order by n; select s from items where n = 5")
	if err != nil {
		return err
	}
	defer rows.Close()
	var sets [][]string
	for again := true; again; again = rows.NextResultSet() {
		var set []string
		for rows.Next() {
			var v string
			if err := rows.Scan(&v); err != nil {
				return err
			}
			set = append(set, v)
		}
		sets = append(sets, set)
	}
	return errors.Join(rows.Err(), check.Equal(fmt.Sprint(sets[len(sets)-2:]), "[[1 2 5] [e]]"))
}

func copies(db *sql.DB) error {
	if _, err := db.Exec("delete from items"); err != nil {
		return err
	}
	into := func(first, rows int) error {
		tx, err := db.Begin()
		if err != nil {
			return err
		}
		defer tx.Rollback()
		stmt, err := tx.Prepare(pq.CopyIn("items", "n", "s"))
		if err != nil {
			return err
		}
		for i := range rows {
			if _, err := stmt.Exec(first+i, strings.Repeat("é\t\\", i%20)); err != nil {
				return err
			}
		}
		if _, err := stmt.Exec(); err != nil {
			return err
		}
		return errors.Join(stmt.Close(), tx.Commit())
	}
	if err := into(0, 10_000); err != nil {
		return err
	}
	return errors.Join(check.Code(into(5_000, 10_000), "23505"), want(db, 10_000, "select count(*) from (select from items for share) all_of_them"))
}

func values(db *sql.DB) error {
	binary, err := sql.Open("postgres", url+"&binary_parameters=yes")
	if err != nil {
		return err
	}
	defer binary.Close()
	big := strings.Repeat("ünïcödé \\ ' ☃ ", 200_000)
	now := time.Date(2026, 2, 28, 12, 30, 15, 123456000, time.UTC)
	for name, db := range map[string]*sql.DB{"text": db, "binary_parameters": binary} {
		var numbers pq.Int64Array
		var at time.Time
		var null sql.NullString
		err := errors.Join(
			want(db, int64(1)<<60, "select $1::int8", int64(1)<<60),
			want(db, 1.25, "select $1::float8", 1.25),
			want(db, []byte{0, 255, 0}, "select $1::bytea", []byte{0, 255, 0}),
			want(db, big, "select $1::text", big),
			want(db, true, "select $1::bool", true),
			db.QueryRow("select $1::int8[]", pq.Array([]int64{1, 2, 3})).Scan(&numbers), check.Equal([]int64(numbers), []int64{1, 2, 3}),
			db.QueryRow("select $1::timestamptz", now).Scan(&at),
			db.QueryRow("select $1::text", nil).Scan(&null), check.Equal(null.Valid, false),
		)
		if err != nil || !at.Equal(now) {
			return fmt.Errorf("%s: %v, %w", name, at, err)
		}
	}
	return nil
}

func cancels(db *sql.DB) error {
	for range 5 {
		limited, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		_, err := db.ExecContext(limited, "select pg_sleep(30)")
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) && check.Code(err, "57014") != nil {
			return fmt.Errorf("got %w", err)
		}
		if err := want(db, 1, "select 1"); err != nil {
			return err
		}
	}
	return nil
}

func listener() error {
	connected := make(chan error, 10)
	l := pq.NewListener(url, 10*time.Millisecond, time.Second, func(e pq.ListenerEventType, err error) {
		if e == pq.ListenerEventConnected || e == pq.ListenerEventReconnected {
			connected <- err
		}
	})
	defer l.Close()
	db, err := sql.Open("postgres", url)
	if err != nil {
		return err
	}
	defer db.Close()
	hear := func(payload string) error {
		if _, err := db.Exec("select pg_notify('pq_channel', $1)", payload); err != nil {
			return err
		}
		limit := time.After(20 * time.Second)
		for {
			select {
			case n := <-l.Notify:
				if n != nil { // nil tells of a connection made anew
					return check.Equal(n.Extra, payload)
				}
			case <-limit:
				return fmt.Errorf("nothing was heard of %q", payload)
			}
		}
	}
	if err := errors.Join(l.Listen("pq_channel"), <-connected, hear("before")); err != nil {
		return err
	}
	if err := check.Restart(); err != nil {
		return err
	}
	// What listens is bound to its server connection: it is told, and the listener connects again.
	select {
	case err := <-connected:
		return errors.Join(err, hear("after"))
	case <-time.After(20 * time.Second):
		return errors.New("the listener has not connected again")
	}
}

func restart(db *sql.DB) error {
	read, err := db.Prepare("select s from items where n = $1")
	if err != nil {
		return err
	}
	defer read.Close()
	var conns []*sql.Conn
	for range 5 {
		c, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.ExecContext(ctx, "set work_mem = '9MB'"); err != nil {
			return err
		}
		conns = append(conns, c)
	}
	work := func(round int) error {
		for i, c := range conns {
			tx, err := c.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			n := 100_000 + 100*round + i
			_, err = tx.Exec("insert into items values ($1, 'around')", n)
			var s string
			if err := errors.Join(err, tx.Stmt(read).QueryRow(n).Scan(&s), tx.Commit(), want(c, "around", "select s from items where n = $1", n),
				want(c, "9MB", "select current_setting('work_mem') from items limit 1")); err != nil {
				return fmt.Errorf("round %d, connection %d: %w", round, i, err)
			}
		}
		return nil
	}
	return errors.Join(work(0), check.Restart(), work(1))
}
