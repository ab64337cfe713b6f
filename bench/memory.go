//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/fairwaydb/fairway/bench/load"
	"github.com/fairwaydb/fairway/bench/proc"
	"github.com/fairwaydb/fairway/bench/rig"
	"github.com/fairwaydb/fairway/bench/stat"
)

// oneRow is the transaction of our own clients.
const oneRow = "SELECT abalance FROM pgbench_accounts WHERE aid = "

// target is a peer as our own clients see it.
func target(p *rig.Peer) load.Target {
	return load.Target{Addr: p.Addr, User: rig.Secure, Password: rig.Password, Database: rig.Database}
}

// idle connects n clients, lets each run one transaction, and returns them. Not one may fail.
func idle(ctx context.Context, p *rig.Peer, n int) (*load.Crowd, error) {
	crowd, arrival := load.Gather(ctx, target(p), n, 32)
	if arrival.Failed > 0 {
		crowd.Close()
		return nil, fmt.Errorf("%d of %d clients failed: %w", arrival.Failed, n, arrival.First)
	}
	for i, c := range crowd.Clients {
		if err := c.Query(oneRow + strconv.Itoa(i+1)); err != nil {
			crowd.Close()
			return nil, fmt.Errorf("transaction of client %d: %w", i, err)
		}
	}
	return crowd, nil
}

// settled returns a peer's memory once it has stopped changing, or after ten seconds.
func settled(ctx context.Context, p *rig.Peer) (proc.Memory, error) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	last, err := proc.MemoryOf(p.PID())
	for range 20 {
		if err != nil {
			return last, err
		}
		select {
		case <-ctx.Done():
			return last, context.Cause(ctx)
		case <-tick.C:
		}
		var now proc.Memory
		now, err = proc.MemoryOf(p.PID())
		if change := now.RSS - last.RSS; err == nil && max(change, -change) < now.RSS/200 {
			return now, nil
		}
		last = now
	}
	return last, err
}

// perClient is what idle clients hold in a proxy, in KiB for each of them, one number a round.
type perClient struct {
	peer  string
	rss   []float64
	stack []float64 // of which goroutines' stacks; only Fairway tells
	heap  []float64 // of which objects that are in use
}

// measureMemory weighs fresh processes of Fairway and PgBouncer before and after n clients have come.
func (b *bench) measureMemory(ctx context.Context, n, rounds int) ([]perClient, error) {
	found := []perClient{{peer: pgbouncer}, {peer: fairway}}
	for range rounds {
		for i := range found {
			if err := b.weigh(ctx, n, &found[i]); err != nil {
				return nil, fmt.Errorf("memory of %s: %w", found[i].peer, err)
			}
		}
	}
	for _, m := range found {
		b.logf("memory of %d idle clients  %-10s %5.1f KiB each (stacks %.1f, objects %.1f)", n, m.peer,
			stat.Of(m.rss).Median, stat.Of(m.stack).Median, stat.Of(m.heap).Median)
	}
	return found, nil
}

// weigh is one round of measureMemory.
func (b *bench) weigh(ctx context.Context, n int, m *perClient) (err error) {
	var p *rig.Peer
	if m.peer == fairway {
		p, err = b.rig.Fairway(ctx, rig.FairwayOptions{Backends: []string{b.rig.Primary()}, Secure: true})
	} else {
		p, err = b.rig.PgBouncer(ctx, true)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	// What the first clients make a process load is not the price of the next ones.
	first, err := idle(ctx, p, 50)
	if err != nil {
		return err
	}
	defer first.Close()
	before, err := settled(ctx, p)
	if err != nil {
		return err
	}
	heap, stack, err := inUse(ctx, p)
	if err != nil {
		return err
	}
	crowd, err := idle(ctx, p, n)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, p.Log(20))
	}
	defer crowd.Close()
	after, err := settled(ctx, p)
	if err != nil {
		return err
	}
	m.rss = append(m.rss, float64(after.RSS-before.RSS)/1024/float64(n))
	if p.Admin == "" {
		return nil
	}
	heap2, stack2, err := inUse(ctx, p)
	m.heap = append(m.heap, (heap2-heap)/1024/float64(n))
	m.stack = append(m.stack, (stack2-stack)/1024/float64(n))
	return err
}

// inUse asks a Go process, through Caddy's admin endpoint, for the bytes of its objects and stacks after a collection.
func inUse(ctx context.Context, p *rig.Peer) (heap, stack float64, err error) {
	if p.Admin == "" {
		return 0, 0, nil
	}
	if _, err := get(ctx, "http://"+p.Admin+"/debug/pprof/heap?gc=1"); err != nil {
		return 0, 0, err
	}
	text, err := get(ctx, "http://"+p.Admin+"/metrics")
	if err != nil {
		return 0, 0, err
	}
	if heap, err = metric(text, "go_memstats_heap_alloc_bytes"); err != nil {
		return 0, 0, err
	}
	stack, err = metric(text, "go_memstats_stack_inuse_bytes")
	return heap, stack, err
}

// metric finds the value of a metric without labels in Prometheus' text format.
func metric(text, name string) (float64, error) {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("no metric %s", name)
}

// get returns what an URL answers.
func get(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answers %s", url, response.Status)
	}
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

// memoryOutcome is goal e.
func memoryOutcome(found []perClient) []outcome {
	var all []outcome
	for _, m := range found {
		if m.peer == fairway {
			g := goal{id: "e", text: "memory per idle client", unit: "KB", gate: 12, goal: 6, lower: true}
			all = append(all, outcome{g, stat.Of(m.rss)})
		}
	}
	return all
}
