package docker

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/fairwaydb/fairway/modules/cluster"
)

// The labels that are read. What begins with the prefix and is none of them is a
// mistake.
const (
	labelPrefix   = "fairway."
	labelCluster  = "fairway.cluster"
	labelName     = "fairway.name"
	labelPort     = "fairway.port"
	labelWeight   = "fairway.weight"
	labelPriority = "fairway.priority"
	labelDrain    = "fairway.drain"
	labelTemplate = "fairway.template"
)

var knownLabels = []string{labelCluster, labelDrain, labelName, labelPort, labelPriority, labelTemplate, labelWeight}

// composeProject is the label by which docker-compose tells its projects apart: the
// network "backend" of a file is called project_backend.
const composeProject = "com.docker.compose.project"

// maxName bounds the name of a backend: it labels metrics.
const maxName = 128

// selection says which containers are backends, and where they are reached.
type selection struct {
	labels    []labelMatch // all must match
	network   string       // empty: found out
	port      int
	health    healthUse
	published bool
	host      string // of published ports, and of containers with the machine's network; empty: unknown
	own       string // ID of the container that this process runs in; empty: none
}

// labelMatch is a label that a container must have, with any value or with one.
type labelMatch struct {
	key, value string
	any        bool
}

// healthUse is what the engine's own check of a container counts.
type healthUse uint8

const (
	healthHint    healthUse = iota // who is unhealthy from the start waits
	healthIgnore                   // nothing
	healthRequire                  // who is not healthy is no backend
)

// problem is something about a container that somebody must mend.
type problem struct {
	container string
	text      string // what is wrong, and the remedy
}

// choose returns the endpoints by name, and what is wrong with containers that
// match. left is the number of those that match and cannot be used.
func (s *selection) choose(all []container) (endpoints []cluster.Endpoint, problems []problem, left int) {
	matching := make([]*container, 0, len(all))
	for i := range all {
		if s.matches(&all[i]) {
			matching = append(matching, &all[i])
		}
	}
	// The oldest container keeps a name that several have.
	slices.SortFunc(matching, func(a, b *container) int {
		return cmp.Or(cmp.Compare(a.created, b.created), strings.Compare(a.id, b.id))
	})
	shared := s.sharedNetworks(all)
	taken := make(map[string]string)
	for _, c := range matching {
		if !s.ready(c) {
			continue
		}
		report := func(format string, args ...any) {
			problems = append(problems, problem{container: c.name, text: fmt.Sprintf(format, args...)})
		}
		e, ok := s.endpoint(c, shared, report)
		if other, twice := taken[e.Name]; ok && twice {
			report("it has the name %q, which container %s has too: give each a label %s of its own; it is left out", e.Name, other, labelName)
			ok = false
		}
		if !ok {
			left++
			continue
		}
		taken[e.Name] = c.name
		endpoints = append(endpoints, e)
	}
	slices.SortFunc(endpoints, func(a, b cluster.Endpoint) int { return strings.Compare(a.Name, b.Name) })
	return endpoints, problems, left
}

// matches tells whether a container has all labels.
func (s *selection) matches(c *container) bool {
	if c.id == s.own {
		return false
	}
	for _, l := range s.labels {
		value, ok := c.labels[l.key]
		if !ok || (!l.any && value != l.value) {
			return false
		}
	}
	return true
}

// ready tells whether what the engine says of the container's health lets it in.
func (s *selection) ready(c *container) bool {
	switch s.health {
	case healthRequire:
		return c.health == healthNone || c.health == healthGood
	case healthHint:
		return !c.sick
	case healthIgnore:
	}
	return true
}

// sharedNetworks are those of our own container, none when there is no such.
func (s *selection) sharedNetworks(all []container) map[string]bool {
	shared := make(map[string]bool)
	for i := range all {
		if s.own == "" || all[i].id != s.own {
			continue
		}
		for name := range all[i].networks {
			shared[name] = true
		}
	}
	return shared
}

// endpoint makes an endpoint of a container. A value that makes no sense is
// reported; when nothing can stand in for it the container is left out.
func (s *selection) endpoint(c *container, shared map[string]bool, report func(format string, args ...any)) (e cluster.Endpoint, ok bool) {
	for _, key := range slices.Sorted(maps.Keys(c.labels)) {
		if strings.HasPrefix(key, labelPrefix) && !slices.Contains(knownLabels, key) {
			report("it has the unknown label %s: known are %s; it is ignored", key, strings.Join(knownLabels, ", "))
		}
	}
	e = cluster.Endpoint{Name: c.name}
	if name, given := c.labels[labelName]; given {
		if e.Name = name; !validName(name) {
			report("label %s is %q: write up to %d letters, digits, dots, dashes and underscores; it is left out", labelName, name, maxName)
			return e, false
		}
	} else if !validName(c.name) {
		report("its name cannot be that of a backend: give it a label %s; it is left out", labelName)
		return e, false
	}
	port := s.port
	if text, given := c.labels[labelPort]; given {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n == 0 {
			report("label %s is %q: write the port of PostgreSQL in the container, 1 to 65535; it is left out", labelPort, text)
			return e, false
		}
		port = int(n)
	}
	s.shares(c, &e, report)
	address, trouble := s.address(c, port, shared)
	if trouble != "" {
		report("%s; it is left out", trouble)
		return e, false
	}
	e.Address = address
	return e, true
}

