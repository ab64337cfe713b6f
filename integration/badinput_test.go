package integration_test

import (
	"crypto/rand"
	"encoding/binary"
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

// frame builds a message of the protocol.
func frame(typ byte, parts ...string) string {
	body := strings.Join(parts, "")
	return string(typ) + length(4+len(body)) + body
}

// packet builds a startup packet, which has no type.
func packet(version int, parts ...string) string {
	body := strings.Join(parts, "")
	return length(8+len(body)) + length(version) + body
}

func length(n int) string { return string(binary.BigEndian.AppendUint32(nil, uint32(n))) }

// Codes of startup packets, see protocol-message-formats.
const (
	version30     = 3 << 16
	sslRequest    = 1234<<16 | 5679
	gssencRequest = 1234<<16 | 5680
	cancelRequest = 1234<<16 | 5678
)

// appStartup logs the ordinary program in.
var appStartup = packet(version30, "user\x00"+appRole+"\x00database\x00"+appRole+"\x00\x00")

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

// beforeLogin are visits that end before there is a session.
var beforeLogin = map[string]string{
	"HTTP":                                "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
	"a TLS handshake":                     "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\x00", 500),
	"noise":                               noise(4096),
	"length 0":                            length(0),
	"length 3":                            length(3) + "abc",
	"length 4":                            length(4),
	"length 7":                            length(7) + "abc",
	"a negative length":                   "\xff\xff\xff\xff" + length(version30),
	"two gigabytes":                       "\x7f\xff\xff\xff" + length(version30) + "user\x00",
	"ten thousand and one bytes":          length(10_001) + length(version30) + strings.Repeat("x", 10_000-7),
	"half a length":                       "\x00\x00",
	"half a packet":                       appStartup[:len(appStartup)/2],
	"protocol 1.0":                        packet(1<<16, "user\x00app\x00\x00"),
	"protocol 2.0":                        packet(2<<16, strings.Repeat("\x00", 288)),
	"protocol 4.0":                        packet(4<<16, "user\x00app\x00\x00"),
	"no user":                             packet(version30, "database\x00app\x00\x00"),
	"no terminator":                       packet(version30, "user\x00app\x00"),
	"a name without a value":              packet(version30, "user\x00app\x00database\x00"),
	"no terminators at all":               packet(version30, "user"),
	"an empty user":                       packet(version30, "user\x00\x00\x00"),
	"a cancel without a key":              packet(cancelRequest),
	"a cancel with half a key":            packet(cancelRequest, "\x00\x00\x00\x01\x00"),
	"a cancel of nobody":                  packet(cancelRequest, "\x00\x00\x00\x01", "\x00\x00\x00\x02"),
	"a cancel with a long key":            packet(cancelRequest, "\x00\x00\x00\x01", strings.Repeat("k", 300)),
	"TLS asked for, then noise":           packet(sslRequest) + noise(100),
	"TLS asked for a hundred times":       strings.Repeat(packet(sslRequest), 100),
	"GSS and TLS in turns":                strings.Repeat(packet(gssencRequest)+packet(sslRequest), 50),
	"TLS asked for with more in it":       packet(sslRequest, "more"),
	"a query without a login":             frame('Q', "select 1\x00"),
	"a goodbye without a hello":           frame('X'),
	"an unknown setting":                  packet(version30, "user\x00app\x00nosuchsetting\x001\x00\x00"),
	"an unknown database":                 packet(version30, "user\x00app\x00database\x00nowhere\x00\x00"),
	"replication":                         packet(version30, "user\x00app\x00replication\x00maybe\x00\x00"),
	"a database name of eight thousand x": packet(version30, "user\x00app\x00database\x00"+strings.Repeat("x", 8000)+"\x00\x00"),
	"nothing":                             "",
}

// noise is random bytes, the same in every run of a test's subtests.
func noise(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	b[0] |= 0x80 // never a startup packet of an acceptable length
	return string(b)
}

