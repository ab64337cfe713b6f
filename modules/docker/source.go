package docker

import (
	"context"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/fairwaydb/fairway/modules/cluster"
)

// Run publishes the endpoints each time they change. It implements
// [cluster.Source].
func (s *Source) Run(ctx context.Context, publish func(endpoints []cluster.Endpoint)) error {
	running.add(s)
	defer running.remove(s)
	s.watcher.start()
	var last []cluster.Endpoint
	told := make(map[problem]bool)
	published := false
	for {
		all, changed, ok := s.watcher.containers()
		if ok {
			endpoints, problems, left := s.selection.choose(all)
			told = s.tell(problems, told)
			running.set(s, tally{found: len(endpoints), left: left})
			if !published || !slices.Equal(endpoints, last) {
				published, last = true, endpoints
				publish(slices.Clone(endpoints))
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tell logs the problems that are new and returns all there are.
func (s *Source) tell(problems []problem, told map[problem]bool) map[problem]bool {
	now := make(map[problem]bool, len(problems))
	for _, p := range problems {
		if now[p] = true; !told[p] {
			s.logger.Warn("container: "+p.text, zap.String("cluster", s.cluster), zap.String("container", p.container))
		}
	}
	return now
}

// tally is what a source counts.
type tally struct{ found, left int }

// running are the sources that run, with what they count.
var running = &tallies{of: make(map[*Source]tally)}

// tallies is safe for concurrent use.
type tallies struct {
	mu sync.Mutex
	of map[*Source]tally
}

func (t *tallies) add(s *Source) { t.set(s, tally{}) }

func (t *tallies) set(s *Source, n tally) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.of[s] = n
}

func (t *tallies) remove(s *Source) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.of, s)
}

// sums adds up the counts by the name of the cluster.
func (t *tallies) sums() map[string]tally {
	t.mu.Lock()
	defer t.mu.Unlock()
	sums := make(map[string]tally)
	for s, n := range t.of {
		sum := sums[s.cluster]
		sums[s.cluster] = tally{found: sum.found + n.found, left: sum.left + n.left}
	}
	return sums
}

// Interface guard.
var _ cluster.Source = (*Source)(nil)
