package session

import (
	"sync"
	"sync/atomic"

	"github.com/fairwaydb/fairway/modules/pgwire"
	"github.com/fairwaydb/fairway/modules/pool"
)

// pinCount counts the sessions that hold a server connection of one pool beyond their transaction.
type pinCount struct{ n atomic.Int64 }

func (p *pinCount) add(n int64) { p.n.Add(n) }

type pinKey struct {
	cluster, backend string
	identity         pool.Identity
}

// pinCounts has an entry for each pool that ever had a pin: as many as there are pools.
var pinCounts sync.Map // of *pinCount by pinKey

// pinned is the count of the pool whose connection the session holds.
func (s *Session) pinned() *pinCount {
	key := pinKey{s.cluster.Name(), s.lease.member.Backend.Name(), s.identity}
	if p, ok := pinCounts.Load(key); ok {
		return p.(*pinCount)
	}
	p, _ := pinCounts.LoadOrStore(key, new(pinCount))
	return p.(*pinCount)
}

// unpin says that nothing holds the connection any more.
func (s *Session) unpin() {
	if s.pins != 0 && !s.whole {
		s.pinned().add(-1)
	}
	s.pins = 0
}

// mayPin refuses a statement outside a transaction that would pin one connection more than max_pinned allows: the rest of the pool is
// for those who give their connections back.
func (s *Session) mayPin() error {
	set := s.cluster.Settings()
	most := max(int64(float64(set.Pool.Size)*set.MaxPinned), 1)
	if s.pinned().n.Load() < most {
		return nil
	}
	e := pgwire.Errorf(pgwire.CodeTooManyConnections, "too many sessions hold a server connection of backend %s", s.lease.member.Backend.Name())
	e.Detail = "The statement needs to keep one: temporary tables, LISTEN, advisory locks, WITH HOLD cursors and SQL PREPARE live in one server connection."
	e.Hint = "Disconnect idle sessions that use them, or raise size or max_pinned of the pool."
	return e
}
