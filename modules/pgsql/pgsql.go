// Package pgsql tells what a statement does from its text: where it may run, what it leaves behind in the server
// connection, which settings it changes. It owns the parser and the cache of classes; it never talks to a server and
// knows nothing of the catalog. Session and routing call it.
//
// What is not understood is Unknown, never a read.
package pgsql

// Options configure a Classifier. The zero value is valid.
type Options struct {
	// CacheBytes bounds the cache, texts and classes together. Default 64 MiB.
	CacheBytes int
	// ParseLimit is the longest text that is parsed, in bytes. Default 1 MiB.
	ParseLimit int
	// ReadFunctions are globs (path.Match) of functions that only read, on "name" and "schema.name".
	ReadFunctions []string
	// WriteFunctions are globs of functions that write; they win over ReadFunctions.
	WriteFunctions []string
}

const (
	defaultCacheBytes = 64 << 20
	defaultParseLimit = 1 << 20
)

// Classifier classifies texts and remembers their classes. It is safe for concurrent use.
type Classifier struct {
	opts Options
}

// New returns a Classifier with an empty cache.
func New(opts Options) *Classifier {
	if opts.CacheBytes <= 0 {
		opts.CacheBytes = defaultCacheBytes
	}
	if opts.ParseLimit <= 0 {
		opts.ParseLimit = defaultParseLimit
	}
	return &Classifier{opts: opts}
}

// Classify returns the class of the text of a simple Query message. The text is borrowed; the class is shared and must
// not be changed. Texts that differ in literals only share one parse. The session's standard_conforming_strings is on;
// see ClassifyNonConforming.
func (c *Classifier) Classify(sql []byte) *Class { return unknownClass }

// ClassifyExact is Classify for the text of a Parse message: it is remembered by the text as it is.
func (c *Classifier) ClassifyExact(sql []byte) *Class { return unknownClass }

// ClassifyNonConforming is Classify for a session whose standard_conforming_strings is off: a backslash escapes in
// plain literals too. See https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-STRINGS-ESCAPE.
func (c *Classifier) ClassifyNonConforming(sql []byte) *Class { return unknownClass }

// Stats are figures of the cache for the metrics.
type Stats struct {
	// Entries and Bytes are what is in the cache now.
	Entries, Bytes int64
	// Hits and Misses count classifications since the start.
	Hits, Misses uint64
}

// Stats returns the figures of the cache.
func (c *Classifier) Stats() Stats { return Stats{} }

// Warm parses once, so that the first client does not wait for the wasm parser to be compiled (1.5 s).
func Warm() { _, _ = parse("SELECT 1") }

// ParserName tells which build of the parser is in use: "pg_query cgo" or "pg_query wasm".
func ParserName() string { return parserName }
