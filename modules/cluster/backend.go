package cluster

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/fairwaydb/fairway/modules/pool"
)

// errLeaving is the cause when a lease is wanted from a backend that is leaving.
var errLeaving = errors.New("backend is leaving the cluster")

// Backend is one PostgreSQL server of a cluster: its pools, circuit and score.
// It is kept by name and address and outlives reloads. All methods are safe for
// concurrent use.
type Backend struct {
	name, address string

	c   *Cluster // nil for a backend that stands alone
	set *pool.Set

	circuit  circuit
	score    score
	inFlight atomic.Int64
	primary  atomic.Bool  // set by the loop: the circuit does not gate
	suspects atomic.Int32 // 57P01 that wait for the next probe
	leaving  atomic.Bool
	gone     chan struct{}

	caughtUp [seriesCount]atomic.Int64 // Mark: see CaughtUp
	replay   atomic.Uint64             // LSN: see Replayed
	wal      atomic.Pointer[walSizes]  // nil while nobody has answered

	monitor atomic.Pointer[monitor] // nil for a backend that stands alone
	metrics *backendMetrics
}

// NewBackend returns a backend that belongs to no cluster: no monitor watches it
// and it cannot be dialled. It serves to build a [Topology] by hand.
func NewBackend(name, address string) *Backend {
	return &Backend{name: name, address: address, gone: make(chan struct{}), metrics: newBackendMetrics("", name)}
}

// newBackend returns a backend of the cluster, not watched yet.
func (c *Cluster) newBackend(name, address string, changed func(from, to CircuitState)) *Backend {
	b := &Backend{name: name, address: address, c: c, gone: make(chan struct{})}
	counted.enter(c.name, name)
	b.metrics = newBackendMetrics(c.name, name)
	b.circuit.changed = changed
	b.set = pool.NewSet(b, b.settings().Pool, pool.MetricsFor(c.name, name))
	return b
}

// shut gives the backend up: idle server connections close now, those in use when
// they are released. It returns when no dial runs any more.
func (b *Backend) shut() {
	b.leaving.Store(true)
	close(b.gone)
	b.set.Close()
	counted.leave(b.c.name, b.name)
}

// Name returns the name of the backend in its cluster.
func (b *Backend) Name() string { return b.name }

// Address returns host:port, or the path of a Unix socket.
func (b *Backend) Address() string { return b.address }

// InFlight returns the number of turns that run on the backend now.
func (b *Backend) InFlight() int64 { return b.inFlight.Load() }

// Circuit returns the state of the circuit breaker now.
func (b *Backend) Circuit() CircuitState { return b.circuit.State() }

// Leaving tells whether the backend was removed: it gives no new leases, and
// server connections close when they are released.
func (b *Backend) Leaving() bool { return b.leaving.Load() }

// Gone is closed when a leaving backend is given up: nothing is in use any more,
// or the drain timeout has passed. Sessions that still hold a server connection
// let it go then.
func (b *Backend) Gone() <-chan struct{} { return b.gone }

// Acquire lends a server connection of that identity, see [pool.Set.Acquire].
// The caller owns it until Release. A *[pool.DialError] means that nothing was
// sent: another backend may be tried.
func (b *Backend) Acquire(ctx context.Context, id pool.Identity) (*pool.Conn, error) {
	if b.set == nil || b.leaving.Load() {
		return nil, &pool.DialError{Err: errLeaving}
	}
	return b.set.Acquire(ctx, id)
}

// AcquireRepeatable does the same for a request that is sent again, unseen, when the
// connection turns out to be dead, see [pool.Set.AcquireRepeatable].
func (b *Backend) AcquireRepeatable(ctx context.Context, id pool.Identity) (*pool.Conn, error) {
	if b.set == nil || b.leaving.Load() {
		return nil, &pool.DialError{Err: errLeaving}
	}
	return b.set.AcquireRepeatable(ctx, id)
}

// Pools returns the state of the pools, one for each identity.
func (b *Backend) Pools() []pool.Stats {
	if b.set == nil {
		return nil
	}
	return b.set.Stats()
}

// Turn is a turn that was begun with [Backend.BeginTurn]. The zero value is none.
type Turn struct {
	counted bool
	epoch   uint32 // of the circuit's trial, 0: none
}

