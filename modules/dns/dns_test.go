package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/fairwaydb/fairway/modules/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a name server of the test, over UDP and TCP.
type server struct {
	addr string

	mu      sync.Mutex
	records map[string][]string // "name. A" to records; the words NXDOMAIN and SERVFAIL answer so
	asked   map[string]int
	big     bool // over UDP everything is too large
}

func newServer(t *testing.T, records map[string][]string) *server {
	t.Helper()
	s := &server{records: records, asked: make(map[string]int)}
	packets, streams := listen(t)
	s.addr = packets.LocalAddr().String()
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait) // after the servers were shut down
	for _, d := range []*dns.Server{{PacketConn: packets, Handler: s}, {Listener: streams, Handler: s}} {
		started := make(chan struct{})
		d.NotifyStartedFunc = func() { close(started) }
		wg.Go(func() { _ = d.ActivateAndServe() })
		<-started
		t.Cleanup(func() { _ = d.Shutdown() })
	}
	return s
}

// listen takes a port that is free for both transports.
func listen(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	var err error
	for range 50 {
		var packets net.PacketConn
		var streams net.Listener
		if packets, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			break
		}
		if streams, err = net.Listen("tcp", packets.LocalAddr().String()); err == nil {
			return packets, streams
		}
		packets.Close()
	}
	t.Fatal(err)
	return nil, nil
}

// ServeDNS implements dns.Handler.
func (s *server) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := r.Question[0]
	key := q.Name + " " + dns.TypeToString[q.Qtype]
	s.asked[key]++
	m := new(dns.Msg).SetReply(r)
	_, udp := w.LocalAddr().(*net.UDPAddr)
	switch records, known := s.records[key]; {
	case udp && s.big:
		m.Truncated = true
	case !known, slices.Contains(records, "NXDOMAIN"):
		m.Rcode = dns.RcodeNameError
	case slices.Contains(records, "SERVFAIL"):
		m.Rcode = dns.RcodeServerFailure
	case slices.Contains(records, "ANOTHER"):
		m.Question[0].Name = "another."
	default:
		for _, text := range records {
			rr, err := dns.NewRR(text)
			if err != nil {
				m.Rcode = dns.RcodeFormatError
				break
			}
			m.Answer = append(m.Answer, rr)
		}
	}
	_ = w.WriteMsg(m)
}

// ask resolves once and returns the endpoints in words.
func ask(s *Source) (string, time.Duration, error) {
	next, err := s.resolveOnce(context.Background())
	return words(s.endpoints()), next, err
}

func words(endpoints []cluster.Endpoint) string {
	names := make([]string, len(endpoints))
	for i, e := range endpoints {
		names[i] = e.Name
	}
	return strings.Join(names, " ")
}

func made(t *testing.T, s *Source) *Source {
	t.Helper()
	if err := s.resolve(); err != nil {
		t.Fatal(err)
	}
	s.ForCluster("main")
	return s
}

func TestAddressesOfBothFamiliesAreBackends(t *testing.T) {
	server := newServer(t, map[string][]string{
		"db.test. A":    {"db.test. 20 CNAME real.test.", "real.test. 12 A 10.0.0.2", "real.test. 12 A 10.0.0.1", "real.test. 12 A 10.0.0.1"},
		"db.test. AAAA": {"db.test. 9 AAAA fd00::1"},
	})
	for _, big := range []bool{false, true} {
		server.mu.Lock()
		server.big = big
		server.mu.Unlock()
		for family, want := range map[string]string{
			"any": "10.0.0.1:5433 10.0.0.2:5433 [fd00::1]:5433", "ipv4": "10.0.0.1:5433 10.0.0.2:5433", "ipv6": "[fd00::1]:5433",
		} {
			s := made(t, &Source{Name: "db.test", Port: 5433, Family: family, Resolvers: []string{server.addr}})
			got, next, err := ask(s)
			if got != want || err != nil {
				t.Errorf("%s: %q, %v", family, got, err)
			}
			if least := map[string]time.Duration{"any": 9, "ipv4": 12, "ipv6": 9}[family] * time.Second; next != least {
				t.Errorf("%s: asks again after %v", family, next)
			}
		}
	}
}

