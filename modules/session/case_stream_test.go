package session

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// streamed is how many bytes go each way in TestStreamsTakeBoundedMemory: 1 GiB, less under the race detector, whose run is many times
// slower. FAIRWAY_STREAM_MIB says otherwise.
func streamed(t *testing.T) int {
	t.Helper()
	mib := 1024
	if raceEnabled {
		mib = 128
	}
	if said := os.Getenv("FAIRWAY_STREAM_MIB"); said != "" {
		n, err := strconv.Atoi(said)
		if err != nil || n < 64 {
			t.Fatalf("FAIRWAY_STREAM_MIB=%s: give a number of MiB from 64 on", said)
		}
		mib = n
	}
	return mib << 20
}

// gauge watches the memory of this process, in which the proxy runs and a client that keeps nothing.
type gauge struct {
	heap, resident       uint64 // in the beginning
	maxHeap, maxResident uint64
	stop                 chan struct{}
	done                 sync.WaitGroup
}

func startGauge() *gauge {
	runtime.GC()
	debug.FreeOSMemory()
	g := &gauge{stop: make(chan struct{})}
	g.heap, g.resident = memory()
	g.done.Go(func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			heap, resident := memory()
			g.maxHeap, g.maxResident = max(g.maxHeap, heap), max(g.maxResident, resident)
			select {
			case <-g.stop:
				return
			case <-tick.C:
			}
		}
	})
	return g
}

// end stops watching and returns by how much heap and resident memory have grown at most, in MiB.
func (g *gauge) end() (heap, resident float64) {
	close(g.stop)
	g.done.Wait()
	const mib = 1 << 20
	return (float64(g.maxHeap) - float64(g.heap)) / mib, (float64(g.maxResident) - float64(g.resident)) / mib
}

// memory returns the bytes of the heap's objects, and those the process has in memory (0 where that is not known).
func memory() (heap, resident uint64) {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	if statm, err := os.ReadFile("/proc/self/statm"); err == nil {
		pages, _ := strconv.ParseUint(strings.Fields(string(statm))[1], 10, 64)
		resident = pages * uint64(os.Getpagesize())
	}
	return sample[0].Value.Uint64(), resident
}

// pausing is a client's connection that does not read for a while every so many bytes.
type pausing struct {
	net.Conn
	every, left int
	pause       time.Duration
}

func (p *pausing) Read(b []byte) (int, error) {
	if p.left <= 0 {
		<-time.After(p.pause)
		p.left = p.every
	}
	n, err := p.Conn.Read(b)
	p.left -= n
	return n, err
}

// slowly makes a client stop reading four times for a while.
func (p *peer) slowly(total int) {
	p.r = pgwire.NewReader(&pausing{Conn: p.conn, every: total/4 + 1, pause: 150 * time.Millisecond}, nil, 64<<10)
}

// drain reads until ReadyForQuery and returns how many frames of a type came, and the bytes of all.
func (p *peer) drain(count byte) (frames, bytes int) {
	p.t.Helper()
	if err := p.conn.SetReadDeadline(time.Now().Add(5 * time.Minute)); err != nil {
		p.t.Fatal(err)
	}
	for {
		typ, n, err := p.r.Next()
		if err != nil {
			p.t.Fatal(err)
		}
		bytes += n + 5
		switch typ {
		case count:
			frames++
		case pgwire.MsgReadyForQuery:
			if err := p.r.Discard(); err != nil {
				p.t.Fatal(err)
			}
			return frames, bytes
		case pgwire.MsgError:
			body, _ := p.r.Body()
			p.t.Fatal(pgwire.ParseError(body))
		}
		if err := p.r.Discard(); err != nil {
			p.t.Fatal(err)
		}
	}
}

// pour writes n bytes of a buffer again and again, and returns how many it took before the other end stopped taking any.
func (p *peer) pour(n int, chunk []byte, patience time.Duration) (written int) {
	p.t.Helper()
	for written < n {
		if err := p.conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
			p.t.Fatal(err)
		}
		from := written % len(chunk)
		k, err := p.conn.Write(chunk[from:min(len(chunk), from+n-written)])
		written += k
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return written
		}
		if err != nil {
			p.t.Fatal(err)
		}
	}
	return written
}

