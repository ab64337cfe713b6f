// Package pgsql tells what a statement does from its text: where it may run, what it leaves behind in the server
// connection, which settings it changes. It owns the parser and the cache of classes; it never talks to a server and
// knows nothing of the catalog. Session and routing call it.
//
// What is not understood is Unknown, never a read.
package pgsql

import (
	"bytes"
	"runtime"
	"strings"
	"sync"
	"unicode/utf8"
)

// Options configure a Classifier. The zero value is valid.
type Options struct {
	// CacheBytes bounds the cache, texts and classes together. Default 64 MiB.
	CacheBytes int
	// ParseLimit is the longest text that is parsed, in bytes. Default 1 MiB.
	ParseLimit int
	// ReadFunctions are globs (path.Match) of functions that only read, on "name" and "schema.name". What a built-in
	// function leaves in the server connection counts all the same.
	ReadFunctions []string
	// WriteFunctions are globs of functions that write; they win over ReadFunctions.
	WriteFunctions []string
}

const (
	defaultCacheBytes = 64 << 20
	defaultParseLimit = 1 << 20
	// largeText is the size in bytes from which a parse takes milliseconds.
	largeText = 64 << 10
)

// Classifier classifies texts and remembers their classes. It is safe for concurrent use.
type Classifier struct {
	opts  Options
	cache *cache
	// slots bounds how many texts are parsed at a time: each holds a thread, and the tree takes far more memory than the
	// text. Texts over largeText have one slot of their own, so that they keep nobody waiting.
	slots, largeSlot chan struct{}
}

// New returns a Classifier with an empty cache.
func New(opts Options) *Classifier {
	if opts.CacheBytes <= 0 {
		opts.CacheBytes = defaultCacheBytes
	}
	if opts.ParseLimit <= 0 {
		opts.ParseLimit = defaultParseLimit
	}
	return &Classifier{
		opts:      opts,
		cache:     newCache(opts.CacheBytes),
		slots:     make(chan struct{}, runtime.GOMAXPROCS(0)),
		largeSlot: make(chan struct{}, 1),
	}
}

// keyBuffers lend the memory that keys are written to.
var keyBuffers = sync.Pool{New: func() any { return &keyBuffer{bytes: make([]byte, 0, 1024)} }}

// keyBuffer holds the key of one text while it is looked up.
type keyBuffer struct {
	bytes []byte
	// use tells what the key is good for; same, that nothing but letter case and white space was left out.
	use  keyUse
	same bool
}

// fill makes the key of a text.
func (k *keyBuffer) fill(sql []byte) {
	k.bytes, k.same, k.use = appendKey(k.bytes[:0], sql)
}

// Classify returns the class of the text of a simple Query message. The text is borrowed; the class is shared and must
// not be changed. Texts that differ in literals only share one parse. The session's standard_conforming_strings is on;
// see ClassifyNonConforming.
func (c *Classifier) Classify(sql []byte) *Class {
	if class := c.cache.class(spaceText, sql); class != nil {
		return class
	}
	if len(sql) > c.opts.ParseLimit {
		return classifyLarge(sql)
	}
	key := keyBuffers.Get().(*keyBuffer)
	defer keyBuffers.Put(key)
	key.fill(sql)
	if key.use != keyShare {
		return c.missText(sql, key)
	}
	if class := c.cache.class(spaceKey, key.bytes); class != nil {
		return class
	}
	return c.missKey(sql, key)
}

// ClassifyExact is Classify for the text of a Parse message: it is remembered by the text as it is.
func (c *Classifier) ClassifyExact(sql []byte) *Class {
	if class := c.cache.class(spaceText, sql); class != nil {
		return class
	}
	if len(sql) > c.opts.ParseLimit {
		return classifyLarge(sql)
	}
	key := keyBuffers.Get().(*keyBuffer)
	defer keyBuffers.Put(key)
	key.fill(sql)
	return c.missText(sql, key)
}

// ClassifyNonConforming is Classify for a session whose standard_conforming_strings is off: a backslash escapes in
// plain literals too. See https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-STRINGS-ESCAPE.
// It allocates if there is such a literal.
func (c *Classifier) ClassifyNonConforming(sql []byte) *Class {
	if bytes.IndexByte(sql, '\\') < 0 {
		return c.Classify(sql)
	}
	conforming, ok := conform(sql)
	if !ok {
		return unknownClass
	}
	return c.Classify(conforming)
}

// missKey classifies a text whose key is not remembered, or is known not to be shared.
func (c *Classifier) missKey(sql []byte, key *keyBuffer) *Class {
	class, ok := c.cache.once(spaceKey, key.bytes, func() (*Class, bool) {
		class := c.classify(sql, key)
		switch {
		case class.Effects&Unknown != 0: // perhaps a syntax error in the literals
			c.cache.put(spaceText, sql, class)
			return class, false
		case class.ConstDependent:
			c.cache.put(spaceKey, key.bytes, nil)
			c.cache.put(spaceText, sql, class)
			return class, false
		}
		c.cache.put(spaceKey, key.bytes, class)
		if key.same {
			c.cache.put(spaceText, sql, class)
		}
		return class, true
	})
	if ok {
		return class
	}
	return c.missText(sql, key)
}

// missText classifies a text that is not remembered and does not share its class.
func (c *Classifier) missText(sql []byte, key *keyBuffer) *Class {
	class, ok := c.cache.once(spaceText, sql, func() (*Class, bool) {
		class := c.classify(sql, key)
		c.cache.put(spaceText, sql, class)
		return class, true
	})
	if !ok {
		return unknownClass
	}
	return class
}

// classify parses a text and settles what does not come from the tree.
func (c *Classifier) classify(sql []byte, key *keyBuffer) *Class {
	slots := c.slots
	if len(sql) > largeText {
		slots = c.largeSlot
	}
	slots <- struct{}{}
	class := protect(func() *Class { return c.parse(sql) })
	<-slots
	if class.Route = leadingRoute(sql); class.Route != "" {
		class.ConstDependent = true
	}
	if class.Fingerprint = fingerprint(key.bytes); key.use == keyNone {
		class.Fingerprint = fingerprint(sql)
	}
	return class
}

// protect returns the class that f returns, and an Unknown one if f returns none or panics, as the wasm parser does
// when it runs out of stack.
func protect(f func() *Class) (class *Class) {
	defer func() {
		if recover() != nil || class == nil {
			unknown := *unknownClass
			class = &unknown
		}
	}()
	return f()
}

// parse returns the class of a text, nil if it is not understood.
func (c *Classifier) parse(sql []byte) *Class {
	if bytes.IndexByte(sql, 0) >= 0 || tooDeep(sql) {
		return nil
	}
	text := string(sql)
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, string(utf8.RuneError))
	}
	tree, err := parse(text)
	if err != nil {
		return nil
	}
	return walk(tree, &c.opts)
}

// Stats are figures of the cache for the metrics.
type Stats struct {
	// Entries and Bytes are what is in the cache now.
	Entries, Bytes int64
	// Hits and Misses count classifications since the start; texts over ParseLimit are in neither.
	Hits, Misses uint64
}

// Stats returns the figures of the cache.
func (c *Classifier) Stats() Stats { return c.cache.stats() }

// Warm parses once, so that the first client does not wait for the wasm parser to be compiled (1.5 s).
func Warm() { _, _ = parse("SELECT 1") }

// ParserName tells which build of the parser is in use: "pg_query cgo" or "pg_query wasm".
func ParserName() string { return parserName }
