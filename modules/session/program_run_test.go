package session

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgtest"
)

// Two databases with the same contents: in one every client is alone on a direct connection, the other is behind Fairway.
const (
	aloneDatabase  = "prop_alone"
	sharedDatabase = "prop_shared"
)

// clients is how many play at once; programServers how many connections a pool has for them.
const (
	clients        = 8
	programServers = 3
)

// programSchema is what all clients use.
const programSchema = `
create table prop_rows (who int, v int);
create table prop_none (a int, b text);
create schema prop_other;
create table prop_other.u (id int);
create table prop_other.t (id int);
insert into prop_other.t values (1), (2), (3);
create function prop_count(int) returns bigint stable language sql as 'select count(*) from public.prop_rows where who = $1';
create function prop_twice(int) returns int immutable language sql as 'select 2 * $1';
create function prop_insert(int, int) returns int language sql as 'insert into public.prop_rows values ($1, $2) returning v';
create function prop_set(text) returns text language plpgsql as $$ begin return set_config('app.x', $1, false); end $$;
create function prop_set_local(text) returns text language plpgsql as $$ begin return set_config('app.y', $1, true); end $$;
create function prop_within() returns text language plpgsql set work_mem = '99kB' as $$ begin return current_setting('work_mem'); end $$;
create function prop_lock(bigint) returns void language plpgsql as $$ begin perform pg_advisory_lock($1); end $$;
create function prop_temp() returns bigint language plpgsql as $$
  begin create temp table if not exists ftmp (a int); insert into ftmp values (1); return (select count(*) from ftmp); end $$;
create function prop_fail(text) returns int language plpgsql as $$ begin raise exception 'failed: %', $1 using errcode = 'P0042'; end $$;
create function prop_notice(text) returns int language plpgsql as $$ begin raise notice 'noted: %', $1; return 1; end $$;
create procedure prop_commits(int, int) language plpgsql as $$
  begin insert into public.prop_rows values ($1, $2); commit; insert into public.prop_rows values ($1, $2 + 1); rollback; end $$;
grant usage on schema prop_other to prop_reader;
grant select on all tables in schema prop_other to prop_reader;
grant select on prop_rows, prop_none to prop_reader;
grant all on prop_rows to prop_writer;
`

// ownSchema is what client %[1]d alone uses.
const ownSchema = `
drop schema if exists c%[1]d cascade;
create schema c%[1]d;
create table c%[1]d.t (id int primary key, v text);
create table c%[1]d.u (id int);
create table c%[1]d.r (id int);
create table c%[1]d.w (id serial, v text);
create sequence c%[1]d.s;
insert into c%[1]d.t values (1, 'one'), (2, 'two');
insert into c%[1]d.r values (1);
grant usage on schema c%[1]d to prop_reader, prop_writer;
grant select on all tables in schema c%[1]d to prop_reader;
grant all on c%[1]d.t to prop_writer;
`

// stage is where programs are played.
type stage struct {
	servers *pgtest.Cluster
}

// newStage makes the databases.
func newStage(t *testing.T, servers *pgtest.Cluster) *stage {
	t.Helper()
	run := func(database, sql string) {
		t.Helper()
		if err := servers.Primary().ExecIn(t.Context(), database, sql); err != nil {
			t.Fatal(err)
		}
	}
	roles := `do $$ begin
		if not exists (select from pg_roles where rolname = 'prop_reader') then create role prop_reader; create role prop_writer; end if; end $$`
	run("postgres", roles)
	for _, name := range []string{aloneDatabase, sharedDatabase} {
		run("postgres", "drop database if exists "+name+" with (force)")
		run("postgres", "create database "+name)
		run(name, programSchema)
	}
	t.Cleanup(func() {
		for _, name := range []string{aloneDatabase, sharedDatabase} {
			_ = servers.Primary().ExecIn(context.Background(), "postgres", "drop database if exists "+name+" with (force)") // t's context has ended
		}
	})
	if err := servers.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &stage{servers}
}

