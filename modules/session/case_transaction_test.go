package session

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fairwaydb/fairway/modules/cluster"
)

// caseTransaction is a transaction, and where each of its statements that read caseWhere ran.
type caseTransaction struct {
	name  string
	steps []string
	want  string // of the steps that ask: primary, replica, the SQLSTATE of an error
	one   bool   // all that ask are answered by one server process
}

// caseWhere asks for the place beside a table of the user.
const caseWhere = "select case when pg_is_in_recovery() then 'replica' else 'primary' end || ' ' || pg_backend_pid() from ct"

var caseTransactions = []caseTransaction{
	{"A7_BEGIN", []string{"begin", caseWhere, caseWhere, "commit"}, "primary primary", true},
	{"A7_BEGIN_READ_WRITE", []string{"begin read write", caseWhere, caseWhere, "commit"}, "primary primary", true},
	{"A7_BEGIN_READ_ONLY", []string{"begin read only", caseWhere, caseWhere, caseWhere, "commit"}, "replica replica replica", true},
	{"A7_START_TRANSACTION_READ_ONLY", []string{"start transaction isolation level repeatable read, read only", caseWhere, caseWhere, "commit"}, "replica replica", true},
	{"A7_SET_TRANSACTION_READ_ONLY_first", []string{"begin", "set transaction read only", caseWhere, caseWhere, "commit"}, "replica replica", true},
	{"A7_SET_TRANSACTION_READ_ONLY_late", []string{"begin", caseWhere, "set transaction read only", caseWhere, "commit"}, "primary primary", true},
	{"A7_default_transaction_read_only", []string{"set default_transaction_read_only = on", "begin", caseWhere, caseWhere, "commit", caseWhere}, "replica replica replica", false},
	{"A7_default_read_only_and_READ_WRITE", []string{"set default_transaction_read_only = on", "begin read write", caseWhere, "commit"}, "primary", true},
	{"A7_behind_SAVEPOINT_and_SET", []string{"begin read only", "savepoint s", "set local work_mem = '8MB'", caseWhere, "release s", caseWhere, "commit"}, "replica replica", true},
	{"A7_first_statement_no_plain_read", []string{"begin read only", "select pg_is_in_recovery()", caseWhere, "commit"}, "primary", true},
	{"A7_first_statement_in_doubt", []string{"begin read only", "select ct_vol()", caseWhere, "commit"}, "primary", true},
	{"A7_SERIALIZABLE_READ_ONLY", []string{"begin isolation level serializable read only", caseWhere, caseWhere, "commit"}, "primary primary", true},
	{"A7_SERIALIZABLE_by_default", []string{"set default_transaction_isolation = serializable", "begin read only", caseWhere, "commit"}, "primary", true},
	{"A7_a_write_in_READ_ONLY", []string{"begin read only", caseWhere, "insert into ct values (2)", caseWhere, "rollback", caseWhere}, "replica 25006 25P02 replica", false},
	{"A7_a_write_first_in_READ_ONLY", []string{"begin read only", "insert into ct values (2)", "rollback"}, "25006", false},
	{"A7_an_advisory_lock_on_a_replica", []string{"begin read only", caseWhere, "select pg_advisory_lock(616)", "rollback"}, "replica 0A000", false},
	{"A7_a_transaction_id_on_a_replica", []string{"begin read only", caseWhere, "select txid_current()", "rollback"}, "replica 0A000", false},
	{"A7_LISTEN_on_a_replica", []string{"begin read only", caseWhere, "listen ct", "rollback"}, "replica 0A000", false},
	{"A7_a_lock_first_goes_to_the_primary", []string{"begin read only", "select pg_advisory_xact_lock(616)", caseWhere, "commit"}, "primary", true},
	{"A7_SERIALIZABLE_by_default_and_another_level", []string{"set default_transaction_isolation = serializable", "begin isolation level repeatable read read only", caseWhere, "commit"}, "replica", true},
	{"A7_SERIALIZABLE_by_default_and_a_later_level", []string{"set default_transaction_isolation = serializable", "begin", "set transaction isolation level repeatable read, read only", caseWhere, "commit"}, "primary", true},
	{"A7_SERIALIZABLE_by_default_outside", []string{"set default_transaction_isolation = serializable", caseWhere, caseWhere}, "primary primary", false},
	{"A7_empty_transactions", []string{"begin", "commit", "begin read only", "rollback", caseWhere}, "replica", true},
	{"A7_AND_CHAIN_stays", []string{"begin read only", caseWhere, "commit and chain", caseWhere, "commit"}, "replica replica", true},
	{"A7_a_failed_statement_and_a_savepoint", []string{"begin read only", "savepoint s", "select 1/0 from ct", "rollback to s", caseWhere, "commit"}, "22012 replica", false},
}

