package cluster

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

func TestInsertPositionsBehindAnEmptyPageAreSettled(t *testing.T) {
	const page, segment = 8192, 16 << 20
	for _, test := range []struct{ at, want LSN }{
		{5*segment + 40, 5 * segment},                  // first page of a segment: long header
		{5*segment + 24, 5*segment + 24},               // not a place where WAL can begin: left alone
		{5*segment + page + 24, 5*segment + page},      // another page: short header
		{5*segment + page + 40, 5*segment + page + 40}, // 16 bytes of data behind a short header
		{5*segment + page, 5*segment + page},
		{12345, 12345},
		{0, 0},
	} {
		if got := test.at.settle(walSizes{page, segment}); got != test.want {
			t.Errorf("%X is settled to %X, want %X", test.at, got, test.want)
		}
	}
	if got := LSN(24).settle(walSizes{}); got != 24 {
		t.Errorf("without sizes: %d", got)
	}
}

func TestParseLSN(t *testing.T) {
	for text, want := range map[string]LSN{"0/0": 0, "16/B374D848": 0x16B374D848, "FFFFFFFF/FFFFFFFF": 1<<64 - 1} {
		if got, err := ParseLSN(text); got != want || err != nil {
			t.Errorf("%s is %X, error %v", text, got, err)
		}
	}
	for _, text := range []string{"", "1", "/", "1/", "/1", "g/1", "1/100000000", "1/1/1", "-1/1", "000000001/1", " 1/1", "1/1 ", "+1/1"} {
		if got, err := ParseLSN(text); err == nil {
			t.Errorf("%q is taken for %X", text, got)
		}
	}
}

func TestAReplicaServesAsSoonAsItHasTheWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		b.claim(t)
		after(2500 * time.Millisecond)
		replica := b.Topology().Member("pg2").Backend

		b.servers["pg1"].set(func(f *facts) { f.at.flush, f.at.insert = 1500, 2000 })
		mark := Now()
		<-time.After(1)
		if replica.CaughtUp(mark, true) {
			t.Error("the replica has caught up before anybody has looked")
		}
		if !replica.CaughtUp(0, true) || !replica.CaughtUp(0, false) {
			t.Error("no mark is not passed")
		}
		b.Demand()
		after(100 * time.Millisecond)
		if replica.CaughtUp(mark, true) || replica.CaughtUp(mark, false) {
			t.Error("the replica has caught up without having replayed")
		}
		b.servers["pg2"].set(func(f *facts) { f.at.replay = 1500 })
		after(20 * time.Millisecond)
		if !replica.CaughtUp(mark, true) || replica.CaughtUp(mark, false) {
			t.Errorf("flushed WAL: %v, all WAL: %v", replica.CaughtUp(mark, true), replica.CaughtUp(mark, false))
		}
		b.servers["pg2"].set(func(f *facts) { f.at.replay = 2000 })
		after(20 * time.Millisecond)
		if !replica.CaughtUp(mark, false) {
			t.Error("the replica has replayed everything and has not caught up")
		}
		if later := Now(); replica.CaughtUp(later, true) {
			t.Error("a later mark is passed")
		}
	})
}

func TestAReplicaHasReplayedWhatTheMonitorHasSeen(t *testing.T) {
	var s sampler
	primary, replica := NewBackend("p", ""), NewBackend("r", "")
	s.follow(newMonitor(primary, nil), "1", 1)
	see := func(life string, timeline uint32, sent Mark, at LSN) {
		f := facts{incarnation: life, timeline: timeline, wal: walSizes{page: 8192, segment: 16 << 20}}
		f.at = position{sentAt: sent, recovery: true, replay: at, timeline: timeline}
		s.replica(replica, &f, true)
	}
	check := func(when string, want bool, at ...LSN) {
		t.Helper()
		for _, at := range at {
			if replica.Replayed(at) != want {
				t.Errorf("%s: %X is replayed: %v", when, at, !want)
			}
		}
	}
	check("before anybody has looked", true, 0)
	check("before anybody has looked", false, 1, 24)
	see("1", 1, 1, 3*8192)
	check("seen", true, 0, 1, 3*8192, 3*8192+24)
	check("seen", false, 3*8192+1, 3*8192+40, 3*8192+32)
	see("1", 1, 2, 3*8192+100)
	check("later", true, 3*8192+100)
	see("2", 1, 3, 8192)
	check("restarted", true, 8192)
	check("restarted", false, 3*8192)
	see("2", 2, 4, 9*8192)
	check("on another timeline", false, 1)
}