// copyLine is a CopyData of one MiB with one row in it.
func copyLine() []byte {
	const size = 1 << 20
	b := make([]byte, size)
	b[0] = pgwire.MsgCopyData
	binary.BigEndian.PutUint32(b[1:], size-1)
	for i := 5; i < size-1; i++ {
		b[i] = 'x'
	}
	b[size-1] = '\n'
	return b
}

// TestStreamsTakeBoundedMemory: whatever is streamed, and however slow one side is, the proxy holds no more than its buffers.
func TestStreamsTakeBoundedMemory(t *testing.T) {
	total := streamed(t)
	p := startProxy(t, pg, nil)
	admin := p.connect(t, "")
	exec(t, admin, `drop table if exists streamed_in; create table streamed_in (a text);
		create or replace function streamed_skip() returns trigger language plpgsql as
			'begin perform pg_advisory_xact_lock_shared(424242); return null; end';
		create trigger skip before insert on streamed_in for each row execute function streamed_skip()`)
	rows, wide := total/100, total/4 // 10 million, and 256 MiB, of a whole GiB
	line := copyLine()
	out := func(count byte, frames, bytes int, script ...string) func(t *testing.T) {
		return func(t *testing.T) {
			c := dialPeer(t, p.addr)
			c.lines(script...)
			c.flush()
			c.slowly(bytes)
			if n, got := c.drain(count); n != frames || got < bytes {
				t.Errorf("%d frames, %d bytes, want %d and %d", n, got, frames, bytes)
			}
		}
	}
	for _, s := range []struct {
		name string
		mib  float64 // what it may take
		run  func(t *testing.T)
	}{
		{"rows to a client that pauses", 32, out('D', total>>20, total, "Q select repeat('x', 1048576) from generate_series(1, "+strconv.Itoa(total>>20)+")")},
		{"COPY to a client that pauses", 32, out('d', total>>10, total, "Q copy (select repeat('x', 1024) from generate_series(1, "+strconv.Itoa(total>>10)+")) to stdout")},
		{"many rows to a client that pauses", 32, out('D', rows, rows*18, "P - select g, g::text from generate_series(1, "+strconv.Itoa(rows)+") g", "B - -", "E - 0", "S")},
		{"one wide row", 32, out('D', 1, wide, "Q select repeat('x', "+strconv.Itoa(wide)+")")},
		{"rows in portions", 32, func(t *testing.T) { streamPortions(t, p, total/16) }},
		{"COPY to a server that waits", 32, func(t *testing.T) { streamIn(t, p, line, total, false) }},
		{"COPY to a server that waits, extended", 32, func(t *testing.T) { streamIn(t, p, line, max(total/16, 48<<20), true) }},
		{"one wide parameter", 32, func(t *testing.T) { streamParameter(t, p, line[5:], max(total/16, 32<<20)) }},
		{"a long statement", 64, func(t *testing.T) { streamStatement(t, p, 16_000_000) }}, // held whole, to be sent again at need
	} {
		t.Run(s.name, func(t *testing.T) {
			began, g := time.Now(), startGauge()
			s.run(t)
			heap, resident := g.end()
			t.Logf("heap +%.1f MiB, resident +%.1f MiB, %v", heap, resident, time.Since(began).Round(time.Millisecond))
			if raceEnabled {
				resident = 0 // the detector's own memory
			}
			if heap > s.mib || resident > s.mib {
				t.Errorf("the heap grew by %.1f MiB, resident memory by %.1f MiB, want %v at most", heap, resident, s.mib)
			}
		})
	}
	exec(t, admin, "drop table streamed_in; drop function streamed_skip()")
}

