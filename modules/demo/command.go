package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "postgres-demo",
		Usage: "[--replicas <n>] [--port <n>] [--admin <address>] [--load <n>] [--for <duration>] [--once]",
		Short: "Shows the PostgreSQL load balancer with a cluster of its own",
		Long: `
Starts a PostgreSQL primary with streaming replicas in a temporary directory,
the load balancer before it and a light load, and shows what each server does.
Kill a server with the command the table shows and watch: reads go on at the
others, writes wait for the promoted replica, the dead server comes back.

It needs the PostgreSQL server binaries (Debian and Ubuntu: apt-get install
postgresql), and no Docker, and works for every user, root included: the servers
then run as the user postgres, or nobody. Everything listens on the loopback
interface only and clients are let in without a password.

Ctrl-C lets clients finish their transactions (for 8 seconds at most), stops
everything and removes the directory. A second Ctrl-C does not wait for that: the
servers die all the same, the directory stays.`,
		CobraFunc: func(cmd *cobra.Command) {
			flags := cmd.Flags()
			flags.Int("replicas", 2, "Number of streaming replicas")
			flags.Int("port", 6432, "TCP port for clients on 127.0.0.1, 0 for a free one")
			flags.String("admin", "", "Address of the admin API (default: a free port on 127.0.0.1)")
			flags.Int("load", 4, "Number of clients of the background load, 0 for none")
			flags.Duration("for", 0, "End by itself after this time")
			flags.Bool("once", false, "Show the table once and end")
			cmd.RunE = runCommand
		},
	})
}

// Bounds of the flags: more would not be a demo but a strain on the machine.
const (
	maxReplicas = 15
	maxLoad     = 64
)

// runCommand reads the flags and runs the demo until it ends or the user has had enough.
func runCommand(cmd *cobra.Command, _ []string) error {
	o := Options{Out: cmd.OutOrStdout()}
	flags := cmd.Flags()
	var errs [6]error
	o.Replicas, errs[0] = flags.GetInt("replicas")
	o.Port, errs[1] = flags.GetInt("port")
	o.Admin, errs[2] = flags.GetString("admin")
	o.Load, errs[3] = flags.GetInt("load")
	o.For, errs[4] = flags.GetDuration("for")
	o.Once, errs[5] = flags.GetBool("once")
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	if err := o.check(); err != nil {
		return err
	}
	cmd.SilenceUsage = true
	// The command is the root of the demo's contexts.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal has its usual effect
	return Run(ctx, o)
}

// check refuses flags that make no sense.
func (o Options) check() error {
	switch {
	case o.Replicas < 0 || o.Replicas > maxReplicas:
		return fmt.Errorf("--replicas %d: want 0 to %d", o.Replicas, maxReplicas)
	case o.Port < 0 || o.Port > 65535:
		return fmt.Errorf("--port %d: want 0 to 65535", o.Port)
	case o.Load < 0 || o.Load > maxLoad:
		return fmt.Errorf("--load %d: want 0 to %d", o.Load, maxLoad)
	case o.For < 0:
		return fmt.Errorf("--for %s: want a time of %s or more", o.For, time.Duration(0))
	}
	return nil
}
