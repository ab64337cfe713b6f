package cluster

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

func TestRolesAreFoundOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		if n := len(b.Topology().Members); n != 0 {
			t.Fatalf("%d members before the first claim", n)
		}
		for _, s := range b.servers {
			s.slow(time.Millisecond)
		}
		b.claim(t)
		b.expect(t, map[string]string{"pg1": "unknown starting", "pg2": "unknown starting", "pg3": "unknown starting"})
		after(2 * time.Millisecond)
		b.expect(t, map[string]string{"pg1": "primary healthy", "pg2": "replica healthy", "pg3": "replica healthy"})
		for _, m := range b.Topology().Members {
			if want := m.Role == RoleReplica; m.Fit != want {
				t.Errorf("%s fit is %v", m.Backend.Name(), m.Fit)
			}
			if m.Score != 1 || m.Weight != 1 || !m.Up {
				t.Errorf("%s has score %v, weight %v, up %v", m.Backend.Name(), m.Score, m.Weight, m.Up)
			}
		}
	})
}

func TestFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		b.claim(t)
		after(5 * time.Second)
		b.servers["pg1"].fail(errDown)
		after(1100 * time.Millisecond)
		if p := b.primary(); p != "" {
			t.Fatalf("primary is %s after the server has gone", p)
		}
		b.expect(t, map[string]string{"pg2": "replica healthy", "pg3": "replica healthy"})
		changed := b.Changed()

		b.servers["pg2"].set(func(f *facts) { *f = primaryAt(2, 1100).f })
		after(150 * time.Millisecond)
		if p := b.primary(); p != "pg2" {
			t.Fatalf("primary is %q 150 ms after the promotion", p)
		}
		select {
		case <-changed:
		default:
			t.Error("who waited for a primary was not woken")
		}
		b.expect(t, map[string]string{"pg3": "replica lagging"}) // still on timeline 1
		b.servers["pg3"].set(func(f *facts) { f.timeline, f.at.timeline = 2, 2 })
		after(1100 * time.Millisecond)
		b.expect(t, map[string]string{"pg3": "replica healthy"})

		// The old primary comes back as it was, then as a standby of the new one.
		b.servers["pg1"].set(func(f *facts) { f.incarnation = "2" })
		b.servers["pg1"].fail(nil)
		after(1100 * time.Millisecond)
		if p := b.primary(); p != "pg2" {
			t.Errorf("primary is %q once the old one is back", p)
		}
		b.expect(t, map[string]string{"pg1": "refused failed"})
		b.servers["pg1"].set(func(f *facts) { *f = replicaAt(2, 1100).f; f.incarnation = "3" })
		after(1100 * time.Millisecond)
		b.expect(t, map[string]string{"pg1": "replica recovering"})
	})
}

func TestTheOldPrimaryGetsNoWritesWhileTheNewOneIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, map[string]*server{"pg1": primaryAt(1, 1), "pg2": primaryAt(2, 1)})
		b.claim(t)
		after(time.Second)
		if p := b.primary(); p != "pg2" {
			t.Fatalf("primary is %q", p)
		}
		b.servers["pg2"].fail(errDown)
		after(10 * time.Second)
		if p := b.primary(); p != "" {
			t.Errorf("primary is %q while the one of the higher timeline is down", p)
		}
	})
}

func TestAPrimaryThatDoesNotAnswerIsGivenUpAfterTwoProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		b.claim(t)
		after(500 * time.Millisecond)
		b.servers["pg1"].slow(time.Hour)
		after(2600 * time.Millisecond) // the first probe has timed out
		if p := b.primary(); p != "pg1" {
			t.Errorf("primary is %q after one timeout", p)
		}
		after(2200 * time.Millisecond)
		if p := b.primary(); p != "" {
			t.Errorf("primary is %q after two timeouts", p)
		}
		b.servers["pg1"].slow(0)
		after(2200 * time.Millisecond)
		if p := b.primary(); p != "pg1" {
			t.Errorf("primary is %q once it answers again", p)
		}
	})
}

func TestARefusedLoginDoesNotTakeThePrimaryOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		b.claim(t)
		after(time.Second)
		b.servers["pg1"].fail(pgwire.Fatalf(pgwire.CodeTooManyConnections, "sorry, too many clients already"))
		after(20 * time.Second)
		if p := b.primary(); p != "pg1" {
			t.Errorf("primary is %q although the server runs", p)
		}
		if m := b.Topology().Member("pg1"); m.Up || m.Circuit != CircuitClosed {
			t.Errorf("up is %v, circuit %v", m.Up, m.Circuit)
		}
		after(15 * time.Second)
		if p := b.primary(); p != "" {
			t.Errorf("primary is %q although nothing was heard for longer than stale", p)
		}
	})
}

func TestADeadReplicaLeavesAndComesBackByTrials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		b.claim(t)
		after(1500 * time.Millisecond)
		b.servers["pg2"].fail(errDown)
		after(1500 * time.Millisecond) // five probes, 100 ms apart
		b.expect(t, map[string]string{"pg2": "replica failed"})
		after(60 * time.Second)
		b.expect(t, map[string]string{"pg2": "unknown failed"}) // the trials would fail: none is let through

		b.servers["pg2"].set(func(f *facts) { f.incarnation = "2" })
		b.servers["pg2"].fail(nil)
		after(1100 * time.Millisecond)
		b.expect(t, map[string]string{"pg2": "replica recovering"})
		be := b.Topology().Member("pg2").Backend
		var trials []Turn
		for {
			turn, ok := be.BeginTurn()
			if !ok {
				break
			}
			trials = append(trials, turn)
		}
		if len(trials) != 3 {
			t.Fatalf("%d trials were let through", len(trials))
		}
		for _, turn := range trials {
			be.EndTurn(turn, time.Millisecond, nil)
		}
		synctest.Wait()
		b.expect(t, map[string]string{"pg2": "replica healthy"})
		if w := b.Topology().Member("pg2").Weight; w > 0.2 {
			t.Errorf("weight is %v right after the recovery", w)
		}
		after(5 * time.Second)
		if w := b.Topology().Member("pg2").Weight; w < 0.5 || w > 0.6 {
			t.Errorf("weight is %v after half of the slow start", w)
		}
		after(6 * time.Second)
		if w := b.Topology().Member("pg2").Weight; w != 1 {
			t.Errorf("weight is %v after the slow start", w)
		}
	})
}

