package cluster

import (
	"context"
	"time"

	"go.uber.org/zap"
)

// Endpoint is one server as the configuration or a source names it.
type Endpoint struct {
	// Name identifies the backend in the cluster, in metrics and in the admin
	// API. An endpoint with the name of a configured backend is ignored.
	Name string

	// Address is host:port (5432 when the port is missing), or the absolute path
	// of a Unix socket.
	Address string

	// Weight is its share of reads; 0 means 1.
	Weight float64

	// Priority orders the backends for the policy first: the lowest is taken.
	Priority int

	// Drain keeps new reads away. What runs on the backend goes on, and a primary
	// serves as before.
	Drain bool

	found   bool // at run time: it has to show first that it is what it should be
	drained bool // by an operator; Drain is set then
}

// Source is the interface of the guest modules in namespace postgres.sources.
type Source interface {
	// Run publishes the whole list of endpoints each time it changes, until ctx
	// ends. A source that cannot see its servers publishes nothing: the cluster
	// keeps the last list. publish takes the slice over. A Run that returns
	// before ctx ends is logged and started again after a while. Run is called
	// again, never twice at once, when the settings that a later claim has
	// replaced are in force again.
	Run(ctx context.Context, publish func(endpoints []Endpoint)) error
}

// Addressee is what a source implements that wants to know for which cluster it
// looks.
type Addressee interface {
	// ForCluster tells the name of the cluster, once, after the source was
	// provisioned and before it is run.
	ForCluster(name string)
}

// sourceRetry is the pause before a source that has returned is run again.
const sourceRetry = 5 * time.Second

// lists are the endpoints that the sources of the settings in force have
// published. A source that has not spoken yet stands for the one that was in its
// place before, so that a reload does not empty the cluster; what came from places
// that are no more is kept until all sources have spoken.
type lists struct {
	inherited []Endpoint   // of places that are no more
	current   [][]Endpoint // by place
	spoken    []bool
	missing   int
}

// restart begins anew with n sources.
func (l *lists) restart(n int) {
	before := l.current
	l.current, l.spoken, l.missing = make([][]Endpoint, n), make([]bool, n), n
	for _, list := range before[min(copy(l.current, before), n):] {
		l.inherited = append(l.inherited, list...)
	}
	if n == 0 {
		l.inherited = nil
	}
}

// set stores the list of source i.
func (l *lists) set(i int, endpoints []Endpoint) {
	for k := range endpoints {
		endpoints[k].found = true
	}
	l.current[i] = endpoints
	if !l.spoken[i] {
		l.spoken[i] = true
		if l.missing--; l.missing == 0 {
			l.inherited = nil
		}
	}
}

// all returns every endpoint known, earlier sources first.
func (l *lists) all() []Endpoint {
	var all []Endpoint
	for _, list := range l.current {
		all = append(all, list...)
	}
	return append(all, l.inherited...)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// runSource runs a source until ctx ends.
func (r *run) runSource(ctx context.Context, generation uint64, i int, s Source) {
	for {
		err := s.Run(ctx, func(endpoints []Endpoint) {
			select {
			case r.published <- publication{generation: generation, source: i, endpoints: endpoints}:
			case <-ctx.Done():
			}
		})
		if ctx.Err() != nil {
			return
		}
		r.c.logger().Warn("source ended, keeping its last list", zap.String("cluster", r.c.name), zap.Error(err))
		select {
		case <-time.After(sourceRetry):
		case <-ctx.Done():
			return
		}
	}
}
