package integration_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// visit is what a bad client gets to see.
type visit struct {
	codes  []string // of the errors that answered the last part
	closed bool     // by the other side
	alive  bool     // a query afterwards worked
	end    error    // of reading
}

// String is short, for failures.
func (v visit) String() string {
	return fmt.Sprintf("codes %v, closed %v, alive %v (%v)", v.codes, v.closed, v.alive, v.end)
}

// pay visits an address: it sends the parts one by one, waiting for an answer to each but the last, and looks what comes of
// it. After the last part it hangs up, or else asks whether the other side is still alive.
func pay(addr string, hangUp bool, parts ...string) (v visit, err error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return v, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return v, err
	}
	r := pgwire.NewReader(conn, nil, 1<<16)
	for i, part := range parts {
		v.codes = nil
		if _, err := io.WriteString(conn, part); err != nil {
			break // the other side has hung up already
		}
		if i < len(parts)-1 {
			if err := v.readUntil(r, "ZGHW"); err != nil {
				return v, fmt.Errorf("after part %d: %w", i, err)
			}
		}
	}
	if hangUp {
		_ = conn.(*net.TCPConn).CloseWrite()
		v.end = v.readUntil(r, "")
	} else {
		_, _ = io.WriteString(conn, frame('S')+frame('Q', "select 'alive'\x00"))
		v.end = v.readUntil(r, "D")
		v.alive = v.end == nil
	}
	v.closed = v.end != nil && !errors.Is(v.end, os.ErrDeadlineExceeded)
	return v, nil
}

// readUntil reads frames up to one of a type in types, and notes the errors.
func (v *visit) readUntil(r *pgwire.Reader, types string) error {
	for {
		typ, _, err := r.Next()
		if err != nil {
			return err
		}
		body, err := r.Body()
		if err != nil {
			return err
		}
		if typ == pgwire.MsgError {
			v.codes = append(v.codes, pgwire.ParseError(body).Code)
		}
		if strings.IndexByte(types, typ) >= 0 {
			return nil
		}
	}
}

// TestBadInputDisturbsNobody sends garbage at every stage of a conversation, with 100 good clients beside, who see nothing of
// it. In the end nothing is left behind: no session, no goroutine, no row, no server connection.
func TestBadInputDisturbsNobody(t *testing.T) {
	shared.initBench(t)
	shared.table(t, "bad_input", "n int")
	s := serve(t, "bad_input", shared.servers, func(s *site) { s.handler = map[string]any{"login_timeout": "10m"} })
	quiet := runtime.NumGoroutine()
	good := s.startReads(t, "-c", "100", "-M", "prepared", "-R", "1500")
	silent := s.openSilent(t)
	for name, bytes := range beforeLogin {
		t.Run("before login: "+name, func(t *testing.T) {
			v, err := pay(s.addr, true, bytes)
			if err != nil || !v.closed {
				t.Errorf("%+v, %v", v, err)
			}
			if slices.ContainsFunc(v.codes, func(code string) bool { return strings.HasPrefix(code, "XX") }) {
				t.Errorf("codes %v", v.codes)
			}
		})
	}
	direct := shared.servers.Primary().Addr()
	for name, parts := range afterLogin {
		t.Run("in a session: "+name, func(t *testing.T) {
			all := append([]string{appStartup}, parts...)
			want, err := pay(direct, false, all...)
			if err != nil {
				t.Fatalf("a server itself: %v", err)
			}
			got, err := pay(s.addr, false, all...)
			if other, ok := ourWay[name]; ok {
				want = other
			}
			// We may end a session of which a server bears more, and we say why, once.
			stricter := got.closed && slices.Equal(got.codes, []string{"08P01"}) && (want.closed || slices.Equal(want.codes, got.codes))
			if err != nil || !stricter && (got.closed != want.closed || got.alive != want.alive || !slices.Equal(got.codes, want.codes)) {
				t.Errorf("%v, a server itself: %v (%v)", got, want, err)
			}
		})
	}
	for name, parts := range hangUps {
		t.Run("gone "+name, func(t *testing.T) {
			if v, err := pay(s.addr, true, append([]string{appStartup}, parts...)...); err != nil || !v.closed {
				t.Errorf("%+v, %v", v, err)
			}
		})
	}
	good.running(t)
	silent.check(t)
	good.stop(t)
	s.nothingLeft(t, quiet)
}