// shares reads the labels for which a default can stand in.
func (*selection) shares(c *container, e *cluster.Endpoint, report func(format string, args ...any)) {
	if text, given := c.labels[labelWeight]; given {
		w, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(w) || math.IsInf(w, 0) || w <= 0 {
			report("label %s is %q: write a share above 0 such as 2; it is taken for 1", labelWeight, text)
			w = 0
		}
		e.Weight = w
	}
	if text, given := c.labels[labelPriority]; given {
		n, err := strconv.Atoi(text)
		if err != nil {
			report("label %s is %q: write a whole number; it is taken for 0", labelPriority, text)
		}
		e.Priority = n
	}
	if text, given := c.labels[labelDrain]; given {
		drain, err := strconv.ParseBool(text)
		if err != nil {
			report("label %s is %q: write true or false; it is taken for true", labelDrain, text)
			drain = true
		}
		e.Drain = drain
	}
}

// validName tells whether a name can label metrics and stand in a path.
func validName(name string) bool {
	ok := name != "" && len(name) <= maxName
	for _, r := range name {
		ok = ok && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r))
	}
	return ok
}

// address returns where the port of a container is reached, or what is in the way.
func (s *selection) address(c *container, port int, shared map[string]bool) (address, trouble string) {
	if s.published {
		return s.publishedAddress(c, port)
	}
	network, trouble := s.chooseNetwork(c, shared)
	if trouble != "" {
		return "", trouble
	}
	ip := c.networks[network]
	if !ip.IsValid() {
		return "", fmt.Sprintf("it has no address in network %s: is it still being connected? Else connect it anew (docker network connect)", network)
	}
	return join(ip.String(), port), ""
}

// chooseNetwork returns the network whose address is used: the one that is named,
// else the one that our own container is in too, else the only one.
func (s *selection) chooseNetwork(c *container, shared map[string]bool) (network, trouble string) {
	names := slices.Sorted(maps.Keys(c.networks))
	if s.network != "" {
		for _, name := range []string{s.network, c.labels[composeProject] + "_" + s.network} {
			if _, ok := c.networks[name]; ok {
				return name, ""
			}
		}
		return "", fmt.Sprintf("it is not in network %s but in [%s]: connect it (docker network connect), or change network of source docker",
			s.network, strings.Join(names, " "))
	}
	if c.hostNetwork {
		return "", "it has the network of its machine, and so no address of its own: write published in source docker"
	}
	for _, name := range names {
		if shared[name] {
			return name, ""
		}
	}
	switch {
	case len(names) == 0:
		return "", "it has no network: connect it to one (docker network connect), or write published in source docker"
	case len(shared) > 0:
		return "", fmt.Sprintf("it shares no network with this container, it is in [%s]: connect both to one", strings.Join(names, " "))
	case len(names) > 1:
		return "", fmt.Sprintf("it is in the networks [%s]: say which to use with network in source docker", strings.Join(names, " "))
	}
	return names[0], ""
}

// publishedAddress returns where the engine's machine forwards a port from.
func (s *selection) publishedAddress(c *container, port int) (address, trouble string) {
	if c.hostNetwork {
		if s.host == "" {
			return "", "the address of its machine is not known: write published <host> in source docker"
		}
		return join(s.host, port), ""
	}
	ports := slices.DeleteFunc(slices.Clone(c.ports), func(p publication) bool { return int(p.private) != port })
	// IPv4 first, then by address: the engine lists them in no order.
	slices.SortFunc(ports, func(a, b publication) int {
		return cmp.Or(a.host.Compare(b.host), cmp.Compare(a.public, b.public))
	})
	for _, p := range ports {
		host := s.host
		if p.host.IsValid() && !p.host.IsUnspecified() {
			if p.host.IsLoopback() && !isLoopback(s.host) {
				continue
			}
			host = p.host.String()
		}
		if host != "" {
			return join(host, int(p.public)), ""
		}
	}
	if len(ports) > 0 {
		return "", fmt.Sprintf("its port %d is published where it cannot be reached from here: write published <host> in source docker, or publish it on another address", port)
	}
	return "", fmt.Sprintf("its port %d is not published: publish it (ports in a compose file), or remove published from source docker", port)
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && ip.IsLoopback())
}

func join(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }
