package cluster

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// node makes a candidate from a short word: p or r for its role, the timeline, and modifiers: x another system, ? not
// trusted, 0 never answered, - never reported, f found, n newcomer, ! rival.
func node(i int, word string) candidate {
	c := candidate{name: fmt.Sprintf("pg%d", i+1), trusted: true, reported: true}
	c.facts.systemID = 1
	c.facts.at.recovery = word[0] == 'r'
	c.facts.timeline = uint32(word[1] - '0')
	for _, m := range word[2:] {
		switch m {
		case 'x':
			c.facts.systemID = 2
		case '?':
			c.trusted = false
		case '-':
			c.trusted, c.reported, c.facts = false, false, facts{}
		case '0':
			c.trusted, c.facts = false, facts{}
		case 'f':
			c.found = true
		case 'n':
			c.found, c.newcomer = true, true
		case '!':
			c.found, c.newcomer, c.rival = true, true, true
		}
	}
	return c
}

func nodes(words ...string) []candidate {
	all := make([]candidate, len(words))
	for i, w := range words {
		all[i] = node(i, w)
	}
	return all
}

func TestWhoIsPrimary(t *testing.T) {
	for _, test := range []struct {
		name  string
		steps [][]string // the cluster at successive moments
		want  decision   // at the last
	}{
		{"one primary and its replicas", [][]string{{"p1", "r1", "r1"}}, decision{primary: "pg1", timeline: 1}},
		{"the higher timeline wins", [][]string{{"p1", "p2", "r2"}}, decision{primary: "pg2", timeline: 2}},
		{"a tie has no winner", [][]string{{"p2", "p2", "r2"}}, decision{tie: true, timeline: 2}},
		{"a tie below does not matter", [][]string{{"p1", "p1", "p2"}}, decision{primary: "pg3", timeline: 2}},
		{"a tie of three", [][]string{{"p1", "p1", "p1"}}, decision{tie: true}},
		{"a tie keeps the timeline of before", [][]string{{"p1", "r1"}, {"p1", "p1"}}, decision{tie: true, timeline: 1}},
		{"replicas alone serve on the newest timeline", [][]string{{"r1", "r2"}}, decision{timeline: 2}},
		{"a primary that does not answer is none", [][]string{{"p1", "r1"}, {"p1?", "r1"}}, decision{timeline: 1}},
		{"a promotion is seen", [][]string{{"p1", "r1"}, {"p1?", "p2"}}, decision{primary: "pg2", timeline: 2}},
		{"the old primary beside the new one", [][]string{{"p1", "r1"}, {"p1", "p2"}}, decision{primary: "pg2", timeline: 2}},
		{"the old primary while the new one is down", [][]string{{"p1", "p2"}, {"p1", "p2?"}}, decision{timeline: 2}},
		{"the old primary once the new one was removed", [][]string{{"p1", "p2"}, {"p1"}}, decision{primary: "pg1", timeline: 1}},
		{"the minority of another system", [][]string{{"p9x", "p1", "r1"}}, decision{primary: "pg2", timeline: 1}},
		{"the majority of another system", [][]string{{"p1", "p9x", "r9x"}}, decision{primary: "pg2", timeline: 9}},
		{"two systems of one server each: the first by name", [][]string{{"p1", "p9x"}}, decision{primary: "pg1", timeline: 1}},
		{"the majority of all decides at once", [][]string{{"p1", "r1", "r1-"}}, decision{primary: "pg1", timeline: 1}},
		{"half of all does not", [][]string{{"p1", "r1-"}}, decision{}},
		{"one server of three does not", [][]string{{"p9x", "p1-", "r1-"}}, decision{}},
		{"all that answer decide when the others have failed", [][]string{{"p1", "r1?"}}, decision{primary: "pg1", timeline: 1}},
		{
			"a system is kept when its majority leaves",
			[][]string{{"p1", "r1", "p9x"}, {"p1?", "r1?", "p9x"}},
			decision{timeline: 1},
		},
		{"nobody answers", [][]string{{"p1?", "r1?"}}, decision{}},
		{"nobody at all", [][]string{{}}, decision{}},
		{"a copy beside the primary", [][]string{{"p1", "p1n"}}, decision{primary: "pg1", timeline: 1, holder: "pg1"}},
		{"a promoted copy beside the primary", [][]string{{"p1f", "r1", "p2n"}}, decision{primary: "pg1", timeline: 1, holder: "pg1"}},
		{"a copy while the primary is down", [][]string{{"p1", "p2n"}, {"p1?", "p2n"}}, decision{timeline: 1, holder: "pg1"}},
		{"a copy before a configured server has answered", [][]string{{"p10", "r1", "p2n"}}, decision{timeline: 1, holder: "pg1"}},
		{"a copy that was seen beside a primary that has left", [][]string{{"p1", "p2!"}, {"p2!"}}, decision{}},
		{"the first of found servers alone", [][]string{{"p1n", "r1f", "r1f"}}, decision{primary: "pg1", timeline: 1}},
		{"the first of found servers waits for all", [][]string{{"p1n", "r1f", "r1n-"}}, decision{timeline: 1, waiting: true}},
		{"two of found servers alone", [][]string{{"p1n", "p1n", "r1f"}}, decision{tie: true, timeline: 1}},
		{"a found primary of configured replicas", [][]string{{"r1", "r1", "p1n"}}, decision{primary: "pg3", timeline: 1}},
		{"a found primary in place of an old one", [][]string{{"p1", "p2f"}, {"p1", "p2n"}}, decision{primary: "pg2", timeline: 2}},
		{"found servers do not outvote a configured one", [][]string{{"p1", "p9xn", "r9xf"}}, decision{primary: "pg1", timeline: 1, holder: "pg1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var r roles
			var got decision
			for _, words := range test.steps {
				got = r.decide(nodes(words...))
			}
			if test.want.holder == "" && !test.want.waiting {
				got.holder, got.waiting = "", false
			}
			if got != test.want {
				t.Errorf("decided %+v, want %+v", got, test.want)
			}
		})
	}
}