func TestTheTimeToLiveCountsWithinBounds(t *testing.T) {
	server := newServer(t, map[string][]string{
		"long.test. A": {"long.test. 600 A 10.0.0.1"}, "short.test. A": {"short.test. 0 A 10.0.0.1"},
	})
	for name, want := range map[string]time.Duration{"long.test": 30 * time.Second, "short.test": time.Second} {
		if _, next, err := ask(made(t, &Source{Name: name, Resolvers: []string{server.addr}})); next != want || err != nil {
			t.Errorf("%s is asked again after %v, %v", name, next, err)
		}
	}
}

func TestAFamilyThatCannotBeAskedForKeepsItsAddresses(t *testing.T) {
	server := newServer(t, map[string][]string{"db.test. A": {"db.test. 9 A 10.0.0.1"}, "db.test. AAAA": {"db.test. 9 AAAA fd00::1"}})
	s := made(t, &Source{Name: "db.test", Resolvers: []string{server.addr}, Timeout: 1})
	s.look = (&resolver{name: "db.test", servers: []string{server.addr}, timeout: 5 * time.Second}).look
	for _, step := range []struct{ a, aaaa, want, trouble string }{
		{"db.test. 9 A 10.0.0.1", "db.test. 9 AAAA fd00::1", "10.0.0.1:5432 [fd00::1]:5432", ""},
		{"db.test. 9 A 10.0.0.2", "SERVFAIL", "10.0.0.2:5432 [fd00::1]:5432", ""},
		{"ANOTHER", "SERVFAIL", "10.0.0.2:5432 [fd00::1]:5432", "another question"},
		{"NXDOMAIN", "NXDOMAIN", "10.0.0.2:5432 [fd00::1]:5432", "no address"},
		{"SERVFAIL", "db.test. 9 AAAA fd00::2", "10.0.0.2:5432 [fd00::2]:5432", ""},
		{"db.test. 9 A 10.0.0.3", "NXDOMAIN", "10.0.0.3:5432", ""},
	} {
		server.mu.Lock()
		server.records = map[string][]string{"db.test. A": {step.a}, "db.test. AAAA": {step.aaaa}}
		server.mu.Unlock()
		got, _, err := ask(s)
		if got != step.want {
			t.Errorf("after %+v: %q", step, got)
		}
		if (step.trouble == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), step.trouble)) {
			t.Errorf("after %+v: %v", step, err)
		}
	}
}

func TestTheSystemsNameServersAndSearchDomainsAreUsed(t *testing.T) {
	server := newServer(t, map[string][]string{"db.lan. A": {"db.lan. 9 A 10.0.0.1"}})
	_, port, err := net.SplitHostPort(server.addr)
	if err != nil {
		t.Fatal(err)
	}
	config := dns.ClientConfig{Servers: []string{"127.0.0.1"}, Search: []string{"lan"}, Port: port, Ndots: 1}
	if got := config.NameList("db"); got[0] != "db.lan." {
		t.Fatalf("the list is %v", got)
	}
	// The file cannot name a port: the names come from it, the server is given.
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver 127.0.0.1\nsearch lan\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := (&resolver{name: "db", file: file + ".none", timeout: time.Second}).look(t.Context(), dns.TypeA); err == nil || !strings.Contains(err.Error(), "name a resolver") {
		t.Errorf("without a file: %v", err)
	}
	dead := "127.0.0.1:1"
	r := &resolver{name: "db.lan", servers: []string{dead, server.addr}, timeout: 5 * time.Second}
	if got, _, err := r.look(t.Context(), dns.TypeA); err != nil || len(got) != 1 {
		t.Errorf("with a dead server in front: %v, %v", got, err)
	}
}

// scripted is a source whose answers the test gives.
type scripted struct {
	*Source
	logs *observer.ObservedLogs

	mu        sync.Mutex
	answer    []netip.Addr
	ttl       time.Duration
	err       error
	asked     int
	published []string
}

func (s *scripted) set(err error, addresses ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err, s.answer = err, nil
	for _, a := range addresses {
		s.answer = append(s.answer, netip.MustParseAddr(a))
	}
}

func (s *scripted) state() (last string, published, asked int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.published); n > 0 {
		last = s.published[n-1]
	}
	return last, len(s.published), s.asked
}

