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
	"os"
	"os/signal"
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
func run(ctx context.Context, args []string, out, log io.Writer) error {
	s, err := parse(args, log)
	if err != nil {
		return err
	}
	return showRig(ctx, s, out, log)
}

// showRig starts one of each and waits.
func showRig(ctx context.Context, s settings, out, log io.Writer) (err error) {
	r, err := rig.Start(ctx, rig.Options{Replicas: 2, Scale: 10, Caddy: s.caddy, Log: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	one, three := []string{r.Primary()}, append([]string{r.Primary()}, r.Replicas()...)
	peers := []*rig.Peer{r.Direct()}
	for _, start := range []func() (*rig.Peer, error){
		func() (*rig.Peer, error) { return r.PgBouncer(ctx, false) },
		func() (*rig.Peer, error) { return r.PgBouncer(ctx, true) },
		func() (*rig.Peer, error) { return r.HAProxy(ctx, r.Replicas()) },
		func() (*rig.Peer, error) { return r.Pgpool(ctx) },
		func() (*rig.Peer, error) { return r.Fairway(ctx, rig.FairwayOptions{Backends: one}) },
		func() (*rig.Peer, error) { return r.Fairway(ctx, rig.FairwayOptions{Backends: three}) },
		func() (*rig.Peer, error) { return r.Fairway(ctx, rig.FairwayOptions{Backends: one, Secure: true}) },
	} {
		p, err := start()
		if err != nil {
			return err
		}
		peers = append(peers, p)
	}
	for i, what := range []string{
		"one node, no password", "one node, no password", "one node, SCRAM", "the replicas", "three nodes",
		"one node, no password", "three nodes, no password", "one node, SCRAM",
	} {
		p := peers[i]
		fmt.Fprintf(out, "%-10s %-16s pid %-6d admin %-16s %s\n", p.Name, p.Addr, p.PID(), p.Admin, what)
	}
	fmt.Fprintf(out, "\npgbench -n -S -h HOST -p PORT -U %s %s\nor -U %s with PGPASSWORD=%q. Ctrl-C ends everything.\n",
		rig.User, rig.Database, rig.Secure, rig.Password)
	<-ctx.Done()
	return nil
}
