//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/fairwaydb/fairway/bench/load"
	"github.com/fairwaydb/fairway/bench/rig"
	"github.com/fairwaydb/fairway/bench/stat"
)

// openers start the two poolers, each before the primary and with SCRAM.
func (b *bench) openers(ctx context.Context) map[string]func() (*rig.Peer, error) {
	return map[string]func() (*rig.Peer, error){
		pgbouncer: func() (*rig.Peer, error) { return b.rig.PgBouncer(ctx, true) },
		fairway: func() (*rig.Peer, error) {
			return b.rig.Fairway(ctx, rig.FairwayOptions{Backends: []string{b.rig.Primary()}, Secure: true})
		},
	}
}

// idleCurve: many clients that do nothing, and one that does not notice them.
func (b *bench) idleCurve(ctx context.Context, sizes curves, plots map[string]string) (string, error) {
	var t table
	t.WriteString("#### Idle clients, and one that is busy beside them\n\n")
	t.head("Idle clients", "Through", "RSS, MiB", "busy client: p50, µs", "p99, µs")
	var held, median []*curve
	for _, name := range []string{pgbouncer, fairway} {
		h, m := newCurve(title(name), hue[name]), newCurve(title(name), hue[name])
		held, median = append(held, h), append(median, m)
		if err := b.idleOf(ctx, name, sizes, &t, h, m); err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
	}
	plots["scale-idle-memory.svg"] = draw("Memory with idle clients", "MiB", "idle clients", false, held...)
	plots["scale-idle-latency.svg"] = draw("Median latency of one busy client beside idle ones", "µs", "idle clients", false, median...)
	t.WriteString("\n" + plotLink("scale-idle-memory.svg", "memory with idle clients") + plotLink("scale-idle-latency.svg", "latency beside idle clients"))
	return t.String(), nil
}

// idleOf is idleCurve for one peer.
func (b *bench) idleOf(ctx context.Context, name string, sizes curves, t *table, held, median *curve) (err error) {
	p, err := b.openers(ctx)[name]()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	busy, err := idle(ctx, p, 1)
	if err != nil {
		return err
	}
	defer busy.Close()
	crowd := &load.Crowd{}
	defer func() { crowd.Close() }()
	for _, n := range sizes.idle {
		more, err := idle(ctx, p, n-len(crowd.Clients))
		if err != nil {
			return fmt.Errorf("%w\n%s", err, p.Log(20))
		}
		crowd.Clients = append(crowd.Clients, more.Clients...)
		memory, err := settled(ctx, p)
		if err != nil {
			return err
		}
		var p50s, p99s []float64
		for range sizes.rounds {
			r, err := busy.Run(ctx, sizes.span, readOne)
			if err != nil {
				return err
			}
			p50s, p99s = append(p50s, stat.Quantile(r.Latencies, 0.5)), append(p99s, stat.Quantile(r.Latencies, 0.99))
		}
		held.add(n, single(mebibytes(memory.RSS)))
		median.add(n, stat.Of(p50s))
		t.row(strconv.Itoa(n), title(name), number(mebibytes(memory.RSS)), spread(stat.Of(p50s)), spread(stat.Of(p99s)))
		b.logf("%d idle  %-10s %s MiB, p50 %s µs, p99 %s µs", n, name, number(mebibytes(memory.RSS)), spread(stat.Of(p50s)), spread(stat.Of(p99s)))
	}
	return nil
}

// readOne reads one row, another one each time.
func readOne(c *load.Client, client, turn int) error {
	return c.Query(oneRow + strconv.Itoa((client*7919+turn*31)%100000+1))
}

// stormCurve: clients that lose their connections and come back, all at once.
func (b *bench) stormCurve(ctx context.Context, sizes curves, plots map[string]string) (_ string, err error) {
	peers := make(map[string]*rig.Peer)
	defer func() { err = errors.Join(err, leave(peers)) }()
	names := []string{pgbouncer, fairway}
	all := make(map[string]*curve)
	for _, name := range names {
		if peers[name], err = b.openers(ctx)[name](); err != nil {
			delete(peers, name)
			return "", err
		}
		all[name] = newCurve(title(name), hue[name])
	}
	var t table
	t.WriteString("#### Clients that reconnect at once\n\n")
	t.head("Clients", "Through", "all are in after, ms", "a login takes (p50), ms", "p99, ms", "CPU per login, µs", "failed logins")
	for _, n := range sizes.storm {
		storms := make(map[string][]gust)
		for round := range sizes.rounds {
			for i := range names {
				name := names[(round+i)%len(names)]
				g, err := storm(ctx, peers[name], n)
				if err != nil {
					return "", fmt.Errorf("%s: %w", name, err)
				}
				storms[name] = append(storms[name], g)
				if g.failed > 0 {
					b.logf("storm of %d  %-10s %.0f failed: %v", n, name, g.failed, g.first)
				}
			}
		}
		for _, name := range names {
			figure := func(pick func(gust) float64) stat.Figure {
				var found []float64
				for _, g := range storms[name] {
					found = append(found, pick(g))
				}
				return stat.Of(found)
			}
			f := figure(func(g gust) float64 { return g.elapsed })
			paid := figure(func(g gust) float64 { return g.cpu })
			var lost float64
			for _, g := range storms[name] {
				lost += g.failed
			}
			all[name].add(n, f)
			t.row(strconv.Itoa(n), title(name), spread(f), spread(figure(func(g gust) float64 { return g.median })),
				spread(figure(func(g gust) float64 { return g.tail })), spread(paid), number(lost))
			b.logf("storm of %d  %-10s all in after %s ms, %s µs CPU each", n, name, spread(f), spread(paid))
		}
	}
	plots["scale-storm.svg"] = draw("Time until all have reconnected", "ms", "clients that reconnect at once", false, all[pgbouncer], all[fairway])
	t.WriteString("\n" + plotLink("scale-storm.svg", "time until all have reconnected"))
	return t.String(), nil
}

