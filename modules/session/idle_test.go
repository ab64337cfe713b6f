package session

import (
	"net"
	"runtime"
	"testing"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// maxIdle bounds the heap and the stack of an idle client that has queried before, in bytes, its own end of the connection included.
// It is a third more than what is measured, so that it notices a buffer or a map, and not a field.
const maxIdle = 11 << 10

func TestAnIdleClientCostsLittle(t *testing.T) {
	const clients = 500
	p := startProxy(t, pg, nil)
	before := footprint()
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for range clients {
		conn, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
		r, w := pgwire.NewReader(conn, nil, 8192), pgwire.NewWriter(conn, 8192)
		w.Startup(pgwire.Version30, []pgwire.Param{{Name: "user", Value: "postgres"}, {Name: "application_name", Value: "idle"}})
		untilReady(t, r, w)
		w.Query("select repeat('x', 20000)")
		untilReady(t, r, w)
		w.Parse("s", "select $1::int", nil)
		w.Raw([]byte(framed('B', "\x00s\x00\x00\x00\x00\x01\x00\x00\x00\x011\x00\x00") + framed('E', "\x00\x00\x00\x00\x00") + framed('S', "")))
		untilReady(t, r, w)
	}
	each := (footprint() - before) / clients
	runtime.KeepAlive(conns)
	t.Logf("an idle client takes %d bytes", each)
	if each > maxIdle && !raceEnabled {
		t.Errorf("an idle client takes %d bytes, want at most %d", each, maxIdle)
	}
}

// footprint is the memory in use by heap and stacks, after the garbage is gone and the stacks have shrunk.
func footprint() int64 {
	for range 4 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// untilReady sends what is collected and reads up to ReadyForQuery.
func untilReady(t *testing.T, r *pgwire.Reader, w *pgwire.Writer) {
	t.Helper()
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	for {
		typ, _, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		switch typ {
		case pgwire.MsgReadyForQuery:
			return
		case pgwire.MsgError:
			body, _ := r.Body()
			t.Fatal(pgwire.ParseError(body))
		}
	}
}
