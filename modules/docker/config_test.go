package docker

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgtest"
)

// provisioned is a source as a configuration has it.
func provisioned(t *testing.T, s *Source) *Source {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	t.Cleanup(cancel)
	if err := s.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	s.ForCluster("main")
	return s
}

// first runs a source until it has published, and returns what.
func (s *Source) first(t *testing.T) string {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	var got string
	_ = s.Run(ctx, func(endpoints []cluster.Endpoint) {
		got = words(endpoints)
		stop()
	})
	return got
}

func TestOneWatcherServesAllSourcesAndOutlivesConfigurations(t *testing.T) {
	f := newFake(t)
	f.run("a", "pg1", "10.0.0.1", main)
	t.Setenv("DOCKER_HOST", f.url)
	one := provisioned(t, new(Source))
	if n := f.count(""); n != 0 {
		t.Errorf("the engine was asked %d times although nothing runs", n)
	}
	if got := one.first(t); got != "pg1=10.0.0.1:5432" {
		t.Errorf("published is %q", got)
	}
	f.open()
	lists := f.count("/containers/json")

	// A reload: the new configuration is provisioned and runs before the old one is cleaned up.
	two := provisioned(t, &Source{Port: 5433})
	if one.watcher != two.watcher {
		t.Error("there are two watchers of one engine")
	}
	if got := two.first(t); got != "pg1=10.0.0.1:5433" {
		t.Errorf("published is %q after the reload", got)
	}
	for range 2 {
		if err := one.Cleanup(); err != nil {
			t.Error(err)
		}
	}
	f.run("b", "pg2", "10.0.0.2", main)
	f.event("start", "b")
	until(t, "the watcher goes on", func() bool { all, _, _ := two.watcher.containers(); return len(all) == 2 })
	if n := f.count("/events"); n != 1 || f.count("/containers/json") > lists+2 {
		t.Errorf("%d streams, %d lists", n, f.count("/containers/json"))
	}
	if _, values := series(t); values["caddy_postgres_docker_up "+f.url] != 1 {
		t.Errorf("up is not shown: %v", values)
	}
	w := two.watcher
	if err := two.Cleanup(); err != nil {
		t.Error(err)
	}
	if _, loaded := watchers.References(two.settings); loaded {
		t.Error("the watcher is still referred to")
	}
	w.wg.Wait()
}

func TestASourceMayBeCleanedUpBeforeItsRunHasEnded(t *testing.T) {
	f := newFake(t)
	f.run("a", "pg1", "10.0.0.1", main)
	t.Setenv("DOCKER_HOST", f.url)
	for range 20 {
		s := provisioned(t, new(Source))
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx, func([]cluster.Endpoint) {}) }()
		stop()
		if err := s.Cleanup(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("it ended with %v", err)
		}
		// One that is scheduled only now.
		if err := s.Run(ctx, func([]cluster.Endpoint) {}); !errors.Is(err, context.Canceled) {
			t.Errorf("a late run ended with %v", err)
		}
	}
}

func TestAReloadWhileTheEngineIsGoneKeepsTheList(t *testing.T) {
	f := newFake(t)
	f.run("a", "pg1", "10.0.0.1", main)
	t.Setenv("DOCKER_HOST", f.url)
	one := provisioned(t, new(Source))
	if got := one.first(t); got != "pg1=10.0.0.1:5432" {
		t.Errorf("published is %q", got)
	}
	f.stop()
	two := provisioned(t, new(Source))
	if err := one.Cleanup(); err != nil {
		t.Error(err)
	}
	if got := two.first(t); got != "pg1=10.0.0.1:5432" {
		t.Errorf("published is %q after the reload", got)
	}
	if err := two.Cleanup(); err != nil {
		t.Error(err)
	}
}

