//go:build linux

// Command bench measures Fairway beside PgBouncer, Pgpool-II, HAProxy and PostgreSQL itself, on one machine and with
// real servers. docs/benchmarks.md says what it measures and how to read it. `make bench` and its sisters run it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/fairwaydb/fairway/bench/rig"
)

// settings are what the command line says.
type settings struct {
	caddy   string
	page    string
	profile string
	only    string
	round   time.Duration
	rounds  int
	full    bool
	scale   bool
	smoke   bool
	rig     bool
}

// parse reads the command line. What has no value of its own there takes it from the kind of run.
func parse(args []string, output io.Writer) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(output)
	flags.StringVar(&s.caddy, "caddy", "./caddy", "the `binary` with Fairway in it")
	flags.StringVar(&s.page, "page", "", "write the results into this `file`, between its marks, and the plots beside it")
	flags.StringVar(&s.profile, "profile", "", "one more round per cell, of which Fairway's CPU profile goes into this `directory`")
	flags.StringVar(&s.only, "only", "", "the cells (or curves, with --scale) whose names match this regular `expression`")
	flags.DurationVar(&s.round, "round", 0, "length of a round, whole seconds (default 5s; with --full 3s; with --smoke 1s)")
	flags.IntVar(&s.rounds, "rounds", 0, "rounds per cell (default 7; with --full 5; with --smoke 1)")
	flags.BoolVar(&s.full, "full", false, "all cells, and the curves of --scale")
	flags.BoolVar(&s.scale, "scale", false, "the curves alone: many clients, backends and statements")
	flags.BoolVar(&s.smoke, "smoke", false, "everything for a moment: does each cell give numbers, and does nothing fail? No gates on speed")
	flags.BoolVar(&s.rig, "rig", false, "start everything, say where it is, and wait for Ctrl-C")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	round, rounds := 5*time.Second, 7
	switch {
	case s.smoke:
		round, rounds = time.Second, 1
	case s.full:
		round, rounds = 3*time.Second, 5
	case s.scale:
		round = 3 * time.Second
	}
	if s.round == 0 {
		s.round = round
	}
	if s.rounds == 0 {
		s.rounds = rounds
	}
	if s.round < time.Second || s.round%time.Second != 0 || s.rounds < 1 {
		return s, errors.New("a round lasts one or more whole seconds, and there is at least one")
	}
	return s, nil
}

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	cancel()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

// run does what the command line says: results go to out, what happens meanwhile to log.
func run(ctx context.Context, args []string, out, log io.Writer) (err error) {
	s, err := parse(args, log)
	if err != nil {
		return err
	}
	if err := rig.RaiseFileLimit(s.files()); err != nil {
		return err
	}
	b := &bench{settings: s, log: log, load: loadAverage()}
	options := rig.Options{Replicas: 2, Scale: 10, Caddy: s.caddy, Log: io.Discard}
	if s.smoke {
		options.Scale = 1
	}
	if s.manyAddresses() {
		options.Listen = addresses(loopbacks)
	}
	if b.rig, err = rig.Start(ctx, options); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.rig.Close()) }()
	if s.rig {
		return b.show(ctx, out)
	}
	return b.report(ctx, out)
}

// show starts one of each and waits.
func (b *bench) show(ctx context.Context, out io.Writer) error {
	fmt.Fprintf(out, "%-16s %-10s %s\n", "", direct, b.rig.Primary())
	for _, s := range []scene{one, three, secure} {
		peers, err := enter(ctx, b.rig, s)
		if err != nil {
			return err
		}
		for _, name := range []string{pgbouncer, pgpool, haproxy, fairway} {
			if p := peers[name]; p != nil {
				fmt.Fprintf(out, "%-16s %-10s %-16s pid %-6d admin %s\n", s, p.Name, p.Addr, p.PID(), p.Admin)
			}
		}
	}
	fmt.Fprintf(out, "\npgbench -n -S -h HOST -p PORT -U %s %s\nwhere SCRAM is asked for: -U %s with PGPASSWORD=%q. Ctrl-C ends everything.\n",
		rig.User, rig.Database, rig.Secure, rig.Password)
	<-ctx.Done()
	return nil
}

// report measures what was asked for and tells it.
func (b *bench) report(ctx context.Context, out io.Writer) error {
	began := time.Now()
	sections, plots := make(map[string]string), make(map[string]string)
	var outcomes []outcome
	if !b.scale {
		var err error
		if outcomes, err = b.compare(ctx, sections, plots); err != nil {
			return err
		}
	}
	if b.scale || b.full || b.smoke {
		if err := b.measureScale(ctx, sections, plots); err != nil {
			return err
		}
	}
	sections["machine"] = b.describeMachine(ctx, began)
	if b.scale {
		sections["scale-machine"] = sections["machine"]
		delete(sections, "machine")
	} else if b.full {
		sections["scale-machine"] = "Measured in the same run as the tables above."
	}
	for _, name := range []string{"machine", "scale-machine", "goals", "cells", "memory", "scale"} {
		if text := sections[name]; text != "" {
			fmt.Fprintf(out, "%s\n\n", strings.TrimSpace(text))
		}
	}
	if b.page != "" {
		if err := publish(b.page, sections, plots); err != nil {
			return err
		}
	}
	return b.check(outcomes)
}

// compare measures Fairway beside the others.
func (b *bench) compare(ctx context.Context, sections, plots map[string]string) ([]outcome, error) {
	chosen, err := b.chosen()
	if err != nil {
		return nil, err
	}
	found, err := b.measureCells(ctx, chosen)
	if err != nil {
		return nil, err
	}
	outcomes := judge(found)
	sections["cells"] = cellTable(chosen, found)
	maps.Copy(plots, cellPlots(chosen, found))
	if b.only == "" {
		clients, rounds := 5000, 3
		if b.smoke {
			clients, rounds = 200, 1
		}
		weights, err := b.measureMemory(ctx, clients, rounds)
		if err != nil {
			return nil, err
		}
		sections["memory"] = memoryTable(clients, weights)
		outcomes = append(outcomes, memoryOutcome(weights)...)
	}
	if b.only == "" && !b.smoke {
		outcomes = append(outcomes, b.countAllocations(ctx))
	}
	if !b.smoke { // a moment says nothing about a goal
		sections["goals"] = goalTable(outcomes)
	}
	return outcomes, nil
}

// check returns an error that names the gates that fail. A smoke test has none: a moment on a busy machine says nothing.
func (b *bench) check(outcomes []outcome) error {
	var errs []error
	for _, o := range outcomes {
		if !b.smoke && !o.holds() {
			errs = append(errs, fmt.Errorf("gate %s fails: %s: %s, want %s", o.id, o.text, spread(o.figure), o.bound(o.gate)))
		}
	}
	return errors.Join(errs...)
}

// files is how many files must be open at once, here and in a proxy: as many as there are clients, and some.
func (s settings) files() uint64 {
	switch {
	case s.smoke:
		return 1000
	case s.scale || s.full:
		return mostIdle + 500
	default:
		return 6000
	}
}
