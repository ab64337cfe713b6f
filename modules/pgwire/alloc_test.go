//go:build !race && unix

package pgwire

import (
	"errors"
	"net"
	"testing"
)

// The hot path allocates nothing in steady state. (Not under the race detector, which makes sync.Pool drop
// buffers at random.)
func TestHotPathAllocatesNothing(t *testing.T) {
	rows := join(frame('T', filler(60)), frame('D', filler(100)), frame('D', filler(30000)), frame('C', "SELECT 2\x00"), frame('Z', "I"))
	c := &loopConn{stream: rows}
	r, w := NewReader(c, nil, 16<<10), NewWriter(c, 16<<10)
	e := Fatalf(CodeCannotConnectNow, "no primary")
	params := []Param{{"user", "u"}}
	next := func() byte {
		typ, _, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		return typ
	}
	tests := map[string]func() error{
		"Next, Body, Peek and Forward of a turn": func() error {
			for {
				typ := next()
				if typ == 'D' {
					if _, err := r.Peek(2); err != nil {
						return err
					}
				} else if _, err := r.Body(); err != nil {
					return err
				}
				if err := r.Forward(w); err != nil {
					return err
				}
				if typ == 'Z' {
					return w.Flush()
				}
			}
		},
		"Discard, Frame, Head and ForwardBody": func() error {
			for next() != 'D' {
				if err := r.Discard(); err != nil {
					return err
				}
			}
			w.Frame('B', rows[:50])
			w.Head('D', r.size-1)
			return errors.Join(r.ForwardBody(w, 1), w.Flush())
		},
		"the messages that are ready-made": func() error {
			w.Startup(Version30, params)
			w.Query("select 1")
			w.Parse("name", "select $1", rows[:2])
			w.Close('S', "name")
			w.Sync()
			w.ParameterStatus("TimeZone", "UTC")
			w.CommandComplete("SELECT 1")
			w.ReadyForQuery('I')
			w.Error(e)
			return w.Flush()
		},
		"the decoders": func() error {
			_, _, _, err1 := DecodeBind([]byte("p\x00s\x00\x00\x00\x00\x00\x00\x00"))
			_, _, _, err2 := DecodeParse([]byte("p\x00s\x00\x00\x00"))
			_, _, err3 := DecodeTarget([]byte("Ss\x00"))
			return errors.Join(err1, err2, err3)
		},
	}
	for name, run := range tests {
		t.Run(name, func(t *testing.T) {
			per := testing.AllocsPerRun(1000, func() {
				if err := run(); err != nil {
					t.Fatal(err)
				}
			})
			if per != 0 {
				t.Errorf("%v allocations a run", per)
			}
		})
	}
}

// The same over real connections, whose own reads and writes allocate nothing either.
func TestATurnAllocatesNothing(t *testing.T) {
	for name, connect := range connections {
		t.Run(name, func(t *testing.T) {
			client, us := connect(t)
			done := make(chan error, 1)
			go func() { // echoes every frame
				r, w := NewReader(us, nil, 1024), NewWriter(us, 1024)
				for {
					if _, _, err := r.Next(); err != nil {
						done <- us.Close()
						return
					}
					if err := errors.Join(r.Forward(w), w.Flush()); err != nil {
						done <- err
						return
					}
				}
			}()
			r, w := NewReader(client, nil, 1024), NewWriter(client, 1024)
			per := testing.AllocsPerRun(500, func() {
				w.Query("select 1")
				if err := w.Flush(); err != nil {
					t.Fatal(err)
				}
				if _, _, err := r.Next(); err != nil {
					t.Fatal(err)
				}
				if _, err := r.Body(); err != nil {
					t.Fatal(err)
				}
			})
			if per != 0 {
				t.Errorf("%v allocations a turn", per)
			}
			if err := errors.Join(client.Close(), <-done); err != nil {
				t.Error(err)
			}
		})
	}
}

// connections are the kinds of connection, both ends of each.
var connections = map[string]func(testing.TB) (a, b net.Conn){
	"a pipe":   func(testing.TB) (net.Conn, net.Conn) { return net.Pipe() },
	"raw TCP":  func(t testing.TB) (net.Conn, net.Conn) { return sockets(t, "tcp") },
	"raw Unix": func(t testing.TB) (net.Conn, net.Conn) { return sockets(t, "unix") },
	"ordinary TCP": func(t testing.TB) (net.Conn, net.Conn) {
		a, b := sockets(t, "tcp")
		return ordinary{a}, ordinary{b}
	},
}
