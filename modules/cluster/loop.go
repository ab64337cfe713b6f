package cluster

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Times of the loop: how often the topology is made anew when nothing happens
// (scores and lag move), and how often the pools are looked after.
const (
	tickInterval   = 250 * time.Millisecond
	upkeepInterval = time.Second
)

// run is one life of a cluster, from its first claim to the release of its last.
// Its loop is the only goroutine that touches the fields below the channels.
type run struct {
	c      *Cluster
	ctx    context.Context // the life of the goroutines it owns
	cancel context.CancelFunc
	wg     sync.WaitGroup
	gate   struct {
		sync.Mutex
		closed bool // nothing new is started
	}

	outcomes  chan outcome     // from the monitors
	published chan publication // from the sources
	kicked    chan struct{}    // settings were swapped, or a circuit has moved

	settings    *Settings  // in force in the loop
	overrides   *overrides // the same of what operators have changed
	generation  uint64     // of the sources
	stopSources context.CancelFunc
	sources     map[Source]chan struct{} // closed when the source has ended
	lists       lists

	entries map[string]*entry
	leaving []*entry
	roles   roles
	wal     walTrack
	alarms  map[string]bool
	past    map[string]*memory // of backends that have left, by name

	established bool // there was a topology that could serve
	lastPrimary *Backend
	lostAt      Mark // when the primary was lost; 0: there is one, or never was
	upkeepAt    Mark
}

// publication is a list of endpoints from a source.
type publication struct {
	generation uint64
	source     int
	endpoints  []Endpoint
}

// start begins a life with the settings in force.
func (c *Cluster) start() *run {
	// Not a config's context: the life of a cluster ends with its last claim.
	ctx, cancel := context.WithCancel(context.Background())
	r := &run{
		c: c, ctx: ctx, cancel: cancel,
		outcomes: make(chan outcome), published: make(chan publication), kicked: make(chan struct{}, 1),
		stopSources: func() {},
		sources:     make(map[Source]chan struct{}),
		entries:     make(map[string]*entry), alarms: make(map[string]bool), past: make(map[string]*memory),
	}
	r.apply()
	r.refresh()
	r.wg.Go(r.loop)
	c.active.Store(r)
	return r
}

// do runs f in a goroutine that the cluster's run owns. It returns false when no
// claim is in force.
func (c *Cluster) do(f func(ctx context.Context)) bool {
	r := c.active.Load()
	if r == nil {
		return false
	}
	r.gate.Lock()
	defer r.gate.Unlock()
	if r.gate.closed {
		return false
	}
	r.wg.Go(func() { f(r.ctx) })
	return true
}

// stop ends the life and waits for everything it started.
func (r *run) stop() {
	r.c.active.Store(nil)
	r.gate.Lock()
	r.gate.closed = true
	r.gate.Unlock()
	r.cancel()
	r.wg.Wait()
	var closing sync.WaitGroup
	for _, e := range slices.Concat(slices.Collect(maps.Values(r.entries)), r.leaving) {
		closing.Go(e.backend.shut)
	}
	closing.Wait()
	r.c.sampler.follow(nil, "", 0)
	r.c.hurry.Store(false)
	r.c.publish(&Topology{})
}

// loop folds what happens into topologies until the run is stopped.
func (r *run) loop() {
	tick := time.NewTicker(tickInterval)
	defer tick.Stop()
	for {
		select {
		case <-r.ctx.Done():
			r.stopSources()
			return
		case o := <-r.outcomes:
			r.fold(o)
		case p := <-r.published:
			if p.generation != r.generation {
				continue
			}
			r.lists.set(p.source, p.endpoints)
			r.join()
		case <-r.kicked:
			r.apply()
		case <-tick.C:
			r.upkeep()
		}
		r.refresh()
	}
}

// apply takes over the settings in force.
func (r *run) apply() {
	s, o := r.c.settings.Load(), r.c.operator.overrides()
	if s == r.settings {
		if o != r.overrides {
			r.overrides = o
			r.join()
		}
		return
	}
	r.overrides = o
	before := r.settings
	r.settings = s
	for _, e := range r.entries {
		e.backend.set.SetLimits(s.Pool)
		if before != nil && !before.server.same(&s.server) {
			e.backend.set.Retire()
		}
	}
	r.stopSources()
	r.generation++
	r.lists.restart(len(s.Sources))
	ctx, cancel := context.WithCancel(r.ctx)
	r.stopSources = cancel
	maps.DeleteFunc(r.sources, func(_ Source, done chan struct{}) bool { return isClosed(done) })
	for i, source := range s.Sources {
		generation, before, done := r.generation, r.sources[source], make(chan struct{})
		r.sources[source] = done
		r.wg.Go(func() {
			defer close(done)
			if before != nil {
				<-before // it runs no two times at once
			}
			r.runSource(ctx, generation, i, source)
		})
	}
	r.join()
}

