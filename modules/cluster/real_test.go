package cluster

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/fairwaydb/fairway/modules/pgauth"
	"github.com/fairwaydb/fairway/modules/pgtest"
	"github.com/fairwaydb/fairway/modules/pgwire"
	"github.com/fairwaydb/fairway/modules/pool"
)

// patience is how long a test waits for what must happen on a busy machine.
const patience = 60 * time.Second

// realServers starts a primary and a replica with SCRAM, once for the test.
func realServers(t *testing.T) *pgtest.Cluster {
	t.Helper()
	c, err := pgtest.Start(t.Context(), pgtest.Options{Replicas: 1, Auth: pgtest.AuthSCRAM})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, sql := range []string{
		"CREATE ROLE fairway LOGIN PASSWORD 'harbour'", "GRANT pg_monitor TO fairway",
		"CREATE ROLE alice LOGIN PASSWORD 'wonderland'", "CREATE TABLE t (a int)", "GRANT ALL ON t TO alice",
	} {
		if err := c.Primary().Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// over makes settings for real servers; our own account is the superuser unless change says otherwise.
func over(c *pgtest.Cluster, change ...func(*Settings)) *Settings {
	s := newSettings()
	for _, n := range c.Nodes() {
		s.Backends = append(s.Backends, Endpoint{Name: n.Name(), Address: n.Addr()})
	}
	s.login.user, s.login.secret.Password = c.Superuser(), c.Password()
	s.Monitor.Timeout = 20 * time.Second // the machine is shared
	for _, f := range change {
		f(s)
	}
	return s
}

// claimReal puts a cluster over real servers in force.
func claimReal(t *testing.T, s *Settings) *Cluster {
	t.Helper()
	logger := zap.NewNop()
	registry := NewRegistry(func() *zap.Logger { return logger })
	c := registry.Reference("real")
	claim := c.Claim(s)
	t.Cleanup(func() {
		claim.Release()
		c.Unreference()
	})
	return c
}

// await waits until the topology is as wanted.
func await(t *testing.T, c *Cluster, what string, ok func(*Topology) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		changed := c.Changed()
		if ok(c.Topology()) {
			return
		}
		select {
		case <-changed:
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			for _, m := range c.Topology().Members {
				t.Logf("%s: %+v", m.Backend.Name(), *m)
			}
			t.Fatalf("never: %s", what)
		}
	}
}

// serving tells whether there is a primary of that name and a replica fit to read.
func serving(primary string, fit int) func(*Topology) bool {
	return func(t *Topology) bool {
		n := 0
		for _, m := range t.Members {
			if m.Fit {
				n++
			}
		}
		return t.Primary != nil && t.Primary.Backend.Name() == primary && n == fit
	}
}

func TestRealServers(t *testing.T) {
	servers := realServers(t)
	t.Run("a role with pg_monitor suffices for the monitor", func(t *testing.T) {
		c := claimReal(t, over(servers, func(s *Settings) { s.login.user, s.login.secret.Password = "fairway", "harbour" }))
		await(t, c, "primary and replica", serving("pg1", 1))
		top := c.Topology()
		if p, r := top.Primary, top.Member("pg2"); p.Timeline != 1 || r.Timeline != 1 || p.SystemID == 0 || p.SystemID != r.SystemID {
			t.Errorf("primary %+v, replica %+v", *p, *r)
		}
	})
	t.Run("verifiers come from the servers and their keys log in", func(t *testing.T) { testRealAuth(t, servers) })
	t.Run("marks are passed by replay only", func(t *testing.T) { testRealMarks(t, servers) })
	t.Run("a restart is a new incarnation", func(t *testing.T) { testRealRestart(t, servers) })
	t.Run("a promotion makes another primary", func(t *testing.T) { testRealFailover(t, servers) })
}

func testRealAuth(t *testing.T, servers *pgtest.Cluster) {
	c := claimReal(t, over(servers))
	await(t, c, "primary and replica", serving("pg1", 1))
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if v, err := c.Credential(t.Context(), "alice"); v.Stored.IsZero() || err != nil {
				t.Errorf("verifier %v, error %v", v, err)
			}
			if v, err := c.Credential(t.Context(), "nobody"); !v.Stored.IsZero() || err != nil {
				t.Errorf("verifier of nobody: %v, error %v", v, err)
			}
		})
	}
	all.Wait()
	id := pool.Identity{User: "alice", Database: "postgres"}
	_, err := c.Topology().Primary.Backend.Acquire(t.Context(), id)
	if err == nil || IsFailure(err) {
		t.Errorf("without a secret: %v", err)
	}
	known, _ := c.Credential(t.Context(), "alice")
	c.SetSecret("alice", keysOf(t, "alice", "wonderland", known.Stored.SCRAM))
	for _, m := range c.Topology().Members {
		conn, err := m.Backend.Acquire(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if conn.Param("server_version") == "" || conn.PID() == 0 {
			t.Errorf("version %q, pid %d", conn.Param("server_version"), conn.PID())
		}
		conn.SetStatus('I')
		conn.Release()
	}
	testRealRotation(t, servers, c, id)
}

