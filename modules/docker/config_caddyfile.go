package docker

import (
	"encoding/json"

	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/fairwaydb/fairway/caddyfile"
)

func init() { httpcaddyfile.RegisterGlobalOption(appID, parseApp) }

// parseApp sets up the app from the global option:
//
//	docker_discovery {
//		host          unix://<path>|tcp://<host>:<port>
//		ca            <file>
//		cert          <file>
//		key           <file>
//		poll_interval <duration>
//		debounce      <duration>
//		timeout       <duration>
//		engine <name> {
//			…
//		}
//	}
func parseApp(d *caddyfile.Dispenser, existing any) (any, error) {
	if existing != nil {
		d.Next()
		return nil, d.Errf("docker_discovery is given twice: remove one of them, or write further engines as engine <name>")
	}
	a := new(App)
	if err := a.Options().ParseDirective(d); err != nil {
		return nil, err
	}
	value, err := json.Marshal(a)
	if err != nil {
		return nil, d.Errf("docker_discovery: encode: %w", err)
	}
	return httpcaddyfile.App{Name: appID, Value: value}, nil
}

// Options is the Caddyfile table of the app.
func (a *App) Options() caddyfile.Options {
	return append(a.EngineConfig.options(), caddyfile.Option{
		Name: "engine", Args: "<name>", Help: "a further engine, for sources that name it", Repeat: true,
		Block: func() caddyfile.Options { return new(EngineConfig).options() },
		Parse: func(d *caddyfile.Dispenser, args []string) error {
			if _, twice := a.Engines[args[0]]; twice {
				return d.Errf("engine %q is given twice: remove one of them, or choose another name", args[0])
			}
			if a.Engines == nil {
				a.Engines = make(map[string]*EngineConfig)
			}
			e := new(EngineConfig)
			a.Engines[args[0]] = e
			return e.options().ParseBlock(d, "engine "+args[0])
		},
	})
}

func (e *EngineConfig) options() caddyfile.Options {
	return caddyfile.Options{
		caddyfile.String("host", &e.Host, "<url>", "DOCKER_HOST, else unix:///var/run/docker.sock", "where the engine listens: unix:///path or tcp://host:port"),
		caddyfile.String("ca", &e.CA, "<file>", "", "authorities that the engine's certificate is signed by: asks over TLS"),
		caddyfile.String("cert", &e.Certificate, "<file>", "", "certificate to show to the engine"),
		caddyfile.String("key", &e.Key, "<file>", "", "its key"),
		caddyfile.PositiveDuration("poll_interval", &e.PollInterval, "30s", "time after which containers are listed although no event has come"),
		caddyfile.PositiveDuration("debounce", &e.Debounce, "200ms", "time between an event and the list, so that many events cost one list"),
		caddyfile.PositiveDuration("timeout", &e.Timeout, "10s", "bound of a list"),
	}
}

// UnmarshalCaddyfile sets up the source from Caddyfile tokens:
//
//	docker {
//		engine    <name>
//		label     <key>[=<value>]...
//		network   <name>
//		port      <number>
//		published [<host>]
//		health    hint|require|ignore
//	}
func (s *Source) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return s.Options().ParseDirective(d)
}

// Options is the table of the source's block.
func (s *Source) Options() caddyfile.Options {
	return caddyfile.Options{
		caddyfile.String("engine", &s.Engine, "<name>", "the first one", "engine of docker_discovery"),
		caddyfile.Strings("label", &s.Labels, "<key>[=<value>]...", "fairway.cluster=<name of the cluster>",
			"labels that the containers must have, all of them"),
		caddyfile.String("network", &s.Network, "<name>", "one that our own container is in too, else the only one",
			"network whose addresses are used"),
		caddyfile.Int("port", &s.Port, 1, "<number>", "5432", "where PostgreSQL listens in the containers; the label fairway.port goes before it"),
		{
			Name: "published", Args: "[<host>]", Default: "off",
			Help: "use the ports that the engine publishes on its machine; the host is 127.0.0.1, or that of a remote engine, unless given",
			Parse: func(_ *caddyfile.Dispenser, args []string) error {
				if s.Published = true; len(args) == 1 {
					s.PublishedHost = args[0]
				}
				return nil
			},
		},
		caddyfile.Enum("health", &s.Health, []string{"hint", "require", "ignore"}, "hint",
			"what the engine's own check of a container counts"),
	}
}

// Interface guards.
var (
	_ caddyfile.Unmarshaler = (*Source)(nil)
	_ caddyfile.Tabled      = (*Source)(nil)
)