// join brings the entries in line with the endpoints known: config first, then what
// was added at run time, then sources. What stays keeps its backend.
func (r *run) join() {
	want := make(map[string]Endpoint)
	origins := make(map[string]Origin)
	for origin, list := range [...][]Endpoint{OriginConfig: r.settings.Backends, OriginAdmin: r.overrides.backends, OriginSource: r.lists.all()} {
		for _, e := range list {
			if _, taken := want[e.Name]; !taken {
				e.drained = r.overrides.drained[e.Name]
				e.Drain = e.Drain || e.drained
				want[e.Name], origins[e.Name] = e, Origin(origin)
			}
		}
	}
	for name, e := range r.entries {
		if w, ok := want[name]; !ok || w.Address != e.backend.address {
			delete(r.entries, name)
			r.leave(e)
		}
	}
	for name, w := range want {
		e := r.entries[name]
		if e == nil {
			e = r.enter(w)
			r.entries[name] = e
		}
		if w.Drain && !e.endpoint.Drain {
			e.backend.set.Retire()
		}
		e.endpoint, e.origin = w, origins[name]
	}
}

// enter takes a backend in: one that is just leaving comes back, else a new one
// is made.
func (r *run) enter(w Endpoint) *entry {
	for i, e := range r.leaving {
		if e.backend.name == w.Name && e.backend.address == w.Address {
			r.leaving = slices.Delete(r.leaving, i, i+1)
			e.leftAt = 0
			e.backend.leaving.Store(false)
			r.watch(e)
			return e
		}
	}
	e := &entry{}
	e.backend = r.c.newBackend(w.Name, w.Address, func(from, to CircuitState) { r.circuitMoved(w.Name, from, to) })
	if r.established {
		e.weightSince = Now()
	}
	e.lagging = w.found // a newcomer must have come as near as one that was too far behind
	r.recall(e)
	r.c.metrics.joins.Inc()
	r.c.logger().Info("backend joined", zap.String("cluster", r.c.name), zap.String("backend", w.Name))
	r.watch(e)
	return e
}

// watch starts the monitor of an entry.
func (r *run) watch(e *entry) {
	ctx, cancel := context.WithCancel(r.ctx)
	e.stop = cancel
	m := newMonitor(e.backend, r.c.newProber(e.backend))
	m.sampler, m.hurry, m.report = &r.c.sampler, r.c.hurry.Load, r.report
	e.backend.monitor.Store(m)
	r.wg.Go(func() { m.run(ctx) })
}

// report gives the outcome of a probe to the loop.
func (r *run) report(ctx context.Context, o outcome) {
	select {
	case r.outcomes <- o:
	case <-ctx.Done():
	}
}

// leave drains an entry: no new leases, what is released is closed.
func (r *run) leave(e *entry) {
	r.c.logger().Info("backend leaves", zap.String("cluster", r.c.name), zap.String("backend", e.backend.name))
	e.stop()
	e.leftAt = Now()
	e.backend.leaving.Store(true)
	e.backend.set.Retire()
	r.c.sampler.forget(e.backend)
	r.leaving = append(r.leaving, e)
	r.c.metrics.leaves.Inc()
	r.remember(e)
}

// upkeep does what time brings.
func (r *run) upkeep() {
	now := Now()
	for _, e := range r.entries {
		if e.fails == 0 { // a server that does not answer the probe would fail the trials too
			e.backend.circuit.tick(r.settings.Breaker.Recovery())
		}
		e.expire(now, &r.settings.Monitor)
	}
	r.leaving = slices.DeleteFunc(r.leaving, r.closed)
	if now.Sub(r.upkeepAt) < upkeepInterval {
		return
	}
	r.upkeepAt = now
	r.forget(now)
	wall := time.Now()
	for _, e := range r.entries {
		e.backend.set.Upkeep(wall)
	}
	for _, e := range r.leaving {
		e.backend.set.Upkeep(wall)
	}
	r.c.verifiers.upkeep(now)
}

// circuitMoved counts a move of a circuit and makes the loop look. It is called
// with the circuit's lock held.
func (r *run) circuitMoved(backend string, from, to CircuitState) {
	transitions(r.c.name, backend, from, to).Inc()
	r.kick()
}

// kick makes the loop look again.
func (r *run) kick() { signal(r.kicked) }
