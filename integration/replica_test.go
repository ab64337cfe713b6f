package integration_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/fairwaydb/fairway/modules/pgtest"
)

// quickToForget makes the average latency follow the present within seconds: a server whose caches were cold at first has
// its full share soon.
func quickToForget(s *site) { s.config.Health.HalfLife = caddy.Duration(500 * time.Millisecond) }

// TestReplicasDieAndComeBackUnderLoad kills one replica and stops the other at once, one after the other, while pgbench -S
// runs: no client sees an error, the circuit opens, the rest serve; after its start the replica is tried, started slowly,
// and gets its share again.
func TestReplicasDieAndComeBackUnderLoad(t *testing.T) {
	s := startSite(t, pgtest.Options{Replicas: 2}, quickToForget)
	s.initBench(t)
	load := s.startReads(t, "-c", "16", "-M", "prepared")
	for _, death := range []struct {
		replica string
		how     func(*pgtest.Node) error
	}{
		{"pg2", func(n *pgtest.Node) error { return n.Kill(t.Context()) }},
		{"pg3", func(n *pgtest.Node) error { return n.Stop(t.Context(), pgtest.Immediate) }},
	} {
		s.loseAndRecover(t, load, death.replica, death.how)
	}
	r := load.stop(t)
	t.Logf("%d transactions", r.processed)
}

// loseAndRecover takes a replica away and starts it again, under load.
func (s *site) loseAndRecover(t *testing.T, load *pgbench, name string, die func(*pgtest.Node) error) {
	t.Helper()
	node, before := s.servers.Node(name), scrape(t)
	if err := die(node); err != nil {
		t.Fatal(err)
	}
	await(t, 10*time.Second, name+" is FAILED", func() (string, bool) {
		load.running(t)
		v := s.look(t)
		return v.String(), v.backend(name).State == "failed" && v.backend(name).Circuit == "open"
	})
	// The others serve, and the dead one is not even tried.
	for _, other := range s.replicas() {
		shares, reads := s.measure(t, 500*time.Millisecond)
		if shares[name] != 0 || reads < 100 {
			t.Errorf("%s is dead: of %v reads it had %.1f %%", name, reads, 100*shares[name])
		}
		if other != name && shares[other] < .9 {
			t.Errorf("%s is dead: %s serves %.1f %% of the reads", name, other, 100*shares[other])
		}
	}
	load.running(t)

	if err := node.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var weights []float64
	await(t, 20*time.Second, name+" has its weight again", func() (string, bool) {
		load.running(t)
		b := s.look(t).backend(name)
		if b.State == "healthy" && b.Weight < 1 && (len(weights) == 0 || b.Weight > weights[len(weights)-1]) {
			weights = append(weights, b.Weight)
		}
		return fmt.Sprintf("%+v", b), b.State == "healthy" && b.Weight == 1
	})
	if len(weights) < 3 {
		t.Errorf("%s was not started slowly: weights %v", name, weights)
	}
	grown := scrape(t).since(before)
	for _, move := range []string{"closed open", "open half_open", "half_open closed"} {
		from, to, _ := strings.Cut(move, " ")
		if n := grown.sum("caddy_postgres_circuit_transitions_total", "cluster="+s.name, "backend="+name, "from="+from, "to="+to); n < 1 {
			t.Errorf("the circuit of %s was never moved from %s to %s", name, from, to)
		}
	}
	await(t, 15*time.Second, name+" has its share again", func() (string, bool) {
		load.running(t)
		shares, _ := s.measure(t, 500*time.Millisecond)
		return fmt.Sprint(shares), shares[name] >= .35
	})
}

// TestBackendsJoinAndLeaveUnderLoad adds a replica by Caddy's own API while pgbench -S runs, and removes it again.
func TestBackendsJoinAndLeaveUnderLoad(t *testing.T) {
	s := startSite(t, pgtest.Options{Replicas: 2}, quickToForget)
	s.initBench(t)
	load := s.startReads(t, "-c", "16")
	if _, err := s.servers.AddReplica(t.Context(), "pg4"); err != nil {
		t.Fatal(err)
	}
	path := "/config/apps/postgres/clusters/" + s.name + "/backends/pg4"
	host.call(t, http.MethodPost, path, fmt.Appendf(nil, `{"address": %q}`, s.servers.Node("pg4").Addr()), nil)
	s.config.Backends["pg4"] = s.config.Backends["pg3"] // so that the shares have it

	await(t, 10*time.Second, "pg4 serves", func() (string, bool) {
		load.running(t)
		v := s.look(t)
		return v.String(), v.backend("pg4").Fit
	})
	first, _ := s.measure(t, 400*time.Millisecond)
	s.awaitReady(t, 3)
	last := first
	await(t, 15*time.Second, "pg4 has its share, more than at first", func() (string, bool) {
		load.running(t)
		last, _ = s.measure(t, 500*time.Millisecond)
		return fmt.Sprint(first, last), last["pg4"] >= .2 && last["pg4"] <= .5 && last["pg4"] > first["pg4"]
	})

	watch := s.watchActivity(t, benchRole)
	host.call(t, http.MethodDelete, path, nil, nil)
	await(t, 10*time.Second, "pg4 has no server connections", func() (string, bool) {
		load.running(t)
		n, err := s.servers.Node("pg4").Value(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE usename = '"+benchRole+"'")
		if err != nil {
			t.Fatal(err)
		}
		return n, n == "0"
	})
	if b := s.look(t).backend("pg4"); b.Name != "" && b.State != "draining" {
		t.Errorf("pg4 is still there: %+v", b)
	}
	if shares, reads := s.measure(t, 500*time.Millisecond); shares["pg4"] != 0 || reads < 100 {
		t.Errorf("of %v reads the removed backend had %.1f %%", reads, 100*shares["pg4"])
	}
	s.checkConnections(t, watch)
	r := load.stop(t)
	t.Logf("%d transactions, share from %.1f %% to %.1f %%", r.processed, 100*first["pg4"], 100*last["pg4"])
	delete(s.config.Backends, "pg4")
}
