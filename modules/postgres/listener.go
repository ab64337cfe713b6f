package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
)

// Network is the name of the network whose listeners survive a reload: pg/:6432.
const Network = "pg"

func init() { caddy.RegisterNetwork(Network, listen) }

// The keep-alive probes of accepted connections: a client that vanished without a
// word is noticed after 75 seconds.
const (
	keepAliveIdle     = 30 * time.Second
	keepAliveInterval = 15 * time.Second
	keepAliveCount    = 3
)

// The pauses after a failed accept: doubled from the first to the last.
const (
	acceptPauseMin = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

// listen returns a listener on the one kernel socket of its address. Caddy opens
// the listeners of a new configuration before it closes those of the old one;
// with its own tcp network the old kernel socket is closed then, and resets the
// connections in its accept queue. Here both share one socket, which is closed
// when nobody uses it any more.
func listen(ctx context.Context, _, host, portRange string, portOffset uint, cfg net.ListenConfig) (any, error) {
	first, _, _ := strings.Cut(portRange, "-")
	port, err := strconv.ParseUint(first, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("listen on %s/%s: port %q is no number: write %s/HOST:PORT", Network, host, portRange, Network)
	}
	address := net.JoinHostPort(host, strconv.FormatUint(port+uint64(portOffset), 10))
	l, err := sockets.open(ctx, address, cfg)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("listen on %s/%s: %w: another program, or this one under another spelling of the address, has it; "+
			"such a change of address takes a restart", Network, address, err)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s/%s: %w", Network, address, err)
	}
	return l, nil
}

// sockets are the kernel sockets of the process.
var sockets = &socketTable{table: make(map[string]*socket)}

// socketTable holds sockets by address. The lock is held while a socket is bound
// or closed, so that an address is never bound twice; neither waits for anybody.
type socketTable struct {
	mu    sync.Mutex
	table map[string]*socket
}

// socket is a kernel socket that listeners of several configurations share.
type socket struct {
	owner   *socketTable
	address string
	ln      net.Listener
	users   int // guarded by owner.mu
	conns   chan net.Conn
	done    chan struct{} // closed when the last user is gone
	accepts sync.WaitGroup
}

// open returns a listener on the socket of the address, bound if need be. It is
// closed when ctx ends, if not before.
func (t *socketTable) open(ctx context.Context, address string, cfg net.ListenConfig) (net.Listener, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.table[address]
	if s == nil {
		cfg.SetMultipathTCP(false) // its sockets lack options we use, and cost more
		keepAlive(&cfg)
		ln, err := cfg.Listen(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		s = &socket{owner: t, address: address, ln: ln, conns: make(chan net.Conn), done: make(chan struct{})}
		s.accepts.Go(s.accept)
		t.table[address] = s
	}
	s.users++
	l := &listener{s: s, closed: make(chan struct{})}
	// The context is the configuration's. When the configuration fails to start,
	// layer4 forgets the listeners it has opened already: nobody else closes them.
	l.unwatch = context.AfterFunc(ctx, func() { _ = l.close() })
	return l, nil
}

// accept hands connections to whoever accepts, until the socket is closed. An
// error pauses it: descriptors may be free again later.
func (s *socket) accept() {
	logger := caddy.Log().Named("postgres.listener").With(zap.String("address", s.address))
	var pause time.Duration
	for {
		conn, err := s.ln.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			acceptFailures.Inc()
			if pause == 0 {
				logger.Error("cannot accept connections", zap.Error(err))
			}
			pause = min(max(2*pause, acceptPauseMin), acceptPauseMax)
			select {
			case <-time.After(pause):
			case <-s.done:
				return
			}
			continue
		case pause != 0:
			logger.Info("accepting connections again")
			pause = 0
		}
		select {
		case s.conns <- &accepted{Conn: conn}:
		case <-s.done:
			_ = conn.Close()
			return
		}
	}
}

// release takes a user off the socket; the last one closes it and waits for the
// accepting goroutine.
func (s *socket) release() error {
	s.owner.mu.Lock()
	defer s.owner.mu.Unlock()
	if s.users--; s.users > 0 {
		return nil
	}
	delete(s.owner.table, s.address)
	close(s.done)
	err := s.ln.Close()
	s.accepts.Wait()
	return err
}

// listener is one configuration's use of a socket.
type listener struct {
	s       *socket
	unwatch func() bool
	once    sync.Once
	closed  chan struct{}
}

// Accept returns the next connection: the caller owns it. After Close it returns
// [net.ErrClosed]; a connection it could have had goes to another listener of the
// socket.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, l.errClosed()
	default:
	}
	select {
	case conn := <-l.s.conns:
		return conn, nil
	case <-l.closed:
		return nil, l.errClosed()
	}
}

func (l *listener) errClosed() error {
	return &net.OpError{Op: "accept", Net: Network, Addr: l.Addr(), Err: net.ErrClosed}
}

// Close ends Accept. The kernel socket is closed with its last listener.
func (l *listener) Close() error {
	l.unwatch()
	return l.close()
}

func (l *listener) close() error {
	err := error(net.ErrClosed)
	l.once.Do(func() {
		close(l.closed)
		err = l.s.release()
	})
	return err
}

// Addr returns the address of the kernel socket.
func (l *listener) Addr() net.Addr { return l.s.ln.Addr() }

// Interface guard.
var _ net.Listener = (*listener)(nil)