func TestDemandsAreCoalesced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		b.claim(t, func(s *Settings) { s.Monitor.Interval = time.Hour })
		after(10 * time.Second)
		before, _ := b.servers["pg1"].counts()
		for range 100 {
			for range 1000 {
				b.Demand()
			}
			after(time.Millisecond)
		}
		asked, _ := b.servers["pg1"].counts()
		if n := asked - before; n < 5 || n > 7 {
			t.Errorf("the primary was sampled %d times in 100 ms", n)
		}
	})
}

func TestWhoDemandsWhileASampleIsInFlightWaitsForTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		b.claim(t, func(s *Settings) { s.Monitor.Interval = time.Hour })
		after(10 * time.Second)
		replica := b.Topology().Member("pg2").Backend
		b.servers["pg1"].slow(10 * time.Millisecond)
		early := Now()
		<-time.After(1)
		b.Demand()
		after(5 * time.Millisecond) // the sample is under way
		late := Now()
		b.Demand()
		after(10 * time.Millisecond)
		if !replica.CaughtUp(early, true) || replica.CaughtUp(late, true) {
			t.Errorf("after the first sample: early %v, late %v", replica.CaughtUp(early, true), replica.CaughtUp(late, true))
		}
		after(100 * time.Millisecond)
		if !replica.CaughtUp(late, true) {
			t.Error("the late one was never served")
		}
	})
}

func TestPollingEndsWhenAllReplicasHaveCaughtUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		b.claim(t, func(s *Settings) { s.Monitor.Interval = time.Hour })
		after(10 * time.Second)
		count := func(name string) int {
			before, _ := b.servers[name].counts()
			after(time.Second)
			n, _ := b.servers[name].counts()
			return n - before
		}
		b.servers["pg1"].set(func(f *facts) { f.at.flush, f.at.insert = 2000, 2000 })
		b.servers["pg3"].set(func(f *facts) { f.at.replay = 2000 })
		b.Demand()
		after(time.Millisecond)
		if n2, n3 := count("pg2"), count("pg3"); n2 < 40 || n2 > 52 || n3 > 1 {
			t.Errorf("the one behind was polled %d times a second, the other %d times", n2, n3)
		}
		if n := count("pg2"); n > 15 {
			t.Errorf("a replica that stands still is polled %d times a second", n)
		}
		b.servers["pg2"].set(func(f *facts) { f.at.replay = 2000 })
		after(200 * time.Millisecond)
		if n := count("pg2"); n != 0 {
			t.Errorf("a replica that has caught up was polled %d times", n)
		}
	})
}

func TestNothingIsProvedAcrossLivesAndTimelines(t *testing.T) {
	for name, change := range map[string]func(b *bed){
		"the replica was restarted": func(b *bed) {
			b.servers["pg2"].set(func(f *facts) { f.incarnation, f.at.replay = "2", 500 })
		},
		"the replica follows somebody else": func(b *bed) {
			b.servers["pg2"].set(func(f *facts) { f.timeline, f.at.timeline, f.at.replay = 2, 2, 5000 })
		},
		"the primary was restarted": func(b *bed) {
			b.servers["pg1"].set(func(f *facts) { f.incarnation, f.at.flush, f.at.insert = "2", 9000, 9000 })
		},
		"another one became primary": func(b *bed) {
			b.servers["pg1"].fail(errDown)
			b.servers["pg3"].set(func(f *facts) { *f = primaryAt(2, 9000).f })
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBed(t, three())
				b.claim(t)
				after(1500 * time.Millisecond)
				replica := b.Topology().Member("pg2").Backend
				mark := Now()
				<-time.After(1)
				b.Demand()
				after(50 * time.Millisecond)
				if !replica.CaughtUp(mark, true) {
					t.Fatal("the replica has not caught up")
				}
				change(b)
				after(3 * time.Second)
				if replica.CaughtUp(mark, true) || replica.CaughtUp(mark, false) {
					t.Error("what was proved before still holds")
				}
			})
		})
	}
}

