// Package cluster owns the backends of a cluster: which there are, what each of
// them is (primary or replica), how well each is, how far each replica has come.
// It watches them, dials them for the pools, and publishes what it knows as
// immutable topologies. It never reads a statement, never chooses a backend for
// one and never talks to a client: routing chooses, session leads the turn.
//
// A [Cluster] belongs to the process, not to a configuration. A configuration
// takes a reference ([Registry.Reference]) when it is provisioned, which does
// nothing, and puts its settings in force with a [Claim] when it is started. The
// last claim is in force; when a claim is released the one before is again. The
// release of the last claim stops everything and waits for it.
//
// # Goroutines
//
// The loop, one for each cluster with a claim, is the only writer of topologies.
// Each backend has a monitor, each source of the settings in force a goroutine.
// All are owned by the run that the first claim starts.
//
// # Locks
//
// Registry.mu, Cluster.life (a claim is put in force or released; it is held
// while a run stops), Cluster.operator, circuit.mu, score.mu, sampler.mu, userFile.mu, verifiers.mu and
// secrets.mu. The order is life, then any one of the others; none of the others is
// held while another one is taken, but for secrets.mu below verifiers.mu, and only
// life is held over a wait.
package cluster

import (
	"sync"
	"sync/atomic"

	"go.uber.org/zap"
)

// Cluster is a named set of backends forming one primary and its replicas. All
// methods are safe for concurrent use.
type Cluster struct {
	name     string
	registry *Registry
	refs     int // guarded by Registry.mu

	topology atomic.Pointer[Topology]
	settings atomic.Pointer[Settings] // nil before the first claim
	changed  atomic.Pointer[chan struct{}]
	active   atomic.Pointer[run] // nil without claims
	began    atomic.Uint64       // see Beginnings
	defaults atomic.Pointer[Defaults]
	hurry    atomic.Bool // there is no primary: monitors probe at the fast interval

	sampler   sampler
	secrets   secrets
	verifiers verifiers
	metrics   *clusterMetrics

	newProber func(*Backend) prober
	operator  operator

	life struct {
		sync.Mutex
		claims []*Claim // the last is in force
		run    *run     // nil without claims
	}
}

// newCluster makes a cluster that does nothing yet.
func newCluster(name string, registry *Registry) *Cluster {
	c := &Cluster{name: name, registry: registry, metrics: newClusterMetrics(name)}
	c.newProber = func(b *Backend) prober { return &serverProber{b: b} }
	c.verifiers.turn = make(chan struct{}, 1)
	c.verifiers.reset()
	c.topology.Store(&Topology{})
	changed := make(chan struct{})
	c.changed.Store(&changed)
	return c
}

// Name returns the name of the cluster.
func (c *Cluster) Name() string { return c.name }

// Topology returns what is known of the backends now. It is never nil; without a
// claim it has no members. It costs one atomic load.
func (c *Cluster) Topology() *Topology { return c.topology.Load() }

// Settings returns the settings in force, the last ones when no claim is left,
// the defaults before the first. It is never nil and costs one atomic load.
func (c *Cluster) Settings() *Settings {
	if s := c.settings.Load(); s != nil {
		return s
	}
	return defaultSettings
}

// Changed returns a channel that is closed at the next change that matters to
// routing: members, roles, states, fitness, settings. To wait for a condition
// take the channel first, then read the topology.
func (c *Cluster) Changed() <-chan struct{} { return *c.changed.Load() }

// Demand tells that a session has a mark which no sample of the primary covers:
// the primary is sampled as soon as possible and the replicas are asked for their
// replay position every 20 ms until all that are fit have passed the sample. It
// may be called with each statement: it costs an atomic load while a sample is on
// its way.
func (c *Cluster) Demand() { c.sampler.demand() }

// publish puts a topology in force and wakes who waits if it matters. Only the
// loop calls it, or stop after the loop has ended.
func (c *Cluster) publish(t *Topology) {
	before := c.topology.Load()
	t.Version = before.Version
	alike := t.alike(before)
	if !alike {
		t.Version++
	}
	c.topology.Store(t)
	if !alike {
		c.broadcast()
	}
}

// broadcast wakes who waits for a change.
func (c *Cluster) broadcast() {
	next := make(chan struct{})
	close(*c.changed.Swap(&next))
}

// Logger returns the logger in force now: ask for it with each line.
func (c *Cluster) Logger() *zap.Logger { return c.registry.logger() }

// logger is that of this package.
func (c *Cluster) logger() *zap.Logger { return c.Logger().Named("cluster") }
