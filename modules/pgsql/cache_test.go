package pgsql

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func TestAHitAllocatesNothing(t *testing.T) {
	c := New(Options{})
	text := []byte("SELECT abalance FROM pgbench_accounts WHERE aid = $1")
	c.ClassifyExact(text)
	keyed := [][]byte{
		[]byte("SELECT abalance FROM pgbench_accounts WHERE aid = 12345"),
		[]byte("SELECT abalance FROM pgbench_accounts WHERE aid = 99"),
	}
	c.Classify(keyed[0])
	for name, f := range map[string]func(){
		"by text, exact":   func() { c.ClassifyExact(text) },
		"by text":          func() { c.Classify(text) },
		"by key":           func() { c.Classify(keyed[1]) },
		"non conforming":   func() { c.ClassifyNonConforming(keyed[1]) },
		"questions of it":  func() { k := c.Classify(keyed[1]); _ = k.PlainRead() && k.MayWrite() && k.Pins() == 0 },
		"too long a text":  func() {},
		"an unknown class": func() { Unparsed().PlainRead() },
	} {
		if raceEnabled && name != "by text" { // sync.Pool drops what it is given under the race detector
			continue
		}
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	if s := c.Stats(); s.Misses != 2 || s.Hits == 0 || s.Entries != 2 || s.Bytes <= 0 {
		t.Errorf("%+v", s)
	}
}

func TestTextsThatDifferInLiteralsShareOneClass(t *testing.T) {
	c := New(Options{})
	first := c.Classify([]byte("SELECT a FROM t WHERE b = 1 AND c = 'x'"))
	for _, sql := range []string{
		"SELECT a FROM t WHERE b = 2 AND c = 'y'", "select a from t where b = 1e9 and c = $$z$$ ",
		"SELECT a FROM t WHERE b = 3 /* d */ AND c = E'\\''",
	} {
		if c.Classify([]byte(sql)) != first {
			t.Errorf("%s has a class of its own", sql)
		}
	}
	if c.ClassifyExact([]byte("SELECT a FROM t WHERE b = 2 AND c = 'y'")) == first {
		t.Error("an exact look-up uses the key")
	}
}

func TestClassesThatDependOnALiteralAreNotShared(t *testing.T) {
	c := New(Options{})
	for i, pair := range [][2]string{
		{"SET a = 'b'", "SET a = 'c'"},
		{"SELECT set_config('a', 'b', true)", "SELECT set_config('c', 'd', true)"},
		{"EXPLAIN (ANALYZE 0) DELETE FROM t", "EXPLAIN (ANALYZE 1) DELETE FROM t"},
		{"COPY t TO '/x'", "COPY t TO '/y'"},
		{"SET search_path = 'a'", "SET search_path = 'pg_temp'"},
	} {
		for range 3 {
			one, two := c.Classify([]byte(pair[0])), c.Classify([]byte(pair[1]))
			if one == two {
				t.Errorf("%d: %s and %s share a class", i, pair[0], pair[1])
			}
		}
	}
	if got := c.Classify([]byte("SET a = 'z'")).Settings[0].Value; got != "z" {
		t.Errorf("value %q", got)
	}
}

func TestATextThatIsNotUnderstoodDoesNotSpoilItsKey(t *testing.T) {
	c := New(Options{})
	if got := c.Classify([]byte("SELECT interval 'a' second(1, 2)")).Effects; got != Unknown {
		t.Fatalf("%s: not an error any more", got)
	}
	if got := c.Classify([]byte("SELECT interval 'a' second(1)")).Effects; got != Read {
		t.Errorf("%s", got)
	}
}

func TestTheCacheStaysWithinItsBytes(t *testing.T) {
	const limit = 1 << 20
	c := newCache(limit)
	class := &Class{Effects: Read}
	for i := range 20000 {
		text := fmt.Appendf(nil, "text %d %s", i, strings.Repeat("x", i%300))
		c.put(spaceText, text, class)
		if got := c.class(spaceText, text); got != class {
			t.Fatalf("text %d is not found after it was put", i)
		}
		if s := c.stats(); s.Bytes > limit {
			t.Fatalf("%d bytes", s.Bytes)
		}
	}
	s := c.stats()
	if s.Entries < 1000 || s.Bytes < limit/2 {
		t.Errorf("%+v", s)
	}
	found := 0
	for i := range 20000 {
		if c.class(spaceText, fmt.Appendf(nil, "text %d %s", i, strings.Repeat("x", i%300))) != nil {
			found++
		}
	}
	if int64(found) != s.Entries {
		t.Errorf("%d entries, %d found", s.Entries, found)
	}
	c.put(spaceText, make([]byte, limit), class)
	if got := c.stats(); got.Entries != s.Entries {
		t.Error("a text as large as the cache drove others out")
	}
}

func TestWhatIsUsedOutlivesWhatIsNot(t *testing.T) {
	c := newCache(1 << 18)
	class := &Class{}
	hot := []byte("hot")
	c.put(spaceText, hot, class)
	for i := range 10000 {
		if c.class(spaceText, hot) == nil {
			t.Fatalf("gone after %d others", i)
		}
		c.put(spaceText, fmt.Appendf(nil, "cold %d", i), class)
	}
}

func TestTextsAndKeysAreKeptApart(t *testing.T) {
	c := newCache(1 << 20)
	one, two := &Class{Statements: 1}, &Class{Statements: 2}
	c.put(spaceText, []byte("a"), one)
	c.put(spaceKey, []byte("a"), two)
	c.put(spaceKey, []byte("b"), nil)
	if c.class(spaceText, []byte("a")) != one || c.class(spaceKey, []byte("a")) != two ||
		c.class(spaceText, []byte("b")) != nil || c.class(spaceKey, []byte("b")) != nil {
		t.Error("mixed up")
	}
	if _, ok := c.once(spaceKey, []byte("b"), nil); ok {
		t.Error("a key that is not to be shared is shared")
	}
}

func TestAStampedeClassifiesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(1 << 20)
		gate := make(chan struct{})
		want := &Class{}
		var calls atomic.Int32
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				got, ok := c.once(spaceKey, []byte("a"), func() (*Class, bool) {
					calls.Add(1)
					<-gate
					return want, true
				})
				if got != want || !ok {
					t.Error("another class")
				}
			})
		}
		synctest.Wait()
		close(gate)
		wg.Wait()
		if calls.Load() != 1 {
			t.Errorf("classified %d times", calls.Load())
		}
	})
}

