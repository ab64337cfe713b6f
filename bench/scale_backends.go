//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/fairwaydb/fairway/bench/rig"
	"github.com/fairwaydb/fairway/bench/stat"
)

// smallPool is the pool's size on each of many backends: they are few servers in truth, with few connections.
const smallPool = 5

// backendsCurve: from one backend to fifty. A Fairway with three runs along as the yardstick of each round.
func (b *bench) backendsCurve(ctx context.Context, sizes curves, plots map[string]string) (_ string, err error) {
	usual, err := b.withBackends(ctx, 3)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, usual.Stop()) }()
	var t table
	t.WriteString("#### Backends\n\n")
	t.head("Backends", "TPS", "vs three backends", "CPU per transaction, µs", "vs three backends", "CPU while nothing happens, ms per s")
	cost, quiet := newCurve("Fairway", 0), newCurve("Fairway", 0)
	for _, n := range sizes.backends {
		found, rest, err := b.backendsAt(ctx, n, usual, sizes.rounds)
		if err != nil {
			return "", fmt.Errorf("%d backends: %w", n, err)
		}
		many, three := found["many"], found["three"]
		f := stat.Of(values(many, cpu))
		cost.add(n, f)
		quiet.add(n, single(rest))
		rate, paid := stat.Of(stat.Ratios(values(many, tps), values(three, tps))), stat.Of(stat.Ratios(values(many, cpu), values(three, cpu)))
		t.row(strconv.Itoa(n), spread(stat.Of(values(many, tps))), spread(rate), spread(f), spread(paid), number(rest))
		b.logf("%d backends: TPS × %s, CPU × %s of three, %s ms/s at rest", n, spread(rate), spread(paid), number(rest))
	}
	plots["scale-backends.svg"] = draw("CPU of Fairway per transaction, 16 clients", "µs", "backends", false, cost)
	plots["scale-backends-idle.svg"] = draw("CPU of Fairway while nothing happens", "ms per second", "backends", false, quiet)
	t.WriteString("\n" + plotLink("scale-backends.svg", "CPU per transaction by backends") + plotLink("scale-backends-idle.svg", "CPU at rest by backends"))
	return t.String(), nil
}

// withBackends starts a Fairway before n backends.
func (b *bench) withBackends(ctx context.Context, n int) (*rig.Peer, error) {
	all, err := backends(b.rig.Primary(), b.rig.Replicas(), n)
	if err != nil {
		return nil, err
	}
	return b.rig.Fairway(ctx, rig.FairwayOptions{Backends: all, Secure: true, Pool: smallPool})
}

// backendsAt measures n backends beside the usual three, and what n cost at rest in ms per second.
func (b *bench) backendsAt(ctx context.Context, n int, usual *rig.Peer, count int) (found rounds, rest float64, err error) {
	p, err := b.withBackends(ctx, n)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	c := cell{name: "backends", scene: secure, clients: 16, mode: "simple"}
	peers := map[string]*rig.Peer{"many": p, "three": usual}
	if err := b.warm(ctx, c, peers); err != nil {
		return nil, 0, err
	}
	before, err := spent(p)
	if err != nil {
		return nil, 0, err
	}
	select {
	case <-ctx.Done():
		return nil, 0, context.Cause(ctx)
	case <-time.After(b.round):
	}
	after, err := spent(p)
	if err != nil {
		return nil, 0, err
	}
	found, err = b.paired(ctx, c, peers, []string{"many", "three"}, count)
	return found, float64((after - before).Microseconds()) / 1000 / b.round.Seconds(), err
}
