package routing

import (
	"errors"
	"testing"

	"go.uber.org/goleak"

	"github.com/fairwaydb/fairway/modules/catalog"
	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgsql"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// demands counts the calls of Demand.
type demands int

func (d *demands) Demand() { *d++ }

// member makes a replica with a weight.
func member(name string, weight float64) *cluster.Member {
	return &cluster.Member{
		Backend: cluster.NewBackend(name, name+":5432"), Role: cluster.RoleReplica, State: cluster.StateHealthy,
		Fit: true, Score: 1, Weight: weight,
	}
}

// topology makes one of a primary p and the replicas.
func topology(replicas ...*cluster.Member) *cluster.Topology {
	p := &cluster.Member{Backend: cluster.NewBackend("p", "p:5432"), Role: cluster.RolePrimary, Weight: 1, Score: 1}
	return &cluster.Topology{Members: append([]*cluster.Member{p}, replicas...), Primary: p}
}

var (
	plainRead = &pgsql.Class{Effects: pgsql.Read, Statements: 1}
	doubtful  = &pgsql.Class{Effects: pgsql.Read, Statements: 1, Unproven: []string{"f"}}
	tableRead = &pgsql.Class{Effects: pgsql.Read, Statements: 1, Relations: []string{"t"}}
	plainTx   = &pgsql.Class{Effects: pgsql.TxBegin | pgsql.TxReadOnly | pgsql.Read | pgsql.TxEnd, Statements: 3}
)

func class(e pgsql.Effects) *pgsql.Class { return &pgsql.Class{Effects: e, Statements: 1} }

func TestPickByWhatAStatementDoes(t *testing.T) {
	for _, test := range []struct {
		name    string
		request Request
		where   string
		reason  Reason
	}{
		{"a plain read runs on a replica", Request{Class: plainRead}, "r", ReasonRead},
		{"an empty query does too", Request{Class: new(pgsql.Class)}, "r", ReasonRead},
		{"COPY TO STDOUT does too", Request{Class: class(pgsql.Read | pgsql.CopyOut)}, "r", ReasonRead},
		{"nothing known is the primary", Request{}, "p", ReasonUnknown},
		{"an unknown statement is the primary's", Request{Class: pgsql.Unparsed()}, "p", ReasonUnknown},
		{"a write is", Request{Class: class(pgsql.Read | pgsql.Write)}, "p", ReasonWrite},
		{"the strictest reason wins", Request{Class: class(pgsql.Unknown | pgsql.Write)}, "p", ReasonWrite},
		{"DDL is", Request{Class: class(pgsql.DDL)}, "p", ReasonWrite},
		{"COPY FROM STDIN is", Request{Class: class(pgsql.CopyIn)}, "p", ReasonWrite},
		{"NOTIFY is", Request{Class: class(pgsql.Notify)}, "p", ReasonWrite},
		{"a row lock is", Request{Class: class(pgsql.Read | pgsql.RowLock)}, "p", ReasonRowLock},
		{"SHOW is", Request{Class: class(pgsql.ServerState)}, "p", ReasonServerState},
		{"SET is", Request{Class: class(pgsql.Settings)}, "p", ReasonSessionState},
		{"unknown settings are", Request{Class: &pgsql.Class{Effects: pgsql.Read, SettingsUnknown: true}}, "p", ReasonSessionState},
		{"currval is", Request{Class: class(pgsql.Read | pgsql.Sequence)}, "p", ReasonSessionState},
		{"LISTEN is", Request{Class: class(pgsql.Listen)}, "p", ReasonSessionState},
		{"a function in doubt is", Request{Class: doubtful, Facts: catalog.Wording}, "p", ReasonFunction},
		{"a lone COMMIT is", Request{Class: class(pgsql.TxEnd)}, "p", ReasonTransaction},
		{"a read in a transaction is", Request{Class: plainRead, ExplicitTx: true}, "p", ReasonTransaction},
		{"a read in a read only transaction runs on a replica", Request{Class: plainRead, ExplicitTx: true, ReadOnlyTx: true}, "r", ReasonReadOnlyTx},
		{"a whole read only transaction in one text does too", Request{Class: plainTx, ExplicitTx: true, ReadOnlyTx: true}, "r", ReasonReadOnlyTx},
		{"a write in it is the primary's to refuse", Request{Class: class(pgsql.Write), ExplicitTx: true, ReadOnlyTx: true}, "p", ReasonWrite},
		{"a function in doubt in it is the primary's", Request{Class: doubtful, Facts: catalog.Wording, ExplicitTx: true, ReadOnlyTx: true}, "p", ReasonFunction},
		{"SERIALIZABLE READ ONLY is the primary's", Request{Class: &pgsql.Class{Effects: pgsql.TxBegin | pgsql.TxReadOnly, Serializable: true}, ExplicitTx: true, ReadOnlyTx: true}, "p", ReasonTransaction},
		{"a route to the primary overrides", Request{Class: plainRead, Route: TargetPrimary}, "p", ReasonRoute},
		{"a read of a table is while the schema is not known", Request{Class: tableRead}, "p", ReasonCatalog},
		{"a read of a table runs on a replica when it is", Request{Class: tableRead, Facts: catalog.Wording}, "r", ReasonRead},
		{"a hint for the primary counts", Request{Class: plainRead, Hint: TargetPrimary}, "p", ReasonRoute},
		{"a hint for a replica lets a function in doubt run there", Request{Class: doubtful, Hint: TargetReplica}, "r", ReasonRoute},
		{"a hint for a replica lets it refuse a write", Request{Class: class(pgsql.Write), Hint: TargetReplica}, "r", ReasonRoute},
		{"a hint does not overrule the listener", Request{Class: plainRead, Hint: TargetReplica, Route: TargetPrimary}, "p", ReasonRoute},
		{"a route to a replica overrides", Request{Class: class(pgsql.Write), Route: TargetReplica}, "r", ReasonRoute},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := pick(new(demands), defaultPolicy, topology(member("r", 1)), &test.request)
			if err != nil {
				t.Fatal(err)
			}
			if c.Member.Backend.Name() != test.where || c.Reason != test.reason {
				t.Errorf("runs on %s because of %s, want %s, %s", c.Member.Backend.Name(), c.Reason, test.where, test.reason)
			}
		})
	}
}

