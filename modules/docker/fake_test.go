package docker

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/fairwaydb/fairway/modules/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a Docker engine of the test: it does what a real one cannot be made to do.
type fake struct {
	t    *testing.T
	url  string // for DOCKER_HOST
	http *httptest.Server

	mu         sync.Mutex
	version    string                    // of its API
	containers map[string]map[string]any // by ID, as it lists them
	body       string                    // instead of the list
	status     int                       // instead of 200
	delay      time.Duration
	streams    map[chan string]bool // open streams of events
	refuse     bool                 // no streams
	asked      map[string]int       // requests by path
	filters    string               // of the last stream
}

// newFake starts an engine on a socket of its own.
func newFake(t *testing.T) *fake {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "e.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{
		t: t, url: "unix://" + socket, version: "1.41", containers: make(map[string]map[string]any),
		streams: make(map[chan string]bool), asked: make(map[string]int),
	}
	f.http = &httptest.Server{Listener: l, Config: &http.Server{Handler: f}}
	f.http.Start()
	t.Cleanup(f.stop)
	return f
}

// stop ends the engine: its socket is gone.
func (f *fake) stop() {
	f.cut()
	f.http.CloseClientConnections()
	f.http.Close()
}

// ServeHTTP implements http.Handler.
func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.asked[r.URL.Path]++
	version, status, body, delay := f.version, f.status, f.body, f.delay
	f.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-r.Context().Done():
			return
		}
	}
	w.Header().Set("Api-Version", version)
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.URL.Path == "/_ping":
	case status != 0:
		w.WriteHeader(status)
		fmt.Fprint(w, `{"message":"the fake engine fails"}`)
	case strings.HasSuffix(r.URL.Path, "/containers/json"):
		if body == "" {
			body = f.list()
		}
		fmt.Fprint(w, body)
	case strings.HasSuffix(r.URL.Path, "/events"):
		f.stream(w, r)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (f *fake) list() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([]map[string]any, 0)
	for _, id := range slices.Sorted(maps.Keys(f.containers)) {
		all = append(all, f.containers[id])
	}
	text, err := json.Marshal(all)
	if err != nil {
		f.t.Error(err)
	}
	return string(text)
}

// stream sends events until the client leaves or the stream is cut.
func (f *fake) stream(w http.ResponseWriter, r *http.Request) {
	lines := make(chan string, 10_000)
	f.mu.Lock()
	refuse := f.refuse
	f.filters = r.URL.Query().Get("filters")
	if !refuse {
		f.streams[lines] = true
	}
	f.mu.Unlock()
	if refuse {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	w.(http.Flusher).Flush()
	for {
		select {
		case line, open := <-lines:
			if !open {
				return
			}
			fmt.Fprint(w, line)
			w.(http.Flusher).Flush()
		case <-r.Context().Done():
			f.mu.Lock()
			defer f.mu.Unlock()
			delete(f.streams, lines)
			return
		}
	}
}

// cut ends all streams.
func (f *fake) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for lines := range f.streams {
		close(lines)
	}
	clear(f.streams)
}

// say sends a line to all streams.
func (f *fake) say(line string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for lines := range f.streams {
		lines <- line + "\n"
	}
}

// event sends an event of a container.
func (f *fake) event(action, id string, attributes ...string) {
	m := map[string]string{}
	for i := 0; i < len(attributes); i += 2 {
		m[attributes[i]] = attributes[i+1]
	}
	text, _ := json.Marshal(map[string]any{"Type": "container", "Action": action, "Actor": map[string]any{"ID": id, "Attributes": m}})
	f.say(string(text))
}

// change does something with the engine's lock held.
func (f *fake) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

// run starts a container without telling anybody.
func (f *fake) run(id, name, ip string, labels ...string) {
	l := map[string]string{}
	for _, label := range labels {
		key, value, _ := strings.Cut(label, "=")
		l[key] = value
	}
	f.change(func() {
		f.containers[id] = map[string]any{
			"Id": id, "Names": []string{"/" + name}, "Created": 1700000000 + len(f.containers), "State": "running", "Status": "Up 3 seconds",
			"Labels": l, "Ports": []any{}, "HostConfig": map[string]any{"NetworkMode": "net"},
			"NetworkSettings": map[string]any{"Networks": map[string]any{"net": map[string]any{"IPAddress": ip}}},
		}
	})
}

// kill ends a container without telling anybody.
func (f *fake) kill(id string) { f.change(func() { delete(f.containers, id) }) }

// open waits for a stream of events.
func (f *fake) open() {
	f.t.Helper()
	until(f.t, "a stream of events is open", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.streams) > 0
	})
}

// count returns how often a path was asked for, by its end.
func (f *fake) count(suffix string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for path, times := range f.asked {
		if strings.HasSuffix(path, suffix) {
			n += times
		}
	}
	return n
}

// until polls for a condition.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not after 20 s: %s", what)
		}
	}
}

// settings are those of the fake, with times for tests.
func (f *fake) settings() engineSettings {
	return engineSettings{host: f.url, poll: time.Hour, debounce: 10 * time.Millisecond, timeout: 5 * time.Second}
}

// site is a source that runs.
type site struct {
	*Source
	logs *observer.ObservedLogs

	mu        sync.Mutex
	published []string // each list, in words
}

// serve runs a source of the cluster main on an engine until the test ends.
func serve(t *testing.T, settings engineSettings, change ...func(*Source)) *site {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	logger := zap.New(core)
	s := &site{Source: &Source{logger: logger}, logs: logs}
	for _, c := range change {
		c(s.Source)
	}
	if err := s.resolve(); err != nil {
		t.Fatal(err)
	}
	s.ForCluster("main")
	if s.selection.host == "" {
		s.selection.host = settings.machine()
	}
	s.watcher = newWatcher(settings.host, &engine{settings: settings}, settings.poll, settings.debounce, func() *zap.Logger { return logger })
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = s.Run(ctx, func(endpoints []cluster.Endpoint) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.published = append(s.published, words(endpoints))
		})
	})
	t.Cleanup(func() {
		stop()
		wg.Wait()
		if err := s.watcher.Destruct(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// words says what a list of endpoints is.
func words(endpoints []cluster.Endpoint) string {
	all := make([]string, len(endpoints))
	for i, e := range endpoints {
		all[i] = e.Name + "=" + e.Address
		if e.Weight != 0 {
			all[i] += fmt.Sprintf("*%g", e.Weight)
		}
		if e.Priority != 0 {
			all[i] += fmt.Sprintf("^%d", e.Priority)
		}
		if e.Drain {
			all[i] += " drained"
		}
	}
	return strings.Join(all, " ")
}

// last is what was published last, and how often something was.
func (s *site) last() (list string, times int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.published) == 0 {
		return "nothing", 0
	}
	return s.published[len(s.published)-1], len(s.published)
}

// expect waits until a list is published.
func (s *site) expect(t *testing.T, want string) {
	t.Helper()
	until(t, fmt.Sprintf("published is %q", want), func() bool {
		got, _ := s.last()
		return got == want
	})
}

// logged waits for a line of the log that has all the words.
func (s *site) logged(t *testing.T, words ...string) {
	t.Helper()
	until(t, fmt.Sprintf("a log line with %q", words), func() bool {
		return slices.ContainsFunc(s.logs.All(), func(e observer.LoggedEntry) bool {
			text := e.Message + fmt.Sprint(e.ContextMap())
			return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) })
		})
	})
}