func TestAPanicHangsNobody(t *testing.T) {
	if class := protect(func() *Class { panic("parser") }); class.Effects != Unknown {
		t.Errorf("%+v", class)
	}
	synctest.Test(t, func(t *testing.T) {
		c := newCache(1 << 20)
		gate := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			defer func() { _ = recover() }()
			_, _ = c.once(spaceKey, []byte("a"), func() (*Class, bool) {
				<-gate
				panic("classify")
			})
		})
		synctest.Wait()
		wg.Go(func() {
			if class, ok := c.once(spaceKey, []byte("a"), nil); ok || class != nil {
				t.Error("a class out of a panic")
			}
		})
		synctest.Wait()
		close(gate)
		wg.Wait()
		if class, ok := c.once(spaceKey, []byte("a"), func() (*Class, bool) { return unknownClass, true }); !ok || class == nil {
			t.Error("the key stays blocked")
		}
	})
}

func TestManyUseOneClassifier(t *testing.T) {
	c := New(Options{CacheBytes: 64 << 10})
	statements := corpus(t)[:60]
	want := make([]Effects, len(statements))
	for i, s := range statements {
		want[i] = classOf(s.sql).Effects
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for n := range 300 {
				i := (n*7 + g) % len(statements)
				sql := []byte(statements[i].sql)
				if got := c.Classify(sql).Effects; got != want[i] {
					t.Errorf("%s: %s", sql, got)
				}
				c.Classify(fmt.Appendf(nil, "SELECT a%d FROM t WHERE b = %d", n%100, n))
			}
		})
	}
	wg.Wait()
	if s := c.Stats(); s.Bytes > 64<<10 || s.Entries == 0 {
		t.Errorf("%+v", s)
	}
}

func TestTheParserWarmsUp(t *testing.T) {
	Warm()
	if name := ParserName(); name != "pg_query cgo" && name != "pg_query wasm" {
		t.Error(name)
	}
}
