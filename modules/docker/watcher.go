package docker

import (
	"context"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Pauses after an engine could not be asked: the first, doubled with each failure
// up to the last.
const (
	firstRetry = 500 * time.Millisecond
	lastRetry  = 10 * time.Second
)

// shortStream is the time below which a stream of events counts as one that could
// not be opened.
const shortStream = 5 * time.Second

// stoppingFor is how long a container that was told to stop is left out while it
// still runs: the signal may have been for something else.
const stoppingFor = 30 * time.Second

// feed is an engine, as a watcher sees it.
type feed interface {
	// list returns the containers that run.
	list(ctx context.Context) ([]container, error)
	// follow tells the events from now on, until ctx ends or the stream breaks.
	// opened is called once before the first event.
	follow(ctx context.Context, opened func(), tell func(event)) error
	// close gives up what is kept between calls.
	close()
}

// event is something that has happened at an engine.
type event struct {
	action    string
	container string // its ID; empty for an event of a network
	signal    string // of the action kill, a number
}

// stops tells whether the container ends, or was told to.
func (e *event) stops() bool {
	switch e.action {
	case "die", "stop", "destroy":
		return true
	case "kill": // SIGINT, SIGQUIT, SIGKILL, SIGTERM; not a SIGHUP, which reloads
		return e.signal == "2" || e.signal == "3" || e.signal == "9" || e.signal == "15"
	}
	return false
}

// watcher keeps the list of an engine's containers. All methods are safe for
// concurrent use.
type watcher struct {
	host           string
	feed           feed
	poll, debounce time.Duration
	logger         func() *zap.Logger
	metrics        *engineMetrics

	triggered chan struct{} // something has happened: list
	told      bool          // only keep's goroutine: the log knows that the engine cannot be asked
	wg        sync.WaitGroup

	mu struct {
		sync.Mutex
		stop       context.CancelFunc // nil: not started
		closed     bool
		up         bool
		listed     bool // containers hold what the engine said once
		containers []container
		well       map[string]bool      // containers seen not unhealthy
		stopping   map[string]time.Time // containers told to stop, and when
		changed    chan struct{}        // closed at the next change
	}
}

func newWatcher(host string, f feed, poll, debounce time.Duration, logger func() *zap.Logger) *watcher {
	w := &watcher{
		host: host, feed: f, poll: poll, debounce: debounce, logger: logger,
		metrics: newEngineMetrics(host), triggered: make(chan struct{}, 1),
	}
	w.mu.well = make(map[string]bool)
	w.mu.stopping = make(map[string]time.Time)
	w.mu.changed = make(chan struct{})
	return w
}

// start begins to watch. It may be called more than once.
func (w *watcher) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.stop != nil || w.mu.closed {
		return
	}
	// Not a config's context: the watcher outlives the configuration that starts it.
	ctx, stop := context.WithCancel(context.Background())
	w.mu.stop = stop
	w.wg.Go(func() { w.keep(ctx) })
	w.wg.Go(func() { w.follow(ctx) })
}

// Destruct ends the watching and waits for it. It implements [caddy.Destructor].
func (w *watcher) Destruct() error {
	w.mu.Lock()
	w.mu.closed = true
	stop := w.mu.stop
	w.mu.Unlock()
	if stop != nil {
		stop()
	}
	w.wg.Wait()
	w.feed.close()
	return nil
}

// containers returns what runs, without what was told to stop, and a channel that
// is closed at the next change. ok is false as long as the engine has never
// answered.
func (w *watcher) containers() (all []container, changed <-chan struct{}, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.mu.containers {
		if _, stopping := w.mu.stopping[c.id]; !stopping {
			all = append(all, c)
		}
	}
	return all, w.mu.changed, w.mu.listed
}

// isUp tells whether the engine answered when it was asked last.
func (w *watcher) isUp() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.up
}

// isStarted tells whether the watcher was started.
func (w *watcher) isStarted() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.stop != nil
}

// trigger makes the watcher list soon.
func (w *watcher) trigger() {
	select {
	case w.triggered <- struct{}{}:
	default:
	}
}

// keep lists: at once, a moment after something has happened (so that a storm of
// events costs a few lists a second), after a pause when that has failed, and each
// poll interval.
func (w *watcher) keep(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	soon, retry := true, firstRetry // soon: the timer ends within the debounce time
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.triggered:
			if !soon {
				soon = true
				timer.Reset(w.debounce)
			}
		case <-timer.C:
			soon = false
			if w.list(ctx) {
				retry = firstRetry
				timer.Reset(w.poll)
			} else {
				timer.Reset(min(retry, w.poll))
				retry = min(2*retry, lastRetry)
			}
		}
	}
}

// list asks for the containers once. When that fails the last list holds.
func (w *watcher) list(ctx context.Context) bool {
	began := time.Now()
	all, err := w.feed.list(ctx)
	if ctx.Err() != nil {
		return false
	}
	w.metrics.listed(time.Since(began), err)
	w.mu.Lock()
	was := w.mu.up
	w.mu.up = err == nil
	if err == nil {
		w.take(all, began)
	}
	w.mu.Unlock()
	switch {
	case err != nil && !w.told:
		w.told = true
		w.logger().Warn("docker engine cannot be asked, keeping what was last seen", zap.String("engine", w.host), zap.Error(err))
	case err == nil && !was:
		w.told = false
		w.logger().Info("docker engine answers", zap.String("engine", w.host), zap.Int("containers", len(all)))
	}
	return err == nil
}

// take stores a list that was asked for at that time; mu is held.
func (w *watcher) take(all []container, asked time.Time) {
	well, stopping := make(map[string]bool, len(all)), make(map[string]time.Time)
	for i := range all {
		c := &all[i]
		if c.health != healthBad || w.mu.well[c.id] {
			well[c.id] = true
		} else {
			c.sick = true
		}
		if at, ok := w.mu.stopping[c.id]; ok && asked.Sub(at) < stoppingFor {
			stopping[c.id] = at
		}
	}
	w.mu.containers, w.mu.well, w.mu.stopping, w.mu.listed = all, well, stopping, true
	w.broadcast()
}

// broadcast wakes who waits for a change; mu is held.
func (w *watcher) broadcast() {
	close(w.mu.changed)
	w.mu.changed = make(chan struct{})
}

// note takes an event in. What stops is left out at once, the rest is for the next
// list to tell.
func (w *watcher) note(e event) {
	w.metrics.events.Inc()
	w.mu.Lock()
	if e.container != "" {
		_, already := w.mu.stopping[e.container]
		known := slices.ContainsFunc(w.mu.containers, func(c container) bool { return c.id == e.container })
		switch {
		case e.stops() && known && !already:
			w.mu.stopping[e.container] = time.Now()
			w.broadcast()
		case e.action == "start":
			delete(w.mu.stopping, e.container)
			delete(w.mu.well, e.container)
		}
	}
	w.mu.Unlock()
	w.trigger()
}

// follow keeps a stream of events open. Each time one is opened everything is
// listed: nothing is lost in between.
func (w *watcher) follow(ctx context.Context) {
	retry, told := firstRetry, false
	for {
		began := time.Now()
		err := w.feed.follow(ctx, w.trigger, w.note)
		if ctx.Err() != nil {
			return
		}
		w.metrics.streamsLost.Inc()
		if time.Since(began) >= shortStream {
			retry, told = firstRetry, false
		}
		if !told && w.isUp() {
			told = true
			w.logger().Warn("stream of events of a docker engine is lost, opening it again",
				zap.String("engine", w.host), zap.Duration("listing_every", w.poll), zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(retry):
			retry = min(2*retry, lastRetry)
		}
	}
}