// afterLogin are last words in a session, of every kind of frame. A server's own reaction to the same bytes is what is
// expected.
var afterLogin = map[string][]string{
	"an unknown type":                           {frame('z', "x")},
	"type 0":                                    {frame(0)},
	"type 255":                                  {frame(255, "x")},
	"a server's message":                        {frame('T', "\x00\x00")},
	"length 0":                                  {"Q" + length(0)},
	"length 3":                                  {"Q" + length(3) + "x"},
	"a negative length":                         {"Q\xff\xff\xff\xff"},
	"two gigabytes":                             {"Q\x7f\xff\xff\xffselect 1\x00"},
	"a large Sync":                              {"S" + length(1_000_000)},
	"a large goodbye":                           {"X" + length(2_000_000_000)},
	"a query without an end":                    {frame('Q', "select 1")},
	"a query with two ends":                     {frame('Q', "select 1\x00\x00")},
	"an empty message":                          {frame('Q')},
	"a query that is no UTF-8":                  {frame('Q', "select '\xff\xfe'\x00")},
	"Parse without anything":                    {frame('P')},
	"Parse without an end":                      {frame('P', "s\x00select 1")},
	"Parse without types":                       {frame('P', "s\x00select 1\x00")},
	"Parse with too few types":                  {frame('P', "s\x00select 1\x00\x00\x05\x00\x00\x00\x17")},
	"Parse with minus one types":                {frame('P', "s\x00select 1\x00\xff\xff")},
	"Parse with more in it":                     {frame('P', "s\x00select 1\x00\x00\x00more")},
	"Bind without anything":                     {frame('P', "\x00select $1::int\x00\x00\x00") + frame('B')},
	"Bind of no statement":                      {frame('B', "\x00nothing\x00\x00\x00\x00\x00\x00\x00")},
	"Bind with a missing value":                 {frame('P', "\x00select $1::int\x00\x00\x00") + frame('B', "\x00\x00\x00\x00\x00\x01")},
	"Bind with a value that is too long":        {frame('P', "\x00select $1::text\x00\x00\x00") + frame('B', "\x00\x00\x00\x00\x00\x01\x7f\xff\xff\xffx\x00\x00")},
	"Bind with a value of length minus two":     {frame('P', "\x00select $1::text\x00\x00\x00") + frame('B', "\x00\x00\x00\x00\x00\x01\xff\xff\xff\xfe\x00\x00")},
	"Bind with too many formats":                {frame('P', "\x00select $1::int\x00\x00\x00") + frame('B', "\x00\x00\x00\x02\x00\x01\x00\x01\x00\x01\x00\x00\x00\x04\x00\x00\x00\x01\x00\x00")},
	"Bind with format 7":                        {frame('P', "\x00select $1::int\x00\x00\x00") + frame('B', "\x00\x00\x00\x01\x00\x07\x00\x01\x00\x00\x00\x04\x00\x00\x00\x01\x00\x00")},
	"Describe of a kind there is not":           {frame('D', "Xs\x00")},
	"Describe without anything":                 {frame('D')},
	"Close of a kind there is not":              {frame('C', "Xs\x00")},
	"Close without an end":                      {frame('C', "Ss")},
	"Execute of no portal":                      {frame('E', "nothing\x00\x00\x00\x00\x00")},
	"Execute without a limit":                   {frame('E', "\x00")},
	"Flush with more in it":                     {frame('H', "more")},
	"Sync with more in it":                      {frame('S', "more")},
	"a function call without anything":          {frame('F')},
	"a password":                                {frame('p', "secret\x00")},
	"CopyData where nobody copies":              {frame('d', "data")},
	"CopyDone and CopyFail where nobody copies": {frame('c') + frame('f', "no\x00")},
	"an unknown type in a transaction":          {frame('Q', "begin\x00"), frame('Q', "insert into bad_input values (1)\x00"), frame('z')},
	"an unknown type in a batch":                {frame('P', "\x00insert into bad_input values (1)\x00\x00\x00") + frame('B', "\x00\x00\x00\x00\x00\x00\x00\x00") + frame('E', "\x00\x00\x00\x00\x00") + frame('z')},
	"an unknown type in COPY":                   {frame('Q', "copy bad_input from stdin\x00"), frame('d', "1\n") + frame('z')},
	"a query in COPY":                           {frame('Q', "copy bad_input from stdin\x00"), frame('d', "1\n") + frame('Q', "select 1\x00")},
	"length 3 in COPY":                          {frame('Q', "copy bad_input from stdin\x00"), frame('d', "1\n") + "d" + length(3)},
	"two gigabytes in COPY":                     {frame('Q', "copy bad_input from stdin\x00"), frame('d', "1\n") + "d\x7f\xff\xff\xff"},
}

// ourWay is where we are not as strict as a server.
var ourWay = map[string]visit{
	"Flush with more in it": {alive: true},
	"Sync with more in it":  {alive: true},
}

// hangUps are visits that end in the middle of something: nothing of it stays.
var hangUps = map[string][]string{
	"in a length":      {"Q\x00\x00"},
	"in a query":       {"Q" + length(100) + "insert into bad_input values (1)"},
	"in a large query": {"Q" + length(900<<20) + "insert into bad_input values (1)" + strings.Repeat(" ", 1<<20)},
	"in a batch":       {frame('P', "\x00insert into bad_input values (1)\x00\x00\x00") + frame('B', "\x00\x00\x00\x00\x00\x00\x00\x00") + frame('E', "\x00\x00\x00\x00\x00")},
	"in a flushed batch": {frame('P', "\x00insert into bad_input values (1)\x00\x00\x00") + frame('B', "\x00\x00\x00\x00\x00\x00\x00\x00") +
		frame('E', "\x00\x00\x00\x00\x00") + frame('H')},
	"in a transaction":     {frame('Q', "begin; insert into bad_input values (1); lock table bad_input\x00"), "S\x00"},
	"in a COPY":            {frame('Q', "copy bad_input from stdin\x00"), frame('d', "1\n2\n")},
	"in a message of COPY": {frame('Q', "copy bad_input from stdin\x00"), "d" + length(1<<20) + "1\n2\n"},
	"in a long result":     {frame('Q', "select repeat('x', 1000) from generate_series(1, 100000)\x00")},
	"in COPY out":          {frame('Q', "copy (select repeat('x', 1000) from generate_series(1, 100000)) to stdout\x00")},
	"in a long statement":  {frame('Q', "select pg_sleep(60) as hung_up\x00")},
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