func TestAnEngineIsAskedOverTLSWithACertificate(t *testing.T) {
	f := newFake(t)
	f.run("a", "pg1", "10.0.0.1", main)
	dir := t.TempDir()
	authority, err := pgtest.NewAuthority(dir, "ca")
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := authority.Issue(pgtest.Certificate{Name: "engine", Hosts: []string{"127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(f)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authority.Pool()}
	server.StartTLS()
	defer server.Close()
	defer f.cut()
	clientCert, clientKey, err := authority.Issue(pgtest.Certificate{Name: "fairway"})
	if err != nil {
		t.Fatal(err)
	}
	settings := engineSettings{
		host: "tcp://" + server.Listener.Addr().String(), ca: authority.File(), cert: clientCert, key: clientKey,
		poll: time.Hour, debounce: time.Millisecond, timeout: 5 * time.Second,
	}
	s := serve(t, settings)
	s.expect(t, "pg1=10.0.0.1:5432")

	// What DOCKER_HOST says holds with what goes with it.
	for from, to := range map[string]string{"ca.pem": authority.File(), "cert.pem": clientCert, "key.pem": clientKey} {
		text, err := os.ReadFile(to)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, from), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("DOCKER_HOST", settings.host)
	t.Setenv("DOCKER_TLS_VERIFY", "1")
	t.Setenv("DOCKER_CERT_PATH", dir)
	other := provisioned(t, new(Source))
	if got := other.first(t); got != "pg1=10.0.0.1:5432" {
		t.Errorf("published is %q", got)
	}
	if err := other.Cleanup(); err != nil {
		t.Error(err)
	}

	settings.cert, settings.key = "", ""
	refused := serve(t, settings)
	refused.logged(t, "docker engine cannot be asked", "certificate")
	settings.ca = cert // not the authority
	refused = serve(t, settings)
	refused.logged(t, "docker engine cannot be asked", "certificate")
}

func TestAnEngineThatAcceptsAndSaysNothingIsGivenUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
		}
	})
	defer wg.Wait()
	defer l.Close()
	s := serve(t, engineSettings{host: "tcp://" + l.Addr().String(), poll: time.Hour, debounce: time.Millisecond, timeout: 50 * time.Millisecond})
	s.logged(t, "docker engine cannot be asked", "did not answer in time")
}

func TestARedirectOrAPageOfAnotherServerIsNoList(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<html>hello</html>"))
	}))
	defer server.Close()
	s := serve(t, engineSettings{host: "tcp://" + strings.TrimPrefix(server.URL, "http://"), poll: time.Hour, debounce: time.Millisecond, timeout: time.Second})
	s.logged(t, "docker engine cannot be asked")
	if _, n := s.last(); n != 0 {
		t.Error("it has published something")
	}
}

// The page names labels that are read, and its examples find what it says.
func TestTheExamplesOfThePageFindTheirContainers(t *testing.T) {
	text, err := os.ReadFile("../../docs/discovery.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	for _, l := range regexp.MustCompile(`fairway\.[a-z]+`).FindAllString(page, -1) {
		if known := strings.Join(knownLabels, " "); !strings.Contains(known, l) {
			t.Errorf("the page has the label %s", l)
		}
	}
	for _, l := range knownLabels {
		if !strings.Contains(page, "`"+l+"`") {
			t.Errorf("the page does not have the label %s", l)
		}
	}
	compose := []container{
		box("shop_primary_1", in("shop_db", "172.20.0.2"), label(composeProject, "shop"), port("127.0.0.1", 5432, 5433)),
		box("shop_replica_1", in("shop_db", "172.20.0.3"), label(composeProject, "shop"), label(labelWeight, "2"), port("127.0.0.1", 5432, 49153)),
		box("shop_fairway_1", in("shop_db", "172.20.0.4"), in("shop_front", "172.21.0.2"), label(labelCluster, "")),
	}
	for example, want := range map[string]string{
		"source docker {\n\tnetwork db\n}": "shop_primary_1=172.20.0.2:5432 shop_replica_1=172.20.0.3:5432*2",
		"source docker {\n\tpublished\n}":  "shop_primary_1=127.0.0.1:5433 shop_replica_1=127.0.0.1:49153*2",
		"source docker":                    "shop_primary_1=172.20.0.2:5432 shop_replica_1=172.20.0.3:5432*2",
	} {
		if !strings.Contains(page, "```caddyfile\n"+example+"\n```") {
			t.Errorf("the page does not have\n%s", example)
			continue
		}
		s := new(Source)
		d := caddyfile.NewTestDispenser(strings.TrimPrefix(example, "source "))
		if err := s.UnmarshalCaddyfile(d); err != nil {
			t.Fatal(err)
		}
		if err := s.resolve(); err != nil {
			t.Fatal(err)
		}
		s.ForCluster("main")
		s.selection.host = "127.0.0.1"
		endpoints, problems, _ := s.selection.choose(compose)
		if got := words(endpoints); got != want || len(problems) > 0 {
			t.Errorf("%s\n%q, %v", example, got, problems)
		}
	}
}