func TestPickWithoutFitReplica(t *testing.T) {
	off := false
	strict := &First{Fallback: Fallback{Fallback: &off}}
	out := member("r", 1)
	out.Fit = false
	for _, test := range []struct {
		name    string
		policy  Policy
		request Request
		reason  Reason
		err     error
	}{
		{"a read falls back to the primary", defaultPolicy, Request{Class: plainRead}, ReasonNoReplica, nil},
		{"a read only transaction does too", defaultPolicy, Request{Class: plainRead, ExplicitTx: true, ReadOnlyTx: true}, ReasonNoReplica, nil},
		{"a read under a mark does too", defaultPolicy, Request{Class: plainRead, Mark: 1}, ReasonNoReplica, nil},
		{"it fails when the policy says so", strict, Request{Class: plainRead}, ReasonNone, ErrNoReplica},
		{"a write runs on the primary all the same", strict, Request{Class: class(pgsql.Write)}, ReasonWrite, nil},
		{"a read with a route to a replica falls back", defaultPolicy, Request{Class: plainRead, Route: TargetReplica}, ReasonNoReplica, nil},
		{"one in a read only transaction too", defaultPolicy, Request{Class: plainRead, Route: TargetReplica, ExplicitTx: true, ReadOnlyTx: true}, ReasonNoReplica, nil},
		{"one in another transaction does not", defaultPolicy, Request{Class: plainRead, Route: TargetReplica, ExplicitTx: true}, ReasonNone, ErrNoReplica},
		{"a session that stays where it is does not", defaultPolicy, Request{Class: plainRead, Route: TargetReplica, Strict: true}, ReasonNone, ErrNoReplica},
	} {
		t.Run(test.name, func(t *testing.T) {
			var d demands
			c, err := pick(&d, test.policy, topology(out), &test.request)
			if !errors.Is(err, test.err) || c.Reason != test.reason {
				t.Errorf("got %s, %v, want %s, %v", c.Reason, err, test.reason, test.err)
			}
			if d != 0 {
				t.Error("a sample was demanded that helps nobody")
			}
		})
	}
}

