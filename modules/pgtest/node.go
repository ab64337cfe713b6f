package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// StopMode is how a server is asked to shut down.
// See https://www.postgresql.org/docs/current/server-shutdown.html.
type StopMode int

// The three ways PostgreSQL knows.
const (
	// Smart lets every session end by itself first.
	Smart StopMode = iota
	// Fast ends the sessions (57P01) and checkpoints.
	Fast
	// Immediate drops everything as in a crash, but the clients are told (57P02).
	Immediate
)

var stopSignals = map[StopMode]syscall.Signal{Smart: syscall.SIGTERM, Fast: syscall.SIGINT, Immediate: syscall.SIGQUIT}

// errPortTaken means that somebody else bound the port first.
var errPortTaken = errors.New("port is taken")

// Node is one PostgreSQL server: a data directory, a port that it keeps over restarts, and at most one postmaster.
type Node struct {
	name string
	c    *Cluster
	dir  string

	op sync.Mutex // held by whoever starts, stops or rebuilds the server

	mu struct {
		sync.Mutex
		port   int
		proc   *process
		frozen []int
	}
}

// Name is the node's name in the cluster, also its cluster_name, application_name and replication slot.
func (n *Node) Name() string { return n.name }

// Port is the TCP port on 127.0.0.1.
func (n *Node) Port() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.port
}

// Addr is host and port of the server.
func (n *Node) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(n.Port())) }

// PID is the process id of the postmaster, 0 when none runs.
func (n *Node) PID() int {
	if p := n.process(); p.running() {
		return p.pid
	}
	return 0
}

// Running reports whether the postmaster or a process it forked exists.
func (n *Node) Running() bool { return n.process().running() }

// Gone is closed when the server that runs now has ended, by whatever means, with all its processes. A node that does
// not run gives a closed channel.
func (n *Node) Gone() <-chan struct{} {
	if p := n.process(); p != nil {
		return p.gone
	}
	closed := make(chan struct{})
	close(closed)
	return closed
}

func (n *Node) process() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.proc
}

func (n *Node) data() string    { return filepath.Join(n.dir, "data") }
func (n *Node) logFile() string { return filepath.Join(n.dir, "server.log") }

// enter begins an operation on the node; leave ends it.
func (n *Node) enter(ctx context.Context) (_ context.Context, leave func(), err error) {
	ctx, done, err := n.c.begin(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("node %s: %w", n.name, err)
	}
	n.op.Lock()
	return ctx, func() { n.op.Unlock(); done() }, nil
}

// Start starts the server on its old port and returns when it accepts connections; a standby does once it has
// reached a consistent state. A node that was stopped or killed comes back as what it was: an old primary as a primary.
func (n *Node) Start(ctx context.Context) error {
	ctx, leave, err := n.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return n.launchRetrying(ctx)
}

// Stop shuts the server down and returns when no process of it is left. A node that does not run is no error.
func (n *Node) Stop(ctx context.Context, mode StopMode) error {
	ctx, leave, err := n.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return n.end(ctx, stopSignals[mode])
}

// Kill kills the postmaster with SIGKILL, as a crash of the machine's memory would, and returns when all processes it
// forked have noticed and ended and the port is free. Clients see their connections reset or closed without a word.
func (n *Node) Kill(ctx context.Context) error {
	ctx, leave, err := n.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return n.end(ctx, syscall.SIGKILL)
}

// Restart is a fast stop and a start.
func (n *Node) Restart(ctx context.Context) error {
	ctx, leave, err := n.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if err := n.end(ctx, syscall.SIGINT); err != nil {
		return err
	}
	return n.launchRetrying(ctx)
}

// end sends a signal and waits for the end.
func (n *Node) end(ctx context.Context, s syscall.Signal) error {
	began, p := time.Now(), n.process()
	if !p.running() {
		return nil
	}
	if err := p.signal(s); err != nil {
		return fmt.Errorf("node %s: %w", n.name, err)
	}
	if err := n.thaw(); err != nil { // what is stopped by a signal would not notice
		return err
	}
	if err := p.wait(ctx); err != nil {
		return fmt.Errorf("node %s: %w", n.name, err)
	}
	n.c.logf(began, "%s: ended by %v", n.name, s)
	return nil
}

// destroy ends the server at once, for Close. PostgreSQL's immediate shutdown comes first because it also removes what
// lies outside the data directory, such as shared memory.
func (n *Node) destroy() error {
	// The context is its own: Close works after every other context has ended.
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if n.end(ctx, syscall.SIGQUIT) == nil {
		return nil
	}
	ctx, cancel = context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return n.end(ctx, syscall.SIGKILL)
}