// streamIn sends COPY data while the server does not take any, then the rest.
func streamIn(t *testing.T, p *proxy, line []byte, total int, extended bool) {
	server, err := pg.Primary().Connect(t.Context(), pg.Superuser(), "", "postgres")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close(context.WithoutCancel(t.Context()))
	if _, err := server.Exec(t.Context(), "select pg_advisory_lock(424242)").ReadAll(); err != nil {
		t.Fatal(err)
	}
	c := dialPeer(t, p.addr)
	if extended {
		c.lines("P - copy streamed_in from stdin", "B - -", "E - 0", "H")
	} else {
		c.say("Q copy streamed_in from stdin")
	}
	c.flush()
	for typ := byte(1); typ != pgwire.MsgCopyIn; {
		var body []byte
		if typ, body = c.frame(20 * time.Second); typ == 0 || typ == 'X' || typ == pgwire.MsgError {
			t.Fatal(shown(typ, body))
		}
	}
	stuck := c.pour(total, line, 500*time.Millisecond)
	if stuck >= total {
		t.Fatal("everything was taken although the server waits")
	}
	t.Logf("%.1f MiB were taken while the server waits", float64(stuck)/(1<<20))
	if _, err := server.Exec(t.Context(), "select pg_advisory_unlock(424242)").ReadAll(); err != nil {
		t.Fatal(err)
	}
	rest := append(line[stuck%len(line):len(line):len(line)], line[:stuck%len(line)]...)
	if n := c.pour(total-stuck, rest, time.Minute); n != total-stuck {
		t.Fatalf("%d of %d bytes were taken", n, total-stuck)
	}
	c.say("c")
	if extended {
		c.say("S")
	}
	c.flush()
	if n, _ := c.drain(pgwire.MsgCommandComplete); n != 1 {
		t.Errorf("%d ends", n)
	}
}

// streamPortions reads through a portal with a row limit, suspended again and again.
func streamPortions(t *testing.T, p *proxy, total int) {
	c := dialPeer(t, p.addr)
	c.play("Q begin", nil)
	c.lines("P - select repeat('x', 65536) from generate_series(1, "+strconv.Itoa(total>>16)+")", "B p -", "S")
	c.flush()
	c.drain(0)
	for rows := 0; rows < total>>16; {
		c.lines("E p 100", "S")
		c.flush()
		n, _ := c.drain('D')
		rows += n
	}
	c.play("Q commit", nil)
}

// streamParameter sends one parameter of that size.
func streamParameter(t *testing.T, p *proxy, filler []byte, size int) {
	c := dialPeer(t, p.addr)
	c.lines("P - select length($1::text)")
	c.flush()
	head := binary.BigEndian.AppendUint32([]byte{pgwire.MsgBind}, uint32(4+2+2+2+4+size+2))
	head = append(head, 0, 0, 0, 0, 0, 1)
	head = binary.BigEndian.AppendUint32(head, uint32(size))
	parts := io.MultiReader(strings.NewReader(string(head)), io.LimitReader(&endless{filler[:len(filler)-1]}, int64(size)), strings.NewReader("\x00\x00"))
	if _, err := io.CopyBuffer(struct{ io.Writer }{c.conn}, parts, make([]byte, 64<<10)); err != nil {
		t.Fatal(err)
	}
	c.lines("E - 0", "S")
	c.flush()
	if n, _ := c.drain('D'); n != 1 {
		t.Errorf("%d rows", n)
	}
}

// endless repeats bytes.
type endless struct{ of []byte }

func (e *endless) Read(b []byte) (int, error) { return copy(b, e.of), nil }

// streamStatement sends one text of that size.
func streamStatement(t *testing.T, p *proxy, size int) {
	c := dialPeer(t, p.addr)
	head := binary.BigEndian.AppendUint32([]byte{pgwire.MsgQuery}, uint32(4+size+1))
	text, end := "select length('", "')\x00"
	parts := io.MultiReader(strings.NewReader(string(head)+text), io.LimitReader(&endless{[]byte(strings.Repeat("x", 1<<16))}, int64(size-len(text)-len(end)+1)), strings.NewReader(end))
	if _, err := io.CopyBuffer(struct{ io.Writer }{c.conn}, parts, make([]byte, 64<<10)); err != nil {
		t.Fatal(err)
	}
	if n, _ := c.drain('D'); n != 1 {
		t.Errorf("%d rows", n)
	}
}
