package catalog

import (
	"context"
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/fairwaydb/fairway/modules/cluster"
)

const (
	// interval is the time between two looks for changes.
	interval = time.Second
	// restAfter is the time without a session and without a question after which a keeper forgets the facts and closes
	// its connection.
	restAfter = 5 * time.Minute
	// trusted is how long facts count while the primary is there and cannot be asked. While there is none they count:
	// nobody can change the schema.
	trusted = 10 * time.Second
	// lookTimeout bounds a look for changes, connecting included; loadTimeout the reading of all facts.
	lookTimeout = 5 * time.Second
	loadTimeout = 30 * time.Second
	// loadShare bounds the part of the time that a keeper spends reading: after a reading of 1 s it waits for 5 s.
	loadShare = 5
	maxPause  = time.Minute
	// maxKeepers bounds the databases of the process whose facts are kept, and with them the connections to the primaries.
	// The reads of further databases run on their primary.
	maxKeepers = 200
)

// Keeper keeps the facts of one database of a cluster while sessions use it. Sessions share it; all methods are safe
// for concurrent use.
type Keeper struct {
	c        *cluster.Cluster
	database string

	facts   atomic.Pointer[Facts]
	asked   atomic.Bool  // somebody wanted to know since the last look
	wanted  atomic.Int64 // the mark up to which a change is known of
	wake    chan struct{}
	refused atomic.Pointer[map[uint64]struct{}] // fingerprints; replaced, never changed

	running atomic.Bool // written under keepers.mu
	denied  bool        // there is no room for it: it never knows anything
	refs    int         // guarded by keepers.mu
}

// keepers are the keepers of the process.
var keepers struct {
	mu   sync.Mutex
	all  map[keeperKey]*Keeper
	full bool // somebody found no room since there was some
}

type keeperKey struct {
	c        *cluster.Cluster
	database string
}

// Open returns the keeper of a database of a cluster. It must be closed. The cluster's log gets a line when
// the catalog cannot be read, and when it can again.
func Open(c *cluster.Cluster, database string) *Keeper {
	keepers.mu.Lock()
	defer keepers.mu.Unlock()
	key := keeperKey{c, database}
	k := keepers.all[key]
	if k == nil {
		k = &Keeper{c: c, database: database, wake: make(chan struct{}, 1)}
		if keepers.all == nil {
			keepers.all = make(map[keeperKey]*Keeper)
		}
		if len(keepers.all) < maxKeepers {
			keepers.all[key] = k
		} else if k.denied = true; !keepers.full {
			keepers.full = true // one line, until there is room again
			c.Logger().Named("catalog").Warn("too many databases: the catalog of this one is not read, its reads go to the primary",
				zap.String("cluster", c.Name()), zap.String("database", database), zap.Int("limit", maxKeepers))
		}
	}
	k.refs++
	return k
}

// Close gives the keeper back.
func (k *Keeper) Close() {
	keepers.mu.Lock()
	defer keepers.mu.Unlock()
	k.refs--
	k.forgetIdle()
}

// unused tells that no session has the keeper open.
func (k *Keeper) unused() bool {
	keepers.mu.Lock()
	defer keepers.mu.Unlock()
	return k.refs <= 0
}

// forgetIdle drops a keeper that nobody uses and that rests; keepers.mu is held.
func (k *Keeper) forgetIdle() {
	key := keeperKey{k.c, k.database}
	if k.refs <= 0 && !k.running.Load() && keepers.all[key] == k {
		delete(keepers.all, key)
		keepers.full = false
	}
}

// Facts returns what is known, nil when nothing is (yet). It costs two atomic loads.
func (k *Keeper) Facts() *Facts {
	f := k.facts.Load()
	if !k.asked.Load() {
		k.asked.Store(true)
	}
	if f == nil {
		k.rouse()
	}
	return f
}

// Changed tells that a statement which may have changed the schema has just ended, and returns the mark that the
// [Facts.Since] of facts that know of it has passed. The facts are read again soon.
func (k *Keeper) Changed() cluster.Mark {
	mark := cluster.Now()
	k.wanted.Store(int64(mark))
	k.rouse()
	return mark
}

// maxRefused bounds the fingerprints that are remembered; one more makes room by forgetting all.
const maxRefused = 10_000

// Refuse remembers that a standby refused a statement of that fingerprint because it does more than read, and tells
// whether that is news. It is forgotten when the schema changes. 0 is no fingerprint.
func (k *Keeper) Refuse(fingerprint uint64) (news bool) {
	for fingerprint != 0 {
		before := k.refused.Load()
		after := make(map[uint64]struct{})
		if before != nil {
			if _, known := (*before)[fingerprint]; known {
				return false
			}
			if len(*before) < maxRefused {
				maps.Copy(after, *before)
			}
		}
		after[fingerprint] = struct{}{}
		if k.refused.CompareAndSwap(before, &after) {
			return true
		}
	}
	return false
}

