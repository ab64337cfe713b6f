package docker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

// script is a feed whose answers the test gives.
type script struct {
	mu      sync.Mutex
	all     []container
	err     error
	lists   []time.Time
	streams []time.Time
	broken  bool
	events  chan event
}

func (s *script) list(context.Context) ([]container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lists = append(s.lists, time.Now())
	return append([]container(nil), s.all...), s.err
}

func (s *script) follow(ctx context.Context, opened func(), tell func(event)) error {
	s.mu.Lock()
	s.streams = append(s.streams, time.Now())
	broken := s.broken
	s.mu.Unlock()
	if broken {
		return errors.New("no stream")
	}
	opened()
	for {
		select {
		case e := <-s.events:
			if e.action == "" {
				return errors.New("stream cut")
			}
			tell(e)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (*script) close() {}

func (s *script) set(err error, names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err, s.all = err, nil
	for _, n := range names {
		s.all = append(s.all, container{id: n, name: n})
	}
}

// counts returns how often was listed and a stream opened since the last call.
func (s *script) counts() (lists, streams int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lists, streams = len(s.lists), len(s.streams)
	s.lists, s.streams = nil, nil
	return lists, streams
}

// watching starts a watcher on a script, in a bubble.
func watching(t *testing.T, s *script) *watcher {
	t.Helper()
	s.events = make(chan event)
	w := newWatcher("script", s, 30*time.Second, 200*time.Millisecond, zap.NewNop)
	w.start()
	w.start()
	t.Cleanup(func() {
		if err := w.Destruct(); err != nil {
			t.Error(err)
		}
		w.start() // too late: nothing begins
	})
	return w
}

// names of what runs.
func names(w *watcher) string {
	all, _, ok := w.containers()
	if !ok {
		return "unknown"
	}
	text := ""
	for _, c := range all {
		text += c.name
	}
	return text
}

func after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestEventsAreDebounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		s.set(nil, "a")
		w := watching(t, s)
		after(time.Second)
		s.counts()
		s.set(nil, "a", "b")
		s.events <- event{action: "start", container: "b"}
		after(199 * time.Millisecond)
		if n, _ := s.counts(); n != 0 || names(w) != "a" {
			t.Errorf("%d lists before the debounce time is over, %s", n, names(w))
		}
		after(2 * time.Millisecond)
		if n, _ := s.counts(); n != 1 || names(w) != "ab" {
			t.Errorf("%d lists after it, %s", n, names(w))
		}
		for range 100 { // a storm that does not end delays nothing
			s.events <- event{action: "health_status", container: "b"}
			after(10 * time.Millisecond)
		}
		if n, _ := s.counts(); n < 4 || n > 6 {
			t.Errorf("%d lists in a second of storm", n)
		}
		after(time.Second)
		s.counts()
		after(65 * time.Second)
		if n, _ := s.counts(); n != 2 {
			t.Errorf("%d lists in 65 quiet seconds", n)
		}
	})
}

func TestAnEngineThatFailsIsAskedAgainWithPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{broken: true}
		s.set(errors.New("no engine"))
		w := watching(t, s)
		after(time.Minute)
		if names(w) != "unknown" || w.isUp() {
			t.Errorf("%s, up is %v", names(w), w.isUp())
		}
		lists, streams := s.counts()
		if lists < 8 || lists > 11 || streams < 8 || streams > 11 {
			t.Errorf("%d lists and %d streams in the first minute", lists, streams)
		}
		s.mu.Lock()
		s.broken = false
		s.mu.Unlock()
		s.set(nil, "a")
		after(lastRetry + time.Second)
		if names(w) != "a" || !w.isUp() {
			t.Errorf("%s, up is %v", names(w), w.isUp())
		}
		s.counts()
		s.events <- event{} // the stream breaks: it is opened again soon, and all is listed
		after(firstRetry + 300*time.Millisecond)
		if lists, streams := s.counts(); lists != 1 || streams != 1 {
			t.Errorf("%d lists and %d streams after a stream that was lost", lists, streams)
		}
	})
}

func TestWhatIsToldToStopLeavesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		s.set(nil, "a", "b")
		w := watching(t, s)
		after(time.Second)
		for signal, stops := range map[string]bool{"15": true, "2": true, "3": true, "9": true, "1": false, "10": false, "": false} {
			s.events <- event{action: "kill", container: "b", signal: signal}
			synctest.Wait()
			if got := names(w); (got == "a") != stops {
				t.Errorf("after signal %q: %s", signal, got)
			}
			after(time.Second) // it is listed still: the mark counts
			if got := names(w); (got == "a") != stops {
				t.Errorf("a second after signal %q: %s", signal, got)
			}
			s.events <- event{action: "start", container: "b"}
			after(time.Second)
			if got := names(w); got != "ab" {
				t.Errorf("after the start: %s", got)
			}
		}
		// A container that goes on although it was told to stop comes back.
		s.events <- event{action: "kill", container: "b", signal: "15"}
		after(stoppingFor + 31*time.Second)
		if got := names(w); got != "ab" {
			t.Errorf("a minute after a signal that has done nothing: %s", got)
		}
		// Unknown containers leave no trace.
		for i := range 1000 {
			s.events <- event{action: "die", container: fmt.Sprint("x", i)}
		}
		w.mu.Lock()
		n := len(w.mu.stopping)
		w.mu.Unlock()
		if n != 0 {
			t.Errorf("%d unknown containers are kept", n)
		}
	})
}
