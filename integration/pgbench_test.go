package integration_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"
)

// poolSize is the default of the option pool size.
const poolSize = 20

var (
	benchModes   = []string{"simple", "extended", "prepared"}
	benchClients = []int{1, 32, 200}
)

// TestPgbenchReadsRunOnTheReplicas runs pgbench -S: nothing fails, both replicas work, and no pool grows beyond its size.
func TestPgbenchReadsRunOnTheReplicas(t *testing.T) {
	s := serve(t, "pgbench_reads", shared.servers, nil) // what other tests have done to the health of backends is not its own
	s.endIdle(t, benchRole)
	s.initBench(t)
	for _, mode := range benchModes {
		for _, clients := range benchClients {
			t.Run(fmt.Sprintf("%s, %d clients", mode, clients), func(t *testing.T) {
				watch, before := s.watchActivity(t, benchRole), scrape(t)
				r := s.startBench(t, "-S", "-M", mode, "-c", strconv.Itoa(clients), "-T", benchSeconds()).wait(t)
				s.checkConnections(t, watch)
				shares, reads := s.shares(scrape(t).since(before))
				if reads < float64(r.processed) {
					t.Errorf("%v reads counted for %d transactions", reads, r.processed)
				}
				least, most := shareLimits()
				for _, name := range s.replicas() {
					if share := shares[name]; share < least || share > most {
						t.Errorf("%s served %.1f %% of the reads: %v", name, 100*share, shares)
					}
				}
				t.Logf("%d transactions, shares %.3v", r.processed, shares)
			})
		}
	}
}

// shareLimits are the parts of the reads that each of two equal replicas must get. In a few seconds on a busy machine one of them may
// well be the slower one most of the time, and rightly gets less.
func shareLimits() (least, most float64) {
	if benchTime < 30*time.Second {
		return .15, .85
	}
	return .35, .65
}

// endIdle ends all server connections of a role: those that pools of other sites keep would be counted, too.
func (s *site) endIdle(t testing.TB, role string) {
	t.Helper()
	for _, n := range s.servers.Nodes() {
		if _, err := n.Query(t.Context(), "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = '"+role+"'"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPgbenchWritesRunOnThePrimaryOnce runs TPC-B-like transactions: nothing fails, replicas get no write, and in the end
// each transaction that pgbench counted is in the tables exactly once.
func TestPgbenchWritesRunOnThePrimaryOnce(t *testing.T) {
	shared.initBench(t)
	var processed int64
	for _, mode := range benchModes {
		for _, clients := range benchClients {
			t.Run(fmt.Sprintf("%s, %d clients", mode, clients), func(t *testing.T) {
				watch, before := shared.watchActivity(t, benchRole), scrape(t)
				r := shared.startBench(t, "-M", mode, "-c", strconv.Itoa(clients), "-T", benchSeconds()).wait(t)
				processed += r.processed
				shared.checkConnections(t, watch)
				grown := scrape(t).since(before)
				for _, name := range shared.replicas() {
					for _, class := range []string{"write", "transaction", "unknown", "ddl"} {
						if n := shared.statements(grown, name, class); n != 0 {
							t.Errorf("%s got %v statements of class %s", name, n, class)
						}
					}
				}
				primary := shared.servers.Primary().Name()
				if n, want := shared.statements(grown, primary, "write"), 4*r.processed; n < float64(want) {
					t.Errorf("%v writes on the primary for %d transactions", n, r.processed)
				}
				t.Logf("%d transactions", r.processed)
			})
		}
	}
	shared.checkBalance(t, processed)
}

// checkConnections fails the test if there were ever more server connections than the pool's size.
func (s *site) checkConnections(t testing.TB, a *activity) {
	t.Helper()
	used := 0
	for server, most := range a.highest(t) {
		used += most
		if most > poolSize {
			t.Errorf("%s had %d server connections, the pool has %d", server, most, poolSize)
		}
	}
	if used == 0 {
		t.Error("no server connection was seen")
	}
}

// checkBalance compares the sums of pgbench's tables with each other and with the number of transactions, on the primary
// and, once they have caught up, on the replicas.
func (s *site) checkBalance(t testing.TB, transactions int64) {
	t.Helper()
	if err := s.servers.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, n := range s.servers.Nodes() {
		rows, err := n.QueryIn(t.Context(), benchRole, `SELECT (SELECT sum(abalance) FROM pgbench_accounts),
			(SELECT sum(tbalance) FROM pgbench_tellers), (SELECT sum(bbalance) FROM pgbench_branches),
			coalesce(sum(delta), 0), count(*) FROM pgbench_history`)
		if err != nil {
			t.Fatal(err)
		}
		row := rows[0]
		if row[0] != row[1] || row[1] != row[2] || row[2] != row[3] {
			t.Errorf("%s: accounts %s, tellers %s, branches %s, history %s", n.Name(), row[0], row[1], row[2], row[3])
		}
		if row[4] != strconv.FormatInt(transactions, 10) {
			t.Errorf("%s: %s rows of history for %d transactions", n.Name(), row[4], transactions)
		}
	}
}

// TestPgbenchReconnects opens a session for each transaction, which leaves nothing behind.
func TestPgbenchReconnects(t *testing.T) {
	shared.initBench(t)
	before := scrape(t)
	r := shared.startBench(t, "-S", "-C", "-c", "8", "-T", benchSeconds()).wait(t)
	grown := scrape(t).since(before)
	if n := grown.sum("caddy_postgres_logins_total", "cluster="+shared.name, "result=ok"); n < float64(r.processed) {
		t.Errorf("%v logins for %d transactions", n, r.processed)
	}
	await(t, 5*time.Second, "all sessions have ended", func() (string, bool) {
		n := scrape(t).sum("caddy_postgres_sessions", "cluster="+shared.name)
		return fmt.Sprintf("%v sessions", n), n == 0
	})
}
