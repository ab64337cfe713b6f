package cluster

import "time"

// Mark is a moment on the monotonic clock of this process, in nanoseconds. A
// session notes one when it has received the end of a turn that may have
// written; a replica may serve its reads once it has replayed past a sample of
// the primary that was asked for after the mark ([Backend.CaughtUp]). Zero is
// no mark. Marks mean nothing to another process.
type Mark int64

// epoch is what marks count from: long ago, so that every mark is above zero on
// the clock of a synctest bubble too, which begins in the year 2000.
var epoch = time.Now().Add(-50 * 365 * 24 * time.Hour)

// Now returns the mark of this moment, never zero. It does not move with the
// wall clock.
func Now() Mark { return Mark(time.Since(epoch)) }

// Since returns how long ago the mark was.
func (m Mark) Since() time.Duration { return Now().Sub(m) }

// Sub returns the time from an earlier mark to m.
func (m Mark) Sub(earlier Mark) time.Duration { return time.Duration(m - earlier) }

// Add returns the mark that lies d later.
func (m Mark) Add(d time.Duration) Mark { return m + Mark(d) }
