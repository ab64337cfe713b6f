package routing

import (
	"container/heap"
	"encoding/json"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	hostfile "github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/fairwaydb/fairway/caddyfile"
	"github.com/fairwaydb/fairway/modules/cluster"
)

// policies makes one of each with the defaults.
func policies() map[string]Policy {
	return map[string]Policy{
		"health_score": defaultPolicy, "round_robin": new(RoundRobin), "least_conn": new(LeastConn),
		"random": new(Random), "first": new(First),
	}
}

// draw counts how often each candidate is chosen while nothing runs.
func draw(p Policy, n int, candidates ...*cluster.Member) map[string]float64 {
	shares := make(map[string]float64)
	for range n {
		shares[p.Select(candidates).Backend.Name()] += 1 / float64(n)
	}
	return shares
}

func near(got, want, tolerance float64) bool { return math.Abs(got-want) <= tolerance }

func TestEveryPolicyChoosesACandidate(t *testing.T) {
	for name, p := range policies() {
		for _, weights := range [][]float64{{1, 1}, {1, 0}, {0, 0}, {0, 0, 0}, {0.001, 1000}, {1, 2, 3, 4, 5}} {
			var candidates []*cluster.Member
			valid := make(map[*cluster.Member]bool)
			for i, w := range weights {
				m := member(string(rune('a'+i)), w)
				candidates, valid[m] = append(candidates, m), true
			}
			for range 200 {
				m := p.Select(candidates)
				if !valid[m] {
					t.Fatalf("%s: chose %v of weights %v", name, m, weights)
				}
				if m.Weight == 0 && weights[0] != 0 && name != "first" {
					t.Fatalf("%s: chose a member without weight of %v", name, weights)
				}
			}
		}
	}
}

func TestSharesFollowWeights(t *testing.T) {
	const n = 60000
	for name, p := range map[string]Policy{"random": new(Random), "round_robin": new(RoundRobin)} {
		shares := draw(p, n, member("a", 1), member("b", 2), member("c", 3))
		for member, want := range map[string]float64{"a": 1. / 6, "b": 2. / 6, "c": 3. / 6} {
			if !near(shares[member], want, 0.02) {
				t.Errorf("%s: %s got %.3f of the reads, want %.3f", name, member, shares[member], want)
			}
		}
	}
}

func TestRoundRobinSpreadsEvenly(t *testing.T) {
	p, a, b := new(RoundRobin), member("a", 2), member("b", 1)
	var order string
	for range 6 {
		order += p.Select([]*cluster.Member{a, b}).Backend.Name()
	}
	if order != "abaaba" {
		t.Errorf("the order is %s", order)
	}
}

func TestRoundRobinForgetsBackendsThatLeft(t *testing.T) {
	p, a := new(RoundRobin), member("a", 1)
	for range 10 * forgetAt {
		p.Select([]*cluster.Member{a, member("b", 1)})
	}
	if n := len(p.mu.credit); n > forgetAt+2 {
		t.Errorf("%d backends are remembered", n)
	}
}

func TestRoundRobinIsSafeForConcurrentUse(t *testing.T) {
	p, candidates := new(RoundRobin), []*cluster.Member{member("a", 1), member("b", 1)}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 1000 {
				p.Select(candidates)
			}
		})
	}
	wg.Wait()
	if sum := p.mu.credit[candidates[0].Backend] + p.mu.credit[candidates[1].Backend]; sum != 0 {
		t.Errorf("the credits add up to %v", sum)
	}
}

func TestFirstTakesTheLowestPriorityThenTheName(t *testing.T) {
	a, b, c := member("a", 1), member("b", 1), member("c", 1)
	a.Priority = 1
	if got := new(First).Select([]*cluster.Member{a, c, b}); got != b {
		t.Errorf("took %s", got.Backend.Name())
	}
}

func TestHealthScoreAvoidsTheSlowAndTheSick(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(m *cluster.Member)
		least  float64
		most   float64
	}{
		{"equals share", func(*cluster.Member) {}, 0.47, 0.53},
		{"what chance brings does not matter", func(m *cluster.Member) { m.Score = 0.9 }, 0.47, 0.53},
		{"a latency under the floor does not matter", func(m *cluster.Member) { m.Latency = 900 * time.Microsecond }, 0.47, 0.53},
		{"twice as slow is drawn against itself only", func(m *cluster.Member) { m.Latency = 2 * time.Millisecond }, 0.22, 0.28},
		{"half as well too", func(m *cluster.Member) { m.Score = 0.5 }, 0.22, 0.28},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, b := member("a", 1), member("b", 1)
			test.change(b)
			if share := draw(defaultPolicy, 40000, a, b)["b"]; share < test.least || share > test.most {
				t.Errorf("b got %.3f of the reads, want %.2f to %.2f", share, test.least, test.most)
			}
		})
	}
}

