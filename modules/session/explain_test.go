package session

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestExplainRouteSaysWhereAStatementWouldRun(t *testing.T) {
	p := startProxy(t, pg, nil)
	maker := p.connect(t, "")
	table(t, p, maker, "explained", "a int")
	exec(t, maker, "create or replace function explained_writes() returns int language sql volatile as 'select 1'")
	exec(t, maker, "create or replace view explained_view as select explained_writes() from explained")
	if err := pg.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.waitCatalog(t)
	conn := p.connect(t, "")
	for _, c := range []struct{ sql, first, has string }{
		{"select * from explained", "(replica), because of read", "Relations: explained"},
		{"insert into explained values (1)", "Runs on: pg1 (primary), because of write", "Class: write"},
		{"select explained_writes()", "Runs on: pg1 (primary), because of function", "Schema: function explained_writes"},
		{"select * from explained_view", "Runs on: pg1 (primary), because of relation", "Schema: relation explained_view"},
		{"/* route: primary */ select * from explained", "Runs on: pg1 (primary), because of route", "Hint: primary"},
		{"select pg_advisory_lock(1)", "Runs on: pg1 (primary), because of session_state", "Holds the server connection for: advisorylock"},
		{"select * from", "Runs on: pg1 (primary), because of unknown", "Class: unknown"},
	} {
		for _, mode := range protocols {
			lines, err := explained(t, conn, "EXPLAIN ( route )\n"+c.sql, mode)
			if err != nil {
				t.Fatalf("%s: %v", c.sql, err)
			}
			if !strings.Contains(lines[0], c.first) || !strings.Contains(strings.Join(lines, "\n"), c.has) {
				t.Errorf("%s (%v):\n%s", c.sql, mode, strings.Join(lines, "\n"))
			}
			if n := strings.Count(strings.Join(lines, "\n"), "Candidate: "); n != 3 {
				t.Errorf("%s: %d candidates", c.sql, n)
			}
		}
	}
	if n := value[int](t, conn, "select count(*) from explained"); n != 0 {
		t.Errorf("explaining has inserted %d rows", n)
	}
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if lines, err := explained(t, tx.Conn(), "explain (route) select 1", pgx.QueryExecModeSimpleProtocol); err != nil || !strings.Contains(lines[0], "transaction") {
		t.Errorf("in a transaction: %q, %v", lines, err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func explained(t *testing.T, c *pgx.Conn, sql string, mode pgx.QueryExecMode) ([]string, error) {
	rows, err := c.Query(t.Context(), sql, mode)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
