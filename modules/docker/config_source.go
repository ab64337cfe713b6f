package docker

import (
	"errors"
	"fmt"
	"strings"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
)

func init() { caddy.RegisterModule(new(Source)) }

// Source finds backends among the containers of a Docker engine.
type Source struct {
	// Engine is the name of an engine of docker_discovery. Default: its first one,
	// or the one that DOCKER_HOST names.
	Engine string `json:"engine,omitempty"`

	// Labels are what the containers must have, all of them: key=value, or key for
	// any value. Default: fairway.cluster=<name of the cluster>.
	Labels []string `json:"labels,omitempty"`

	// Network is the one whose addresses are used; of docker-compose's networks the
	// name in the file is enough. Default: the one that this process's own container
	// is in too, else the only one.
	Network string `json:"network,omitempty"`

	// Port is where PostgreSQL listens in the containers; the label fairway.port goes
	// before it. Default: 5432.
	Port int `json:"port,omitempty"`

	// Published uses the ports that the engine publishes on its machine, for a
	// balancer that does not reach the containers' networks. Default: false.
	Published bool `json:"published,omitempty"`

	// PublishedHost is the host of ports that are published on all addresses. Default:
	// 127.0.0.1 for an engine on this machine, else the engine's host.
	PublishedHost string `json:"published_host,omitempty"`

	// Health is what the engine's check of a container counts: "hint" (one that was
	// never anything but unhealthy waits), "require" (one that is not healthy is no
	// backend) or "ignore". Whether a backend serves is told by the probe in any case.
	// Default: hint.
	Health string `json:"health,omitempty"`

	cluster   string
	logger    *zap.Logger
	settings  engineSettings
	selection selection
	watcher   *watcher // set once: Run may still use it when the source is cleaned up
	released  bool     // only Cleanup's: the watcher was given back
}

// defaultPort is PostgreSQL's.
const defaultPort = 5432

// healthWords are the values of Health.
var healthWords = map[string]healthUse{"": healthHint, "hint": healthHint, "ignore": healthIgnore, "require": healthRequire}

// CaddyModule returns the Caddy module information.
func (*Source) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "postgres.sources.docker", New: func() caddy.Module { return new(Source) }}
}

// Provision resolves the settings and refers to the engine's watcher. Nothing is
// dialed or started.
func (s *Source) Provision(ctx caddy.Context) error {
	s.logger = ctx.Logger()
	if err := s.resolve(); err != nil {
		return fmt.Errorf("source docker: %w", err)
	}
	app, err := s.app(ctx)
	if err != nil {
		return fmt.Errorf("source docker: %w", err)
	}
	if s.settings, err = app.engine(s.Engine); err != nil {
		return fmt.Errorf("source docker: %w", err)
	}
	if s.selection.host == "" {
		s.selection.host = s.settings.machine()
	}
	if s.settings.local() {
		s.selection.own = ownContainer()
	}
	w, err := watch(s.settings)
	if err != nil {
		return fmt.Errorf("source docker: %w", err)
	}
	s.watcher = w
	return nil
}

// resolve makes the selection.
func (s *Source) resolve() error {
	use, ok := healthWords[s.Health]
	switch {
	case !ok:
		return fmt.Errorf("unknown health %q: write hint, require or ignore", s.Health)
	case s.Port < 0 || s.Port > 65535:
		return fmt.Errorf("port %d: write the port of PostgreSQL in the containers, 1 to 65535", s.Port)
	case s.PublishedHost != "" && !s.Published:
		return errors.New("published_host without published: write published, or remove it")
	case s.Published && s.Network != "":
		return errors.New("network has no meaning with published: remove one of them")
	}
	host, err := caddy.NewReplacer().ReplaceOrErr(s.PublishedHost, true, true)
	if err != nil {
		return fmt.Errorf("published_host: %w", err)
	}
	s.selection = selection{network: s.Network, port: s.Port, health: use, published: s.Published, host: host}
	if s.Port == 0 {
		s.selection.port = defaultPort
	}
	for _, label := range s.Labels {
		key, value, valued := strings.Cut(label, "=")
		if key == "" {
			return fmt.Errorf("label %q has no key: write key=value, or key for any value", label)
		}
		s.selection.labels = append(s.selection.labels, labelMatch{key: key, value: value, any: !valued})
	}
	return nil
}

// app returns docker_discovery, one with the defaults when it is not configured.
func (*Source) app(ctx caddy.Context) (*App, error) {
	configured, err := ctx.AppIfConfigured(appID)
	switch {
	case errors.Is(err, caddy.ErrNotConfigured):
		app := new(App)
		return app, app.Provision(ctx)
	case err != nil:
		return nil, err
	}
	app, ok := configured.(*App)
	if !ok {
		return nil, fmt.Errorf("app %s is a %T", appID, configured)
	}
	return app, nil
}

// ForCluster tells the name of the cluster, before Run. It implements
// [cluster.Addressee].
func (s *Source) ForCluster(name string) {
	s.cluster = name
	if len(s.selection.labels) == 0 {
		s.selection.labels = []labelMatch{{key: labelCluster, value: name}}
	}
}

// Cleanup gives the watcher back. It may be called more than once.
func (s *Source) Cleanup() error {
	if s.watcher == nil || s.released {
		return nil
	}
	s.released = true
	return release(s.settings)
}

// Interface guards.
var (
	_ caddy.Provisioner  = (*Source)(nil)
	_ caddy.CleanerUpper = (*Source)(nil)
)
