//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fairwaydb/fairway/bench/pgbench"
	"github.com/fairwaydb/fairway/bench/proc"
	"github.com/fairwaydb/fairway/bench/rig"
	"github.com/fairwaydb/fairway/bench/stat"
)

// sample is what one round has shown of one peer. What does not exist is NaN: PostgreSQL itself has no proxy to pay for.
type sample struct {
	TPS      float64
	CPU      float64 // microseconds of the proxy's processes per transaction
	P50, P99 float64 // latency in microseconds
	PSS      float64 // MiB held by the proxy's processes when the round ended
}

// rounds are the samples of a cell, by peer; index i of each peer's list is round i.
type rounds map[string][]sample

// values picks one number of each round.
func values(samples []sample, pick func(sample) float64) []float64 {
	var found []float64
	for _, s := range samples {
		found = append(found, pick(s))
	}
	return found
}

func tps(s sample) float64 { return s.TPS }
func cpu(s sample) float64 { return s.CPU }
func p50(s sample) float64 { return s.P50 }
func p99(s sample) float64 { return s.P99 }
func pss(s sample) float64 { return s.PSS }

// bench is a run.
type bench struct {
	settings
	log  io.Writer
	load string // average of the machine before the run
	rig  *rig.Rig
}

func (b *bench) logf(format string, a ...any) {
	fmt.Fprintf(b.log, time.Now().Format("15:04:05 ")+format+"\n", a...)
}

// measureCells measures the cells scene by scene.
func (b *bench) measureCells(ctx context.Context, chosen []cell) (map[string]rounds, error) {
	found := make(map[string]rounds)
	for _, s := range []scene{one, three, secure} {
		var here []cell
		for _, c := range chosen {
			if c.scene == s {
				here = append(here, c)
			}
		}
		if len(here) == 0 {
			continue
		}
		peers, err := enter(ctx, b.rig, s)
		for _, c := range here {
			if err != nil {
				break
			}
			found[c.name], err = b.measureCell(ctx, c, peers)
		}
		if err := errors.Join(err, leave(peers)); err != nil {
			return nil, fmt.Errorf("%s: %w", s, err)
		}
	}
	return found, nil
}

// measureCell runs the rounds of a cell. In every round each peer has its turn, and another one is first.
func (b *bench) measureCell(ctx context.Context, c cell, peers map[string]*rig.Peer) (rounds, error) {
	script, err := b.script(c)
	if err != nil {
		return nil, err
	}
	found := make(rounds)
	for round := range b.rounds {
		for i := range c.peers {
			name := c.peers[(round+i)%len(c.peers)]
			s, err := b.measure(ctx, c, peers[name], script)
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w\n%s", c.name, name, err, peers[name].Log(20))
			}
			found[name] = append(found[name], s)
		}
	}
	for _, name := range c.peers {
		rate, cost := stat.Of(values(found[name], tps)), stat.Of(values(found[name], cpu))
		b.logf("%-18s %-10s %8.0f TPS  %6.1f µs CPU", c.name, name, rate.Median, cost.Median)
	}
	if b.profile == "" {
		return found, nil
	}
	return found, b.takeProfile(ctx, c, peers[fairway], script)
}

// script writes the cell's script, if it has one, and returns its path.
func (b *bench) script(c cell) (string, error) {
	if c.script == "" {
		return "", nil
	}
	path := filepath.Join(b.rig.Dir(), strings.ReplaceAll(c.name, "/", "-")+".sql")
	return path, os.WriteFile(path, []byte(c.script), 0o644)
}

// options are what pgbench is told for a peer.
func (b *bench) options(c cell, p *rig.Peer, script string) pgbench.Options {
	o := pgbench.Options{
		Bin: b.rig.Bin(), Dir: b.rig.Dir(), Addr: p.Addr, User: rig.User, Database: rig.Database,
		Clients: c.clients, Mode: c.mode, Connect: c.connect, Script: script, Duration: b.round, Sampling: 1,
	}
	if c.clients > 1 && c.script == "" && !c.connect {
		o.Sampling = 0.2 // a log of everything would be work that is not the proxy's
	}
	if b.smoke {
		o.Each = 20 // on a machine that is busy enough a second passes without a transaction
	}
	if c.scene == secure {
		o.User, o.Password = rig.Secure, rig.Password
	}
	return o
}

// measure runs pgbench once and weighs the proxy meanwhile.
func (b *bench) measure(ctx context.Context, c cell, p *rig.Peer, script string) (sample, error) {
	before, err := spent(p)
	if err != nil {
		return sample{}, err
	}
	r, err := pgbench.Run(ctx, b.options(c, p, script))
	if err != nil {
		return sample{}, err
	}
	after, err := spent(p)
	if err != nil {
		return sample{}, err
	}
	s := sample{
		TPS: r.TPS, CPU: math.NaN(), PSS: math.NaN(),
		P50: stat.Quantile(r.Latencies, 0.5), P99: stat.Quantile(r.Latencies, 0.99),
	}
	if p.PID() == 0 {
		return s, nil
	}
	s.CPU = float64((after - before).Microseconds()) / float64(r.Transactions)
	memory, err := proc.MemoryOf(p.PID())
	s.PSS = float64(memory.PSS) / (1 << 20)
	return s, err
}

// spent is the processor time of the peer so far, 0 for a server.
func spent(p *rig.Peer) (time.Duration, error) {
	if p.PID() == 0 {
		return 0, nil
	}
	return proc.CPU(p.PID())
}

// takeProfile runs the cell once more and keeps Fairway's CPU profile of it.
func (b *bench) takeProfile(ctx context.Context, c cell, p *rig.Peer, script string) error {
	if err := os.MkdirAll(b.profile, 0o755); err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() {
		path := filepath.Join(b.profile, strings.ReplaceAll(c.name, "/", "-")+".pprof")
		failed <- fetch(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", p.Admin, int(b.round.Seconds())), path)
	}()
	_, err := b.measure(ctx, c, p, script)
	if err := errors.Join(err, <-failed); err != nil {
		return fmt.Errorf("profile of %s: %w", c.name, err)
	}
	return nil
}

// fetch saves what an URL of Caddy's admin endpoint answers.
func fetch(ctx context.Context, url, path string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, response.Status)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, response.Body)
	return errors.Join(err, f.Close())
}
