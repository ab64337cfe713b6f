package session

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func value[T any](t *testing.T, c *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := c.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func exec(t *testing.T, c *pgx.Conn, sql string, args ...any) pgconn.CommandTag {
	t.Helper()
	tag, err := c.Exec(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return tag
}

func sqlstate(t *testing.T, err error, want string) {
	t.Helper()
	var e *pgconn.PgError
	if !errors.As(err, &e) || e.Code != want {
		t.Fatalf("got error %v, want SQLSTATE %s", err, want)
	}
}

// table makes a table that all servers have.
func table(t *testing.T, p *proxy, c *pgx.Conn, name, columns string) {
	t.Helper()
	exec(t, c, "drop table if exists "+name)
	exec(t, c, "create table "+name+" ("+columns+")")
	if err := pg.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestReadsRunOnReplicasAndWritesOnThePrimary(t *testing.T) {
	p := startProxy(t, pg, nil)
	c := p.connect(t, "")
	table(t, p, c, "routed", "a int")
	exec(t, c, "insert into routed values (1)")
	if value[bool](t, c, "insert into routed values (2) returning pg_is_in_recovery()") {
		t.Error("an insert ran on a replica")
	}
	if err := pg.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	other := p.connect(t, "")
	if !value[bool](t, other, "select pg_is_in_recovery() from routed limit 1") {
		t.Error("a read of another session ran on the primary")
	}
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe,
	} {
		for range 20 {
			var standby bool
			var n int
			if err := other.QueryRow(t.Context(), "select pg_is_in_recovery(), count(*) from routed where a < $1", mode, 10).Scan(&standby, &n); err != nil {
				t.Fatalf("mode %v: %v", mode, err)
			}
			if !standby {
				t.Errorf("mode %v: ran on the primary", mode)
			}
		}
	}
}

func TestASessionReadsItsOwnWrites(t *testing.T) {
	p := startProxy(t, pg, nil)
	c := p.connect(t, "")
	table(t, p, c, "own", "a int")
	for i := range 300 {
		exec(t, c, "insert into own values ($1)", i)
		if n := value[int](t, c, "select count(*) from own"); n != i+1 {
			t.Fatalf("after %d inserts a read saw %d rows", i+1, n)
		}
	}
}

func TestTransactions(t *testing.T) {
	p := startProxy(t, pg, nil)
	c := p.connect(t, "")
	table(t, p, c, "tx", "a int")
	ctx := t.Context()

	tx, err := c.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var first, second, port int
	if err := tx.QueryRow(ctx, "select pg_backend_pid(), inet_server_port(), count(*) from tx").Scan(&first, &port, new(int)); err != nil {
		t.Fatal(err)
	}
	if port != pg.Primary().Port() {
		t.Errorf("a transaction ran on port %d, not on the primary", port)
	}
	if _, err := tx.Exec(ctx, "insert into tx values (1)"); err != nil {
		t.Fatal(err)
	}
	if err := tx.QueryRow(ctx, "select pg_backend_pid() from tx").Scan(&second); err != nil || first != second {
		t.Fatalf("the transaction moved from %d to %d (%v)", first, second, err)
	}
	if err := tx.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	if n := value[int](t, c, "select count(*) from tx"); n != 0 {
		t.Errorf("%d rows after a rollback", n)
	}

	ro, err := p.connect(t, "").BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		t.Fatal(err)
	}
	var standby bool
	if err := ro.QueryRow(ctx, "select pg_is_in_recovery(), count(*) from tx").Scan(&standby, new(int)); err != nil || !standby {
		t.Errorf("a READ ONLY transaction: on a standby %v, error %v", standby, err)
	}
	_, err = ro.Exec(ctx, "insert into tx values (1)")
	sqlstate(t, err, "25006")
	_, err = ro.Exec(ctx, "select 1")
	sqlstate(t, err, "25P02")
	if err := ro.Rollback(ctx); err != nil {
		t.Fatal(err)
	}

	for _, end := range []string{"commit", "rollback"} {
		if tag := exec(t, c, "begin"); tag.String() != "BEGIN" {
			t.Errorf("tag %s", tag)
		}
		if tag := exec(t, c, end); tag.String() != strings.ToUpper(end) {
			t.Errorf("tag %s after %s", tag, end)
		}
	}
	if s := c.PgConn().TxStatus(); s != 'I' {
		t.Errorf("status %c", s)
	}
}

func TestSettingsFollowTheSessionAndNobodyElse(t *testing.T) {
	p := startProxy(t, pg, nil)
	a, b := p.connect(t, "options='-c work_mem=7MB'"), p.connect(t, "")
	table(t, p, a, "sett", "a int")
	exec(t, a, "set search_path = pg_temp, public")
	exec(t, a, "set app.tenant = 'O''Brien \\ co'")
	for range 10 {
		if v := value[string](t, a, "select current_setting('app.tenant') from (select count(*) from sett) x"); v != `O'Brien \ co` {
			t.Fatalf("own setting is %q", v)
		}
		var v *string
		if err := b.QueryRow(t.Context(), "select current_setting('app.tenant', true) from (select count(*) from sett) x").Scan(&v); err != nil || v != nil && *v != "" {
			t.Fatalf("another session sees %v (%v)", v, err)
		}
	}
	if v := value[string](t, a, "select current_setting('work_mem') from (select count(*) from sett) x"); v != "7MB" {
		t.Errorf("startup option is %s", v)
	}
	exec(t, a, "set work_mem = '9MB'")
	exec(t, a, "reset work_mem")
	if v := value[string](t, a, "show work_mem"); v != "7MB" {
		t.Errorf("after RESET it is %s, not the startup packet's value", v)
	}
	exec(t, a, "begin")
	exec(t, a, "set app.tenant = 'two'")
	exec(t, a, "savepoint s")
	exec(t, a, "set app.tenant = 'three'")
	exec(t, a, "rollback to s")
	exec(t, a, "commit")
	if v := value[string](t, a, "select current_setting('app.tenant') from (select count(*) from sett) x"); v != "two" {
		t.Errorf("after a savepoint rollback it is %q", v)
	}
	exec(t, a, "begin")
	exec(t, a, "set app.tenant = 'four'")
	exec(t, a, "rollback")
	if v := value[string](t, a, "select current_setting('app.tenant')"); v != "two" {
		t.Errorf("after a rollback it is %q", v)
	}
	exec(t, a, "discard all")
	_ = a.DeallocateAll(t.Context()) // pgx's own cache does not know of DISCARD ALL
	if v := value[string](t, a, "show work_mem"); v != "7MB" {
		t.Errorf("after DISCARD ALL work_mem is %s", v)
	}
	_, err := a.Exec(t.Context(), "set nosuchthing = 1")
	sqlstate(t, err, "42704")
	_, err = pgx.Connect(t.Context(), "host=127.0.0.1 port="+p.addr[strings.LastIndexByte(p.addr, ':')+1:]+" user=postgres sslmode=disable nosuchthing=1")
	sqlstate(t, err, "42704")
}

func TestTemporaryTablesStayWithTheirSession(t *testing.T) {
	p := startProxy(t, pg, nil)
	a, b := p.connect(t, ""), p.connect(t, "")
	exec(t, a, "create temp table mine (a int)")
	exec(t, a, "insert into mine values (1)")
	if n := value[int](t, a, "select count(*) from mine"); n != 1 {
		t.Errorf("%d rows", n)
	}
	_, err := b.Exec(t.Context(), "select * from mine")
	sqlstate(t, err, "42P01")
}

func TestNotificationsArriveWhileIdle(t *testing.T) {
	p := startProxy(t, pg, nil)
	a, b := p.connect(t, ""), p.connect(t, "")
	exec(t, a, "listen ch")
	for i := range 3 {
		exec(t, b, "select pg_notify('ch', $1)", string(rune('a'+i)))
		n, err := a.WaitForNotification(t.Context())
		if err != nil || n.Payload != string(rune('a'+i)) {
			t.Fatalf("got %v, %v", n, err)
		}
	}
	if value[int](t, a, "select 1") != 1 {
		t.Error("the session does not go on")
	}
}

func TestCopyBothWays(t *testing.T) {
	p := startProxy(t, pg, nil)
	c := p.connect(t, "")
	table(t, p, c, "copied", "a int primary key, b text")
	rows := make([][]any, 20000)
	for i := range rows {
		rows[i] = []any{i, strings.Repeat("x", 50)}
	}
	n, err := c.CopyFrom(t.Context(), pgx.Identifier{"copied"}, []string{"a", "b"}, pgx.CopyFromRows(rows))
	if err != nil || n != int64(len(rows)) {
		t.Fatalf("copied %d: %v", n, err)
	}
	var out strings.Builder
	if _, err := c.PgConn().CopyTo(t.Context(), &out, "copy copied to stdout"); err != nil || strings.Count(out.String(), "\n") != len(rows) {
		t.Fatalf("copied %d lines out: %v", strings.Count(out.String(), "\n"), err)
	}
	_, err = c.PgConn().CopyFrom(t.Context(), strings.NewReader(strings.Repeat("1\tduplicate\n", 200000)), "copy copied from stdin")
	sqlstate(t, err, "23505")
	if value[int](t, c, "select count(*) from copied") != len(rows) {
		t.Error("a failed COPY left rows")
	}
}

func TestCancelEndsOnlyTheOwnStatement(t *testing.T) {
	p := startProxy(t, pg, nil)
	a := p.connect(t, "")
	exec(t, a, "select 1")
	done := make(chan error, 1)
	go func() {
		_, err := a.Exec(context.Background(), "select pg_sleep(30)")
		done <- err
	}()
	// The cancel is repeated until it finds the statement running.
	for {
		if err := a.PgConn().CancelRequest(t.Context()); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-done:
			sqlstate(t, err, "57014")
			if value[int](t, a, "select 1") != 1 {
				t.Error("the session does not go on")
			}
			return
		default:
		}
	}
}