// testRealRotation changes the password: the old key is not accepted, and stays for who has not heard of it.
func testRealRotation(t *testing.T, servers *pgtest.Cluster, c *Cluster, id pool.Identity) {
	if err := servers.Primary().Exec(t.Context(), "ALTER ROLE alice PASSWORD 'looking glass'"); err != nil {
		t.Fatal(err)
	}
	b := c.Topology().Primary.Backend
	b.set.Retire()
	if _, err := b.Acquire(t.Context(), id); err == nil {
		t.Fatal("the old key still logs in")
	}
	if c.Secret("alice").IsZero() {
		t.Error("the old key is gone although a replica may still want it")
	}
	known, err := c.Credential(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	c.SetSecret("alice", keysOf(t, "alice", "looking glass", known.Stored.SCRAM))
	conn, err := b.Acquire(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if before := c.Secret("alice").Before; before == nil || before.Before != nil {
		t.Error("the keys of the password before are not beside the new ones")
	}
}

// keysOf plays a SCRAM exchange and returns the keys it reveals to the verifier's holder.
func keysOf(t *testing.T, user, password string, v *pgauth.Verifier) pgauth.Secret {
	t.Helper()
	conn := pgtest.Play(t, pgtest.Do("log in", func(p *pgtest.Peer) error {
		err := pgauth.Login(p.R, p.W, user, pgauth.Secret{Password: password}, pgauth.Channel{})
		if err != nil {
			return fmt.Errorf("log in: %w", err)
		}
		return nil
	}))
	r, w := pgwire.NewReader(conn, nil, 4096), pgwire.NewWriter(conn, 4096)
	secret, err := pgauth.AuthenticateSCRAM(r, w, user, v, pgauth.Terms{MockSeed: []byte("seed")})
	if err != nil {
		t.Fatal(err)
	}
	w.AuthenticationOK()
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return secret
}

func testRealMarks(t *testing.T, servers *pgtest.Cluster) {
	c := claimReal(t, over(servers))
	await(t, c, "primary and replica", serving("pg1", 1))
	replica, node := c.Topology().Member("pg2").Backend, servers.Node("pg2")
	write := func() Mark {
		if err := servers.Primary().Exec(t.Context(), "INSERT INTO t VALUES (1)"); err != nil {
			t.Fatal(err)
		}
		return Now()
	}
	caughtUp := func(mark Mark, exact bool) {
		t.Helper()
		began := time.Now()
		await(t, c, "replica has caught up", func(*Topology) bool {
			c.Demand()
			return replica.CaughtUp(mark, exact)
		})
		t.Logf("caught up after %v", time.Since(began))
	}
	caughtUp(write(), true)
	caughtUp(write(), false)
	if err := node.PauseReplay(t.Context()); err != nil {
		t.Fatal(err)
	}
	frozen := write()
	for range 20 {
		c.Demand()
		<-time.After(20 * time.Millisecond)
		if replica.CaughtUp(frozen, true) || replica.CaughtUp(frozen, false) {
			t.Fatal("a frozen replica has caught up")
		}
	}
	if err := node.ResumeReplay(t.Context()); err != nil {
		t.Fatal(err)
	}
	caughtUp(frozen, true)
	caughtUp(frozen, false)
}

func testRealRestart(t *testing.T, servers *pgtest.Cluster) {
	c := claimReal(t, over(servers))
	await(t, c, "primary and replica", serving("pg1", 1))
	life := c.Topology().Member("pg2").Incarnation
	replica := c.Topology().Member("pg2").Backend
	c.SetSecret(servers.Superuser(), pgauth.Secret{Password: servers.Password()})
	conn, err := replica.Acquire(t.Context(), pool.Identity{User: servers.Superuser(), Database: "postgres"})
	if err != nil {
		t.Fatal(err)
	}
	conn.SetStatus('I')
	if err := servers.Node("pg2").Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, c, "replica out", serving("pg1", 0))
	if err := servers.Node("pg2").Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, c, "replica back", serving("pg1", 1))
	conn.Release()
	if s := replica.Pools(); len(s) != 0 && s[0].Open != 0 {
		t.Errorf("a server connection of the life before is kept: %+v", s)
	}
	if m := c.Topology().Member("pg2"); m.Incarnation == life || m.State != StateRecovering {
		t.Errorf("incarnation %q was %q, state %v", m.Incarnation, life, m.State)
	}
}

func testRealFailover(t *testing.T, servers *pgtest.Cluster) {
	c := claimReal(t, over(servers))
	await(t, c, "primary and replica", serving("pg1", 1))
	if err := servers.Node("pg1").Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, c, "no primary, reads go on", func(top *Topology) bool { return top.Primary == nil && top.Member("pg2").Fit })
	if err := servers.Node("pg2").Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	promoted := time.Now()
	await(t, c, "new primary", serving("pg2", 0))
	if took := time.Since(promoted); took > time.Second {
		t.Errorf("the new primary was noticed after %v", took)
	}
	if p := c.Topology().Primary; p.Timeline != 2 {
		t.Errorf("timeline is %d", p.Timeline)
	}
	if err := servers.Node("pg1").Start(t.Context()); err != nil { // as a primary, on its old timeline
		t.Fatal(err)
	}
	await(t, c, "old primary refused", func(top *Topology) bool { return top.Member("pg1").Role == RoleRefused })
	if p := c.Topology().Primary; p == nil || p.Backend.Name() != "pg2" {
		t.Errorf("primary is %+v", p)
	}
}
