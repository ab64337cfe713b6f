//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/fairwaydb/fairway/bench/load"
	"github.com/fairwaydb/fairway/bench/proc"
	"github.com/fairwaydb/fairway/bench/rig"
	"github.com/fairwaydb/fairway/bench/stat"
)

// statementClients run the statements of statementsCurve.
const statementClients = 16

// statementKind is a way in which statements differ.
type statementKind struct {
	name    string
	prepare func(c *load.Client, i int) error // once for each statement, nil if there is nothing to do
	run     func(c *load.Client, i int) error
}

// statementKinds: by a constant alone, by their text, and by their name.
func statementKinds() []statementKind {
	text := func(i int) string {
		return "SELECT abalance AS a" + strconv.Itoa(i) + " FROM pgbench_accounts WHERE aid = "
	}
	return []statementKind{
		{
			name: "constants",
			run:  func(c *load.Client, i int) error { return c.Query(oneRow + strconv.Itoa(i%100000+1)) },
		},
		{
			name: "texts",
			run:  func(c *load.Client, i int) error { return c.Query(text(i) + "1") },
		},
		{
			name:    "prepared",
			prepare: func(c *load.Client, i int) error { return c.Prepare("s"+strconv.Itoa(i), text(i)+"$1") },
			run:     func(c *load.Client, i int) error { return c.Execute("s"+strconv.Itoa(i), "1") },
		},
	}
}

// each of the clients has its own part of the statements; with fewer statements than clients they share them.
func statementOf(count, client, turn int) int {
	own := max(1, count/statementClients)
	return (client*own + turn%own) % count
}

// statementPoint is one point of the curve.
type statementPoint struct {
	first   stat.Figure // statements per second while each is seen for the first time
	through stat.Figure // TPS
	direct  stat.Figure
	ratio   stat.Figure
	cpu     stat.Figure
	rss     float64
}

// statementsCurve: from one distinct statement to a hundred thousand.
func (b *bench) statementsCurve(ctx context.Context, sizes curves, plots map[string]string) (string, error) {
	var t table
	fmt.Fprintf(&t, "#### Distinct statements, %d clients\n\n", statementClients)
	t.head("What differs", "Distinct", "at first sight, per s", "TPS", "TPS direct", "ratio", "CPU per transaction, µs", "RSS, MiB")
	var ratios, held []*curve
	for i, kind := range statementKinds() {
		ratio, memory := newCurve(kind.name, i), newCurve(kind.name, i)
		ratios, held = append(ratios, ratio), append(held, memory)
		points, err := b.statementsOf(ctx, kind, sizes)
		if err != nil {
			return "", fmt.Errorf("%s: %w", kind.name, err)
		}
		for j, p := range points {
			n := sizes.statements[j]
			ratio.add(n, p.ratio)
			memory.add(n, single(p.rss))
			t.row(kind.name, strconv.Itoa(n), number(p.first.Median), spread(p.through), spread(p.direct), spread(p.ratio), spread(p.cpu), number(p.rss))
		}
	}
	plots["scale-statements.svg"] = draw("Transactions per second vs direct, by distinct statements", "ratio", "distinct statements", true, ratios...)
	plots["scale-statements-memory.svg"] = draw("Memory by distinct statements", "MiB", "distinct statements", true, held...)
	t.WriteString("\n" + plotLink("scale-statements.svg", "TPS by distinct statements") + plotLink("scale-statements-memory.svg", "memory by distinct statements"))
	return t.String(), nil
}

// statementsOf is the curve of one kind, through a fresh Fairway.
func (b *bench) statementsOf(ctx context.Context, kind statementKind, sizes curves) (_ []statementPoint, err error) {
	p, err := b.openers(ctx)[fairway]()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	var points []statementPoint
	for _, count := range sizes.statements {
		point, err := b.statementsAt(ctx, kind, count, p, sizes)
		if err != nil {
			return nil, fmt.Errorf("%d statements: %w\n%s", count, err, p.Log(20))
		}
		b.logf("%d distinct %s: first %s/s, TPS × %s of direct, CPU %s µs, %s MiB", count, kind.name,
			number(point.first.Median), spread(point.ratio), spread(point.cpu), number(point.rss))
		points = append(points, point)
	}
	return points, nil
}

// statementsAt measures one point: everything once, then again and again.
func (b *bench) statementsAt(ctx context.Context, kind statementKind, count int, p *rig.Peer, sizes curves) (statementPoint, error) {
	var point statementPoint
	peers := []*rig.Peer{b.rig.Direct(), p}
	crowds := make([]*load.Crowd, len(peers))
	for i, peer := range peers {
		crowd, arrival := load.Gather(ctx, target(peer), statementClients, statementClients)
		defer crowd.Close()
		if arrival.Failed > 0 {
			return point, arrival.First
		}
		crowds[i] = crowd
		began := time.Now()
		if err := crowd.Each(func(c *load.Client, client int) error { return firstSight(kind, count, c, client) }); err != nil {
			return point, err
		}
		point.first = single(float64(max(count, statementClients)) / time.Since(began).Seconds())
	}
	var rates [2][]float64
	var costs []float64
	for round := range sizes.rounds {
		for i := range peers {
			at := (round + i) % len(peers)
			before, err := spent(peers[at])
			if err != nil {
				return point, err
			}
			r, err := crowds[at].Run(ctx, sizes.span, func(c *load.Client, client, turn int) error {
				return kind.run(c, statementOf(count, client, turn))
			})
			if err != nil {
				return point, err
			}
			after, err := spent(peers[at])
			if err != nil {
				return point, err
			}
			rates[at] = append(rates[at], r.TPS)
			if at == 1 {
				costs = append(costs, float64((after-before).Microseconds())/float64(r.Transactions))
			}
		}
	}
	memory, err := proc.MemoryOf(p.PID())
	point.direct, point.through, point.cpu = stat.Of(rates[0]), stat.Of(rates[1]), stat.Of(costs)
	point.ratio, point.rss = stat.Of(stat.Ratios(rates[1], rates[0])), mebibytes(memory.RSS)
	return point, err
}

// firstSight prepares, or else runs, every statement of a client once.
func firstSight(kind statementKind, count int, c *load.Client, client int) error {
	act := kind.prepare
	if act == nil {
		act = kind.run
	}
	for turn := range max(1, count/statementClients) {
		if err := act(c, statementOf(count, client, turn)); err != nil {
			return err
		}
	}
	return nil
}
