//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/fairwaydb/fairway/bench/rig"
)

// The peers, by the names the rig gives them.
const (
	direct    = "direct"
	fairway   = "fairway"
	pgbouncer = "pgbouncer"
	pgpool    = "pgpool"
	haproxy   = "haproxy"
)

// scene is a set of peers that run at the same time.
type scene string

const (
	one    scene = "one node"
	three  scene = "three nodes"
	secure scene = "one node, SCRAM"
)

// cell is one thing to measure: the same load for several peers of a scene.
type cell struct {
	name     string
	scene    scene
	clients  int
	mode     string   // of pgbench
	script   string   // "" is pgbench's own select-only transaction
	connect  bool     // a connection for every transaction
	megabyte float64  // what a transaction returns, where that is what counts
	peers    []string // in the order of the first round
	basic    bool     // belongs to the short run, too
}

// largeScript reads 1 MiB: 1,024 rows of 1,000 bytes and what the protocol adds.
const largeScript = "SELECT * FROM large;\n"

// cells are all of them, in the order they are measured and shown.
func cells() []cell {
	var all []cell
	all = append(
		all,
		cell{scene: one, clients: 1, mode: "simple", peers: []string{direct, pgbouncer, haproxy, fairway}},
		cell{scene: one, clients: 16, mode: "simple", basic: true, peers: []string{direct, pgbouncer, haproxy, fairway}},
		cell{scene: one, clients: 64, mode: "simple", peers: []string{direct, pgbouncer, fairway}},
		cell{scene: one, clients: 256, mode: "simple", peers: []string{direct, pgbouncer, fairway}},
		cell{scene: one, clients: 16, mode: "extended", peers: []string{pgbouncer, fairway}},
		// PgBouncer 1.18 knows no prepared statements in transaction mode.
		cell{scene: one, clients: 16, mode: "prepared", basic: true, peers: []string{direct, fairway}},
		cell{
			name: "one/large/4", scene: one, clients: 4, mode: "simple", script: largeScript, megabyte: 1,
			peers: []string{direct, pgbouncer, haproxy, fairway},
		},
		cell{scene: three, clients: 1, mode: "simple", peers: []string{pgpool, fairway}},
		cell{scene: three, clients: 16, mode: "simple", basic: true, peers: []string{pgpool, haproxy, fairway}},
		cell{scene: three, clients: 64, mode: "simple", peers: []string{pgpool, fairway}},
	)
	for _, c := range []cell{{mode: "extended", clients: 16}, {mode: "prepared", clients: 16, basic: true}, {mode: "prepared", clients: 64}} {
		c.scene, c.peers = three, []string{pgpool, fairway}
		all = append(all, c)
	}
	all = append(all, cell{
		name: "one/connect/8", scene: secure, clients: 8, mode: "simple", connect: true,
		peers: []string{direct, pgbouncer, fairway},
	})
	for i, c := range all {
		if c.name == "" {
			all[i].name = map[scene]string{one: "one", three: "three"}[c.scene] + "/" + c.mode + "/" + strconv.Itoa(c.clients)
		}
	}
	return all
}

// chosen are the cells a run measures.
func (s settings) chosen() ([]cell, error) {
	match, err := regexp.Compile(s.only)
	if err != nil {
		return nil, fmt.Errorf("--only: %w", err)
	}
	var found []cell
	for _, c := range cells() {
		if (c.basic || s.full || s.smoke || s.only != "") && match.MatchString(c.name) {
			found = append(found, c)
		}
	}
	return found, nil
}

// load is what pgbench is told for the cell.
func (c cell) describe() string {
	switch {
	case c.connect:
		return fmt.Sprintf("%d clients, a login per transaction", c.clients)
	case c.script != "":
		return fmt.Sprintf("%d clients, 1 MiB per SELECT", c.clients)
	case c.clients == 1:
		return fmt.Sprintf("1 client, %s", c.mode)
	}
	return fmt.Sprintf("%d clients, %s", c.clients, c.mode)
}

// enter starts the peers of a scene. The caller stops them, also after an error.
func enter(ctx context.Context, r *rig.Rig, s scene) (map[string]*rig.Peer, error) {
	nodes := []string{r.Primary()}
	starts := []func() (*rig.Peer, error){}
	switch s {
	case one:
		starts = append(
			starts,
			func() (*rig.Peer, error) { return r.PgBouncer(ctx, false) },
			func() (*rig.Peer, error) { return r.HAProxy(ctx, nodes) },
		)
	case three:
		starts = append(
			starts,
			func() (*rig.Peer, error) { return r.Pgpool(ctx) },
			func() (*rig.Peer, error) { return r.HAProxy(ctx, r.Replicas()) },
		)
		nodes = append(nodes, r.Replicas()...)
	case secure:
		starts = append(starts, func() (*rig.Peer, error) { return r.PgBouncer(ctx, true) })
	}
	starts = append(starts, func() (*rig.Peer, error) {
		return r.Fairway(ctx, rig.FairwayOptions{Backends: nodes, Secure: s == secure})
	})
	peers := map[string]*rig.Peer{direct: r.Direct()}
	for _, start := range starts {
		p, err := start()
		if err != nil {
			return peers, err
		}
		peers[p.Name] = p
	}
	return peers, nil
}

// leave stops the peers.
func leave(peers map[string]*rig.Peer) error {
	var errs []error
	for _, p := range peers {
		errs = append(errs, p.Stop())
	}
	return errors.Join(errs...)
}