func TestPickUnderAMark(t *testing.T) {
	for _, test := range []struct {
		name    string
		request Request
		where   string
		reason  Reason
		err     error
		demands demands
	}{
		{"session: a replica behind the mark is not read", Request{Class: plainRead, Mark: 1}, "p", ReasonOwnWrite, nil, 1},
		{"session: without a mark any replica will do", Request{Class: plainRead}, "r", ReasonRead, nil, 0},
		{"eventual: marks do not matter", Request{Class: plainRead, Mark: 1, Consistency: cluster.ConsistencyEventual}, "r", ReasonRead, nil, 0},
		{"a position that the replica does not have", Request{Class: plainRead, MinLSN: 1}, "p", ReasonOwnWrite, nil, 1},
		{"eventual: it is asked for all the same", Request{Class: plainRead, MinLSN: 1, Consistency: cluster.ConsistencyEventual}, "p", ReasonOwnWrite, nil, 1},
		{"a hint lets it refuse what is no read nevertheless", Request{Class: class(pgsql.Write), MinLSN: 1, Hint: TargetReplica}, "r", ReasonRoute, nil, 0},
		{"strong: the primary is asked", Request{Class: plainRead, Consistency: cluster.ConsistencyStrong}, "p", ReasonStrong, nil, 0},
		{"a route to a replica keeps the promise for reads", Request{Class: plainRead, Mark: 1, Route: TargetReplica}, "p", ReasonOwnWrite, nil, 1},
		{"a route to a replica never sends a write to the primary", Request{Class: class(pgsql.Write), Mark: 1, Route: TargetReplica}, "", ReasonNone, ErrNoReplica, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			var d demands
			c, err := pick(&d, defaultPolicy, topology(member("r", 1)), &test.request)
			if !errors.Is(err, test.err) || c.Reason != test.reason || d != test.demands {
				t.Errorf("got %s, %v, %d demands, want %s, %v, %d", c.Reason, err, d, test.reason, test.err, test.demands)
			}
			if c.Member != nil && c.Member.Backend.Name() != test.where {
				t.Errorf("runs on %s, want %s", c.Member.Backend.Name(), test.where)
			}
		})
	}
}

func TestTriedBackendsAreNotChosenAgain(t *testing.T) {
	top := topology(member("r1", 1), member("r2", 1))
	r := &Request{Class: plainRead}
	seen := make(map[string]bool)
	for range 3 {
		c, err := pick(new(demands), defaultPolicy, top, r)
		if err != nil {
			t.Fatal(err)
		}
		if seen[c.Member.Backend.Name()] {
			t.Fatalf("%s was chosen twice", c.Member.Backend.Name())
		}
		seen[c.Member.Backend.Name()] = true
		r.Tried = append(r.Tried, c.Member.Backend)
	}
	if !seen["p"] || len(seen) != 3 {
		t.Errorf("chosen were %v, want all three", seen)
	}
	if _, err := pick(new(demands), defaultPolicy, top, r); !errors.Is(err, ErrNoPrimary) {
		t.Errorf("got %v after all were tried", err)
	}
}

func TestReadsGoOnWithoutAPrimary(t *testing.T) {
	top := topology(member("r", 1))
	top.Primary = nil
	if c, err := pick(new(demands), defaultPolicy, top, &Request{Class: plainRead}); err != nil || c.Member.Backend.Name() != "r" {
		t.Errorf("got %v, %v", c, err)
	}
	if _, err := pick(new(demands), defaultPolicy, top, &Request{Class: class(pgsql.Write)}); !errors.Is(err, ErrNoPrimary) {
		t.Errorf("a write got %v", err)
	}
}

func TestPickReadsThePolicyOfTheCluster(t *testing.T) {
	c := cluster.NewRegistry(nil).Reference("main")
	defer c.Unreference()
	if got, err := Pick(c, topology(member("r", 1)), &Request{Class: plainRead}); err != nil || got.Reason != ReasonRead {
		t.Errorf("without settings: %v, %v", got, err)
	}
}

func TestPickAllocatesNothing(t *testing.T) {
	top := topology(member("r1", 1), member("r2", 2), member("r3", 3))
	for name, policy := range policies() {
		r := &Request{Class: plainRead, Scratch: make([]*cluster.Member, 0, 4)}
		d := new(demands)
		if n := testing.AllocsPerRun(1000, func() {
			if _, err := pick(d, policy, top, r); err != nil {
				t.Error(err)
			}
		}); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

func TestWords(t *testing.T) {
	names := make(map[string]bool)
	for _, r := range Reasons() {
		if r.String() == "" || names[r.String()] {
			t.Errorf("reason %d is called %q", r, r)
		}
		names[r.String()] = true
	}
	if ReasonNone.String() != "none" || Reason(200).String() != "none" {
		t.Error("a reason out of the set has a name")
	}
	for _, target := range []Target{TargetAuto, TargetPrimary, TargetReplica} {
		if back, ok := ParseTarget(target.String()); !ok || back != target {
			t.Errorf("%s is read back as %s", target, back)
		}
	}
	if _, ok := ParseTarget("master"); ok {
		t.Error("an unknown target was taken")
	}
}

func BenchmarkPick(b *testing.B) {
	top := topology(member("r1", 1), member("r2", 2), member("r3", 3))
	for name, policy := range policies() {
		b.Run(name, func(b *testing.B) {
			r, d := &Request{Class: plainRead}, new(demands)
			for b.Loop() {
				_, _ = pick(d, policy, top, r)
			}
		})
	}
}