// TestTheDecisionKeepsItsPromises plays random histories of random clusters.
func TestTheDecisionKeepsItsPromises(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		var r roles
		all := make([]candidate, 1+rnd.IntN(5))
		for i := range all {
			all[i].name = fmt.Sprintf("pg%d", i)
		}
		system := uint64(0)
		for range 20 {
			c := &all[rnd.IntN(len(all))]
			c.reported, c.trusted = true, rnd.IntN(3) > 0
			c.facts.systemID = 1 + uint64(rnd.IntN(5)/4)
			c.facts.at.recovery = rnd.IntN(2) == 0
			c.facts.timeline = 1 + uint32(rnd.IntN(3))
			d := r.decide(all)
			if system != 0 && r.systemID != system {
				t.Fatal("the system has changed")
			}
			system = r.systemID
			checkDecision(t, all, d, system)
		}
	}
}

func checkDecision(t *testing.T, all []candidate, d decision, system uint64) {
	t.Helper()
	if d.primary != "" && d.tie {
		t.Fatal("a primary in spite of a tie")
	}
	for _, c := range all {
		if !c.trusted || c.facts.systemID != system || c.facts.at.recovery {
			if d.primary == c.name {
				t.Fatalf("primary is %+v", c)
			}
			continue
		}
		if d.primary != "" && c.name != d.primary && c.facts.timeline >= d.timeline {
			t.Fatalf("primary is %s on timeline %d although there is %+v", d.primary, d.timeline, c)
		}
		if d.primary == c.name && c.facts.timeline != d.timeline {
			t.Fatalf("timeline is %d, the primary's %d", d.timeline, c.facts.timeline)
		}
	}
}

func TestAStateFollowsFromTheSituation(t *testing.T) {
	on := func(change func(s *situation)) situation {
		s := situation{known: true, trusted: true, systemID: 1, decision: decision{primary: "pg1", timeline: 1}}
		s.facts.systemID, s.facts.timeline, s.facts.at.recovery = 1, 1, true
		change(&s)
		return s
	}
	asPrimary := func(s *situation) { s.facts.at.recovery, s.primary = false, true }
	for _, test := range []struct {
		name  string
		s     situation
		role  Role
		state State
		fit   bool
	}{
		{"a replica that is well", on(func(*situation) {}), RoleReplica, StateHealthy, true},
		{"many errors", on(func(s *situation) { s.degraded = true }), RoleReplica, StateDegraded, true},
		{"half-open", on(func(s *situation) { s.circuit = CircuitHalfOpen }), RoleReplica, StateRecovering, true},
		{"open", on(func(s *situation) { s.circuit = CircuitOpen }), RoleReplica, StateFailed, false},
		{"behind", on(func(s *situation) { s.lagging = true }), RoleReplica, StateLagging, false},
		{"on an older timeline", on(func(s *situation) { s.decision.timeline = 2 }), RoleReplica, StateLagging, false},
		{"on no timeline", on(func(s *situation) { s.facts.timeline, s.decision.timeline = 0, 0 }), RoleReplica, StateLagging, false},
		{"of another system", on(func(s *situation) { s.facts.systemID = 2 }), RoleRefused, StateFailed, false},
		{"leaving", on(func(s *situation) { s.leaving = true }), RoleReplica, StateDraining, false},
		{"never answered", on(func(s *situation) { s.known, s.trusted = false, false }), RoleUnknown, StateStarting, false},
		{"does not answer any more", on(func(s *situation) { s.trusted = false }), RoleUnknown, StateFailed, false},
		{"no system agreed yet", on(func(s *situation) { s.systemID = 0 }), RoleUnknown, StateStarting, false},
		{"the primary", on(asPrimary), RolePrimary, StateHealthy, false},
		{"the primary, leaving", on(func(s *situation) { s.facts.at.recovery, s.leaving = false, true }), RoleUnknown, StateDraining, false},
		{
			"the primary, with an open circuit",
			on(func(s *situation) { asPrimary(s); s.circuit = CircuitOpen }), RolePrimary, StateFailed, false,
		},
		{"a second primary", on(func(s *situation) { s.facts.at.recovery = false }), RoleRefused, StateFailed, false},
		{"one of a tie", on(func(s *situation) { s.facts.at.recovery, s.decision.tie = false, true }), RoleRefused, StateFailed, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := test.s.judge()
			if v.role != test.role || v.state != test.state || v.fit != test.fit {
				t.Errorf("%v %v, fit %v (%s), want %v %v, fit %v", v.role, v.state, v.fit, v.reason, test.role, test.state, test.fit)
			}
			if !v.fit && v.state != StateHealthy && v.role != RolePrimary && v.reason == "" {
				t.Error("no reason is given")
			}
		})
	}
}
