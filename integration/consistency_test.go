package integration_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// TestASessionReadsItsOwnWritesFromFrozenReplicas pauses replay on both replicas: who has written reads his writes, who has
// not reads the past from the replicas, and when they go on they serve everybody again.
func TestASessionReadsItsOwnWritesFromFrozenReplicas(t *testing.T) {
	shared.table(t, "frozen", "n int primary key")
	do(t, shared.connect(t, ""), "insert into frozen values (0)")
	shared.awaitCaughtUp(t)
	resume := shared.freeze(t)
	stranger := shared.connect(t, "")
	for _, mode := range pgxModes {
		c := shared.connect(t, "")
		base := int(mode) * 1000
		for i := range 50 {
			n := base + i + 1
			do(t, c, "insert into frozen values ($1)", mode, n)
			if got := readOne(t, c, "select count(*) from frozen where n > $1 and n <= $2", mode, base, n); got != i+1 {
				t.Fatalf("%v: after %d inserts the session sees %d", mode, i+1, got)
			}
			if got := value[int](t, stranger, "select count(*) from frozen"); got != 1 {
				t.Fatalf("%v: a session that has written nothing sees %d rows: it was to read from a replica", mode, got)
			}
		}
		// In transactions of all kinds, the read only ones included.
		err := pgx.BeginFunc(t.Context(), c, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), "delete from frozen where n > $1 and n <= $2", mode, base, base+25)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		err = pgx.BeginTxFunc(t.Context(), c, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
			if got := readOne(t, tx, "select count(*) from frozen where n > $1 and n <= $2", mode, base, base+50); got != 25 {
				t.Errorf("%v: a read only transaction sees %d of 25 rows", mode, got)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		// What was rolled back leaves no mark.
		other := shared.connect(t, "")
		do(t, other, "begin")
		do(t, other, "insert into frozen values ($1)", mode, base+999)
		do(t, other, "rollback")
		if got := readOne(t, other, "select count(*) from frozen where n < $1", mode, 1); got != 1 {
			t.Errorf("%v: %d rows after a rollback", mode, got)
		}
	}
	writer := shared.connect(t, "")
	do(t, writer, "insert into frozen values (-1)")
	if value[bool](t, writer, "select pg_is_in_recovery() from frozen limit 1") {
		t.Error("a read after a write ran on a frozen replica")
	}
	resume()
	await(t, 10*time.Second, "the writer's reads run on replicas again", func() (string, bool) {
		var there, standby bool
		err := writer.QueryRow(t.Context(), "select n = -1, pg_is_in_recovery() from frozen order by n limit 1").Scan(&there, &standby)
		if err != nil || !there {
			t.Fatalf("the write is there: %v, %v", there, err)
		}
		return "on the primary", standby
	})
}

// freeze pauses replay on all replicas until the test ends or the function is called.
func (s *site) freeze(t testing.TB) (resume func()) {
	t.Helper()
	frozen := true
	resume = func() {
		if !frozen {
			return
		}
		frozen = false
		for _, n := range s.servers.Replicas() {
			if err := n.ResumeReplay(context.Background()); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(resume)
	for _, n := range s.servers.Replicas() {
		if err := n.PauseReplay(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return resume
}

// readOne is value for a connection or a transaction.
func readOne(t testing.TB, q interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}, sql string, args ...any,
) (v int) {
	t.Helper()
	if err := q.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// TestEverySortOfWriteMovesTheMark writes in all the ways there are, with the replicas frozen, and reads at once.
func TestEverySortOfWriteMovesTheMark(t *testing.T) {
	shared.table(t, "sorts", "n int")
	c := shared.connect(t, "")
	do(t, c, `create or replace function sorts_write() returns int language plpgsql as
		$$ begin insert into sorts values (1); return 1; end $$`)
	shared.awaitCaughtUp(t)
	shared.freeze(t)
	for i, sql := range []string{
		"insert into sorts values (1)",
		"with w as (insert into sorts values (1) returning n) select n from w",
		"select sorts_write()",
		"do $$ begin insert into sorts values (1); end $$",
		"select 1; insert into sorts values (1)",
		"begin; insert into sorts values (1); commit",
		"copy sorts from program 'echo 1'",
		"prepare sorts_p as insert into sorts values (1); execute sorts_p; deallocate sorts_p",
		"explain analyze insert into sorts values (1)",
		"merge into sorts using (select 1) x on false when not matched then insert values (1)",
	} {
		who := appRole
		if i == 6 {
			who = shared.servers.Superuser() // a program of the server's needs it
		}
		// A new session each: its mark is that of this write alone.
		c, err := pgx.Connect(t.Context(), shared.connString(who, appRole))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		if n := value[int](t, c, "select count(*) from sorts"); n != i+1 {
			t.Errorf("%s: then there are %d rows, want %d", sql, n, i+1)
		}
		_ = c.Close(t.Context())
	}
	// What a write changes may be the catalog.
	d := shared.connect(t, "")
	do(t, d, "create table sorts_new as select 1 as n")
	if n := value[int](t, d, "select n from sorts_new"); n != 1 {
		t.Errorf("the new table has %d", n)
	}
	do(t, d, "alter table sorts_new rename to sorts_old")
	if n := value[int](t, d, "select n from sorts_old"); n != 1 {
		t.Errorf("the renamed table has %d", n)
	}
	do(t, d, "drop table sorts_old")
	_, err := d.Exec(t.Context(), "select n from sorts_old")
	wantCode(t, "a dropped table", err, "42P01")
}

// TestStatementsRunWhereTheyBelong asks statements where they ran: the oracle of the route.
func TestStatementsRunWhereTheyBelong(t *testing.T) {
	shared.table(t, "placed", "n int")
	do(t, shared.connect(t, ""), "insert into placed values (1)")
	shared.awaitCaughtUp(t)
	for sql, standby := range map[string]bool{
		"select pg_is_in_recovery() from placed":                                   true,
		"select pg_is_in_recovery() from placed where n in (select n from placed)": true,
		"with p as (select * from placed) select pg_is_in_recovery() from p":       true,
		"table placed":                 true,
		"values (1)":                   true,
		"explain select * from placed": true,
		"select pg_is_in_recovery() from placed for update":                                  false,
		"select pg_is_in_recovery() from placed where n in (select n from placed for share)": false,
		"with w as (update placed set n = n returning n) select pg_is_in_recovery() from w":  false,
		"insert into placed values (2) returning pg_is_in_recovery()":                        false,
		"select pg_is_in_recovery()":                                                         false, // about the server itself
		"select pg_is_in_recovery() from placed, (select txid_current()) x limit 1":          false,
		"select pg_is_in_recovery() from pg_stat_activity limit 1":                           false,
		"select pg_is_in_recovery(), current_setting('server_version')":                      false,
		"show server_version": false,
	} {
		for _, mode := range pgxModes {
			c := shared.connect(t, "")
			before := scrape(t)
			rows, err := c.Query(t.Context(), sql, mode)
			if err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
			for rows.Next() {
				if v, _ := rows.Values(); len(v) > 0 && v[0] != standby && rows.FieldDescriptions()[0].Name == "pg_is_in_recovery" {
					t.Errorf("%v: on a standby: %v: %s", mode, v[0], sql)
				}
			}
			if rows.Err() != nil {
				t.Errorf("%v: %s: %v", mode, sql, rows.Err())
			}
			if n := shared.statements(scrape(t).since(before), shared.servers.Primary().Name(), ""); (n == 0) != standby {
				t.Errorf("%v: %v statements on the primary: %s", mode, n, sql)
			}
			_ = c.Close(t.Context())
		}
	}
}
