package pgsql

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// space separates the texts as they are from the constant-free keys: a key may read like another text.
type space uint8

const (
	spaceText space = iota
	spaceKey
	spaceDead // of a slot whose entry is gone
)

const (
	// maxShards bounds how many writers work side by side; minShardBytes keeps small caches whole.
	maxShards     = 16
	minShardBytes = 256 << 10
	// entryOverhead is what an entry takes beside its text and class, in bytes: struct, slots, allocator.
	entryOverhead = 160
	minSlots      = 64
)

// cache remembers classes by text and by key. It is bounded by bytes and evicts by CLOCK: what was not used since the
// hand came by the last time goes. Reading takes no lock and allocates nothing; writing locks one shard.
type cache struct {
	seeds  [2]maphash.Seed
	shards []shard
}

// shard is one part of the cache: a hash table with open addressing. Readers see a snapshot of the slots; a slot is
// written once and then only overwritten by dead, or taken again from dead.
type shard struct {
	table        atomic.Pointer[[]atomic.Pointer[entry]]
	hits, misses atomic.Uint64
	entries      atomic.Int64
	bytes        atomic.Int64

	mu struct {
		sync.Mutex
		limit   int64
		live    int
		dead    int
		hand    int
		flights map[flightKey]*flight
	}
	_ [64]byte // keeps the counters of two shards off one cache line
}

// entry is a text or key and its class. A key without class is one whose texts cannot share.
type entry struct {
	hash  uint64
	text  string
	class *Class
	cost  int64
	space space
	used  atomic.Bool
}

// dead fills the slot of an entry that was evicted, so that probing goes on past it.
var dead = &entry{space: spaceDead}

type flightKey struct {
	space space
	text  string
}

// flight is a class in the making. Those who wait read class and shared after done is closed.
type flight struct {
	done   chan struct{}
	class  *Class
	shared bool
}

func newCache(limit int) *cache {
	n := 1
	for n < maxShards && limit/(2*n) >= minShardBytes {
		n *= 2
	}
	c := &cache{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, shards: make([]shard, n)}
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.limit = int64(limit / n)
		s.mu.flights = map[flightKey]*flight{}
		slots := make([]atomic.Pointer[entry], minSlots)
		s.table.Store(&slots)
	}
	return c
}

func (c *cache) hash(in space, text []byte) (*shard, uint64) {
	h := maphash.Bytes(c.seeds[in], text)
	return &c.shards[h%uint64(len(c.shards))], h
}

// class returns the class of a text or key; nil: not remembered, or not to be shared.
func (c *cache) class(in space, text []byte) *Class {
	s, h := c.hash(in, text)
	e := find(*s.table.Load(), in, h, text)
	if e == nil || e.class == nil {
		return nil
	}
	if !e.used.Load() {
		e.used.Store(true)
	}
	s.hits.Add(1)
	return e.class
}

func find(slots []atomic.Pointer[entry], in space, h uint64, text []byte) *entry {
	mask := uint64(len(slots) - 1)
	for i := h >> 8; ; i++ {
		e := slots[i&mask].Load()
		if e == nil {
			return nil
		}
		if e.hash == h && e.space == in && e.text == string(text) {
			return e
		}
	}
}

// once returns the class of a text or key: what is remembered, or what classify returns, which runs once for all who
// ask at the same time. It tells classify's caller, or those for whom the class is shared, by ok; to the others, and
// for a key that is known not to be shared, ok is false.
func (c *cache) once(in space, text []byte, classify func() (class *Class, shared bool)) (class *Class, ok bool) {
	s, h := c.hash(in, text)
	s.mu.Lock()
	if e := find(*s.table.Load(), in, h, text); e != nil {
		s.mu.Unlock()
		return e.class, e.class != nil
	}
	key := flightKey{in, string(text)}
	if f := s.mu.flights[key]; f != nil {
		s.mu.Unlock()
		<-f.done
		return f.class, f.shared
	}
	f := &flight{done: make(chan struct{})}
	s.mu.flights[key] = f
	s.mu.Unlock()
	s.misses.Add(1)
	defer func() {
		s.mu.Lock()
		delete(s.mu.flights, key)
		s.mu.Unlock()
		close(f.done)
	}()
	f.class, f.shared = classify()
	return f.class, true
}

// put remembers the class of a text or key. A nil class marks a key that is not to be shared.
func (c *cache) put(in space, text []byte, class *Class) {
	s, h := c.hash(in, text)
	e := &entry{hash: h, text: string(text), class: class, cost: int64(len(text)) + entryOverhead, space: in}
	if class != nil {
		e.cost += int64(class.size())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.cost > s.mu.limit/4 {
		return
	}
	if find(*s.table.Load(), in, h, text) != nil {
		return
	}
	s.evict(s.mu.limit - e.cost)
	s.grow()
	s.insert(*s.table.Load(), e)
	s.mu.live++
	s.bytes.Add(e.cost)
	s.entries.Add(1)
}

// insert puts an entry into the first slot that is free or dead. The caller holds the lock.
func (s *shard) insert(slots []atomic.Pointer[entry], e *entry) {
	mask := uint64(len(slots) - 1)
	for i := e.hash >> 8; ; i++ {
		slot := &slots[i&mask]
		switch slot.Load() {
		case dead:
			s.mu.dead--
		case nil:
		default:
			continue
		}
		slot.Store(e)
		return
	}
}

// evict moves the hand until the shard holds no more than limit bytes. The caller holds the lock. After two rounds,
// while readers keep using everything, use counts no more.
func (s *shard) evict(limit int64) {
	slots := *s.table.Load()
	for steps := 0; s.bytes.Load() > limit && s.mu.live > 0; steps++ {
		slot := &slots[s.mu.hand%len(slots)]
		s.mu.hand++
		e := slot.Load()
		if e == nil || e == dead || steps < 2*len(slots) && e.used.Swap(false) {
			continue
		}
		slot.Store(dead)
		s.mu.live--
		s.mu.dead++
		s.bytes.Add(-e.cost)
		s.entries.Add(-1)
	}
}

// grow makes a new table when three quarters of the slots are taken, dead ones included. The caller holds the lock.
func (s *shard) grow() {
	old := *s.table.Load()
	if 4*(s.mu.live+s.mu.dead+1) <= 3*len(old) {
		return
	}
	size := minSlots
	for size < 2*(s.mu.live+1) {
		size *= 2
	}
	slots := make([]atomic.Pointer[entry], size)
	s.mu.dead = 0
	for i := range old {
		if e := old[i].Load(); e != nil && e != dead {
			s.insert(slots, e)
		}
	}
	s.mu.hand = 0
	s.table.Store(&slots)
}

// stats adds up the shards.
func (c *cache) stats() Stats {
	var t Stats
	for i := range c.shards {
		s := &c.shards[i]
		t.Entries += s.entries.Load()
		t.Bytes += s.bytes.Load()
		t.Hits += s.hits.Load()
		t.Misses += s.misses.Load()
	}
	return t
}
