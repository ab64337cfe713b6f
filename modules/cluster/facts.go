package cluster

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// facts are what a server tells about itself.
type facts struct {
	incarnation string // start time of the postmaster, microseconds since 1970
	systemID    uint64
	timeline    uint32        // 0: a standby that has received nothing yet
	replayAge   time.Duration // standby: since the commit of the last transaction it replayed; negative: none yet
	at          position
	defaults    *Defaults // nil: not known
}

// position is where a server stands in the WAL.
type position struct {
	sentAt        Mark // when the server was asked
	recovery      bool
	flush, insert lsn    // primary
	replay        lsn    // standby
	timeline      uint32 // standby: the one it receives; 0 when it receives none
}

// lsn is a position in the WAL, a byte offset.
type lsn uint64

// parseLSN reads PostgreSQL's notation, two hexadecimal numbers: 16/B374D848.
func parseLSN(s string) (lsn, error) {
	high, low, ok := strings.Cut(s, "/")
	h, err1 := strconv.ParseUint(high, 16, 32)
	l, err2 := strconv.ParseUint(low, 16, 32)
	if !ok || err1 != nil || err2 != nil {
		return 0, fmt.Errorf("%w: %q is no LSN", ErrProtocol, s)
	}
	return lsn(h<<32 | l), nil
}

// The headers of WAL pages, see src/include/access/xlog_internal.h: the first
// page of a segment has a longer one.
const (
	shortPageHeader = 24
	longPageHeader  = 40
)

// settle moves an insert position that lies just behind a page header back to
// the begin of the page. pg_current_wal_insert_lsn() skips the header of a page
// that is still empty, pg_last_wal_replay_lsn() does not: a replica that has
// everything would otherwise not pass the position before more is written.
func (p lsn) settle(page, segment lsn) lsn {
	switch {
	case page == 0 || segment == 0:
		return p
	case p%segment == longPageHeader:
		return p - longPageHeader
	case p%page == shortPageHeader && p%segment != shortPageHeader:
		return p - shortPageHeader
	}
	return p
}
