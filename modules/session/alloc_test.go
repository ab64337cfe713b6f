package session

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// turner does turns without allocating anything itself.
type turner struct {
	*peer
	request []byte
}

func (u *turner) turn(t testing.TB) {
	if _, err := u.conn.Write(u.request); err != nil {
		t.Fatal(err)
	}
	for {
		typ, _, err := u.r.Next()
		if err != nil {
			t.Fatal(err)
		}
		switch typ {
		case pgwire.MsgReadyForQuery:
			return
		case pgwire.MsgError:
			t.Fatal("an error came back")
		}
	}
}

// requests are turns as pgbench -S does them, in both protocols.
var requests = []struct{ name, prepare, frames string }{
	{"simple", "", framed('Q', "select a from fast where a = 1\x00")},
	{"prepared", "P s (23) select a from fast where a = $1\nS", framed('B', "\x00s\x00\x00\x00\x00\x01\x00\x00\x00\x011\x00\x00") +
		framed('E', "\x00\x00\x00\x00\x00") + framed('S', "")},
}

func framed(typ byte, body string) string {
	return string(binary.BigEndian.AppendUint32([]byte{typ}, uint32(len(body)+4))) + body
}

func newTurner(t testing.TB, prepare, frames string) *turner {
	p := startProxy(t, pg, nil)
	if err := pg.Primary().Exec(t.Context(), "drop table if exists fast; create table fast (a int primary key); insert into fast values (1)"); err != nil {
		t.Fatal(err)
	}
	if err := pg.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	u := &turner{dialPeer(t, p.addr), []byte(frames)}
	if prepare != "" {
		u.play(prepare, nil)
	}
	if err := u.conn.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	for range 200 { // until the pools, the buffers and the statements are there
		u.turn(t)
	}
	return u
}

func TestATurnAllocatesNothing(t *testing.T) {
	for _, r := range requests {
		t.Run(r.name, func(t *testing.T) {
			u := newTurner(t, r.prepare, r.frames)
			// The monitor's probes allocate too, once a second: far less than once per turn.
			if n := testing.AllocsPerRun(5000, func() { u.turn(t) }); n != 0 && !raceEnabled {
				t.Errorf("%v allocations per turn", n)
			}
		})
	}
}

func BenchmarkTurn(b *testing.B) {
	for _, r := range requests {
		b.Run(r.name, func(b *testing.B) {
			u := newTurner(b, r.prepare, r.frames)
			b.ReportAllocs()
			for b.Loop() {
				u.turn(b)
			}
		})
	}
}
