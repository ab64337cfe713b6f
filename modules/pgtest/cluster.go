package pgtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"
)

// ErrClosed is returned by every method of a cluster, and of its nodes, that was closed or whose context has ended.
var ErrClosed = errors.New("cluster is closed")

// Cluster is one primary and its replicas. Its methods are safe for concurrent use; each node does one thing at a time.
//
// Lock order: Node.op, then Cluster.mu, then Node.mu.
type Cluster struct {
	options Options
	account account
	bin     string
	dir     string
	sockets string // directory of the Unix sockets, "" when its path would be too long for one
	life    context.Context
	end     context.CancelCauseFunc
	unwatch func() bool // stops watching Start's context
	close   func() error
	busy    sync.WaitGroup // operations under way

	mu struct {
		sync.Mutex
		closed  bool
		created []string // paths to remove at Close, in order of creation
		nodes   []*Node
		primary *Node
		ports   map[int]bool
	}
}

// nameForm is what a node may be called: its name is also that of its replication slot, and PostgreSQL allows no more.
var nameForm = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

// Start builds a cluster and returns when its primary accepts connections and all replicas stream. The cluster lives
// until Close or the end of ctx, whichever is first: give it a context without a deadline, or one that ends with the
// test. On an error nothing is left behind.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	c, err := newCluster(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("start PostgreSQL cluster: %w", err)
	}
	c.life, c.end = context.WithCancelCause(context.WithoutCancel(ctx))
	c.unwatch = context.AfterFunc(ctx, func() { _ = c.Close() })
	c.close = sync.OnceValue(c.shutdown)
	if err := c.boot(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start PostgreSQL cluster: %w", err), c.Close())
	}
	return c, nil
}

// newCluster finds binaries and account and creates the directory.
func newCluster(ctx context.Context, o Options) (*Cluster, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Cluster{options: o, bin: o.Bin}
	c.mu.ports = make(map[int]bool)
	switch {
	case c.bin != "":
	case o.Version != "":
		c.bin, err = FetchBinaries(ctx, o.Version)
	default:
		c.bin, err = FindBinaries()
	}
	if err != nil {
		return nil, err
	}
	if c.account, err = findAccount(o.Account); err != nil {
		return nil, err
	}
	if err := c.makeRoot(); err != nil {
		return nil, errors.Join(err, c.remove())
	}
	return c, nil
}

// makeRoot creates the cluster's directory and the one for the sockets.
func (c *Cluster) makeRoot() error {
	c.dir = c.options.Dir
	if c.dir == "" {
		dir, err := os.MkdirTemp("", "fairway-pg-")
		if err != nil {
			return err
		}
		c.dir = dir
		c.mu.created = append(c.mu.created, dir)
	} else {
		entries, err := os.ReadDir(c.dir)
		switch {
		case errors.Is(err, os.ErrNotExist):
			c.mu.created = append(c.mu.created, c.dir)
		case err != nil:
			return err
		case len(entries) > 0:
			return fmt.Errorf("directory %s is not empty", c.dir)
		}
	}
	var err error
	if c.dir, err = filepath.Abs(c.dir); err != nil {
		return err
	}
	if err := c.account.makeDir(c.dir); err != nil {
		return err
	}
	sockets := filepath.Join(c.dir, "s")
	c.mu.created = append(c.mu.created, sockets)
	// sockaddr_un holds 104 bytes on BSD and macOS and 108 on Linux, the final NUL included (unix(7)).
	if len(filepath.Join(sockets, ".s.PGSQL.65535")) < 104 {
		c.sockets = sockets
	}
	return c.account.makeDir(sockets)
}

// boot starts the primary and the first replicas.
func (c *Cluster) boot(ctx context.Context) error {
	ctx, done, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	primary, err := c.newNode("pg1")
	if err != nil {
		return err
	}
	if err := primary.initialize(ctx); err != nil {
		return err
	}
	if err := primary.launchRetrying(ctx); err != nil {
		return err
	}
	c.setPrimary(primary)
	if err := c.addReplicas(ctx); err != nil {
		return err
	}
	if err := c.awaitStreaming(ctx); err != nil {
		return err
	}
	if c.options.SynchronousReplicas == 0 {
		return nil
	}
	names := fmt.Sprintf("ANY %d (*)", c.options.SynchronousReplicas)
	return primary.alterSystem(ctx, map[string]string{"synchronous_standby_names": names})
}