func TestCasesOfTransactions(t *testing.T) {
	if err := pg.Primary().Exec(t.Context(), `drop table if exists ct; create table ct (a int); insert into ct values (1);
		create or replace function ct_vol() returns int language sql volatile as 'select 1'`); err != nil {
		t.Fatal(err)
	}
	if err := pg.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	px := startProxy(t, pg, nil)
	for i := range caseTransactions {
		c := &caseTransactions[i]
		for _, extended := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/extended %v", c.name, extended), func(t *testing.T) {
				a := dialPeer(t, px.addr)
				var got []string
				pids := make(map[string]bool)
				for _, sql := range c.steps {
					said := a.ask(extended, sql)
					place, pid, _ := strings.Cut(said, " ")
					switch {
					case sql == caseWhere && pid != "":
						pids[pid] = true
						got = append(got, place)
					case len(said) == 5 && strings.Trim(said, "0123456789AP") == "":
						got = append(got, said)
					}
				}
				if strings.Join(got, " ") != c.want || c.one && len(pids) != 1 {
					t.Errorf("ran %q by %d processes, want %q", got, len(pids), c.want)
				}
			})
		}
	}
}

// TestATransactionOnAReplicaSaysHowToReachThePrimary: the error is ours, with the remedy, and fails the transaction.
func TestATransactionOnAReplicaSaysHowToReachThePrimary(t *testing.T) {
	px := startProxy(t, pg, nil)
	table(t, px, px.connect(t, ""), "ct_hint", "a int")
	c := px.connect(t, "") // without writes of its own
	if _, err := c.Prepare(t.Context(), "kept", "select pg_advisory_lock(617)"); err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{"select pg_advisory_lock(617)", "kept", "listen ct_hint", "notify ct_hint"} {
		exec(t, c, "begin read only")
		exec(t, c, "select * from ct_hint")
		_, err := c.Exec(t.Context(), statement)
		sqlstate(t, err, "0A000")
		var e *pgconn.PgError
		if !errors.As(err, &e) || !strings.Contains(e.Hint, "primary") {
			t.Errorf("%s: the hint is %+v", statement, e)
		}
		exec(t, c, "rollback")
	}
}

// TestASnapshotIsSetWhereItWasExported: as pg_dump does with several jobs.
func TestASnapshotIsSetWhereItWasExported(t *testing.T) {
	px := startProxy(t, pg, nil)
	a := px.connect(t, "")
	table(t, px, a, "ct_snap", "a int")
	exec(t, a, "begin isolation level repeatable read read only")
	snapshot := value[string](t, a, "select pg_export_snapshot()")
	exec(t, px.connect(t, ""), "insert into ct_snap values (1)")
	for _, begin := range []string{"begin isolation level repeatable read read only", "begin isolation level repeatable read"} {
		b := px.connect(t, "")
		exec(t, b, begin)
		exec(t, b, "set transaction snapshot '"+snapshot+"'")
		if n := value[int](t, b, "select count(*) from ct_snap"); n != 0 {
			t.Errorf("%s: the snapshot shows %d rows", begin, n)
		}
		exec(t, b, "commit")
	}
	exec(t, a, "commit")
}

// TestAnEmptyTransactionTouchesNoServer: BEGIN and COMMIT alone are answered while no server connection can be had.
func TestAnEmptyTransactionTouchesNoServer(t *testing.T) {
	px := startProxy(t, pg, func(c *cluster.Config, _ *Options) { c.Pool = &cluster.PoolConfig{Size: 1} })
	idle := dialPeer(t, px.addr)
	holder := px.connect(t, "")
	exec(t, holder, "begin")
	exec(t, holder, "select 1")
	for _, extended := range []bool{false, true} {
		for _, sql := range []string{"begin", "commit", "start transaction read only", "rollback"} {
			began := time.Now()
			if got := idle.ask(extended, sql); len(got) == 5 && got[0] == '5' || time.Since(began) > 2*time.Second {
				t.Errorf("%s: %s after %v", sql, got, time.Since(began))
			}
		}
	}
	exec(t, holder, "commit")
}

// TestCasesOfSizes: what is as large as the protocol allows is answered as by one server.
func TestCasesOfSizes(t *testing.T) {
	px := startProxy(t, pg, nil)
	columns, parameters, values := make([]string, 1664), make([]string, 65536), make([]string, 65536)
	for i := range columns {
		columns[i] = fmt.Sprintf("%d as c%d", i, i)
	}
	for i := range parameters {
		parameters[i], values[i] = fmt.Sprintf("$%d", i+1), "7"
	}
	parameters[0] = "$1::int"
	array := func(n int) string {
		return "P - select cardinality(array[" + strings.Join(parameters[:n], ",") + "])\nB - - " + strings.Join(values[:min(n, 65535)], " ") + "\nE - 0\nS"
	}
	for name, script := range map[string]string{
		"1600 columns":     "Q select " + strings.Join(columns[:1600], ", "),
		"1664 columns":     "P - select " + strings.Join(columns, ", ") + "\nB - -\nD P -\nE - 0\nS",
		"1665 columns":     "Q select " + strings.Join(columns, ", ") + ", 1",
		"65535 parameters": array(65535),
		"65536 parameters": array(65536),
		"a long name":      "P " + strings.Repeat("n", 3000) + " select 1\nB - " + strings.Repeat("n", 3000) + "\nE - 0\nS",
	} {
		t.Run(name, func(t *testing.T) { same(t, px, "", script) })
	}
}
