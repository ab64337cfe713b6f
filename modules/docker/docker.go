// Package docker finds the backends of a cluster among the containers of a Docker
// engine: the app docker_discovery, which says where engines are, and the guest
// module postgres.sources.docker, which says which of their containers belong to a
// cluster. It only reads from engines, never starts or stops a container, and
// changes no configuration: it publishes lists of endpoints to the cluster, whose
// own probes decide what each of them is and when it may serve.
//
// A watcher, one for each engine however many clusters and configurations use it,
// lists the containers when events say that something has changed, and now and
// then in any case. While the engine cannot be asked, the last list holds.
//
// # Goroutines
//
// The first source that runs starts the two goroutines of a watcher: one lists,
// one follows the events. They end, and are waited for, when the last configuration
// that refers to the watcher is cleaned up. A source has no goroutine of its own:
// its cluster runs it.
//
// # Locks
//
// watcher.mu and engine.mu; neither is held while the other is taken, nor over I/O.
package docker

import (
	"net/netip"
	"strings"

	api "github.com/moby/moby/api/types/container"
)

// container is what is kept of a container of the engine. Nobody changes it.
type container struct {
	id, name string
	created  int64 // seconds since 1970
	labels   map[string]string
	health   health
	sick     bool // unhealthy, and never seen otherwise since it was started

	hostNetwork bool                  // it has the network of the engine's machine
	networks    map[string]netip.Addr // by name; an address may be invalid: none
	ports       []publication
}

// publication is a TCP port of a container that the engine's machine forwards.
type publication struct {
	host            netip.Addr // unspecified: any
	private, public uint16
}

// health is what the engine's own check of a container says.
type health uint8

const (
	healthNone health = iota // there is no check, or the engine does not tell
	healthStarting
	healthGood
	healthBad
)

// read makes a container of what the engine lists.
func read(s *api.Summary) container {
	c := container{
		id: s.ID, name: nameOf(s), created: s.Created, labels: s.Labels, health: healthOf(s),
		hostNetwork: s.HostConfig.NetworkMode == "host",
		networks:    make(map[string]netip.Addr),
	}
	if s.NetworkSettings != nil {
		for name, n := range s.NetworkSettings.Networks {
			switch {
			case n == nil:
			case n.IPAddress.IsValid():
				c.networks[name] = n.IPAddress
			default:
				c.networks[name] = n.GlobalIPv6Address
			}
		}
	}
	for _, p := range s.Ports {
		if p.Type == "tcp" && p.PublicPort != 0 {
			c.ports = append(c.ports, publication{host: p.IP, private: p.PrivatePort, public: p.PublicPort})
		}
	}
	return c
}

// nameOf returns the name of a container. Links put more names into the list,
// which have a second slash.
func nameOf(s *api.Summary) string {
	for _, n := range s.Names {
		if n = strings.TrimPrefix(n, "/"); n != "" && !strings.Contains(n, "/") {
			return n
		}
	}
	return s.ID[:min(12, len(s.ID))]
}

// healthOf returns the health of a container. Engines before API 1.52 tell it only
// in the text of the status: "Up 3 minutes (healthy)".
func healthOf(s *api.Summary) health {
	if s.Health != nil {
		switch s.Health.Status {
		case api.Starting:
			return healthStarting
		case api.Healthy:
			return healthGood
		case api.Unhealthy:
			return healthBad
		case api.NoHealthcheck:
		}
		return healthNone
	}
	switch {
	case strings.HasSuffix(s.Status, "(health: starting)"):
		return healthStarting
	case strings.HasSuffix(s.Status, "(healthy)"):
		return healthGood
	case strings.HasSuffix(s.Status, "(unhealthy)"):
		return healthBad
	}
	return healthNone
}