// run runs a source in the bubble until the test ends.
func run(t *testing.T) *scripted {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	s := &scripted{Source: made(t, &Source{Name: "db.test", Family: "ipv4", logger: zap.New(core)}), logs: logs, ttl: 5 * time.Second}
	s.look = func(context.Context, uint16) ([]netip.Addr, time.Duration, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asked++
		return slices.Clone(s.answer), s.ttl, s.err
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = s.Run(ctx, func(endpoints []cluster.Endpoint) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.published = append(s.published, words(endpoints))
		})
	})
	t.Cleanup(func() { stop(); wg.Wait() })
	return s
}

func after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestANameIsLookedUpAgainByItsTimeToLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := run(t)
		s.set(nil, "10.0.0.1")
		after(time.Minute + 100*time.Millisecond)
		if last, published, asked := s.state(); last != "10.0.0.1:5432" || published != 1 || asked < 12 || asked > 14 {
			t.Errorf("%q was published %d times, the name looked up %d times", last, published, asked)
		}
		s.set(nil, "10.0.0.2", "10.0.0.1")
		after(5 * time.Second)
		if last, published, _ := s.state(); last != "10.0.0.1:5432 10.0.0.2:5432" || published != 2 {
			t.Errorf("%q was published %d times", last, published)
		}
		s.set(nil, "10.0.0.1", "10.0.0.2") // round robin of the server is no change
		after(20 * time.Second)
		if _, published, _ := s.state(); published != 2 {
			t.Errorf("published %d times", published)
		}
	})
}

func TestWhileANameCannotBeResolvedTheLastAddressesHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := run(t)
		after(30 * time.Second) // an empty answer from the start publishes nothing
		if _, published, _ := s.state(); published != 0 {
			t.Error("an empty list was published")
		}
		s.set(nil, "10.0.0.1")
		after(10 * time.Second)
		_, _, before := s.state()
		s.set(errors.New("no name server"))
		after(time.Minute)
		last, published, asked := s.state()
		if last != "10.0.0.1:5432" || published != 1 {
			t.Errorf("%q was published %d times", last, published)
		}
		if asked -= before; asked < 8 || asked > 14 {
			t.Errorf("asked %d times in a minute", asked)
		}
		s.set(nil, "10.0.0.7")
		after(10 * time.Second)
		if last, _, _ := s.state(); last != "10.0.0.7:5432" {
			t.Errorf("published is %q", last)
		}
		for message, times := range map[string]int{"name cannot be resolved": 2, "name is resolved again": 2} {
			if n := s.logs.FilterMessageSnippet(message).Len(); n != times {
				t.Errorf("%q was logged %d times", message, n)
			}
		}
	})
}

func TestTenThousandLookUpsLeaveNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := run(t)
		for i := range 10_000 {
			s.set(nil, fmt.Sprintf("10.%d.%d.1", i/250, i%250))
			<-time.After(5 * time.Second)
		}
		synctest.Wait()
		if n := len(s.known[dns.TypeA]); n != 1 {
			t.Errorf("%d addresses are known", n)
		}
		registry := prometheus.NewPedanticRegistry()
		for _, c := range cluster.SourceCollectors() {
			registry.MustRegister(c)
		}
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		problems, err := promlint.NewWithMetricFamilies(families).Lint()
		if err != nil || len(problems) > 0 {
			t.Errorf("%v, %v", problems, err)
		}
		for _, f := range families {
			if n := len(f.GetMetric()); n > 2 {
				t.Errorf("%s has %d series", f.GetName(), n)
			}
		}
	})
}

func TestMistakesOfTheConfigurationAreToldWithARemedy(t *testing.T) {
	for want, s := range map[string]*Source{
		"write source dns <name>":       {},
		"write backend <name> 10.0.0.1": {Name: "10.0.0.1"},
		"as option port":                {Name: "db:5432"},
		"write any, ipv4 or ipv6":       {Name: "db", Family: "ipv5"},
		"1 to 65535":                    {Name: "db", Port: 70000},
		"write a smaller one":           {Name: "db", MinTTL: 2e9, MaxTTL: 1e9},
		"must not be negative":          {Name: "db", Timeout: -1},
		"resolver \"ns.test\" is no":    {Name: "db", Resolvers: []string{"ns.test"}},
		"name:":                         {Name: "{env.NO_SUCH_VARIABLE_OF_OURS}"},
	} {
		if err := s.resolve(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}