// nothingLeft looks for traces of bad clients.
func (s *site) nothingLeft(t *testing.T, goroutines int) {
	t.Helper()
	await(t, 10*time.Second, "no session is left", func() (string, bool) {
		m := scrape(t)
		sessions, used := m.sum("caddy_postgres_sessions", "cluster="+s.name), m.sum("caddy_postgres_pool_connections", "cluster="+s.name, "state=in_use")
		return fmt.Sprintf("%v sessions, %v server connections in use", sessions, used), sessions == 0 && used == 0
	})
	if n := scrape(t).sum("caddy_postgres_panics_total"); n != 0 {
		t.Errorf("%v sessions panicked", n)
	}
	c := s.connect(t, "")
	if n := value[int](t, c, "select count(*) from bad_input"); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	do(t, c, "lock table bad_input; drop table bad_input") // nobody holds a lock
	_ = c.Close(t.Context())
	await(t, 10*time.Second, "no goroutine is left", func() (string, bool) {
		n := runtime.NumGoroutine()
		return strconv.Itoa(n), n <= goroutines+20 // idle connections of pools have none; openers and monitors come and go
	})
	await(t, 10*time.Second, "no statement is left", func() (string, bool) {
		n := 0
		for _, node := range shared.servers.Nodes() {
			n += running(t, node, "hung_up")
		}
		return strconv.Itoa(n), n == 0
	})
}

// silent are clients that say nothing, or very slowly.
type silent struct {
	conns []net.Conn
	slow  chan error
}

// openSilent opens clients that send nothing, half a packet, a login and then nothing, and one that sends one byte a
// second. One more sends a whole conversation byte by byte, quicker.
func (s *site) openSilent(t *testing.T) *silent {
	t.Helper()
	q := &silent{slow: make(chan error, 1)}
	begin := func(words string) net.Conn {
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if _, err := io.WriteString(conn, words); err != nil {
			t.Fatal(err)
		}
		q.conns = append(q.conns, conn)
		return conn
	}
	for range 50 {
		begin("")
		begin(appStartup[:7])
		begin(appStartup)
		begin(appStartup + "Q" + length(50) + "select")
	}
	drip, stop := begin(""), make(chan struct{})
	var dripping sync.WaitGroup
	t.Cleanup(func() { close(stop); dripping.Wait() })
	dripping.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for i := range appStartup {
			select {
			case <-stop:
				return
			case <-tick.C:
				_, _ = io.WriteString(drip, appStartup[i:i+1])
			}
		}
	})
	go func() { q.slow <- byteByByte(s.addr, appStartup+frame('Q', "select count(*) from bad_input\x00")) }()
	return q
}

// byteByByte sends each byte by itself, 10 ms after the one before, and expects a row.
func byteByByte(addr, words string) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for i := range words {
		<-tick.C
		if _, err := io.WriteString(conn, words[i:i+1]); err != nil {
			return err
		}
	}
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	var v visit
	return v.readUntil(pgwire.NewReader(conn, nil, 4096), "D")
}

// check says that the silent ones are still connected and hangs up.
func (s *silent) check(t *testing.T) {
	t.Helper()
	if err := <-s.slow; err != nil {
		t.Errorf("a client that sends byte by byte: %v", err)
	}
	for _, conn := range s.conns {
		_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := io.Copy(io.Discard, conn); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a silent client was hung up on: %v", err)
		}
		_ = conn.Close()
	}
}

// TestSilentClientsAreSentAwayInTheEnd has a login_timeout of one second.
func TestSilentClientsAreSentAwayInTheEnd(t *testing.T) {
	s := serve(t, "impatient", shared.servers, func(s *site) { s.handler = map[string]any{"login_timeout": "1s"} })
	good := s.connect(t, "")
	began := time.Now()
	for _, words := range []string{"", appStartup[:7], packet(sslRequest)} {
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, words); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("after %q the client is still there, %v after it came", words, time.Since(began))
		}
		_ = conn.Close()
	}
	if took := time.Since(began); took < 2500*time.Millisecond {
		t.Errorf("three clients were sent away after %v", took)
	}
	if value[int](t, good, "select 1") != 1 { // logged in: it may be silent as long as it likes
		t.Error("a good client was disturbed")
	}
}
