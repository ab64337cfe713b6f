package session

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgtest"
	"github.com/fairwaydb/fairway/modules/routing"
)

// toPrimary makes every session of a proxy use the only server connection to the primary.
func toPrimary(c *cluster.Config, o *Options) {
	c.Pool = &cluster.PoolConfig{Size: 1}
	o.Route = routing.TargetPrimary
}

// terminate ends the server process that runs a statement like the pattern, once it runs.
func terminate(t *testing.T, servers *pgtest.Cluster, pattern string) {
	t.Helper()
	for range 500 {
		for _, n := range servers.Nodes() {
			rows, err := n.Query(t.Context(), "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and state <> 'idle' and query like '"+pattern+"'")
			if err == nil && len(rows) > 0 {
				return
			}
		}
	}
	t.Fatalf("no statement like %s came to run", pattern)
}

func TestAReadWhoseServerConnectionDiesRunsAgain(t *testing.T) {
	for _, change := range []func(*cluster.Config, *Options){nil, toPrimary} {
		p := startProxy(t, pg, change)
		c := p.connect(t, "")
		table(t, p, c, "lossy", "a int")
		reader := p.connect(t, "")
		started := time.Now()
		done := make(chan error, 1)
		go func() {
			var n int
			done <- reader.QueryRow(context.Background(), "select count(*), pg_sleep(1) from lossy /* victim */").Scan(&n, nil)
		}()
		terminate(t, pg, "%pg_sleep(1) from lossy%victim%")
		if err := <-done; err != nil {
			t.Errorf("the client saw the loss: %v", err)
		}
		if d := time.Since(started); d > 8*time.Second {
			t.Errorf("it took %v", d)
		}
	}
}

func TestAWriteWhoseServerConnectionDiesIsNeverSentAgain(t *testing.T) {
	p := startProxy(t, pg, nil)
	c := p.connect(t, "")
	table(t, p, c, "once", "a int")
	writer := p.connect(t, "")
	done := make(chan error, 1)
	go func() {
		_, err := writer.Exec(context.Background(), "insert into once select 1 from (select pg_sleep(20)) x /* write */")
		done <- err
	}()
	terminate(t, pg, "%into once select%")
	err := <-done
	sqlstate(t, err, "08006")
	if n := value[int](t, writer, "select count(*) from once"); n != 0 {
		t.Errorf("%d rows", n)
	}
}

func TestATransactionWhoseServerConnectionDiesFailsUntilItsEnd(t *testing.T) {
	p := startProxy(t, pg, toPrimary)
	for _, c := range []struct{ name, first, next, want string }{
		{"a query", "Q begin; select 1", "Q select 2\nQ select 3\nQ rollback\nQ select 4", "08006 25P02 ROLLBACK SELECT"},
		{"COMMIT", "Q begin; select 1", "Q commit\nQ select 4", "08006 SELECT"},
		{"ROLLBACK", "Q begin; select 1", "Q rollback\nQ select 4", "ROLLBACK|08006 SELECT"},
		{"a batch", "Q begin; select 1", "P - select 1\nB - -\nE - 0\nS\nQ rollback\nQ select 4", "08006 ROLLBACK SELECT"},
		{"an open segment", "P - select 1\nB - -\nE - 0\nH", "S\nQ select 4", "08006 SELECT"},
		{"a pin", "Q select pg_advisory_lock(4711)", "Q select 2", "57P01 end"},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := dialPeer(t, p.addr)
			client.play(c.first, nil)
			if err := pg.Primary().Exec(t.Context(), "select pg_terminate_backend(pid, 5000) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend' and application_name not like 'fairway%'"); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, group := range client.play(c.next, nil) {
				for _, frame := range group {
					word := strings.Fields(frame)
					switch frame[0] {
					case 'E':
						if word[0] == "E" {
							got = append(got, word[2])
						} else {
							got = append(got, frame)
						}
					case 'C':
						tag, _ := strconv.Unquote(strings.TrimPrefix(frame, "C "))
						got = append(got, strings.Fields(strings.TrimRight(tag, "\x00"))[0])
					case 'e':
						got = append(got, "end")
					}
				}
			}
			have, ok := strings.Join(got, " "), false
			first, rest, _ := strings.Cut(c.want, " ")
			for _, f := range strings.Split(first, "|") {
				ok = ok || have == f+" "+rest
			}
			if !ok {
				t.Errorf("got %q, want %q", have, c.want)
			}
		})
	}
}

func TestAnOpenSegmentHearsOfTheLossBeforeItsSync(t *testing.T) {
	p := startProxy(t, pg, toPrimary)
	admin := p.connect(t, "")
	table(t, p, admin, "heard", "a int")
	client := dialPeer(t, p.addr)
	client.play("P - insert into heard values (1)\nB - -\nE - 0\nH", nil)
	terminateIdle := "select pg_terminate_backend(pid, 5000) from pg_stat_activity where pid <> pg_backend_pid() and query like '%into heard%'"
	if err := pg.Primary().Exec(t.Context(), terminateIdle); err != nil {
		t.Fatal(err)
	}
	// After a second the session listens to the connection it holds and hears that it is gone.
	typ, body := client.frame(10 * time.Second)
	if typ != 'E' {
		t.Fatalf("got %s", shown(typ, body))
	}
	if got := client.play("S\nQ select count(*) from heard", nil); len(got) != 2 || got[0][0] != `Z "I"` || got[1][1] != `D "\x00\x01\x00\x00\x00\x010"` {
		t.Errorf("got %q", got)
	}
}

func TestServersThatStop(t *testing.T) {
	servers, err := pgtest.Start(t.Context(), pgtest.Options{Replicas: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer servers.Close()
	p := startProxy(t, servers, nil)
	c := p.connect(t, "")
	exec(t, c, "create table stops (a int)")
	exec(t, c, "insert into stops values (1)")
	if err := servers.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	reader := p.connect(t, "")
	read := func(when string) {
		t.Helper()
		if n := value[int](t, reader, "select count(*) from stops"); n != 1 {
			t.Errorf("%s: %d rows", when, n)
		}
	}
	read("at first")
	if err := servers.Replicas()[0].Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	read("without the replica")
	if err := servers.Replicas()[0].Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.waitFit(t, 1)
	if err := servers.Primary().Stop(t.Context(), pgtest.Immediate); err != nil {
		t.Fatal(err)
	}
	read("without the primary")
	done := make(chan error, 1)
	go func() {
		_, err := c.Exec(context.Background(), "insert into stops values (2)")
		done <- err
	}()
	if err := servers.Primary().Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("a write that came while there was no primary: %v", err)
	}
	var n int
	if err := c.QueryRow(t.Context(), "select count(*) from stops", pgx.QueryExecModeSimpleProtocol).Scan(&n); err != nil || n != 2 {
		t.Errorf("%d rows, %v", n, err)
	}
}
