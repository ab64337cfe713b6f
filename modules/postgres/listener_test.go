package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/caddyserver/caddy/v2"
)

// open listens as Caddy does; the listener is closed with the test.
func open(t *testing.T, address string) net.Listener {
	t.Helper()
	a, err := caddy.ParseNetworkAddress(address)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := a.Listen(context.Background(), 0, net.ListenConfig{})
	if err != nil {
		t.Fatal(err)
	}
	l := ln.(net.Listener)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// greet accepts until the listener is closed and writes a word to each client.
func greet(wg *sync.WaitGroup, l net.Listener, word string) {
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, word)
			_ = conn.Close()
		}
	})
}

// ask connects and returns what it is told.
func ask(address string) (string, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	told, err := io.ReadAll(conn)
	return string(told), err
}

func TestListenersOfOneAddressShareASocket(t *testing.T) {
	first := open(t, "pg/127.0.0.1:0")
	second := open(t, "pg/127.0.0.1:0")
	if first.Addr().String() != second.Addr().String() {
		t.Fatalf("they listen on %s and %s", first.Addr(), second.Addr())
	}
	var wg sync.WaitGroup
	greet(&wg, first, "first")
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	if told, err := ask(first.Addr().String()); told != "first" || err != nil {
		t.Errorf("after the other was closed: %q, %v", told, err)
	}
	if _, err := second.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed listener accepts: %v", err)
	}
	if err := second.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a second close: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if _, err := ask(first.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("after the last was closed: %v", err)
	}
}

func TestListenOnIPv6(t *testing.T) {
	l := open(t, "pg/[::1]:0")
	var wg sync.WaitGroup
	greet(&wg, l, "six")
	if told, err := ask(l.Addr().String()); told != "six" || err != nil {
		t.Errorf("%q, %v", told, err)
	}
	_ = l.Close()
	wg.Wait()
}

func TestListenOnAPortRange(t *testing.T) {
	port := freePorts(t, 3)
	a, err := caddy.ParseNetworkAddress(fmt.Sprintf("pg/127.0.0.1:%d-%d", port, port+2))
	if err != nil {
		t.Fatal(err)
	}
	all, err := a.ListenAll(t.Context(), net.ListenConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for i, ln := range all {
		l := ln.(net.Listener)
		if got := l.Addr().(*net.TCPAddr).Port; got != port+i {
			t.Errorf("listener %d is on port %d", i, got)
		}
		_ = l.Close()
	}
	if len(all) != 3 {
		t.Errorf("%d listeners", len(all))
	}
}

// freePorts returns the first of n ports in a row that nobody uses.
func freePorts(t *testing.T, n int) int {
	t.Helper()
	for range 50 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port, free := l.Addr().(*net.TCPAddr).Port, true
		_ = l.Close()
		for i := range n {
			l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port+i))
			if err != nil {
				free = false
				break
			}
			_ = l.Close()
		}
		if free {
			return port
		}
	}
	t.Fatal("no free ports")
	return 0
}

func TestAnAddressInUseIsAnErrorWithARemedy(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	a, _ := caddy.ParseNetworkAddress("pg/" + taken.Addr().String())
	_, err = a.Listen(t.Context(), 0, net.ListenConfig{})
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "takes a restart") {
		t.Errorf("the error is %v", err)
	}
	if _, err := listen(t.Context(), Network, "h", "http", 0, net.ListenConfig{}); err == nil || !strings.Contains(err.Error(), "write pg/HOST:PORT") {
		t.Errorf("the error of a port that is no number is %v", err)
	}
}

func TestAcceptedConnectionsArePlainTCP(t *testing.T) {
	l := open(t, "pg/127.0.0.1:0")
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	tcp, ok := conn.(*accepted).take().(*net.TCPConn)
	if !ok {
		t.Fatalf("it is a %T", conn.(*accepted).Conn)
	}
	defer tcp.Close()
	if mptcp, err := tcp.MultipathTCP(); mptcp || err != nil {
		t.Errorf("multipath: %v, %v", mptcp, err)
	}
}

