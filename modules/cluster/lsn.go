package cluster

import (
	"fmt"
	"strconv"
	"strings"
)

// LSN is a position in the WAL, a byte offset. Zero is no position. See
// https://www.postgresql.org/docs/current/datatype-pg-lsn.html.
type LSN uint64

// ParseLSN reads PostgreSQL's notation, two hexadecimal numbers of at most eight
// digits: 16/B374D848.
func ParseLSN(s string) (LSN, error) {
	high, low, ok := strings.Cut(s, "/")
	h, err1 := strconv.ParseUint(high, 16, 32)
	l, err2 := strconv.ParseUint(low, 16, 32)
	if !ok || err1 != nil || err2 != nil || len(high) > 8 || len(low) > 8 {
		return 0, fmt.Errorf("%w: %q is no LSN", ErrProtocol, s)
	}
	return LSN(h<<32 | l), nil
}

// walSizes are the sizes of a page and of a segment of the WAL, in bytes; 0 while
// they are not known.
type walSizes struct{ page, segment LSN }

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
func (p LSN) settle(w walSizes) LSN {
	page, segment := w.page, w.segment
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