// addReplicas builds the first replicas at the same time.
func (c *Cluster) addReplicas(ctx context.Context) error {
	errs := make([]error, c.options.Replicas)
	var wg sync.WaitGroup
	for i := range errs {
		node, err := c.newNode("pg" + strconv.Itoa(i+2))
		if err != nil {
			return err
		}
		wg.Go(func() {
			if errs[i] = node.clone(ctx); errs[i] == nil {
				errs[i] = node.launchRetrying(ctx)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// newNode makes the directory of a node and enters it; the server in it is not there yet.
func (c *Cluster) newNode(name string) (*Node, error) {
	if !nameForm.MatchString(name) {
		return nil, fmt.Errorf("node name %q: want 1 to 63 lower-case letters, digits and underscores", name)
	}
	n := &Node{name: name, c: c, dir: filepath.Join(c.dir, name)}
	c.mu.Lock()
	if slices.ContainsFunc(c.mu.nodes, func(other *Node) bool { return other.name == name }) {
		c.mu.Unlock()
		return nil, fmt.Errorf("node %s exists already", name)
	}
	c.mu.nodes = append(c.mu.nodes, n)
	c.mu.created = append(c.mu.created, n.dir)
	c.mu.Unlock()
	if err := c.account.makeDir(n.dir); err != nil {
		return nil, fmt.Errorf("node %s: %w", name, err)
	}
	return n, nil
}

// AddReplica builds one more replica of the present primary and returns it when it streams. An empty name means the
// next free one of pg2, pg3, …. When it fails the name is free again.
func (c *Cluster) AddReplica(ctx context.Context, name string) (*Node, error) {
	ctx, done, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if name == "" {
		name = c.freeName()
	}
	n, err := c.newNode(name)
	if err != nil {
		return nil, fmt.Errorf("add replica: %w", err)
	}
	n.op.Lock()
	defer n.op.Unlock()
	err = n.clone(ctx)
	if err == nil {
		err = n.launchRetrying(ctx)
	}
	if err == nil {
		err = c.awaitStreaming(ctx, n)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("add replica %s: %w", name, err), c.drop(n))
	}
	return n, nil
}

// RemoveReplica stops a replica, drops its slot on the primary and deletes its files. The primary cannot be removed.
func (c *Cluster) RemoveReplica(ctx context.Context, n *Node) error {
	ctx, done, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	primary := c.Primary()
	if n == primary {
		return fmt.Errorf("remove replica %s: it is the primary", n.name)
	}
	n.op.Lock()
	defer n.op.Unlock()
	if err := c.drop(n); err != nil {
		return fmt.Errorf("remove replica %s: %w", n.name, err)
	}
	return primary.Exec(ctx, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active AND slot_name = "+
		quoteLiteral(n.name))
}

// drop kills a node, forgets it and deletes its files.
func (c *Cluster) drop(n *Node) error {
	err := n.destroy()
	c.mu.Lock()
	c.mu.nodes = slices.DeleteFunc(c.mu.nodes, func(other *Node) bool { return other == n })
	c.mu.Unlock()
	return errors.Join(err, os.RemoveAll(n.dir))
}

// freeName returns the first of pg2, pg3, … that no node has.
func (c *Cluster) freeName() string {
	for i := 2; ; i++ {
		if name := "pg" + strconv.Itoa(i); c.Node(name) == nil {
			return name
		}
	}
}

// Primary returns the node that was made primary last, whether it runs or not. An old primary that comes back after a
// failover is not it, even while it believes to be one.
func (c *Cluster) Primary() *Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.primary
}

// setPrimary records who is the primary from now on.
func (c *Cluster) setPrimary(n *Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.primary = n
}

// Replicas returns all nodes but the primary, in order of creation, whether they run or not.
func (c *Cluster) Replicas() []*Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.mu.nodes), func(n *Node) bool { return n == c.mu.primary })
}

// Nodes returns all nodes in order of creation.
func (c *Cluster) Nodes() []*Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.mu.nodes)
}

// Node returns the node of that name, nil when there is none.
func (c *Cluster) Node(name string) *Node {
	for _, n := range c.Nodes() {
		if n.name == name {
			return n
		}
	}
	return nil
}

// Dir is the cluster's directory. Each node's data lies in a directory of the node's name.
func (c *Cluster) Dir() string { return c.dir }

// SocketDir is the directory of the servers' Unix sockets, "" when the cluster's path is too long to have any.
func (c *Cluster) SocketDir() string { return c.sockets }

// Superuser is the name of the bootstrap role.
func (c *Cluster) Superuser() string { return c.options.Superuser }

// Password is the superuser's password. With AuthTrust nobody asks for it.
func (c *Cluster) Password() string { return c.options.Password }

// Close kills every server, waits until none is left and removes what Start created. It may be called twice and from
// anywhere; operations under way are ended first.
func (c *Cluster) Close() error { return c.close() }

// shutdown is the body of Close.
func (c *Cluster) shutdown() error {
	c.unwatch()
	c.end(ErrClosed)
	c.mu.Lock()
	c.mu.closed = true
	nodes := slices.Clone(c.mu.nodes)
	c.mu.Unlock()
	c.busy.Wait()
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() { errs[i] = n.destroy() })
	}
	wg.Wait()
	if err := errors.Join(append(errs, c.remove())...); err != nil {
		return fmt.Errorf("close PostgreSQL cluster: %w", err)
	}
	return nil
}

// remove deletes what was created, the newest first.
func (c *Cluster) remove() error {
	var errs []error
	for _, path := range slices.Backward(c.mu.created) {
		errs = append(errs, os.RemoveAll(path))
	}
	return errors.Join(errs...)
}

// begin enters an operation: its context also ends with the cluster, and Close waits for done.
func (c *Cluster) begin(ctx context.Context) (context.Context, func(), error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.closed {
		return nil, nil, ErrClosed
	}
	c.busy.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.life, func() { cancel(ErrClosed) })
	return ctx, func() {
		stop()
		cancel(nil)
		c.busy.Done()
	}, nil
}

// port picks a loopback port nobody listens on. It stays away from the range from which clients' own ports are taken
// (32768 and up on Linux, 49152 and up elsewhere): otherwise a passing connection could hold the port of a server that
// is to be started again. Who binds it between now and then makes the start fail, and the caller asks again.
func (c *Cluster) port() (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for range 1000 {
		port := 10000 + rand.IntN(22000)
		if c.mu.ports[port] {
			continue
		}
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		l.Close()
		c.mu.ports[port] = true
		return port, nil
	}
	return 0, errors.New("no free port on 127.0.0.1 between 10000 and 32000")
}

// logf tells what is done to who asked for it.
func (c *Cluster) logf(began time.Time, format string, a ...any) {
	fmt.Fprintf(c.options.Log, format+" (%d ms)\n", append(a, time.Since(began).Milliseconds())...)
}
