package cluster

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"go.uber.org/zap"
)

// Registry holds the clusters of the process by name. It outlives every
// configuration. All methods are safe for concurrent use.
type Registry struct {
	logger func() *zap.Logger

	mu struct {
		sync.Mutex
		clusters map[string]*Cluster
	}
}

// NewRegistry makes an empty registry. logger is called for each line, so that a
// reload can change it; nil logs nothing.
func NewRegistry(logger func() *zap.Logger) *Registry {
	if logger == nil {
		logger = zap.NewNop
	}
	r := &Registry{logger: logger}
	r.mu.clusters = make(map[string]*Cluster)
	return r
}

// Reference returns the cluster of that name, made if need be. It has no other
// effect: nothing is dialled or started. Each call must be paired with one of
// [Cluster.Unreference].
func (r *Registry) Reference(name string) *Cluster {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.mu.clusters[name]
	if c == nil {
		c = newCluster(name, r)
		r.mu.clusters[name] = c
	}
	c.refs++
	return c
}

// Unreference gives a reference back. The registry forgets a cluster without
// references and claims.
func (c *Cluster) Unreference() {
	r := c.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.refs--; c.refs <= 0 && r.mu.clusters[c.name] == c {
		delete(r.mu.clusters, c.name)
	}
}

// Lookup returns the cluster of that name, nil when nobody refers to it.
func (r *Registry) Lookup(name string) *Cluster {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.clusters[name]
}

// Clusters returns the clusters that have, or had, settings in force, by name: a
// configuration that is only validated does not show.
func (r *Registry) Clusters() []*Cluster {
	r.mu.Lock()
	all := slices.Collect(maps.Values(r.mu.clusters))
	r.mu.Unlock()
	all = slices.DeleteFunc(all, func(c *Cluster) bool { return c.settings.Load() == nil })
	slices.SortFunc(all, func(a, b *Cluster) int { return strings.Compare(a.name, b.name) })
	return all
}

// Claim is one configuration's hold on a cluster.
type Claim struct {
	c        *Cluster
	settings *Settings
}

// Claim puts the settings in force. The first claim starts the cluster: its
// backends are members from now on, and STARTING until they are probed. The
// claim must be released; it counts as a reference until then.
func (c *Cluster) Claim(s *Settings) *Claim {
	c.registry.mu.Lock()
	c.refs++
	c.registry.mu.Unlock()
	c.life.Lock()
	defer c.life.Unlock()
	claim := &Claim{c: c, settings: s}
	c.life.claims = append(c.life.claims, claim)
	c.enforce(s)
	if c.life.run == nil {
		c.life.run = c.start()
	}
	return claim
}

// Release takes the claim back: the one before is in force again if this was the
// last. It may be called more than once. The release of the only claim stops the
// monitors, closes the pools, erases the secrets, and returns when that is done;
// a server connection in use is closed when its session lets it go.
func (cl *Claim) Release() {
	c := cl.c
	c.life.Lock()
	i := slices.Index(c.life.claims, cl)
	if i < 0 {
		c.life.Unlock()
		return
	}
	c.life.claims = slices.Delete(c.life.claims, i, i+1)
	release := func() {}
	if n := len(c.life.claims); n > 0 {
		c.enforce(c.life.claims[n-1].settings)
	} else {
		c.life.run.stop()
		c.life.run = nil
		c.secrets.erase()
		c.verifiers.erase()
		release = c.operator.forget()
	}
	c.life.Unlock()
	release()
	c.Unreference()
}

// enforce puts settings in force; life is held.
func (c *Cluster) enforce(s *Settings) {
	before := c.settings.Swap(s)
	if before == s {
		return
	}
	if before != nil && !before.sameAuth(s) {
		c.verifiers.reset()
		c.secrets.erase()
	}
	if c.life.run != nil {
		c.life.run.kick()
	}
	c.broadcast()
}
