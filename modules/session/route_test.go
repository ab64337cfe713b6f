package session

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgtest"
	"github.com/fairwaydb/fairway/modules/pgwire"
	"github.com/fairwaydb/fairway/modules/routing"
)

// readOnly makes a proxy a port whose statements run on replicas.
func readOnly(_ *cluster.Config, o *Options) { o.Route = routing.TargetReplica }

// What a standby refuses, a read-only port refuses in the same words.
func TestAReadOnlyPortSaysWhatAStandbySays(t *testing.T) {
	setup := p0(t)
	exec(t, setup, "drop table if exists on_replica")
	exec(t, setup, "create table on_replica (a int); insert into on_replica values (1); create sequence if not exists on_replica_seq")
	if err := pg.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := startProxy(t, pg, readOnly)
	for _, script := range []string{
		"Q select * from on_replica", "Q insert into on_replica values (2)", "Q update on_replica set a = 3", "Q create temp table t (a int)",
		"Q create table nothing_such (a int)", "Q select * from on_replica for update", "Q select nextval('on_replica_seq')", "Q listen on_replica",
		"Q notify on_replica", "Q select pg_is_in_recovery()", "Q show transaction_read_only", "Q show default_transaction_read_only",
		"Q show in_hot_standby", "Q select txid_current()", "Q vacuum on_replica",
		"Q begin\nQ select a from on_replica\nQ insert into on_replica values (2)\nQ select 1\nQ rollback",
		"Q set transaction read write", "Q truncate on_replica", "Q lock table on_replica",
		"Q copy on_replica from stdin", "Q copy on_replica to stdout", "Q select 1; delete from on_replica; select 2",
		"P - insert into on_replica values (1)\\\nB - -\\\nE - 0\\\nS", "P - select a from on_replica\\\nB - -\\\nE - 0\\\nS",
		"Q prepare transaction 'x'", "Q set work_mem = '3MB'\nQ show work_mem", "Q do $$ begin delete from on_replica; end $$",
		"Q select pg_advisory_lock(5)\nQ select pg_advisory_unlock(5)", "Q declare c cursor with hold for select 1\nQ fetch c",
	} {
		sameAt(t, pg.Replicas()[0].Addr(), p, "", script)
	}
	want := greet(t, pg.Replicas()[0].Addr(), pgwire.Version30, param()...)
	if got := greet(t, p.addr, pgwire.Version30, param()...); got.String() != want.String() {
		t.Errorf("greeted with\n%s, not\n%s", got, want)
	}
}

// p0 is a connection to the primary itself.
func p0(t *testing.T) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), pg.ConnString(pg.Primary(), "postgres", "postgres")+" sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(t.Context()) })
	return c
}

func TestDriversFindTheirServerAmongSeveral(t *testing.T) {
	auto, replica := startProxy(t, pg, nil), startProxy(t, pg, readOnly)
	primary := startProxy(t, pg, func(_ *cluster.Config, o *Options) { o.Route = routing.TargetPrimary })
	for _, tt := range []struct {
		first, second *proxy
		attributes    string
		standby       bool
	}{
		{auto, replica, "read-write", false},
		{replica, auto, "read-write", false},
		{replica, primary, "primary", false},
		{auto, replica, "read-only", true},
		{replica, auto, "read-only", true},
		{primary, replica, "standby", true},
		{auto, replica, "prefer-standby", true},
		{auto, primary, "prefer-standby", false},
	} {
		host1, port1, _ := net.SplitHostPort(tt.first.addr)
		host2, port2, _ := net.SplitHostPort(tt.second.addr)
		c, err := pgx.Connect(t.Context(), fmt.Sprintf("host=%s,%s port=%s,%s user=postgres dbname=postgres sslmode=disable target_session_attrs=%s",
			host1, host2, port1, port2, tt.attributes))
		if err != nil {
			t.Fatalf("%s: %v", tt.attributes, err)
		}
		if got := value[bool](t, c, "select pg_is_in_recovery()"); got != tt.standby {
			t.Errorf("%s: on a standby %v", tt.attributes, got)
		}
		_ = c.Close(t.Context())
	}
}

func TestAPortForThePrimaryReadsThere(t *testing.T) {
	p := startProxy(t, pg, func(_ *cluster.Config, o *Options) { o.Route = routing.TargetPrimary })
	c := p.connect(t, "")
	table(t, p, c, "on_primary", "a int")
	for _, sql := range []string{"select pg_is_in_recovery() from (select count(*) from on_primary) c", "select pg_is_in_recovery()"} {
		if value[bool](t, c, sql) {
			t.Errorf("%s ran on a replica", sql)
		}
	}
	exec(t, c, "begin read only")
	if value[bool](t, c, "select pg_is_in_recovery() from (select count(*) from on_primary) c") {
		t.Error("a READ ONLY transaction ran on a replica")
	}
	exec(t, c, "commit")
}

func TestAReadOnlyPortWithoutReplicas(t *testing.T) {
	alone, err := pgtest.Start(t.Context(), pgtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p := startProxy(t, alone, readOnly)
	c := p.connect(t, "")
	if got := value[int](t, c, "select 41 + 1"); got != 42 {
		t.Errorf("a read gave %d", got)
	}
	_, err = c.Exec(t.Context(), "create table nothing (a int)")
	sqlstate(t, err, "57P03")
	exec(t, c, "begin read only")
	if got := value[string](t, c, "select 'read'"); got != "read" {
		t.Errorf("got %s", got)
	}
	_, err = c.Exec(t.Context(), "create table nothing (a int)")
	sqlstate(t, err, "25006")
	exec(t, c, "rollback")

	whole := startProxy(t, alone, func(config *cluster.Config, o *Options) {
		readOnly(config, o)
		wholeSessions(config, o)
	})
	_, err = whole.connect(t, "").Exec(t.Context(), "select 1")
	sqlstate(t, err, "57P03")
}

func TestASessionModeClientOfAReadOnlyPortStaysOnOneReplica(t *testing.T) {
	p := startProxy(t, pg, func(config *cluster.Config, o *Options) {
		readOnly(config, o)
		wholeSessions(config, o)
	})
	c := p.connect(t, "")
	pid := value[int](t, c, "select pg_backend_pid()")
	exec(t, c, "prepare q as select 5")
	_, err := c.Exec(t.Context(), "create temp table t (a int)")
	sqlstate(t, err, "25006")
	if got := value[int](t, c, "execute q", pgx.QueryExecModeSimpleProtocol); got != 5 {
		t.Errorf("execute gave %d", got)
	}
	if !value[bool](t, c, "select pg_is_in_recovery()") || value[int](t, c, "select pg_backend_pid()") != pid {
		t.Error("the session moved")
	}
	if in := c.PgConn().ParameterStatus("in_hot_standby"); !strings.EqualFold(in, "on") {
		t.Errorf("in_hot_standby is reported as %q", in)
	}
}
