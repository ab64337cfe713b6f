package session

import (
	"context"
	"slices"
	"time"

	"github.com/fairwaydb/fairway/modules/pgsql"
)

// Info is what is shown of a session.
type Info struct {
	// ID is the session's number in this process, PID the one its client cancels with.
	ID  uint64
	PID uint32
	// Cluster, User and Database are empty while the client logs in, and so is Application, the application_name of the startup packet.
	Cluster, User, Database, Application string
	// Client is the client's address.
	Client string
	// Since is when the client connected.
	Since time.Time
	// State is starting, idle, active (a statement runs), waiting (for a server connection), idle in transaction, or
	// idle in failed transaction.
	State string
	// Backend is that of the server connection the session holds, empty when it holds none.
	Backend string
	// Pins are the reasons to hold it beyond the transaction.
	Pins []string
	// TLS tells whether the client's connection is encrypted.
	TLS bool
}

// The states of a session.
const (
	stateStarting = "starting"
	stateIdle     = "idle"
	stateActive   = "active"
	stateWaiting  = "waiting"
	stateTx       = "idle in transaction"
	stateFailed   = "idle in failed transaction"
)

// List returns the sessions of the process by number.
func List() []Info { return sessions.list() }

func (reg *Registry) list() []Info {
	reg.mu.Lock()
	all := make([]*Session, 0, len(reg.mu.sessions))
	for _, s := range reg.mu.sessions {
		all = append(all, s)
	}
	reg.mu.Unlock()
	infos := make([]Info, 0, len(all))
	for _, s := range all {
		infos = append(infos, s.info())
	}
	slices.SortFunc(infos, func(a, b Info) int { return int(a.ID) - int(b.ID) })
	return infos
}

// info is called by others than the session.
func (s *Session) info() Info {
	i := Info{ID: s.id, Since: s.since, State: stateStarting}
	if a := s.raw.RemoteAddr(); a != nil {
		i.Client = a.String()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.mu.known {
		return i
	}
	i.PID, i.TLS = s.pid, s.secure()
	i.Cluster, i.User, i.Database, i.Application = s.cluster.Name(), s.identity.User, s.identity.Database, s.mu.application
	shown := s.shown.Load()
	i.Pins = pinReasons(pgsql.Effects(shown >> 8))
	if s.mu.backend != nil {
		i.Backend = s.mu.backend.Name()
	}
	switch {
	case s.mu.waiting:
		i.State = stateWaiting
	case s.waitsSince.Load() != 0:
		i.State = stateActive
	case byte(shown) == 'T':
		i.State = stateTx
	case byte(shown) == 'E':
		i.State = stateFailed
	default:
		i.State = stateIdle
	}
	return i
}

// introduced makes the identity known to others.
func (s *Session) introduced() {
	s.show()
	s.mu.Lock()
	s.mu.known, s.mu.application = true, s.startup.value("application_name")
	s.mu.Unlock()
}

// show publishes what the session shows of itself between two messages of its client.
func (s *Session) show() {
	if now := uint64(s.pins)<<8 | uint64(s.status); now != s.shownNow {
		s.shownNow = now
		s.shown.Store(now)
	}
}

// pinReasons are the names of what pins.
func pinReasons(pins pgsql.Effects) []string {
	var names []string
	for bit := pgsql.Effects(1); bit != 0 && bit <= pins; bit <<= 1 {
		if pins&bit != 0 {
			names = append(names, pinNames(bit))
		}
	}
	return names
}

// Terminate ends a session with FATAL 57P01, as pg_terminate_backend does: its statement is canceled, its transaction rolled back.
// It returns when the session has ended; when ctx is done before, the client's socket is closed. false: there is no such session.
func Terminate(ctx context.Context, id uint64) bool { return sessions.terminate(ctx, id) }

func (reg *Registry) terminate(ctx context.Context, id uint64) bool {
	reg.mu.Lock()
	s := reg.mu.sessions[id]
	reg.mu.Unlock()
	if s == nil {
		return false
	}
	s.killed.Store(true)
	_ = s.raw.SetReadDeadline(past)
	s.cancel(errCanceled)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for reg.has(s) {
		select {
		case <-tick.C:
			continue
		case <-ctx.Done():
		}
		_ = s.raw.Close()
		s.mu.Lock()
		s.mu.active.Interrupt()
		s.mu.Unlock()
		return true
	}
	return true
}

func (reg *Registry) has(s *Session) bool {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	return reg.mu.sessions[s.id] == s
}
