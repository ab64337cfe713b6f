package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// initialize creates the primary's data directory.
// See https://www.postgresql.org/docs/current/app-initdb.html.
func (n *Node) initialize(ctx context.Context) error {
	began := time.Now()
	password := filepath.Join(n.dir, "password")
	if err := n.c.account.writeFile(password, n.c.options.Password+"\n"); err != nil {
		return err
	}
	defer os.Remove(password)
	err := run(n.c.command(ctx, n.dir, "initdb", "-D", n.data(), "--auth="+n.c.options.Auth, "--username="+n.c.options.Superuser,
		"--pwfile="+password, "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"))
	if err != nil {
		return fmt.Errorf("initialize node %s: %w", n.name, err)
	}
	conf, err := os.OpenFile(filepath.Join(n.data(), "postgresql.conf"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("initialize node %s: %w", n.name, err)
	}
	_, err = conf.WriteString(configuration(n.c.options.Settings))
	if err = errors.Join(err, conf.Close()); err != nil {
		return fmt.Errorf("initialize node %s: %w", n.name, err)
	}
	n.c.logf(began, "%s: initialized", n.name)
	return nil
}

// clone fills the node's empty data directory with a copy of the primary and makes it a standby.
func (n *Node) clone(ctx context.Context) error {
	began, primary := time.Now(), n.c.Primary()
	if err := n.makeSlot(ctx, primary); err != nil {
		return err
	}
	var err error
	if hasBinary(n.c.bin, "pg_basebackup") {
		cmd := n.c.command(ctx, n.dir, "pg_basebackup", "-D", n.data(), "-h", "127.0.0.1", "-p", strconv.Itoa(primary.Port()),
			"-U", n.c.options.Superuser, "-X", "stream", "-S", n.name, "--checkpoint=fast", "--no-sync", "--no-password")
		cmd.Env = append(cmd.Env, "PGPASSWORD="+n.c.options.Password)
		err = run(cmd)
	} else {
		err = primary.copyTo(ctx, n)
	}
	if err == nil {
		err = n.makeStandby(primary)
	}
	if err != nil {
		return fmt.Errorf("clone %s as %s: %w", primary.name, n.name, err)
	}
	n.c.logf(began, "%s: cloned from %s", n.name, primary.name)
	return nil
}

// makeSlot creates the node's physical replication slot on its upstream if it is not there. It reserves WAL from now on,
// so that nothing the copy needs is recycled.
func (n *Node) makeSlot(ctx context.Context, upstream *Node) error {
	return upstream.Exec(ctx, fmt.Sprintf(`SELECT pg_create_physical_replication_slot(%[1]s, true)
		WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = %[1]s)`, quoteLiteral(n.name)))
}

// upstreamSettings are the settings by which a standby follows its upstream.
// See https://www.postgresql.org/docs/current/runtime-config-replication.html#RUNTIME-CONFIG-REPLICATION-STANDBY.
func (n *Node) upstreamSettings(upstream *Node) map[string]string {
	return map[string]string{
		"primary_slot_name": n.name,
		"primary_conninfo": connString(map[string]string{
			"host": "127.0.0.1", "port": strconv.Itoa(upstream.Port()), "user": n.c.options.Superuser,
			"password": n.c.options.Password, "application_name": n.name, "sslmode": "disable",
		}),
	}
}

// makeStandby turns a copied data directory into that of a standby. The file of ALTER SYSTEM is written anew: what the
// primary had there, such as synchronous_standby_names, is its own.
func (n *Node) makeStandby(upstream *Node) error {
	settings := configuration(n.upstreamSettings(upstream))
	if err := n.c.account.writeFile(filepath.Join(n.data(), "postgresql.auto.conf"), settings); err != nil {
		return err
	}
	return n.c.account.writeFile(filepath.Join(n.data(), "standby.signal"), "")
}

// Promote makes a running standby a primary, and the cluster's Primary, and returns when it accepts writes. The old
// primary is left alone: stop or kill it first unless two primaries are what you want. Other replicas go on following
// the old one until Follow.
// See https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-RECOVERY-CONTROL.
func (n *Node) Promote(ctx context.Context) error {
	ctx, leave, err := n.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	began := time.Now()
	promoted, err := n.Value(ctx, "SELECT pg_promote(true, 60)")
	if err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	if promoted != "t" {
		return fmt.Errorf("promote node %s: it did not end recovery within 60 s", n.name)
	}
	n.c.setPrimary(n)
	n.c.logf(began, "%s: promoted", n.name)
	return nil
}

// Follow makes a running replica stream from the present primary, as after a failover, and returns when it does. The
// replica must not be ahead of it; else, and for an old primary, use Rejoin.
func (n *Node) Follow(ctx context.Context) error {
	ctx, leave, err := n.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	primary := n.c.Primary()
	if err := n.makeSlot(ctx, primary); err != nil {
		return fmt.Errorf("follow: %w", err)
	}
	if err := n.alterSystem(ctx, n.upstreamSettings(primary)); err != nil {
		return fmt.Errorf("follow: %w", err)
	}
	return n.c.awaitStreaming(ctx, n)
}

// Rejoin throws the node's data away and builds it again as a replica of the present primary, on the same port, and
// returns when it streams: what an operator does with an old primary after a failover. It is stopped first if it runs.
func (n *Node) Rejoin(ctx context.Context) error {
	ctx, leave, err := n.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if n == n.c.Primary() {
		return fmt.Errorf("rejoin node %s: it is the primary", n.name)
	}
	if err := n.destroy(); err != nil {
		return fmt.Errorf("rejoin: %w", err)
	}
	if err := os.RemoveAll(n.data()); err != nil {
		return fmt.Errorf("rejoin node %s: %w", n.name, err)
	}
	if err := n.clone(ctx); err != nil {
		return fmt.Errorf("rejoin: %w", err)
	}
	if err := n.launchRetrying(ctx); err != nil {
		return fmt.Errorf("rejoin: %w", err)
	}
	return n.c.awaitStreaming(ctx, n)
}

// PauseReplay freezes what a replica shows: it goes on receiving WAL but applies none, and its lag grows. It returns
// when replay stands still.
func (n *Node) PauseReplay(ctx context.Context) error {
	if err := n.Exec(ctx, "SELECT pg_wal_replay_pause()"); err != nil {
		return fmt.Errorf("pause replay: %w", err)
	}
	return n.await(ctx, "replay to pause", func(ctx context.Context) (bool, error) {
		state, err := n.Value(ctx, "SELECT pg_get_wal_replay_pause_state()")
		return state == "paused", err
	})
}

// ResumeReplay lets a paused replica apply what it has received.
func (n *Node) ResumeReplay(ctx context.Context) error {
	if err := n.Exec(ctx, "SELECT pg_wal_replay_resume()"); err != nil {
		return fmt.Errorf("resume replay: %w", err)
	}
	return nil
}

// WaitStreaming returns when all running replicas, or those named, stream from the present primary.
func (c *Cluster) WaitStreaming(ctx context.Context, replicas ...*Node) error {
	ctx, done, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	return c.awaitStreaming(ctx, replicas...)
}

func (c *Cluster) awaitStreaming(ctx context.Context, replicas ...*Node) error {
	if len(replicas) == 0 {
		replicas = slices.DeleteFunc(c.Replicas(), func(n *Node) bool { return !n.Running() })
	}
	var missing []string
	err := c.Primary().await(ctx, "replicas to stream", func(ctx context.Context) (bool, error) {
		rows, err := c.Primary().Query(ctx, "SELECT application_name FROM pg_stat_replication WHERE state = 'streaming'")
		missing = missing[:0]
		for _, n := range replicas {
			if !slices.ContainsFunc(rows, func(row []string) bool { return row[0] == n.name }) {
				missing = append(missing, n.name)
			}
		}
		return len(missing) == 0, err
	})
	if err != nil {
		return fmt.Errorf("%w (missing: %s)", err, strings.Join(missing, ", "))
	}
	return nil
}

// WaitCaughtUp returns when all running replicas, or those named, have replayed what the present primary had written
// when it was called. It waits for ever, that is until ctx ends, for a replica whose replay is paused.
func (c *Cluster) WaitCaughtUp(ctx context.Context, replicas ...*Node) error {
	ctx, done, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	position, err := c.Primary().Value(ctx, "SELECT pg_current_wal_lsn()")
	if err != nil {
		return fmt.Errorf("wait for replicas to catch up: %w", err)
	}
	if len(replicas) == 0 {
		replicas = slices.DeleteFunc(c.Replicas(), func(n *Node) bool { return !n.Running() })
	}
	for _, n := range replicas {
		err := n.await(ctx, "replay up to "+position, func(ctx context.Context) (bool, error) {
			reached, err := n.Value(ctx, "SELECT pg_last_wal_replay_lsn() >= "+quoteLiteral(position))
			return reached == "t", err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// await asks every 20 ms until the answer is yes. An error of the server ends it; one of the connection does not, for
// servers may be just starting.
func (n *Node) await(ctx context.Context, what string, ask func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		yes, err := ask(ctx)
		if err != nil && !transient(err) {
			return fmt.Errorf("node %s: wait for %s: %w", n.name, what, err)
		}
		if yes {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("node %s: wait for %s: %w", n.name, what, errors.Join(context.Cause(ctx), err))
		case <-tick.C:
		}
	}
}
