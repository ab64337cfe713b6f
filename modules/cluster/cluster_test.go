package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// errDown is what a probe of a server that does not run gets.
var errDown = fmt.Errorf("dial: %w", syscall.ECONNREFUSED)

// server is a PostgreSQL server as the monitor sees it.
type server struct {
	mu     sync.Mutex
	f      facts
	err    error
	delay  time.Duration // of each answer
	asked  int           // probes and looks
	probes int
}

// set changes the server.
func (s *server) set(change func(f *facts)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.f)
}

// fail makes the server answer with an error; nil heals it.
func (s *server) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// slow makes each answer take a time.
func (s *server) slow(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delay = d
}

func (s *server) counts() (asked, probes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked, s.probes
}

// fakeProber asks a server of the test.
type fakeProber struct {
	s        *server
	linked   bool
	lastLife string
}

func (p *fakeProber) ask(ctx context.Context) (facts, error) {
	p.s.mu.Lock()
	delay := p.s.delay
	p.s.asked++
	p.s.mu.Unlock()
	sent := Now()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return facts{}, ctx.Err()
		}
	}
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	f := p.s.f
	f.at.sentAt = sent
	return f, p.s.err
}

func (p *fakeProber) probe(ctx context.Context) (facts, time.Duration, error) {
	p.s.mu.Lock()
	p.s.probes++
	p.s.mu.Unlock()
	began := Now()
	f, err := p.ask(ctx)
	p.linked, p.lastLife = err == nil, f.incarnation
	return f, began.Since(), err
}

func (p *fakeProber) position(ctx context.Context) (position, error) {
	if !p.linked {
		return position{}, errNoLink
	}
	f, err := p.ask(ctx)
	if err == nil && f.incarnation != p.lastLife {
		err = errors.New("connection lost")
	}
	p.linked = err == nil
	return f.at, err
}

func (p *fakeProber) close() { p.linked = false }

// bed is a cluster whose servers are the test's.
type bed struct {
	*Cluster
	registry *Registry
	servers  map[string]*server
	logs     *observer.ObservedLogs
}

// newBed makes a cluster with the servers, not claimed yet.
func newBed(t *testing.T, servers map[string]*server) *bed {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	logger := zap.New(core)
	registry := NewRegistry(func() *zap.Logger { return logger })
	b := &bed{Cluster: registry.Reference("main"), registry: registry, servers: maps.Clone(servers), logs: logs}
	b.newProber = func(be *Backend) prober { return &fakeProber{s: b.servers[be.name]} }
	t.Cleanup(b.Unreference)
	return b
}

// claim puts settings with all servers as backends in force, changed by change.
func (b *bed) claim(t *testing.T, change ...func(*Settings)) *Claim {
	t.Helper()
	s := b.settingsOf(change...)
	claim := b.Claim(s)
	t.Cleanup(claim.Release)
	return claim
}

func (b *bed) settingsOf(change ...func(*Settings)) *Settings {
	s := newSettings()
	for name := range b.servers {
		s.Backends = append(s.Backends, Endpoint{Name: name, Address: name + ":5432"})
	}
	for _, c := range change {
		c(s)
	}
	return s
}

// after lets time pass in a synctest bubble and everything settle.
func after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// state returns role and state of a member, "gone" when there is none.
func (b *bed) state(name string) string {
	m := b.Topology().Member(name)
	if m == nil {
		return "gone"
	}
	return m.Role.String() + " " + m.State.String()
}

// primary returns the name of the primary, "" for none.
func (b *bed) primary() string {
	if p := b.Topology().Primary; p != nil {
		return p.Backend.Name()
	}
	return ""
}

func (b *bed) expect(t *testing.T, want map[string]string) {
	t.Helper()
	for name, w := range want {
		if got := b.state(name); got != w {
			m := b.Topology().Member(name)
			t.Errorf("%s is %q, want %q (%+v)", name, got, w, m)
		}
	}
}

const system = 7000000000000000001

// primaryAt and replicaAt make servers of one system.
func primaryAt(timeline uint32, at LSN) *server {
	return &server{f: facts{
		incarnation: "1", systemID: system, timeline: timeline, at: position{flush: at, insert: at},
	}}
}

func replicaAt(timeline uint32, at LSN) *server {
	return &server{f: facts{
		incarnation: "1", systemID: system, timeline: timeline, at: position{recovery: true, replay: at, timeline: timeline},
	}}
}

// three is a primary and two replicas that have everything.
func three() map[string]*server {
	return map[string]*server{"pg1": primaryAt(1, 1000), "pg2": replicaAt(1, 1000), "pg3": replicaAt(1, 1000)}
}
