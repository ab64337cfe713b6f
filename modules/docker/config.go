package docker

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/client"
	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
)

func init() { caddy.RegisterModule(new(App)) }

// appID is the name of the app in the configuration.
const appID = "docker_discovery"

// App says where Docker engines are. Without it the sources use the engine that
// DOCKER_HOST names, or the one of this machine.
type App struct {
	EngineConfig

	// Engines are further engines by name, for sources that name one. Default: none.
	Engines map[string]*EngineConfig `json:"engines,omitempty"`

	settings map[string]engineSettings // by name; "" is the first
}

// EngineConfig says where one engine is and how it is asked.
type EngineConfig struct {
	// Host is where the engine listens, as in DOCKER_HOST: unix:///path of a socket
	// (a rootless engine's is /run/user/UID/docker.sock), tcp://host:port. Default:
	// DOCKER_HOST, else unix:///var/run/docker.sock.
	Host string `json:"host,omitempty"`

	// CA is the path of a file with the certificates of the authorities that the
	// engine's is signed by, PEM. With it, or with a certificate, the engine is asked
	// over TLS. Default: none; the system's when there is a certificate.
	CA string `json:"ca,omitempty"`

	// Certificate is the path of a file with the certificate that is shown to the
	// engine, PEM. Default: none.
	Certificate string `json:"cert,omitempty"`

	// Key is the path of the file with its key, PEM. Default: none.
	Key string `json:"key,omitempty"`

	// PollInterval is the time after which the containers are listed although no
	// event has told of a change. Default: 30s.
	PollInterval caddy.Duration `json:"poll_interval,omitempty"`

	// Debounce is how long after an event the containers are listed, so that many
	// events cost one list. Default: 200ms.
	Debounce caddy.Duration `json:"debounce,omitempty"`

	// Timeout bounds a list. Default: 10s.
	Timeout caddy.Duration `json:"timeout,omitempty"`
}

// The defaults of an engine.
const (
	defaultPoll     = 30 * time.Second
	defaultDebounce = 200 * time.Millisecond
	defaultTimeout  = 10 * time.Second
)

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: appID, New: func() caddy.Module { return new(App) }}
}

// Provision resolves the settings. Nothing is dialed.
func (a *App) Provision(caddy.Context) error {
	a.settings = make(map[string]engineSettings)
	first, err := a.resolve()
	if err != nil {
		return err
	}
	a.settings[""] = first
	for _, name := range slices.Sorted(maps.Keys(a.Engines)) {
		e := a.Engines[name]
		switch {
		case name == "":
			return errors.New("an engine has no name: write engine <name>")
		case e == nil || e.Host == "":
			return fmt.Errorf("engine %s has no host: write where it listens, such as host tcp://10.0.0.1:2376", name)
		}
		if a.settings[name], err = e.resolve(); err != nil {
			return fmt.Errorf("engine %s: %w", name, err)
		}
	}
	return nil
}

// Start does nothing: engines are asked while a source runs.
func (*App) Start() error { return nil }

// Stop does nothing.
func (*App) Stop() error { return nil }

// engine returns the settings of the engine of that name, those of the first when
// it is empty.
func (a *App) engine(name string) (engineSettings, error) {
	if s, ok := a.settings[name]; ok {
		return s, nil
	}
	known := slices.Sorted(maps.Keys(a.Engines))
	if len(known) == 0 {
		return engineSettings{}, fmt.Errorf("unknown engine %q: docker_discovery names none", name)
	}
	return engineSettings{}, fmt.Errorf("unknown engine %q: known are %s", name, strings.Join(known, ", "))
}

// resolve replaces placeholders, fills in the defaults and makes sure that a client
// can be made.
func (e *EngineConfig) resolve() (s engineSettings, err error) {
	for _, f := range []struct {
		name, from string
		to         *string
	}{{"host", e.Host, &s.host}, {"ca", e.CA, &s.ca}, {"cert", e.Certificate, &s.cert}, {"key", e.Key, &s.key}} {
		if *f.to, err = caddy.NewReplacer().ReplaceOrErr(f.from, true, true); err != nil {
			return s, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	for _, f := range []struct {
		name string
		from caddy.Duration
		to   *time.Duration
		def  time.Duration
	}{
		{"poll_interval", e.PollInterval, &s.poll, defaultPoll},
		{"debounce", e.Debounce, &s.debounce, defaultDebounce},
		{"timeout", e.Timeout, &s.timeout, defaultTimeout},
	} {
		switch *f.to = time.Duration(f.from); {
		case *f.to < 0:
			return s, fmt.Errorf("%s is negative: write a duration such as %v", f.name, f.def)
		case *f.to == 0:
			*f.to = f.def
		}
	}
	if s.host == "" {
		s.fromEnvironment()
	}
	return s, s.check()
}

// fromEnvironment takes over what Docker's own programs read from the environment.
func (s *engineSettings) fromEnvironment() {
	if s.host = os.Getenv(client.EnvOverrideHost); s.host == "" {
		s.host = client.DefaultDockerHost
		return
	}
	dir := os.Getenv(client.EnvOverrideCertPath)
	if s.ca == "" && s.cert == "" && dir != "" && os.Getenv(client.EnvTLSVerify) != "" {
		s.ca, s.cert, s.key = filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	}
}

// check makes a client, which reads the certificates.
func (s *engineSettings) check() error {
	u, err := client.ParseHostURL(s.host)
	if err != nil {
		return fmt.Errorf("host %q: %w: write unix:///path/of/docker.sock or tcp://host:port", s.host, err)
	}
	switch u.Scheme {
	case "unix", "npipe", "tcp", "http", "https":
	default:
		return fmt.Errorf("host %q: engines are asked through unix:// or tcp://, not %s://", s.host, u.Scheme)
	}
	if (s.cert == "") != (s.key == "") {
		return errors.New("cert and key go together: write both, or neither")
	}
	c, err := s.client()
	if err != nil {
		return fmt.Errorf("%w: ca, cert and key are the paths of readable PEM files", err)
	}
	return c.Close()
}

// machine returns the host where the engine's published ports are reached: this
// machine when the engine listens on a socket.
func (s *engineSettings) machine() string {
	u, err := url.Parse(s.host)
	if err != nil || u.Hostname() == "" || u.Scheme == "unix" || u.Scheme == "npipe" {
		return "127.0.0.1"
	}
	return u.Hostname()
}

// local tells whether the engine listens on a socket of this machine, so that this
// process may be in one of its containers.
func (s *engineSettings) local() bool {
	return !strings.Contains(s.host, "://") || strings.HasPrefix(s.host, "unix:")
}

// watchers are those of the process, by their settings.
var watchers = caddy.NewUsagePool()

// watch returns the watcher of an engine. It must be given back with release.
func watch(s engineSettings) (*watcher, error) {
	value, _, err := watchers.LoadOrNew(s, func() (caddy.Destructor, error) {
		return newWatcher(s.host, &engine{settings: s}, s.poll, s.debounce,
			func() *zap.Logger { return caddy.Log().Named(appID) }), nil
	})
	if err != nil {
		return nil, err
	}
	w, ok := value.(*watcher)
	if !ok {
		return nil, fmt.Errorf("watcher of %s is a %T", s.host, value)
	}
	return w, nil
}

// release gives a watcher back. The last to do so ends it.
func release(s engineSettings) error {
	_, err := watchers.Delete(s)
	return err
}

// Interface guards.
var (
	_ caddy.App         = (*App)(nil)
	_ caddy.Provisioner = (*App)(nil)
	_ caddy.Destructor  = (*watcher)(nil)
)