// Refused tells whether [Keeper.Refuse] was told of the fingerprint.
func (k *Keeper) Refused(fingerprint uint64) bool {
	all := k.refused.Load()
	if all == nil {
		return false
	}
	_, known := (*all)[fingerprint]
	return known
}

// rouse makes the keeper look now, and starts it when it rests.
func (k *Keeper) rouse() {
	if k.denied {
		return
	}
	select {
	case k.wake <- struct{}{}:
	default: // it is about to look
	}
	if k.running.Load() {
		return
	}
	keepers.mu.Lock()
	defer keepers.mu.Unlock()
	if !k.running.Load() && keepers.all[keeperKey{k.c, k.database}] == k {
		k.running.Store(k.c.Go(k.run))
	}
}

// run looks for changes until nobody asks any more.
func (k *Keeper) run(ctx context.Context) {
	w := &watcher{k: k}
	defer w.rest()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-k.wake:
		}
		now := cluster.Now()
		if k.asked.Swap(false) {
			w.askedAt = now
		}
		if now.Sub(w.askedAt) > restAfter && k.unused() {
			return
		}
		pause := w.look(ctx)
		timer.Reset(pause)
	}
}

// watcher is what one run of a keeper knows.
type watcher struct {
	k        *Keeper
	conn     *cluster.OwnConn
	prepared bool
	signal   string
	verified cluster.Mark // when the facts were last known to hold
	askedAt  cluster.Mark
	loadedAt cluster.Mark
	pause    time.Duration // no facts are read sooner after loadedAt
	failed   bool
}

// rest ends a run.
func (w *watcher) rest() {
	if w.conn != nil {
		w.conn.Close()
	}
	keepers.mu.Lock()
	defer keepers.mu.Unlock()
	w.k.facts.Store(nil)
	w.k.running.Store(false)
	w.k.forgetIdle()
}

// look reads the facts if they may have changed, and returns when to look again.
func (w *watcher) look(ctx context.Context) time.Duration {
	err := w.check(ctx)
	switch {
	case err == nil:
		if w.failed {
			w.failed = false
			w.k.logger().Info("catalog is read again", zap.String("cluster", w.k.c.Name()), zap.String("database", w.k.database))
		}
	case ctx.Err() != nil, errors.Is(err, cluster.ErrNoPrimary):
	default:
		failures(w.k.c.Name()).Inc()
		if !w.failed {
			w.failed = true
			w.k.logger().Warn("catalog cannot be read: reads of this database go to the primary until it can",
				zap.String("cluster", w.k.c.Name()), zap.String("database", w.k.database), zap.Error(err))
		}
		if w.verified == 0 || w.verified.Since() > trusted {
			w.k.facts.Store(nil)
		}
	}
	if rest := w.pause - w.loadedAt.Since(); w.k.behind() && rest > 0 {
		return rest
	}
	return interval
}

func (k *Keeper) logger() *zap.Logger { return k.c.Logger().Named("catalog") }

// Behind tells that a change of the schema is known of which the facts do not know yet. It costs two atomic loads.
func (k *Keeper) Behind() bool { return k.behind() }

// behind tells that a change is known of which the facts do not have.
func (k *Keeper) behind() bool {
	f := k.facts.Load()
	return f != nil && f.Since < cluster.Mark(k.wanted.Load())
}

// check reads the facts if they are not known to hold.
func (w *watcher) check(ctx context.Context) error {
	if w.conn != nil && !w.conn.Current() {
		w.conn.Close()
		w.conn = nil
	}
	looking, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	if w.conn == nil {
		conn, err := w.k.c.ConnectPrimary(looking, w.k.database, loadTimeout)
		if err != nil {
			return err
		}
		w.conn, w.prepared, w.signal, w.pause = conn, false, "", 0 // the counters of another server say nothing
	}
	at := cluster.Now()
	signal, err := signalOf(looking, w.conn, w.prepared)
	if err != nil {
		return err
	}
	w.prepared = true
	if signal == w.signal && !w.k.behind() && w.k.facts.Load() != nil {
		w.verified = at
		return nil
	}
	if w.loadedAt != 0 && w.loadedAt.Since() < w.pause {
		return nil
	}
	return w.load(ctx, signal)
}

// load reads all facts and publishes them.
func (w *watcher) load(ctx context.Context, signal string) error {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	f, err := load(ctx, w.conn)
	if err != nil {
		return err
	}
	took := f.Since.Since()
	loads(w.k.c.Name()).Observe(took.Seconds())
	w.signal, w.verified, w.loadedAt = signal, f.Since, cluster.Now()
	w.pause = min(loadShare*took, maxPause)
	w.k.refused.Store(nil) // the schema has changed: the next refusal tells again
	w.k.facts.Store(f)
	return nil
}