func TestAPassiveFailureWakesTheMonitor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		b.claim(t)
		after(2550 * time.Millisecond) // between two probes
		_, before := b.servers["pg2"].counts()
		be := b.Topology().Member("pg2").Backend
		turn, _ := be.BeginTurn()
		be.EndTurn(turn, 0, errDown)
		after(time.Millisecond)
		if _, probes := b.servers["pg2"].counts(); probes != before+1 {
			t.Errorf("%d probes right after the failure", probes-before)
		}
		for range 1000 { // a burst must not become a burst of probes
			turn, _ := be.BeginTurn()
			be.EndTurn(turn, time.Millisecond, nil)
			be.wake()
		}
		after(450 * time.Millisecond)
		if _, probes := b.servers["pg2"].counts(); probes-before > 6 {
			t.Errorf("%d probes in 450 ms", probes-before)
		}
	})
}

func TestAnEndedConnectionCountsOnlyIfTheServerHasEndedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		b.claim(t)
		after(500 * time.Millisecond)
		be := b.Topology().Member("pg2").Backend
		killed := pgwire.ParseError([]byte("SFATAL\x00C57P01\x00Mterminating connection\x00\x00"))
		end := func() {
			for range 10 {
				turn, _ := be.BeginTurn()
				be.EndTurn(turn, 0, killed)
			}
			after(200 * time.Millisecond)
		}
		end()
		b.expect(t, map[string]string{"pg2": "replica healthy"})
		b.servers["pg2"].fail(errDown)
		end()
		b.expect(t, map[string]string{"pg2": "replica failed"})
	})
}

func TestTheCircuitDoesNotGateThePrimary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		b.claim(t)
		after(500 * time.Millisecond)
		be := b.Topology().Primary.Backend
		for range 10 {
			turn, ok := be.BeginTurn()
			if !ok {
				t.Fatal("the primary was refused")
			}
			be.EndTurn(turn, 0, errDown)
		}
		after(time.Second)
		if b.primary() != "pg1" || be.Circuit() != CircuitClosed {
			t.Errorf("primary is %q, its circuit %v after a probe that was answered", b.primary(), be.Circuit())
		}
		if n := be.InFlight(); n != 0 {
			t.Errorf("%d turns in flight", n)
		}
	})
}

func TestLagTakesAReplicaOutWithHysteresis(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, three())
		b.claim(t, func(s *Settings) { s.MaxLag, s.LagResume = 1000, 400 })
		after(500 * time.Millisecond)
		for _, step := range []struct {
			replay LSN
			want   string
		}{
			{9000, "replica healthy"},
			{8999, "replica lagging"},
			{9500, "replica lagging"},
			{9600, "replica healthy"},
			{9000, "replica healthy"},
		} {
			b.servers["pg1"].set(func(f *facts) { f.at.insert, f.at.flush = 10000, 10000 })
			b.servers["pg2"].set(func(f *facts) { f.at.replay = step.replay })
			after(2 * time.Second)
			b.expect(t, map[string]string{"pg2": step.want})
		}
		if lag := b.Topology().Member("pg2").LagBytes; lag != 1000 {
			t.Errorf("lag is %d", lag)
		}
	})
}

func TestTwoPrimariesOnOneTimelineAreAnAlarmAndNoPrimary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		servers := three()
		servers["pg4"] = primaryAt(1, 1000)
		b := newBed(t, servers)
		b.claim(t)
		after(10 * time.Second)
		if p := b.primary(); p != "" {
			t.Errorf("primary is %q", p)
		}
		b.expect(t, map[string]string{"pg1": "refused failed", "pg4": "refused failed", "pg2": "replica healthy"})
		alarms := b.logs.FilterMessage("several primaries on the same timeline: none is taken, stop all but one")
		if alarms.Len() != 1 {
			t.Errorf("the alarm was logged %d times", alarms.Len())
		}
		b.servers["pg4"].fail(errDown)
		after(2 * time.Second)
		if p := b.primary(); p != "pg1" {
			t.Errorf("primary is %q once there is one only", p)
		}
	})
}

func TestAServerOfAnotherSystemIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		servers := three()
		servers["pg0"] = primaryAt(9, 1000)
		servers["pg0"].f.systemID = 42
		b := newBed(t, servers)
		b.claim(t)
		after(time.Second)
		if p := b.primary(); p != "pg1" {
			t.Errorf("primary is %q", p)
		}
		b.expect(t, map[string]string{"pg0": "refused failed"})
		if n := b.logs.FilterMessage("backend is refused: belongs to another database system").Len(); n != 1 {
			t.Errorf("it was reported %d times", n)
		}
		// The system is kept while its members are away.
		for _, name := range []string{"pg1", "pg2", "pg3"} {
			b.servers[name].fail(errDown)
		}
		after(60 * time.Second)
		if p := b.primary(); p != "" {
			t.Errorf("primary is %q", p)
		}
	})
}