func TestAConnectionThatWasTakenStaysOpen(t *testing.T) {
	l := open(t, "pg/127.0.0.1:0")
	for _, take := range []bool{false, true} {
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		var tcp net.Conn
		if take {
			tcp = conn.(*accepted).take()
		}
		if err := conn.Close(); err != nil { // by layer4
			t.Fatal(err)
		}
		if tcp != nil {
			if _, err := io.WriteString(tcp, "hello"); err != nil {
				t.Error(err)
			}
			_ = tcp.Close()
		}
		told, err := io.ReadAll(client)
		if got := string(told) == "hello"; err != nil || got != take {
			t.Errorf("taken: %v; the client was told %q, %v", take, told, err)
		}
		_ = client.Close()
	}
}

// TestReloadsResetNobody replaces the listener as a reload does while clients
// connect without a pause.
func TestReloadsResetNobody(t *testing.T) {
	var (
		servers, clients sync.WaitGroup
		stop             atomic.Bool
		served           atomic.Int64
	)
	current := open(t, "pg/127.0.0.1:0")
	address := current.Addr().String()
	greet(&servers, current, "hello")
	for range 8 {
		clients.Go(func() {
			for !stop.Load() {
				if told, err := ask(address); err != nil || told != "hello" {
					t.Errorf("client was told %q, %v", told, err)
					return
				}
				served.Add(1)
			}
		})
	}
	const reloads = 200
	for i := range reloads {
		next := open(t, "pg/127.0.0.1:0")
		greet(&servers, next, "hello")
		if err := current.Close(); err != nil {
			t.Error(err)
		}
		current = next
		for served.Load() < int64(i*10) && !t.Failed() {
			_, _ = ask(address)
		}
	}
	stop.Store(true)
	clients.Wait()
	_ = current.Close()
	servers.Wait()
	if n := served.Load(); n < reloads {
		t.Errorf("only %d clients were served", n)
	}
}

// faulty is a kernel socket that fails as often as told, then gives a connection.
type faulty struct {
	fails  int
	calls  int
	closed chan struct{}
}

func (f *faulty) Accept() (net.Conn, error) {
	if f.calls++; f.calls <= f.fails {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	if f.calls == f.fails+1 {
		conn, _ := net.Pipe()
		return conn, nil
	}
	<-f.closed
	return nil, net.ErrClosed
}

func (f *faulty) Close() error {
	close(f.closed)
	return nil
}

func (*faulty) Addr() net.Addr { return &net.TCPAddr{} }

func TestAcceptingGoesOnAfterDescriptorsRanOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &faulty{fails: 12, closed: make(chan struct{})}
		table := &socketTable{table: make(map[string]*socket)}
		s := &socket{owner: table, ln: f, users: 1, conns: make(chan net.Conn), done: make(chan struct{})}
		s.accepts.Go(s.accept)
		l := &listener{s: s, unwatch: func() bool { return false }, closed: make(chan struct{})}
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if f.calls < f.fails+1 {
			t.Errorf("accept was called %d times", f.calls)
		}
	})
}

func TestClosingEndsTheBackOffAndTheHandOver(t *testing.T) {
	for name, fails := range map[string]int{"in the pause": 1000, "with a connection in hand": 0} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &faulty{fails: fails, closed: make(chan struct{})}
				s := &socket{owner: &socketTable{}, ln: f, users: 1, conns: make(chan net.Conn), done: make(chan struct{})}
				s.accepts.Go(s.accept)
				synctest.Wait()
				if err := s.release(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestACanceledContextBindsNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if l, err := sockets.open(ctx, "localhost:0", net.ListenConfig{}); err == nil {
		_ = l.Close()
	}
	if n := len(sockets.table); n != 0 {
		t.Errorf("%d sockets are left", n)
	}
}

func TestAListenerEndsWithItsConfiguration(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	l, err := sockets.open(ctx, "127.0.0.1:0", net.ListenConfig{})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept: %v", err)
	}
	eventually(t, "the socket is closed", func() bool {
		sockets.mu.Lock()
		defer sockets.mu.Unlock()
		return len(sockets.table) == 0
	})
}