// gust is one storm: milliseconds until all were in and for one login, CPU microseconds of the proxy per login.
type gust struct {
	elapsed, median, tail, cpu, failed float64
	first                              error
}

// storm connects n clients, drops them and connects as many again, all at the same time.
func storm(ctx context.Context, p *rig.Peer, n int) (gust, error) {
	crowd, err := idle(ctx, p, n)
	if err != nil {
		return gust{}, err
	}
	crowd.Close()
	before, err := spent(p)
	if err != nil {
		return gust{}, err
	}
	crowd, a := load.Gather(ctx, target(p), n, n)
	after, err := spent(p)
	crowd.Close()
	return gust{
		elapsed: float64(a.Elapsed.Milliseconds()), median: stat.Quantile(a.Logins, 0.5), tail: stat.Quantile(a.Logins, 0.99),
		cpu: float64((after - before).Microseconds()) / float64(n), failed: float64(a.Failed), first: a.First,
	}, err
}

// busyClients work beside the idle ones of besideCurve.
const busyClients = 50

// besideCurve: what the idle cost the busy. Two Fairways run, and only one has the idle clients: so every round has its
// own yardstick.
func (b *bench) besideCurve(ctx context.Context, sizes curves, plots map[string]string) (_ string, err error) {
	peers := make(map[string]*rig.Peer)
	defer func() { err = errors.Join(err, leave(peers)) }()
	for _, role := range []string{"alone", "beside"} {
		if peers[role], err = b.openers(ctx)[fairway](); err != nil {
			delete(peers, role)
			return "", err
		}
	}
	crowd := &load.Crowd{}
	defer func() { crowd.Close() }()
	c := cell{name: "beside", scene: secure, clients: busyClients, mode: "simple"}
	if err := b.warm(ctx, c, peers); err != nil {
		return "", err
	}
	var t table
	fmt.Fprintf(&t, "#### %d busy clients beside idle ones\n\n", busyClients)
	t.head("Idle clients", "TPS", "TPS of the same without them", "ratio", "p99, µs", "p99 without, µs", "ratio")
	with, without := newCurve("beside idle clients", 0), newCurve("alone", 4)
	for _, n := range sizes.beside {
		more, err := idle(ctx, peers["beside"], n-len(crowd.Clients))
		if err != nil {
			return "", err
		}
		crowd.Clients = append(crowd.Clients, more.Clients...)
		found, err := b.paired(ctx, c, peers, []string{"alone", "beside"}, sizes.rounds)
		if err != nil {
			return "", err
		}
		alone, beside := found["alone"], found["beside"]
		with.add(n, stat.Of(values(beside, tps)))
		without.add(n, stat.Of(values(alone, tps)))
		ratio, ratio99 := stat.Of(stat.Ratios(values(beside, tps), values(alone, tps))), stat.Of(stat.Ratios(values(beside, p99), values(alone, p99)))
		t.row(strconv.Itoa(n), spread(stat.Of(values(beside, tps))), spread(stat.Of(values(alone, tps))), spread(ratio),
			spread(stat.Of(values(beside, p99))), spread(stat.Of(values(alone, p99))), spread(ratio99))
		b.logf("%d busy beside %d idle: TPS × %s, p99 × %s", busyClients, n, spread(ratio), spread(ratio99))
	}
	plots["scale-beside.svg"] = draw("Transactions per second of 50 busy clients beside idle ones", "TPS", "idle clients", false, without, with)
	t.WriteString("\n" + plotLink("scale-beside.svg", "busy clients beside idle ones"))
	return t.String(), nil
}

// warm lets each peer open its connections, in a moment that is not counted.
func (b *bench) warm(ctx context.Context, c cell, peers map[string]*rig.Peer) error {
	short := *b
	short.smoke = true
	for name, p := range peers {
		if _, err := short.measure(ctx, c, p, ""); err != nil {
			return fmt.Errorf("%s: %w\n%s", name, err, p.Log(20))
		}
	}
	return nil
}

// paired measures a cell for several peers in interleaved rounds.
func (b *bench) paired(ctx context.Context, c cell, peers map[string]*rig.Peer, names []string, count int) (rounds, error) {
	found := make(rounds)
	for round := range count {
		for i := range names {
			name := names[(round+i)%len(names)]
			s, err := b.measure(ctx, c, peers[name], "")
			if err != nil {
				return nil, fmt.Errorf("%s: %w\n%s", name, err, peers[name].Log(20))
			}
			found[name] = append(found[name], s)
		}
	}
	return found, nil
}