// TestAReplicaNeverClaimsWhatItHasNotReplayed plays random histories: commits on the primary, replay in steps, samples and
// looks at any moment, restarts. Whenever the sampler says that a mark is passed, the replica must have replayed everything
// the primary had written at the mark; and once it has everything and was looked at, it must say so.
func TestAReplicaNeverClaimsWhatItHasNotReplayed(t *testing.T) {
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 5))
			type write struct {
				mark   Mark
				LSN    LSN
				synced bool
			}
			var writes []write
			var s sampler
			primary, replica := NewBackend("p", ""), NewBackend("r", "")
			m := newMonitor(primary, nil)
			primary.monitor.Store(m)
			replica.monitor.Store(newMonitor(replica, nil))
			insert, flush, replay := LSN(1), LSN(1), LSN(1)
			life := 1
			look := func() facts {
				f := facts{incarnation: fmt.Sprint(life), timeline: 1}
				f.at = position{sentAt: Now(), recovery: true, replay: replay, timeline: 1}
				return f
			}
			s.follow(m, "1", 1)
			for range 1000 {
				<-time.After(time.Duration(1 + rnd.IntN(5)))
				switch rnd.IntN(8) {
				case 0, 1:
					insert += LSN(rnd.IntN(100))
					synced := rnd.IntN(2) == 0
					if synced {
						flush = insert
					}
					writes = append(writes, write{Now(), insert, synced})
				case 2:
					flush += LSN(rnd.IntN(int(insert-flush) + 1))
				case 3:
					replay += LSN(rnd.IntN(int(flush-replay) + 1))
				case 4:
					s.begin()
					s.sampled(primary, "1", position{sentAt: Now(), flush: flush, insert: insert}, rnd.IntN(2) == 0)
				case 5:
					f := look()
					s.replica(replica, &f, true)
				case 6:
					s.replayed(replica, fmt.Sprint(life), look().at)
				case 7:
					if rnd.IntN(50) == 0 {
						life++
						replay = LSN(1)
						f := look()
						s.replica(replica, &f, true)
					}
				}
				for _, w := range writes {
					if replica.CaughtUp(w.mark, false) && replay < w.LSN {
						t.Fatalf("seed %d: insert series passes a mark at %d, replayed %d", seed, w.LSN, replay)
					}
					if w.synced && replica.CaughtUp(w.mark, true) && replay < w.LSN {
						t.Fatalf("seed %d: flush series passes a mark at %d, replayed %d", seed, w.LSN, replay)
					}
				}
			}
			<-time.After(1)
			s.sampled(primary, "1", position{sentAt: Now(), flush: insert, insert: insert}, true)
			replay = insert
			<-time.After(1)
			f := look()
			s.replica(replica, &f, true)
			for _, w := range writes {
				if !replica.CaughtUp(w.mark, true) || !replica.CaughtUp(w.mark, false) {
					t.Fatalf("seed %d: a replica that has everything has not caught up", seed)
				}
			}
			if n := len(s.mu.history); n > maxSamples {
				t.Errorf("%d samples are kept", n)
			}
		})
	}
}

func TestAReplicaFarBehindStillCatchesUpStepByStep(t *testing.T) {
	var s sampler
	primary, replica := NewBackend("p", ""), NewBackend("r", "")
	m := newMonitor(primary, nil)
	s.follow(m, "1", 1)
	const n = 10 * maxSamples
	for i := range n {
		at := LSN(10 * (i + 1))
		s.sampled(primary, "1", position{sentAt: Mark(i + 1), flush: at, insert: at}, true)
	}
	f := facts{incarnation: "1", timeline: 1}
	passed := 0
	for i := range n {
		f.at = position{sentAt: Mark(i + 1), replay: LSN(10 * (i + 1))}
		s.replica(replica, &f, true)
		if replica.CaughtUp(Mark(i), false) {
			passed++
		}
	}
	if passed < n/20 || !replica.CaughtUp(n-1, false) {
		t.Errorf("%d of %d steps were noticed", passed, n)
	}
}

func TestLagIsMeasuredAtTheTimeTheReplicaWasAsked(t *testing.T) {
	primary := NewBackend("p", "")
	var w walTrack
	if _, ok := w.lag(&position{sentAt: 5, replay: 1}); ok {
		t.Error("a lag without a primary")
	}
	for i := range walPoints + 3 {
		w.add(primary, &facts{at: position{sentAt: Mark(10 * (i + 1)), insert: LSN(1000 * (i + 1))}})
	}
	for _, test := range []struct {
		at     Mark
		replay LSN
		want   int64
		ok     bool
	}{
		{50, 4000, 1000, true},  // at a probe of the primary
		{55, 5500, 0, true},     // between two: has everything
		{55, 5000, 500, true},   // between two: behind
		{200, 10500, 500, true}, // after the last
		{110, 12000, 0, true},   // ahead of what is known
		{20, 1000, 0, false},    // before what is remembered
	} {
		got, ok := w.lag(&position{sentAt: test.at, replay: test.replay})
		if got != test.want || ok != test.ok {
			t.Errorf("at %d with %d: lag is %d (%v), want %d (%v)", test.at, test.replay, got, ok, test.want, test.ok)
		}
	}
	w.add(primary, &facts{timeline: 2, at: position{sentAt: 300, insert: 5}})
	if len(w.points) != 1 {
		t.Error("positions of another timeline are kept")
	}
}
