package cluster

import "time"

// facts are what a server tells about itself.
type facts struct {
	incarnation string // start time of the postmaster, microseconds since 1970
	systemID    uint64
	timeline    uint32        // 0: a standby that has received nothing yet
	replayAge   time.Duration // standby: since the commit of the last transaction it replayed; negative: none yet
	at          position
	defaults    *Defaults // nil: not known
	wal         walSizes
}

// position is where a server stands in the WAL.
type position struct {
	sentAt        Mark // when the server was asked
	recovery      bool
	flush, insert LSN    // primary
	replay        LSN    // standby
	timeline      uint32 // standby: the one it receives; 0 when it receives none
}