// launchRetrying starts the postmaster. On the first start another port is tried when the port is taken; later it is
// waited for, for the node is known by it.
func (n *Node) launchRetrying(ctx context.Context) error {
	if n.Running() {
		return fmt.Errorf("start node %s: it runs already", n.name)
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	first := n.Port() == 0
	var taken error
	for {
		if first {
			port, err := n.c.port()
			if err != nil {
				return err
			}
			n.setPort(port)
		}
		err := n.launch(ctx)
		if err == nil {
			return nil
		}
		if !errors.Is(err, errPortTaken) {
			return errors.Join(err, taken)
		}
		if first {
			continue
		}
		taken = err
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// setPort sets the port the next launch uses.
func (n *Node) setPort(port int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.port = port
}

// launch starts the postmaster once and waits until it is ready.
func (n *Node) launch(ctx context.Context) error {
	began, port := time.Now(), strconv.Itoa(n.Port())
	// No process of this node is left, but one of somebody else may have its id by now and make the lock files look
	// alive.
	_ = os.Remove(filepath.Join(n.data(), "postmaster.pid"))
	args := []string{"-D", n.data(), "-p", port, "-c", "cluster_name=" + n.name, "-c", "unix_socket_directories=" + n.c.sockets}
	if n.c.sockets != "" {
		_ = os.Remove(filepath.Join(n.c.sockets, ".s.PGSQL."+port+".lock"))
	}
	// The server outlives the operation that starts it.
	cmd := n.c.command(context.WithoutCancel(ctx), n.dir, "postgres", args...)
	log, err := os.OpenFile(n.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("start node %s: %w", n.name, err)
	}
	defer log.Close()
	info, err := log.Stat()
	if err != nil {
		return fmt.Errorf("start node %s: %w", n.name, err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	p, err := spawn(cmd)
	if err != nil {
		return fmt.Errorf("start node %s: %w", n.name, err)
	}
	n.mu.Lock()
	n.mu.proc = p
	n.mu.Unlock()
	if err := n.awaitReady(ctx, p); err != nil {
		_ = p.signal(syscall.SIGKILL)
		<-p.gone
		said := n.logFrom(info.Size())
		if strings.Contains(said, "Address already in use") {
			err = fmt.Errorf("%w: %w", errPortTaken, err)
		}
		return fmt.Errorf("start node %s on port %s: %w; its log: %s", n.name, port, err, lastLines(said, 10))
	}
	n.c.logf(began, "%s: ready on port %s, pid %d", n.name, port, p.pid)
	return nil
}

// awaitReady waits until the postmaster has written "ready" into its lock file, as pg_ctl does. Reading the file rather
// than connecting makes sure that it is this server that is ready, whoever listens on the port.
func (n *Node) awaitReady(ctx context.Context, p *process) error {
	const (
		pidLine    = 0
		statusLine = 7 // LOCK_FILE_LINE_PM_STATUS of PostgreSQL's pidfile.h, counted from 0
	)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		content, err := os.ReadFile(filepath.Join(n.data(), "postmaster.pid"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		lines := strings.Split(string(content), "\n")
		if len(lines) > statusLine && lines[pidLine] == strconv.Itoa(p.pid) && strings.TrimSpace(lines[statusLine]) == "ready" {
			return nil
		}
		select {
		case <-p.gone:
			return fmt.Errorf("the postmaster ended: %w", errors.Join(p.err, errNotReady))
		case <-ctx.Done():
			return fmt.Errorf("wait for readiness: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// errNotReady makes the error complete where the postmaster ended with status 0.
var errNotReady = errors.New("before it was ready")

// LogTail returns the last lines of the server's log, at most that many. It may be called after the server has ended,
// but not after Close. An error to read it becomes the text.
func (n *Node) LogTail(lines int) string { return lastLines(n.logFrom(0), lines) }

// logFrom returns the log from an offset on.
func (n *Node) logFrom(offset int64) string {
	f, err := os.Open(n.logFile())
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	content, err := io.ReadAll(io.NewSectionReader(f, offset, 64<<20))
	if err != nil {
		return err.Error()
	}
	return string(content)
}

// lastLines cuts text down to its last lines.
func lastLines(text string, lines int) string {
	all := bytes.Split(bytes.TrimRight([]byte(text), "\n"), []byte("\n"))
	return string(bytes.Join(all[max(0, len(all)-lines):], []byte("\n")))
}
