package docker

import (
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairwaydb/fairway/modules/cluster"
)

const main = "fairway.cluster=main"

func TestContainersJoinAndLeave(t *testing.T) {
	f := newFake(t)
	f.run("a", "pg1", "10.0.0.1", main)
	f.run("x", "other", "10.0.0.9", "fairway.cluster=another")
	f.run("y", "web", "10.0.0.8")
	s := serve(t, f.settings())
	s.expect(t, "pg1=10.0.0.1:5432")
	f.open()
	if !strings.Contains(f.filters, "health_status") || strings.Contains(f.filters, "exec") || strings.Contains(f.filters, "label") {
		t.Errorf("events are filtered by %s", f.filters)
	}

	f.run("b", "pg2", "10.0.0.2", main, "fairway.weight=2.5", "fairway.port=5433", "fairway.priority=-1")
	f.event("start", "b")
	s.expect(t, "pg1=10.0.0.1:5432 pg2=10.0.0.2:5433*2.5^-1")

	f.event("kill", "b", "signal", "15") // docker stop: it is still listed
	s.expect(t, "pg1=10.0.0.1:5432")
	f.kill("b")
	f.event("die", "b")
	f.run("b", "pg2", "10.0.0.5", main) // restarted, it has another address
	f.event("start", "b")
	s.expect(t, "pg1=10.0.0.1:5432 pg2=10.0.0.5:5432")

	// A signal that ends nothing, and events that change nothing, publish nothing.
	_, before := s.last()
	f.event("kill", "b", "signal", "1")
	lists := f.count("/containers/json")
	f.event("health_status: healthy", "b")
	until(t, "it is listed again", func() bool { return f.count("/containers/json") > lists })
	if _, n := s.last(); n != before {
		t.Errorf("published %d times more", n-before)
	}
}

func TestTheLastListHoldsWhileTheEngineIsGone(t *testing.T) {
	for name, trouble := range map[string]func(f *fake){
		"it fails":               func(f *fake) { f.change(func() { f.status = http.StatusInternalServerError }) },
		"it talks garbage":       func(f *fake) { f.change(func() { f.body = `[{"Id":"a","Names":[` }) },
		"it lists something odd": func(f *fake) { f.change(func() { f.body = `{"message":"what?"}` }) },
		"it does not answer":     func(f *fake) { f.change(func() { f.delay = time.Hour }) },
		"it has stopped":         func(f *fake) { f.stop() },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.run("a", "pg1", "10.0.0.1", main)
			settings := f.settings()
			settings.poll, settings.timeout = 20*time.Millisecond, 100*time.Millisecond
			s := serve(t, settings)
			s.expect(t, "pg1=10.0.0.1:5432")
			f.open()
			f.kill("a")
			trouble(f)
			s.logged(t, "docker engine cannot be asked, keeping what was last seen", "ask docker engine")
			if got, _ := s.last(); got != "pg1=10.0.0.1:5432" && got != "" || s.watcher.isUp() {
				t.Errorf("published is %q, up is %v", got, s.watcher.isUp())
			}
			if name == "it has stopped" {
				return
			}
			f.run("b", "pg2", "10.0.0.2", main)
			f.change(func() { f.status, f.body, f.delay = 0, "", 0 })
			s.expect(t, "pg2=10.0.0.2:5432")
			s.logged(t, "docker engine answers")
		})
	}
}

func TestALostStreamIsOpenedAgainAndNothingIsMissed(t *testing.T) {
	f := newFake(t)
	s := serve(t, f.settings()) // listing by itself only once an hour
	s.expect(t, "")
	for i := range 3 {
		f.open()
		f.run(fmt.Sprint("c", i), fmt.Sprint("pg", i), fmt.Sprintf("10.0.0.%d", i), main)
		if i == 1 {
			f.say(`{"Type":"container","Action":`) // garbage breaks the stream
		}
		f.cut()
		want := []string{"pg0=10.0.0.0:5432", " pg1=10.0.0.1:5432", " pg2=10.0.0.2:5432"}
		s.expect(t, strings.Join(want[:i+1], ""))
	}
	s.logged(t, "stream of events of a docker engine is lost")

	// An engine that gives no stream at all is listed.
	f.change(func() { f.refuse = true })
	f.cut()
}

func TestWithoutAStreamThePollFindsWhatHasChanged(t *testing.T) {
	f := newFake(t)
	f.refuse = true
	settings := f.settings()
	settings.poll = 20 * time.Millisecond
	s := serve(t, settings)
	s.expect(t, "")
	f.run("a", "pg1", "10.0.0.1", main)
	s.expect(t, "pg1=10.0.0.1:5432")
}

