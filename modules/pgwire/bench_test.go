package pgwire

import (
	"bytes"
	"testing"
)

// benchForward forwards a stream of count frames with bodies of n bytes.
func benchForward(b *testing.B, n, count int) {
	stream := bytes.Repeat(frame('D', filler(n)), count)
	c := &loopConn{stream: stream}
	r, w := NewReader(c, nil, 64<<10), NewWriter(c, 16<<10)
	b.SetBytes(int64(n + headerLen))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := r.Next(); err != nil {
			b.Fatal(err)
		}
		if err := r.Forward(w); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkForwardRowOf50Bytes(b *testing.B)    { benchForward(b, 50, 1000) }
func BenchmarkForwardRowOf1KiB(b *testing.B)       { benchForward(b, 1<<10, 1000) }
func BenchmarkForwardStreamedRow1MiB(b *testing.B) { benchForward(b, 1<<20, 1) }

// BenchmarkTurn is the wire's part of one simple query: read it from the client, hand it to the server, bring
// the five reply frames back, flush both.
func BenchmarkTurn(b *testing.B) {
	client := &loopConn{stream: frame('Q', "SELECT abalance FROM pgbench_accounts WHERE aid = 42;\x00")}
	reply := join(frame('T', filler(33)), frame('D', filler(11)), frame('C', "SELECT 1\x00"), frame('Z', "I"))
	server := &loopConn{stream: reply}
	cr, cw := NewReader(client, nil, 16<<10), NewWriter(client, 16<<10)
	sr, sw := NewReader(server, nil, 64<<10), NewWriter(server, 16<<10)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := cr.Next(); err != nil {
			b.Fatal(err)
		}
		if _, err := cr.Body(); err != nil {
			b.Fatal(err)
		}
		if err := cr.Forward(sw); err != nil {
			b.Fatal(err)
		}
		if err := sw.Flush(); err != nil {
			b.Fatal(err)
		}
		for typ := byte(0); typ != MsgReadyForQuery; {
			var err error
			if typ, _, err = sr.Next(); err != nil {
				b.Fatal(err)
			}
			if err := sr.Forward(cw); err != nil {
				b.Fatal(err)
			}
		}
		if err := cw.Flush(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBody(b *testing.B) {
	c := &loopConn{stream: bytes.Repeat(frame('Q', filler(60)), 100)}
	r := NewReader(c, nil, 16<<10)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := r.Next(); err != nil {
			b.Fatal(err)
		}
		if _, err := r.Body(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFrameAndFlush(b *testing.B) {
	w := NewWriter(&loopConn{}, 16<<10)
	body := []byte(filler(60))
	b.ReportAllocs()
	for b.Loop() {
		w.Frame('Q', body)
		if err := w.Flush(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeBind(b *testing.B) {
	body := []byte("\x00statement_12\x00\x00\x00\x00\x01\x00\x00\x00\x0242\x00\x00")
	b.ReportAllocs()
	for b.Loop() {
		if _, _, _, err := DecodeBind(body); err != nil {
			b.Fatal(err)
		}
	}
}
