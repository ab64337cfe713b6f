package routing

import (
	"context"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgsql"
	"github.com/fairwaydb/fairway/modules/pgtest"
)

// serving returns a cluster of a real primary and a real replica, both probed.
func serving(t *testing.T) (*cluster.Cluster, *pgtest.Cluster) {
	t.Helper()
	servers, err := pgtest.Start(context.WithoutCancel(t.Context()), pgtest.Options{Replicas: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := servers.Close(); err != nil {
			t.Error(err)
		}
	})
	config := &cluster.Config{
		Backends:    make(map[string]*cluster.BackendConfig),
		Credentials: &cluster.CredentialsConfig{User: servers.Superuser()},
	}
	for _, n := range servers.Nodes() {
		config.Backends[n.Name()] = &cluster.BackendConfig{Address: n.Addr()}
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()}) // outlives the test's own until the claim is released
	t.Cleanup(cancel)
	settings, err := config.Settings(ctx, "main", nil)
	if err != nil {
		t.Fatal(err)
	}
	c := cluster.NewRegistry(zap.NewNop).Reference("main")
	t.Cleanup(c.Unreference)
	t.Cleanup(c.Claim(settings).Release)
	return c, servers
}

// pickUntil asks until the choice is the one wanted.
func pickUntil(t *testing.T, c *cluster.Cluster, r *Request, role cluster.Role, reason Reason) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		choice, err := Pick(c, c.Topology(), r)
		if err == nil && choice.Member.Role == role && choice.Reason == reason {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("a read runs on %v because of %s, %v; want a %s because of %s", choice.Member, choice.Reason, err, role, reason)
		}
	}
}

func TestReplicasServeAReadWhenTheyHaveTheSessionsWrites(t *testing.T) {
	c, servers := serving(t)
	r := &Request{Class: plainRead}
	pickUntil(t, c, r, cluster.RoleReplica, ReasonRead)

	replica := servers.Replicas()[0]
	if err := replica.Exec(t.Context(), "SELECT pg_wal_replay_pause()"); err != nil {
		t.Fatal(err)
	}
	if err := servers.Primary().Exec(t.Context(), "CREATE TABLE t (i int)"); err != nil {
		t.Fatal(err)
	}
	r.Mark, r.ExactFlush = cluster.Now(), true
	for range 20 { // whatever is sampled meanwhile, the replica cannot have it
		if choice, err := Pick(c, c.Topology(), r); err != nil || choice.Reason != ReasonOwnWrite || choice.Member.Role != cluster.RolePrimary {
			t.Fatalf("with the replica frozen: %v because of %s, %v", choice.Member, choice.Reason, err)
		}
	}
	if choice, err := Pick(c, c.Topology(), &Request{Class: plainRead}); err != nil || choice.Reason != ReasonRead {
		t.Errorf("another session runs because of %s, %v", choice.Reason, err)
	}
	if err := replica.Exec(t.Context(), "SELECT pg_wal_replay_resume()"); err != nil {
		t.Fatal(err)
	}
	pickUntil(t, c, r, cluster.RoleReplica, ReasonRead)

	// Strong reads stay where they are, however far the replicas have come.
	pickUntil(t, c, &Request{Class: plainRead, Consistency: cluster.ConsistencyStrong}, cluster.RolePrimary, ReasonStrong)

	// A write runs on the primary all the same.
	pickUntil(t, c, &Request{Class: &pgsql.Class{Effects: pgsql.Write}, Mark: r.Mark}, cluster.RolePrimary, ReasonWrite)
}
