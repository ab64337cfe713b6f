package postgres

import (
	"encoding/json"

	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/fairwaydb/fairway/caddyfile"
	"github.com/fairwaydb/fairway/modules/cluster"
)

func init() { httpcaddyfile.RegisterGlobalOption(appID, parseApp) }

// parseApp sets up the app from the global option:
//
//	postgres {
//		grace_period <duration>
//		cluster <name> {
//			…
//		}
//	}
//
// Several blocks add up; a cluster, and each of the other options, may be in one
// of them only.
func parseApp(d *caddyfile.Dispenser, existing any) (any, error) {
	a := new(App)
	if existing != nil {
		before, ok := existing.(httpcaddyfile.App)
		if !ok {
			return nil, d.Errf("postgres: an earlier block left a %T", existing)
		}
		if err := json.Unmarshal(before.Value, a); err != nil {
			return nil, d.Errf("postgres: read what earlier blocks left: %w", err)
		}
	}
	if err := a.Options().ParseDirective(d); err != nil {
		return nil, err
	}
	value, err := json.Marshal(a)
	if err != nil {
		return nil, d.Errf("postgres: encode: %w", err)
	}
	return httpcaddyfile.App{Name: appID, Value: value}, nil
}

// Options is the Caddyfile table of the app.
func (a *App) Options() caddyfile.Options {
	return caddyfile.Options{
		once(caddyfile.Duration("grace_period", &a.GracePeriod, "8s",
			"how long sessions may finish their transactions when the process ends"), a.GracePeriod != 0),
		{
			Name: "cluster", Args: "<name>", Help: "a primary and its replicas", Repeat: true,
			Block: func() caddyfile.Options { return new(cluster.Config).Options() },
			Parse: a.parseCluster,
		},
	}
}

// once makes an error of an option that an earlier block has written.
func once(o caddyfile.Option, written bool) caddyfile.Option {
	parse := o.Parse
	o.Parse = func(d *caddyfile.Dispenser, args []string) error {
		if written {
			return d.Errf("option %q is given in two postgres blocks: remove one of them", o.Name)
		}
		return parse(d, args)
	}
	return o
}

func (a *App) parseCluster(d *caddyfile.Dispenser, args []string) error {
	name := args[0]
	if _, ok := a.Clusters[name]; ok {
		return d.Errf("cluster %q is given twice: remove one of them, or choose another name", name)
	}
	c := new(cluster.Config)
	if err := c.UnmarshalCaddyfile(d.NewFromNextSegment()); err != nil {
		return err
	}
	if a.Clusters == nil {
		a.Clusters = make(map[string]*cluster.Config)
	}
	a.Clusters[name] = c
	return nil
}