func TestPipelinesAndBatches(t *testing.T) {
	p := startProxy(t, pg, nil)
	c := p.connect(t, "")
	table(t, p, c, "piped", "a int")
	b := &pgx.Batch{}
	for i := range 100 {
		b.Queue("insert into piped values ($1)", i)
		b.Queue("select count(*) from piped")
	}
	results := c.SendBatch(t.Context(), b)
	for i := range 100 {
		if _, err := results.Exec(); err != nil {
			t.Fatal(err)
		}
		var n int
		if err := results.QueryRow().Scan(&n); err != nil || n != i+1 {
			t.Fatalf("count %d after %d inserts: %v", n, i+1, err)
		}
	}
	if err := results.Close(); err != nil {
		t.Fatal(err)
	}
	// A large pipeline does not block both ways.
	pipe := c.PgConn().StartPipeline(t.Context())
	for range 3000 {
		pipe.SendQueryParams("select repeat('x', 10000)", nil, nil, nil, nil)
	}
	if err := pipe.Sync(); err != nil {
		t.Fatal(err)
	}
	got := 0
	for {
		r, err := pipe.GetResults()
		if err != nil {
			t.Fatal(err)
		}
		if rr, ok := r.(*pgconn.ResultReader); ok {
			if res := rr.Read(); res.Err != nil || len(res.Rows) != 1 {
				t.Fatal(res.Err)
			}
			got++
			continue
		}
		if _, ok := r.(*pgconn.PipelineSync); ok {
			break
		}
	}
	if err := pipe.Close(); err != nil || got != 3000 {
		t.Fatalf("%d results, %v", got, err)
	}
}
