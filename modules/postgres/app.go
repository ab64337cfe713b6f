package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddytls"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/routing"
	"github.com/fairwaydb/fairway/modules/session"
)

func init() { caddy.RegisterModule(new(App)) }

// appID is the name of the app in the configuration.
const appID = "postgres"

// defaultGracePeriod is below the 10 s that docker stop and most supervisors give.
const defaultGracePeriod = 8 * time.Second

// App holds the clusters. Handlers (layer4.handlers.postgres) refer to them by
// name.
type App struct {
	// Clusters are the clusters by name. The name labels metrics and stands in the
	// admin API.
	Clusters map[string]*cluster.Config `json:"clusters,omitempty"`

	// GracePeriod is how long sessions may finish their transactions when the
	// process ends; those that are left then are cut. A reload waits for nothing.
	// Default: 8s.
	GracePeriod caddy.Duration `json:"grace_period,omitempty"`

	logger  *zap.Logger
	parts   map[string]*part
	managed struct { // what the handlers want certificates for
		app   *caddytls.TLS
		names map[string]struct{}
	}
}

// part is what an app keeps for one cluster.
type part struct {
	cluster  *cluster.Cluster
	settings *cluster.Settings
	claim    *cluster.Claim // nil unless in force
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: appID, New: func() caddy.Module { return new(App) }}
}

// Provision resolves the settings of all clusters and refers to them. Nothing is
// dialled, started or changed.
func (a *App) Provision(ctx caddy.Context) error {
	a.logger = ctx.Logger()
	a.parts = make(map[string]*part, len(a.Clusters))
	switch {
	case a.GracePeriod < 0:
		return fmt.Errorf("grace_period is negative: write a duration such as %v", defaultGracePeriod)
	case a.GracePeriod == 0:
		a.GracePeriod = caddy.Duration(defaultGracePeriod)
	}
	if err := register(ctx.GetMetricsRegistry()); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(a.Clusters)) {
		if err := a.provision(ctx, name, a.Clusters[name]); err != nil {
			return err
		}
	}
	return nil
}

// provision prepares one cluster.
func (a *App) provision(ctx caddy.Context, name string, cfg *cluster.Config) error {
	if strings.TrimSpace(name) == "" || strings.ContainsAny(name, "/ \t\n") {
		return fmt.Errorf("cluster %q: the name must not be empty or contain spaces or slashes", name)
	}
	if cfg == nil {
		return fmt.Errorf("cluster %s is null: write its backends and credentials, or remove it", name)
	}
	policy, err := loadPolicy(ctx, cfg)
	if err != nil {
		return fmt.Errorf("cluster %s: %w", name, err)
	}
	settings, err := cfg.Settings(ctx, name, policy)
	if err != nil {
		return err
	}
	a.parts[name] = &part{cluster: registry.Reference(name), settings: settings}
	return nil
}

// loadPolicy returns the guest of the cluster's policy, nil when none is named.
func loadPolicy(ctx caddy.Context, cfg *cluster.Config) (any, error) {
	if cfg.PolicyRaw == nil {
		return nil, nil
	}
	guest, err := ctx.LoadModule(cfg, "PolicyRaw")
	if err != nil {
		return nil, fmt.Errorf("load policy: %w", err)
	}
	if _, ok := guest.(routing.Policy); !ok {
		return nil, fmt.Errorf("load policy: %T is no policy", guest)
	}
	return guest, nil
}

// Start puts the settings in force, and has the certificates of the listeners
// managed.
func (a *App) Start() error {
	if a.managed.app != nil {
		if err := a.managed.app.Manage(a.managed.names); err != nil {
			return fmt.Errorf("manage certificates: %w", err)
		}
	}
	warm(a.logger)
	for name, p := range a.parts {
		p.claim = p.cluster.Claim(p.settings)
		running.add(name, 1)
	}
	return nil
}

// Stop takes the settings out of force. When the process ends it first waits for
// the sessions, of this and of all earlier configurations, up to the grace
// period.
func (a *App) Stop() error {
	if caddy.Exiting() {
		a.drain()
	}
	a.release()
	return nil
}

// drain lets the sessions finish.
func (a *App) drain() {
	n := session.Count()
	if n > 0 {
		a.logger.Info("waiting for sessions to finish", zap.Int("sessions", n), zap.Duration("grace_period", time.Duration(a.GracePeriod)))
	}
	// Caddy's own context has no end at exit, and none of its deadlines is ours.
	ctx, stop := context.WithTimeout(context.Background(), time.Duration(a.GracePeriod))
	defer stop()
	if cut := session.Drain(ctx); cut > 0 {
		a.logger.Warn("sessions did not finish in time and were cut", zap.Int("sessions", cut))
	}
}

// Drain lets all sessions of the process finish: new clients are refused, idle ones told to go, and those whose transactions
// have not ended when ctx ends are cut. It returns how many. Caddy's exit does so by itself; a program that stops Caddy in
// another way and ends then calls it before.
func Drain(ctx context.Context) (cut int) { return session.Drain(ctx) }

// release takes all claims back. It may be called more than once.
func (a *App) release() {
	for name, p := range a.parts {
		if p.claim != nil {
			p.claim.Release()
			p.claim = nil
			running.add(name, -1)
		}
	}
}

// Cleanup gives back what Provision and Start took. Caddy calls it after Stop,
// after a Provision that failed half-way, and without Stop when a load fails late.
func (a *App) Cleanup() error {
	a.release()
	for _, p := range a.parts {
		p.cluster.Unreference()
	}
	a.parts = nil
	return nil
}

// find returns the part of the cluster of that name.
func (a *App) find(name string) (*part, error) {
	if p := a.parts[name]; p != nil {
		return p, nil
	}
	known := slices.Sorted(maps.Keys(a.parts))
	if len(known) == 0 {
		return nil, fmt.Errorf("unknown cluster %q: the app postgres has no clusters", name)
	}
	return nil, fmt.Errorf("unknown cluster %q: known are %s", name, strings.Join(known, ", "))
}

// Interface guards.
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