// proxy starts a Fairway with small pools: eight clients share three connections of each server, which know four prepared statements.
// A session may pin any of them: more would be refused with 53300 otherwise, as docs/errors.md says.
func (st *stage) proxy(t *testing.T) *proxy {
	t.Helper()
	return startProxy(t, st.servers, func(c *cluster.Config, _ *Options) {
		c.Pool = &cluster.PoolConfig{Size: programServers, MaxPinned: 1, StatementCache: 4, WaitTimeout: caddy.Duration(patience)}
		c.Monitor = &cluster.MonitorConfig{Timeout: caddy.Duration(patience), DownAfter: 10} // nothing is ever down, however busy the machine is
	})
}

// patience is how long an answer may take: seven others may hold the connections meanwhile.
const patience = 60 * time.Second

// compare plays each client's program alone and all of them at once through Fairway, and returns the first difference of each client.
func (st *stage) compare(ctx context.Context, p *proxy, programs []program) (differences []*mismatch, err error) {
	alone, errAlone := make([][]heard, len(programs)), error(nil)
	var direct sync.WaitGroup
	direct.Go(func() { errAlone = st.play(ctx, st.servers.Primary().Addr(), aloneDatabase, programs, alone) })
	here := make([][]heard, len(programs))
	err = st.play(ctx, p.addr, sharedDatabase, programs, here)
	direct.Wait()
	if err != nil || errAlone != nil {
		return nil, fmt.Errorf("prepare databases: %w, %w", err, errAlone)
	}
	for who := range programs {
		if m := compare(who, alone[who], here[who]); m != nil {
			differences = append(differences, m)
		}
	}
	return differences, nil
}

// play prepares a database and plays all programs at once. In the database of those who are alone nobody uses what another does.
func (st *stage) play(ctx context.Context, addr, database string, programs []program, answers [][]heard) error {
	sql := []string{"delete from prop_rows"}
	for who, p := range programs {
		if len(p) > 0 {
			sql = append(sql, fmt.Sprintf(ownSchema, who))
		}
	}
	if err := st.servers.Primary().ExecIn(ctx, database, "set client_min_messages = error; "+strings.Join(sql, ";")); err != nil {
		return fmt.Errorf("%s: %w", database, err)
	}
	var wg sync.WaitGroup
	for who, p := range programs {
		wg.Go(func() {
			a := &actor{addr: addr, database: database, patience: patience}
			answers[who] = a.play(p)
		})
	}
	wg.Wait()
	return nil
}

// shrinkTime bounds the search for a smaller counterexample.
const shrinkTime = 2 * time.Minute

// shrink leaves out clients and steps as long as a difference remains. It returns nil when the difference does not come again with
// new server connections.
func (st *stage) shrink(t *testing.T, programs []program) (smaller []program, last *mismatch) {
	t.Helper()
	until := time.Now().Add(shrinkTime)
	fails := func(candidate []program) bool {
		for range 3 {
			if time.Now().After(until) {
				return false
			}
			var found []*mismatch
			t.Run("try", func(t *testing.T) {
				var err error
				if found, err = st.compare(t.Context(), st.proxy(t), candidate); err != nil {
					t.Fatal(err)
				}
			})
			if len(found) > 0 {
				last = found[0]
				return true
			}
		}
		return false
	}
	if !fails(programs) {
		return nil, nil
	}
	smaller = append([]program(nil), programs...)
	for who := range smaller {
		without := append([]program(nil), smaller...)
		if without[who] = nil; len(smaller[who]) > 0 && fails(without) {
			smaller = without
		}
	}
	for who := range smaller {
		for size := len(smaller[who]) / 2; size > 0; size /= 2 {
			for at := len(smaller[who]) - size; at > 0; at -= size { // the first step begins the session
				without := append([]program(nil), smaller...)
				without[who] = append(append(program(nil), smaller[who][:at]...), smaller[who][at+size:]...)
				if fails(without) {
					smaller = without
				}
			}
		}
	}
	return smaller, last
}

// script writes programs down as they stand in the table of counterexamples.
func script(programs []program) string {
	var b strings.Builder
	for who, p := range programs {
		if len(p) > 0 {
			fmt.Fprintf(&b, "client %d:\n%s", who, p)
		}
	}
	return b.String()
}
