package pool

import (
	"context"
	"net"
	"sync"
	"testing"
)

// loopback returns a Set over a real listener that keeps its connections open and silent.
func loopback(tb testing.TB, l Limits) *Set {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		var all []net.Conn
		for {
			c, err := listener.Accept()
			if err != nil {
				break
			}
			all = append(all, c)
		}
		for _, c := range all {
			_ = c.Close()
		}
	})
	s := NewSet(tcpDialer{listener.Addr().String()}, l, MetricsFor("bench", "b"))
	tb.Cleanup(func() {
		s.Close()
		_ = listener.Close()
		accepting.Wait()
	})
	return s
}

func TestLendingAnIdleConnectionDoesNotAllocate(t *testing.T) {
	s := loopback(t, DefaultLimits())
	ctx := t.Context()
	lend := func() {
		c, err := s.Acquire(ctx, alice)
		if err != nil {
			t.Fatal(err)
		}
		c.SetStatus('I')
		_ = c.Lease()
		c.Release()
	}
	lend()
	if n := testing.AllocsPerRun(1000, lend); n != 0 {
		t.Errorf("%v allocations per lease", n)
	}
}

func BenchmarkLease(b *testing.B) {
	s := loopback(b, DefaultLimits())
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		c, err := s.Acquire(ctx, alice)
		if err != nil {
			b.Fatal(err)
		}
		c.Release()
	}
}

func BenchmarkLeaseContended(b *testing.B) {
	s := loopback(b, DefaultLimits())
	b.SetParallelism(32) // more sessions than connections: most leases are handed over
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c, err := s.Acquire(context.Background(), alice)
			if err != nil {
				b.Error(err)
				return
			}
			c.Release()
		}
	})
}

func BenchmarkPeek(b *testing.B) {
	s := loopback(b, DefaultLimits())
	c, err := s.Acquire(context.Background(), alice)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Release()
	b.ReportAllocs()
	for b.Loop() {
		if c.listen() != heardNothing {
			b.Fatal("heard something")
		}
	}
}