// done is a turn of the simulation and when it ends.
type done struct {
	at   float64
	m    *cluster.Member
	turn cluster.Turn
}

type queue []done

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].at < q[j].at }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)        { *q = append(*q, x.(done)) }
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// serve simulates clients that read without a pause from members that each work
// on one turn at a time; it returns the share of each. The latency a member is
// known for is its service time: how long turns wait shows in flight.
func serve(t *testing.T, p Policy, clients, turns int, members []*cluster.Member, service func(m *cluster.Member) float64) map[string]float64 {
	t.Helper()
	var (
		running queue
		free    = make(map[*cluster.Member]float64)
		shares  = make(map[string]float64)
		now     float64
	)
	begin := func() {
		m := p.Select(members)
		turn, ok := m.Backend.BeginTurn()
		if !ok {
			t.Fatal("a healthy backend refused a turn")
		}
		free[m] = max(free[m], now) + service(m)
		heap.Push(&running, done{at: free[m], m: m, turn: turn})
		shares[m.Backend.Name()] += 1 / float64(turns)
	}
	for i := range turns {
		if i >= clients {
			next := heap.Pop(&running).(done)
			now = next.at
			next.m.Backend.EndTurn(next.turn, 0, nil)
		}
		begin()
	}
	return shares
}

func TestASlowBackendIsRelievedAndNobodyStarves(t *testing.T) {
	for _, name := range []string{"health_score", "least_conn"} {
		t.Run(name, func(t *testing.T) {
			fast, fast2, slow := member("fast", 1), member("fast2", 1), member("slow", 1)
			slow.Latency, fast.Latency, fast2.Latency = 10*time.Millisecond, time.Millisecond, time.Millisecond
			shares := serve(t, policies()[name], 24, 30000, []*cluster.Member{fast, fast2, slow}, func(m *cluster.Member) float64 {
				return m.Latency.Seconds()
			})
			if shares["slow"] > 0.15 || shares["slow"] < 0.001 {
				t.Errorf("the slow one got %.4f of the reads", shares["slow"])
			}
			if !near(shares["fast"], shares["fast2"], 0.05) {
				t.Errorf("the fast ones got %.3f and %.3f", shares["fast"], shares["fast2"])
			}
		})
	}
}

func TestSharesFollowWeightsUnderLoad(t *testing.T) {
	for _, name := range []string{"health_score", "least_conn"} {
		t.Run(name, func(t *testing.T) {
			light, heavy := member("light", 1), member("heavy", 2)
			shares := serve(t, policies()[name], 30, 30000, []*cluster.Member{light, heavy}, func(m *cluster.Member) float64 {
				return 0.001 / m.Weight
			})
			if ratio := shares["heavy"] / shares["light"]; ratio < 1.7 || ratio > 2.6 {
				t.Errorf("the heavy one got %.2f times as much as the light one, want about 2", ratio)
			}
		})
	}
}

func TestAllPoliciesAreSetUpByACaddyfile(t *testing.T) {
	for _, name := range []string{"health_score", "round_robin", "least_conn", "random", "first"} {
		t.Run(name, func(t *testing.T) {
			info, err := caddy.GetModule("postgres.policies." + name)
			if err != nil {
				t.Fatal(err)
			}
			m := info.New()
			if err := m.(caddyfile.Unmarshaler).UnmarshalCaddyfile(hostfile.NewTestDispenser(name + " {\n fallback off\n}")); err != nil {
				t.Fatal(err)
			}
			if fallsBack(m.(Policy)) {
				t.Error("fallback off has no effect")
			}
			if got, err := json.Marshal(m); err != nil || string(got) != `{"fallback":false}` {
				t.Errorf("the JSON is %s, %v", got, err)
			}
		})
	}
}

func TestHealthScoreRefusesNumbersWithoutSense(t *testing.T) {
	for name, p := range map[string]*HealthScore{
		"a tolerance over 1":   {Tolerance: 1.1},
		"a negative tolerance": {Tolerance: -0.1},
		"a negative latency":   {LatencyFloor: -1},
	} {
		if err := p.Validate(); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	p := new(HealthScore)
	if err := p.Provision(caddy.Context{}); err != nil || p.Validate() != nil || *p != *defaultPolicy.(*HealthScore) {
		t.Errorf("the defaults are %+v", p)
	}
}
