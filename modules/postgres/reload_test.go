package postgres

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

func TestAStormOfReloadsResetsNobody(t *testing.T) {
	p := newProxy(t)
	p.load(t, p.config(nobody, ""))
	var (
		clients sync.WaitGroup
		stop    atomic.Bool
		served  atomic.Int64
	)
	for range 8 {
		clients.Go(func() {
			for !stop.Load() {
				if answer, err := knock(p.pg); err != nil || answer != 'N' {
					t.Errorf("a client got %q, %v", answer, err)
					return
				}
				served.Add(1)
			}
		})
	}
	before := p.counters(t)
	for i := range 200 {
		p.load(t, p.config(nobody, fmt.Sprintf("max_sessions %d", 1000+i)))
		if t.Failed() {
			break
		}
		if i%20 == 0 {
			before = neverFell(t, before, p.counters(t))
		}
	}
	stop.Store(true)
	clients.Wait()
	neverFell(t, before, p.counters(t))
	t.Logf("%d clients were served", served.Load())
}

// neverFell compares counters with what they were.
func neverFell(t testing.TB, before, after map[string]float64) map[string]float64 {
	t.Helper()
	for name, v := range before {
		if now, ok := after[name]; !ok || now < v {
			t.Errorf("%s was %v and is %v (shown: %v)", name, v, now, ok)
		}
	}
	if len(before) == 0 {
		t.Error("there are no counters")
	}
	return after
}

func TestAFailedReloadChangesNothing(t *testing.T) {
	p := newProxy(t)
	good := p.config(nobody, "")
	p.load(t, good)
	if _, err := knock(p.pg); err != nil {
		t.Fatal(err)
	}
	before := p.counters(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, bad := range map[string]string{
		"an unknown cluster":                  strings.Replace(good, "postgres main", "postgres other", 1),
		"a cluster without backends":          p.config("", ""),
		"an address in use, found at Start":   strings.Replace(good, "pg/"+p.pg, "pg/"+p.pg+" pg/"+taken.Addr().String(), 1),
		"a cluster more, and the address too": strings.Replace(strings.Replace(good, "cluster main", "cluster more {\n backend a 127.0.0.1:1\n credentials x\n}\ncluster main", 1), "pg/"+p.pg, "pg/"+taken.Addr().String(), 1),
	} {
		t.Run(name, func(t *testing.T) {
			if err := p.tryLoad(bad); err == nil {
				t.Fatal("it was loaded")
			}
			before = neverFell(t, before, p.counters(t))
			if answer, err := knock(p.pg); err != nil || answer != 'N' {
				t.Errorf("a client got %q, %v", answer, err)
			}
			if status, body := p.get(t, "/postgres/clusters"); status != 200 || !strings.Contains(body, `"main"`) || strings.Contains(body, `"more"`) {
				t.Errorf("the clusters are %d %s", status, body)
			}
		})
	}
}

func TestTwoServersShareOneSocket(t *testing.T) {
	p := newProxy(t)
	one := p.config(nobody, "")
	route := one[strings.Index(one, "\t\tpg/"):strings.LastIndex(one, "\t}\n}")]
	p.load(t, strings.Replace(one, route, route+route, 1))
	for range 50 {
		if answer, err := knock(p.pg); err != nil || answer != 'N' {
			t.Fatalf("a client got %q, %v", answer, err)
		}
	}
	p.load(t, one)
	if answer, err := knock(p.pg); err != nil || answer != 'N' {
		t.Errorf("with one server left a client got %q, %v", answer, err)
	}
}

func TestOnlyAStartedConfigurationDials(t *testing.T) {
	p := newProxy(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var (
		dials   atomic.Int64
		accepts sync.WaitGroup
	)
	accepts.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			dials.Add(1)
			_ = conn.Close()
		}
	})
	defer accepts.Wait()
	defer l.Close()
	body, err := adapt(p.config("backend pg1 "+l.Addr().String(), ""))
	if err != nil {
		t.Fatal(err)
	}
	var cfg caddy.Config
	if err := caddy.StrictUnmarshalJSON(body, &cfg); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Validate(&cfg); err != nil {
		t.Fatal(err)
	}
	if n := len(registry.Clusters()); n != 0 {
		t.Errorf("%d clusters are left after validation", n)
	}
	if n := dials.Load(); n != 0 {
		t.Errorf("validation dialled %d times", n)
	}
	if err := caddy.Load(body, true); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a dial after the start", func() bool { return dials.Load() > 0 })
}

func TestAClusterThatIsGoneIsForgotten(t *testing.T) {
	p := newProxy(t)
	p.load(t, p.config(nobody, ""))
	old := registry.Lookup("main")
	p.load(t, p.config(nobody, "route replica"))
	if registry.Lookup("main") != old {
		t.Error("a reload made another cluster")
	}
	p.load(t, p.empty())
	if registry.Lookup("main") != nil || running.has("main") {
		t.Error("the cluster is still there")
	}
	if _, err := knock(p.pg); err == nil {
		t.Error("somebody still listens")
	}
}

func TestCleanupOfNothing(t *testing.T) {
	for range 2 {
		if err := new(App).Cleanup(); err != nil {
			t.Error(err)
		}
		if err := new(App).Stop(); err != nil {
			t.Error(err)
		}
		if err := new(Handler).Cleanup(); err != nil {
			t.Error(err)
		}
	}
}
