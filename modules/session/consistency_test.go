package session

import (
	"context"
	"testing"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgtest"
)

func TestASessionReadsItsOwnWritesAndNothingOlder(t *testing.T) {
	p := startProxy(t, pg, nil)
	maker := p.connect(t, "")
	table(t, p, maker, "own_writes", "a int")
	exec(t, maker, "create or replace function own_write(int) returns int language sql volatile as 'insert into own_writes values ($1) returning a'")
	if err := pg.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.waitCatalog(t)
	for _, tt := range []struct {
		name    string
		writes  []string
		rows    int // more than before; of those that the session must see
		standby bool
	}{
		{"nothing", nil, 0, true},
		{"a statement", []string{"insert into own_writes values (1)"}, 1, false},
		{"a function", []string{"select own_write(1)"}, 1, false},
		{"a write in SELECT's clothing", []string{"with x as (insert into own_writes values (1) returning a) select * from x"}, 1, false},
		{"a transaction", []string{"begin", "insert into own_writes values (1)", "commit"}, 1, false},
		{"a transaction that was rolled back", []string{"begin", "insert into own_writes values (1)", "rollback"}, 0, true},
		{"one that failed", []string{"begin", "insert into own_writes values (1)", "-select 1/0", "commit"}, 0, true},
		{"one whose savepoint was kept", []string{"begin", "savepoint a", "insert into own_writes values (1)", "release a", "commit"}, 1, false},
		{"one before one that was rolled back", []string{"insert into own_writes values (1)", "begin", "insert into own_writes values (1)", "rollback"}, 1, false},
	} {
		for _, mode := range protocols {
			t.Run(tt.name+" "+mode.String(), func(t *testing.T) {
				c, other := p.connect(t, ""), p.connect(t, "")
				if err := pg.WaitCaughtUp(t.Context()); err != nil {
					t.Fatal(err)
				}
				before, _ := where(t, other, "own_writes", mode)
				thaw := freeze(t)
				for _, sql := range tt.writes {
					if sql[0] == '-' {
						if _, err := c.Exec(t.Context(), sql[1:], mode); err == nil {
							t.Fatalf("%s did not fail", sql)
						}
						continue
					}
					exec(t, c, sql, mode)
				}
				for range 5 {
					rows, standby := where(t, c, "own_writes", mode)
					if rows != before+tt.rows || standby != tt.standby {
						t.Errorf("the session sees %d rows more on a standby %v", rows-before, standby)
					}
				}
				if rows, standby := where(t, other, "own_writes", mode); rows != before || !standby {
					t.Errorf("another one sees %d rows more on a standby %v", rows-before, standby)
				}
				thaw()
				until(t, "a replica serves the session", func() bool {
					rows, standby := where(t, c, "own_writes", mode)
					if rows != before+tt.rows {
						t.Fatalf("%d rows more, on a standby %v", rows-before, standby)
					}
					return standby
				})
			})
		}
	}
}

func TestAWriteWhoseOutcomeIsUnknownCounts(t *testing.T) {
	p := startProxy(t, pg, nil)
	maker := p.connect(t, "")
	table(t, p, maker, "unknown_outcome", "a int")
	c := p.connect(t, "")
	if _, standby := where(t, c, "unknown_outcome"); !standby {
		t.Fatal("a read ran on the primary")
	}
	freeze(t)
	exec(t, maker, "insert into unknown_outcome values (0)") // else the replicas have everything there is
	failed := make(chan error, 1)
	go func() {
		_, err := c.Exec(context.WithoutCancel(t.Context()), "insert into unknown_outcome select 1 from (select pg_sleep(60)) s")
		failed <- err
	}()
	until(t, "the write was shot down", func() bool {
		n, err := pg.Primary().Value(t.Context(), "select count(pg_terminate_backend(pid)) from pg_stat_activity where query like 'insert into unknown_outcome%' and state = 'active'")
		return err == nil && n != "0"
	})
	if err := <-failed; stateIn(err) != "08006" && stateIn(err) != "57P01" {
		t.Fatalf("the write ended with %v", err)
	}
	if _, standby := where(t, c, "unknown_outcome"); standby {
		t.Error("a read that may miss the write ran on a replica")
	}
}

func TestAStrongReadMissesNothingThatAnybodyCommitted(t *testing.T) {
	p := startProxy(t, pg, func(c *cluster.Config, _ *Options) { c.Consistency = "strong" })
	writer, reader := p.connect(t, ""), p.connect(t, "")
	table(t, p, writer, "strong_reads", "a int")
	freeze(t)
	for i := range 10 {
		exec(t, writer, "insert into strong_reads values (1)")
		for _, mode := range protocols {
			if rows, standby := where(t, reader, "strong_reads", mode); rows != i+1 || standby {
				t.Fatalf("after %d commits: %d rows, on a standby %v", i+1, rows, standby)
			}
			exec(t, reader, "begin read only")
			if rows, standby := where(t, reader, "strong_reads", mode); rows != i+1 || standby {
				t.Fatalf("in a transaction after %d commits: %d rows, on a standby %v", i+1, rows, standby)
			}
			exec(t, reader, "commit")
		}
	}
	if rows, standby := where(t, p.connect(t, "fairway.consistency=session"), "strong_reads"); rows != 0 || !standby {
		t.Errorf("a session that asks for less sees %d rows, on a standby %v", rows, standby)
	}
}

// A primary shows a commit when it is done with it; a replica shows it as soon as its record has come. A strong read that saw it there
// would be unread by the next one on the primary.
func TestAStrongReadIsNeverUnread(t *testing.T) {
	servers, err := pgtest.Start(context.WithoutCancel(t.Context()), pgtest.Options{Replicas: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := servers.Close(); err != nil {
			t.Error(err)
		}
	})
	primary, replica := servers.Primary(), servers.Replicas()[0]
	p := startProxy(t, servers, nil)
	maker := p.connect(t, "")
	exec(t, maker, "create table unread (a int)")
	if err := servers.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{"alter system set synchronous_standby_names = 'nobody'", "select pg_reload_conf()"} {
		if err := primary.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "commits wait for a standby that is not there", func() bool {
		v, err := primary.Value(t.Context(), "show synchronous_standby_names")
		return err == nil && v == "nobody"
	})
	done := make(chan error, 1)
	go func() { done <- primary.Exec(context.WithoutCancel(t.Context()), "insert into unread values (1)") }()
	until(t, "the replica shows what the primary does not", func() bool {
		v, err := replica.Value(t.Context(), "select count(*) from unread")
		return err == nil && v == "1"
	})
	strong, eventual := p.connect(t, "fairway.consistency=strong"), p.connect(t, "fairway.consistency=eventual")
	if rows, standby := where(t, eventual, "unread"); rows != 1 || !standby {
		t.Errorf("an eventual read sees %d rows, on a standby %v", rows, standby)
	}
	for range 20 {
		if rows, standby := where(t, strong, "unread"); rows != 0 || standby {
			t.Fatalf("a strong read sees %d rows of a commit that is not done, on a standby %v", rows, standby)
		}
	}
	for _, sql := range []string{"alter system reset synchronous_standby_names", "select pg_reload_conf()"} {
		if err := primary.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if rows, _ := where(t, strong, "unread"); rows != 1 {
		t.Errorf("then a strong read sees %d rows", rows)
	}
}
