package cluster

import (
	"sync"
	"time"
)

// What the metrics count of a backend stays for a while after the backend has left, so that one that comes back goes on
// counting where it was; then its series end, for names of servers that come and go would fill the memory.
const (
	seriesTime = time.Hour
	seriesKept = 1000 // backends that have left
)

// counted knows which backends the metrics tell of. It is the process's, like the metrics.
var counted seriesKeeper

// seriesKey is what the labels say.
type seriesKey struct{ cluster, backend string }

// seriesKeeper counts the backends of each name, and ends the series of those that have been away for long. It has no
// goroutine: it looks whenever a backend comes and whenever the metrics are read.
type seriesKeeper struct {
	mu    sync.Mutex
	users map[seriesKey]int
	left  map[seriesKey]Mark
	drops []func(cluster, backend string)
}

// DropSeriesWith adds what is called, once from the init of a package, to end the series of a backend: all those with
// these two labels. The package must not keep them anywhere.
func DropSeriesWith(drop func(cluster, backend string)) {
	counted.mu.Lock()
	defer counted.mu.Unlock()
	counted.drops = append(counted.drops, drop)
}

// enter says that there is a backend of that name. To be called before any of its metrics is made.
func (k *seriesKeeper) enter(cluster, backend string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.users == nil {
		k.users, k.left = make(map[seriesKey]int), make(map[seriesKey]Mark)
	}
	key := seriesKey{cluster, backend}
	k.users[key]++
	delete(k.left, key)
	k.endOld(Now())
}

// leave says that a backend of that name is gone, and nothing counts for it any more.
func (k *seriesKeeper) leave(cluster, backend string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	key := seriesKey{cluster, backend}
	if k.users[key]--; k.users[key] > 0 {
		return
	}
	delete(k.users, key)
	k.left[key] = Now()
	if len(k.left) > seriesKept {
		oldest := key
		for other, at := range k.left {
			if at < k.left[oldest] {
				oldest = other
			}
		}
		k.end(oldest)
	}
}

// sweep ends the series of backends that have been away for long.
func (k *seriesKeeper) sweep() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.endOld(Now())
}

// endOld does so; mu is held.
func (k *seriesKeeper) endOld(now Mark) {
	for key, at := range k.left {
		if now.Sub(at) >= seriesTime {
			k.end(key)
		}
	}
}

// end drops the series of one backend; mu is held, so that no other of its name can come meanwhile.
func (k *seriesKeeper) end(key seriesKey) {
	delete(k.left, key)
	for _, drop := range k.drops {
		drop(key.cluster, key.backend)
	}
}