// BeginTurn counts a turn as running. On a RECOVERING backend the turn is a trial
// request; ok is false when no trial is left, or the circuit has opened meanwhile:
// nothing is counted then and another backend is to be tried. A session that
// cannot go elsewhere (its transaction is here) may go on nevertheless. The
// primary is never refused. A turn must be ended with [Backend.EndTurn], once;
// ending one that was refused only tells how the server behaved.
func (b *Backend) BeginTurn() (t Turn, ok bool) {
	if !b.primary.Load() {
		if t.epoch, ok = b.circuit.begin(); !ok {
			return t, false
		}
	}
	t.counted = true
	b.inFlight.Add(1)
	return t, true
}

// EndTurn ends a turn. The latency is the time to the first reply byte, 0 when
// none came. err is nil, or what went wrong on the server connection (never on
// the client's); [IsFailure] decides whether the circuit counts it. A dial error
// is not counted again, the pool reports it itself.
func (b *Backend) EndTurn(t Turn, latency time.Duration, err error) {
	if t.counted {
		b.inFlight.Add(-1)
	}
	now, s := Now(), b.settings()
	switch {
	case err == nil:
		b.score.add(now, latency, false, s.Health.HalfLife)
		b.circuit.success(t.epoch)
	case isNeutral(err):
		b.circuit.giveBack(t.epoch)
	case isShutdown(err):
		b.circuit.giveBack(t.epoch)
		b.suspects.Add(1)
		b.wake()
	case IsFailure(err):
		b.metrics.failures.Inc()
		b.score.add(now, latency, true, s.Health.HalfLife)
		failed, total := b.score.errors(now, s.Health.Window)
		b.circuit.failure(s.Breaker, t.epoch, failed, total)
		b.wake()
	default: // an answer, if not the one hoped for
		b.score.add(now, latency, false, s.Health.HalfLife)
		b.circuit.success(t.epoch)
	}
}

// Report tells about a failed dial of the pools' openers. It implements
// [pool.Dialer].
func (b *Backend) Report(err error) {
	if err == nil || !IsFailure(&pool.DialError{Err: err}) {
		return
	}
	now, s := Now(), b.settings()
	b.metrics.failures.Inc()
	b.score.add(now, 0, true, s.Health.HalfLife)
	failed, total := b.score.errors(now, s.Health.Window)
	b.circuit.dialFailure(s.Breaker, failed, total)
	b.wake()
}

// Trip opens the circuit, whatever the breaker says, until it recovers.
func (b *Backend) Trip() { b.circuit.trip() }

// Reset closes the circuit and forgets the failures that have led to it.
func (b *Backend) Reset() { b.circuit.reset(b.settings().Breaker.Recovery()) }

// CaughtUp tells whether the backend, a replica, has replayed past a sample of
// the primary that was asked for after the mark, so that a read there misses
// nothing written before it. exact compares with the flush position: right when
// the writer waited for its commit to be flushed (synchronous_commit is not
// off); else the insert position is taken, which is always right. The zero mark
// is always passed.
func (b *Backend) CaughtUp(mark Mark, exact bool) bool {
	s := seriesInsert
	if exact {
		s = seriesFlush
	}
	return mark < Mark(b.caughtUp[s].Load()) || mark == 0
}

// Replayed tells whether the backend, a replica, is known to have replayed past a
// position of the primary's WAL, as far as the monitor has looked; see
// [Cluster.Demand]. The position 0/0 is always passed. What a replica proved on
// another timeline than the primary's, or in another life, does not count.
func (b *Backend) Replayed(at LSN) bool {
	if at == 0 {
		return true
	}
	have := LSN(b.replay.Load())
	if have >= at {
		return true
	}
	w := b.wal.Load()
	return w != nil && have != 0 && have >= at.settle(*w) // an insert position behind the header of an empty page
}

// settings returns the settings in force, the defaults for a backend that stands
// alone.
func (b *Backend) settings() *Settings {
	if b.c != nil {
		return b.c.Settings()
	}
	return defaultSettings
}

// wake makes the monitor probe at once.
func (b *Backend) wake() {
	if m := b.monitor.Load(); m != nil {
		m.alarm()
	}
}

// Interface guard.
var _ pool.Dialer = (*Backend)(nil)