func TestAStormOfEventsCostsAFewLists(t *testing.T) {
	f := newFake(t)
	f.run("a", "pg1", "10.0.0.1", main)
	settings := f.settings()
	settings.debounce = 200 * time.Millisecond
	s := serve(t, settings)
	s.expect(t, "pg1=10.0.0.1:5432")
	f.open()
	before, began := f.count("/containers/json"), time.Now()
	start := eventsOf(t, f)
	const storm = 5000
	for range storm {
		f.event("health_status: unhealthy", "z")
	}
	until(t, "all events have come", func() bool { return eventsOf(t, f)-start == storm })
	f.run("b", "pg2", "10.0.0.2", main)
	f.event("start", "b")
	s.expect(t, "pg1=10.0.0.1:5432 pg2=10.0.0.2:5432")
	most := int(time.Since(began)/settings.debounce) + 2
	if n := f.count("/containers/json") - before; n > most {
		t.Errorf("%d lists in %v, want %d at most", n, time.Since(began), most)
	}
}

func TestTheVersionOfTheAPIIsAgreedOn(t *testing.T) {
	f := newFake(t)
	f.run("a", "pg1", "10.0.0.1", main)
	f.version = "1.40"
	s := serve(t, f.settings())
	s.expect(t, "pg1=10.0.0.1:5432")
	f.mu.Lock()
	if f.asked["/v1.40/containers/json"] == 0 {
		t.Errorf("asked were %v", f.asked)
	}
	f.mu.Unlock()

	old := newFake(t)
	old.version = "1.24"
	s = serve(t, old.settings())
	s.logged(t, "API version 1.24", "Docker 19.03 is the oldest that can be asked")
	if _, n := s.last(); n != 0 {
		t.Error("it has published something")
	}
}

func TestAnEngineThatIsNotThereIsToldWithARemedy(t *testing.T) {
	s := serve(t, engineSettings{host: "unix:///nonexistent/docker.sock", poll: time.Hour, debounce: time.Millisecond, timeout: time.Second})
	s.logged(t, "unix:///nonexistent/docker.sock", "is the engine running there?", "DOCKER_HOST")
}

func TestTheHealthOfTheEngineIsAHint(t *testing.T) {
	for health, want := range map[string][3]string{
		"hint":    {"starting=10.0.0.1:5432 well=10.0.0.3:5432", "sick=10.0.0.2:5432 starting=10.0.0.1:5432 well=10.0.0.3:5432", "sick=10.0.0.2:5432 starting=10.0.0.1:5432 well=10.0.0.3:5432"},
		"require": {"well=10.0.0.3:5432", "sick=10.0.0.2:5432 well=10.0.0.3:5432", "well=10.0.0.3:5432"},
		"ignore":  {"sick=10.0.0.2:5432 starting=10.0.0.1:5432 well=10.0.0.3:5432", "sick=10.0.0.2:5432 starting=10.0.0.1:5432 well=10.0.0.3:5432", "sick=10.0.0.2:5432 starting=10.0.0.1:5432 well=10.0.0.3:5432"},
	} {
		t.Run(health, func(t *testing.T) {
			f := newFake(t)
			f.run("a", "starting", "10.0.0.1", main)
			f.run("b", "sick", "10.0.0.2", main)
			f.run("c", "well", "10.0.0.3", main)
			f.containers["a"]["Status"] = "Up 3 seconds (health: starting)"
			f.containers["b"]["Status"] = "Up 3 seconds (unhealthy)"
			f.containers["c"]["Health"] = map[string]any{"Status": "healthy"} // as newer engines tell it
			s := serve(t, f.settings(), func(s *Source) { s.Health = health })
			s.expect(t, want[0])
			f.open()
			f.change(func() { f.containers["b"]["Status"] = "Up 9 seconds (healthy)" })
			f.event("health_status: healthy", "b")
			s.expect(t, want[1])
			lists := f.count("/containers/json")
			f.change(func() { f.containers["b"]["Status"] = "Up 20 seconds (unhealthy)" })
			f.event("health_status: unhealthy", "b")
			until(t, "it is listed", func() bool { return f.count("/containers/json") > lists })
			s.expect(t, want[2])
		})
	}
}

