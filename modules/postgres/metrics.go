package postgres

import (
	"errors"
	"fmt"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairwaydb/fairway/modules/catalog"
	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pool"
	"github.com/fairwaydb/fairway/modules/session"
)

// collectors are those of all packages but the sources', made once: they live as
// long as the process.
var collectors = func() []prometheus.Collector {
	all := []prometheus.Collector{acceptFailures}
	all = append(all, registry.Collectors()...)
	all = append(all, pool.Collectors()...)
	all = append(all, catalog.Collectors()...)
	return append(all, session.Collectors()...)
}()

// register makes the collectors known to the registry of a configuration. Each
// configuration has a new one; the app and the admin module both register, as
// after a failed load only the latter is left.
func register(r prometheus.Registerer) error {
	for _, c := range slices.Concat(collectors, cluster.SourceCollectors()) {
		if err := r.Register(c); err != nil && !errors.As(err, new(prometheus.AlreadyRegisteredError)) {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}

var acceptFailures = prometheus.NewCounter(prometheus.CounterOpts{
	Name: "caddy_postgres_accept_failures_total",
	Help: "Connections that listeners of the network pg could not accept, mostly for want of file descriptors.",
})
