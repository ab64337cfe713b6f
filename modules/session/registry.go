package session

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"sync"
	"time"
)

// Registry knows the sessions of the process: for cancel requests, for the watch over those that wait, and for the drain. It lives
// as long as the process; configs come and go.
type Registry struct {
	mu struct {
		sync.Mutex
		sessions map[uint64]*Session
		byPID    map[uint32]*Session
		starting int
		next     uint64
		draining bool
		empty    chan struct{} // closed when the last session of a drain has gone
		stop     chan struct{} // ends the watch; nil while there is no session
	}
	watch   sync.WaitGroup  // the watch, and the cancel requests that nobody waits for
	running context.Context // of cancel requests: ended by the drain
	cutOff  context.CancelFunc
}

var sessions = newRegistry()

func newRegistry() *Registry {
	reg := &Registry{}
	reg.running, reg.cutOff = context.WithCancel(context.Background())
	reg.mu.sessions = make(map[uint64]*Session)
	reg.mu.byPID = make(map[uint32]*Session)
	return reg
}

// enter registers a session that has just connected; it is false when the process drains or the limit is reached.
func (reg *Registry) enter(s *Session) (draining, ok bool) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	if reg.mu.draining {
		return true, false
	}
	if s.opts.MaxSessions > 0 && len(reg.mu.sessions) >= s.opts.MaxSessions {
		return false, false
	}
	reg.mu.next++
	s.id, s.since = reg.mu.next, time.Now()
	reg.mu.sessions[s.id] = s
	if reg.mu.stop == nil {
		reg.mu.stop = make(chan struct{})
		stop := reg.mu.stop
		reg.watch.Go(func() { reg.watchOver(stop) })
	}
	return false, true
}

// keys gives a session the key its client cancels with: random, so that it can not be guessed, and unlike any other's.
func (reg *Registry) keys(s *Session, size int) {
	s.key = make([]byte, size)
	_, _ = rand.Read(s.key) // never fails, see crypto/rand
	reg.mu.Lock()
	defer reg.mu.Unlock()
	for {
		var b [4]byte
		_, _ = rand.Read(b[:])
		pid := binary.BigEndian.Uint32(b[:]) &^ (1 << 31)
		if _, taken := reg.mu.byPID[pid]; !taken && pid != 0 {
			s.pid = pid
			reg.mu.byPID[pid] = s
			return
		}
	}
}

// remove forgets a session that has ended.
func (reg *Registry) remove(s *Session) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	if _, ok := reg.mu.sessions[s.id]; !ok {
		return
	}
	delete(reg.mu.sessions, s.id)
	if reg.mu.byPID[s.pid] == s {
		delete(reg.mu.byPID, s.pid)
	}
	if len(reg.mu.sessions) == 0 {
		close(reg.mu.stop)
		reg.mu.stop = nil
		if reg.mu.empty != nil {
			close(reg.mu.empty)
			reg.mu.empty = nil
		}
	}
}

// cancel serves a CancelRequest: it ends the wait or the statement of the session with that key, and returns when the server has
// seen to it. A wrong key does nothing and says nothing.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS
func (reg *Registry) cancel(pid uint32, key []byte) bool {
	reg.mu.Lock()
	s := reg.mu.byPID[pid]
	reg.mu.Unlock()
	if s == nil || subtle.ConstantTimeCompare(s.key, key) != 1 {
		return false
	}
	s.cancel(errCanceled)
	return true
}

// cancel ends what the session waits for: a server connection, with cause, or the server's reply.
func (s *Session) cancel(cause error) {
	s.mu.Lock()
	if s.mu.waiting {
		s.mu.stopWait(cause)
	}
	lease := s.mu.active
	if s.mu.shielded {
		s.mu.later = true
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	ctx, stop := context.WithTimeout(s.reg.running, cancelTimeout) // outlives the client that asked
	defer stop()
	if err := lease.Cancel(ctx); err != nil {
		s.logger.Debug("cancel request failed")
	}
}

// shield keeps cancel requests back while the server runs a query of ours: a BEGIN or SET that was cancelled would leave the client's
// statement, which follows it in the same write, without it.
func (s *Session) shield() {
	s.mu.Lock()
	s.mu.shielded = true
	s.mu.Unlock()
}

// unshield lets cancel requests through, and sends the one that was kept back.
func (s *Session) unshield() {
	s.mu.Lock()
	later := s.mu.later
	s.mu.shielded, s.mu.later = false, false
	s.mu.Unlock()
	if later {
		s.reg.watch.Go(func() { s.cancel(errCanceled) })
	}
}

const cancelTimeout = 10 * time.Second

// Count returns how many clients are connected.
func Count() int { return sessions.count() }

func (reg *Registry) count() int {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	return len(reg.mu.sessions)
}

// Drain refuses new clients with 57P03, ends sessions as soon as their transaction is over with 57P01, and waits for all of them,
// and for the cancel requests that they have left. When ctx ends, those that are left are cut. It returns how many sessions were
// cut. A process drains once.
func Drain(ctx context.Context) (cut int) { return sessions.drain(ctx) }

func (reg *Registry) drain(ctx context.Context) (cut int) {
	cut = reg.empty(ctx)
	stop := context.AfterFunc(ctx, reg.cutOff)
	defer stop()
	reg.watch.Wait()
	return cut
}

// empty waits until there are no sessions.
func (reg *Registry) empty(ctx context.Context) (cut int) {
	reg.mu.Lock()
	reg.mu.draining = true
	if len(reg.mu.sessions) == 0 {
		reg.mu.Unlock()
		return 0
	}
	if reg.mu.empty == nil {
		reg.mu.empty = make(chan struct{})
	}
	empty := reg.mu.empty
	for _, s := range reg.mu.sessions {
		s.askToLeave()
	}
	reg.mu.Unlock()
	select {
	case <-empty:
		return 0
	case <-ctx.Done():
	}
	reg.mu.Lock()
	for _, s := range reg.mu.sessions {
		cut++
		_ = s.raw.Close()
		s.mu.Lock()
		s.mu.active.Interrupt()
		if s.mu.waiting {
			s.mu.stopWait(errClientLeft)
		}
		s.mu.Unlock()
	}
	reg.mu.Unlock()
	if cut > 0 {
		<-empty
	}
	return cut
}

// askToLeave makes the session end when it is idle: it wakes its read of the client.
func (s *Session) askToLeave() {
	s.closing.Store(true)
	_ = s.raw.SetReadDeadline(past)
}