func TestMistakesInLabelsAreToldOnceWithContainerAndRemedy(t *testing.T) {
	f := newFake(t)
	f.run("a", "twin1", "10.0.0.1", main, "fairway.name=twin")
	f.run("b", "twin2", "10.0.0.2", main, "fairway.name=twin")
	f.run("c", "porty", "10.0.0.3", main, "fairway.port=pg")
	f.run("d", "heavy", "10.0.0.4", main, "fairway.weight=heavy", "fairway.drain=maybe")
	f.run("e", "namy", "10.0.0.5", main, "fairway.name=a/b")
	f.run("f", "typo", "10.0.0.6", main, "fairway.wieght=3")
	f.run("g", "alone", "", main)
	s := serve(t, f.settings())
	s.expect(t, "heavy=10.0.0.4:5432 drained twin=10.0.0.1:5432 typo=10.0.0.6:5432")
	for _, line := range [][]string{
		{"container:twin2", `the name "twin"`, "container twin1", "a label fairway.name of its own", "left out"},
		{"container:porty", `fairway.port is "pg"`, "1 to 65535"},
		{"container:heavy", `fairway.weight is "heavy"`, "share above 0", "taken for 1"},
		{"container:heavy", `fairway.drain is "maybe"`, "true or false", "taken for true"},
		{"container:namy", `fairway.name is "a/b"`, "letters, digits"},
		{"container:typo", "unknown label fairway.wieght", "known are fairway.cluster"},
		{"container:alone", "no address in network net", "docker network connect"},
	} {
		s.logged(t, line...)
	}
	n := s.logs.FilterMessageSnippet("container: ").Len()
	for range 5 {
		s.watcher.trigger()
	}
	f.run("h", "pg", "10.0.0.7", main)
	s.watcher.trigger()
	s.expect(t, "heavy=10.0.0.4:5432 drained pg=10.0.0.7:5432 twin=10.0.0.1:5432 typo=10.0.0.6:5432")
	if again := s.logs.FilterMessageSnippet("container: ").Len(); again != n {
		t.Errorf("%d lines more about the same", again-n)
	}
}

// series counts all series of this package, and reads them.
func series(t *testing.T) (n int, values map[string]float64) {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	for _, c := range cluster.SourceCollectors() {
		registry.MustRegister(c)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values = make(map[string]float64)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			n++
			key := family.GetName()
			for _, l := range m.GetLabel() {
				key += " " + l.GetValue()
			}
			values[key] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return n, values
}

// eventsOf is the number of events that an engine has told.
func eventsOf(t *testing.T, f *fake) float64 {
	t.Helper()
	_, values := series(t)
	return values["caddy_postgres_docker_events_total "+f.url]
}

func TestTenThousandCyclesLeakNothing(t *testing.T) {
	f := newFake(t)
	s := serve(t, f.settings())
	s.expect(t, "")
	f.open()
	cycle := func(i int) {
		id := fmt.Sprint("c", i)
		f.run(id, fmt.Sprint("pg", i), "10.0.0.1", main, "fairway.weight=x")
		f.kill(fmt.Sprint("c", i-1))
		s.watcher.note(event{action: "kill", container: fmt.Sprint("c", i-1), signal: "9"})
		if !s.watcher.list(t.Context()) {
			t.Fatal("the engine has failed")
		}
	}
	measure := func() (goroutines int, heap uint64) {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return runtime.NumGoroutine(), m.HeapAlloc
	}
	for i := range 500 {
		cycle(i)
	}
	s.mu.Lock()
	s.published = nil
	s.mu.Unlock()
	s.logs.TakeAll()
	before, heapBefore := measure()
	count, _ := series(t)
	for i := range 10_000 {
		cycle(500 + i)
		if i%100 == 0 { // what the test itself keeps
			s.mu.Lock()
			s.published = nil
			s.mu.Unlock()
			s.logs.TakeAll()
		}
	}
	s.logs.TakeAll()
	until(t, "no goroutine more", func() bool { n, _ := measure(); return n <= before+2 })
	if _, heap := measure(); heap > heapBefore+2<<20 {
		t.Errorf("the heap has grown from %d to %d", heapBefore, heap)
	}
	if n, _ := series(t); n != count {
		t.Errorf("%d series, there were %d", n, count)
	}
	w := s.watcher
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.mu.well) > 1 || len(w.mu.stopping) > 1 || len(w.mu.containers) > 1 {
		t.Errorf("kept are %d, %d, %d", len(w.mu.well), len(w.mu.stopping), len(w.mu.containers))
	}
}
