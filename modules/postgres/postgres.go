// Package postgres is Caddy's face of Fairway: the app postgres that holds the
// clusters, the layer 4 handler that gives clients to sessions, the network pg
// whose listeners survive reloads, the endpoints of the admin API, the metrics,
// and the Caddyfile. It decides nothing about statements: session does, and what
// lies below it.
//
// # State and reloads
//
// State belongs to the process, settings to the configuration. Clusters live in
// one registry, classifiers in one table, counters in collectors that are
// registered anew with each configuration. Caddy starts a new configuration
// before it stops the old one: both refer to the same clusters meanwhile, and the
// last claim is in force. Sessions belong to no configuration.
package postgres

import (
	"sync"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgsql"
)

// registry holds the clusters of the process. Its logger is the one in force when
// a line is written.
var registry = cluster.NewRegistry(func() *zap.Logger { return caddy.Log().Named("postgres") })

// warm makes the parser ready, once: compiled to WebAssembly it takes seconds.
func warm(logger *zap.Logger) {
	warmed.Do(func() {
		pgsql.Warm()
		logger.Info("statements are read by PostgreSQL's parser", zap.String("parser", pgsql.ParserName()))
	})
}

var warmed sync.Once

// running tells which clusters have settings in force now: the registry knows
// also those of configurations that have ended, as long as sessions use them.
var running = &claimCount{count: make(map[string]int)}

// claimCount counts claims by the name of the cluster.
type claimCount struct {
	mu    sync.Mutex
	count map[string]int
}

func (c *claimCount) add(name string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count[name] += n; c.count[name] == 0 {
		delete(c.count, name)
	}
}

func (c *claimCount) has(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count[name] > 0
}
