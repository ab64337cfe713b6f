// Package dns finds the backends of a cluster behind a name of the DNS: the guest
// module postgres.sources.dns. Each address (A, AAAA) of the name is a backend, named
// by its address and port. The name is looked up again when the answer's time to live
// is over, within bounds. While it cannot be resolved, the last addresses hold: a
// name server that is down takes no backend out.
//
// It asks name servers itself, as the system's resolver does not tell times to live;
// so /etc/hosts does not count.
//
// A source has no goroutine of its own: its cluster runs it.
package dns

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"

	"github.com/fairwaydb/fairway/modules/cluster"
)

// Pauses after a look-up that failed: the first, doubled with each failure up to the
// last.
const (
	firstRetry = 500 * time.Millisecond
	lastRetry  = 10 * time.Second
)

// errNoAddress says that the name servers answered, but with no address.
var errNoAddress = errors.New("no address")

// lookup asks for the addresses of one type and their time to live.
type lookup func(ctx context.Context, qtype uint16) (addresses []netip.Addr, ttl time.Duration, err error)

// Run publishes the endpoints each time they change. It implements
// [cluster.Source].
func (s *Source) Run(ctx context.Context, publish func(endpoints []cluster.Endpoint)) error {
	running.add(s.cluster, s.Name)
	defer running.remove(s.cluster, s.Name)
	var published bool
	var last []cluster.Endpoint
	retry, failing := firstRetry, ""
	for {
		pause, err := s.resolveOnce(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			s.metrics.failed.Inc()
			running.set(s.cluster, s.Name, false)
			if failing == "" {
				s.logger.Warn("name cannot be resolved, keeping the addresses last seen", zap.String("cluster", s.cluster),
					zap.String("name", s.Name), zap.Error(err))
			}
			failing = err.Error()
			pause = min(retry, max(pause, firstRetry))
			retry = min(2*retry, lastRetry)
		default:
			s.metrics.answered.Inc()
			running.set(s.cluster, s.Name, true)
			if failing != "" {
				s.logger.Info("name is resolved again", zap.String("cluster", s.cluster), zap.String("name", s.Name))
			}
			retry, failing = firstRetry, ""
		}
		if endpoints := s.endpoints(); len(endpoints) > 0 && (!published || !slices.Equal(endpoints, last)) {
			published, last = true, endpoints
			publish(slices.Clone(endpoints))
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// resolveOnce asks for all types and returns when to ask again. A type that cannot
// be asked for keeps its last addresses; the others count.
func (s *Source) resolveOnce(ctx context.Context) (next time.Duration, err error) {
	next = s.maxTTL
	var failures []error
	answered, found := make(map[uint16][]netip.Addr), false
	for _, qtype := range s.types {
		addresses, ttl, err := s.look(ctx, qtype)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		if len(addresses) > 0 {
			found = true
			next = min(next, ttl)
		}
		answered[qtype] = addresses
	}
	if !found {
		// A name without addresses is more often a mistake than a cluster without servers.
		if len(failures) == 0 {
			failures = []error{fmt.Errorf("%w for %s", errNoAddress, s.Name)}
		}
		return max(next, s.minTTL), errors.Join(failures...)
	}
	maps.Copy(s.known, answered)
	return max(next, s.minTTL), nil
}

// endpoints makes endpoints of the addresses known.
func (s *Source) endpoints() []cluster.Endpoint {
	var all []cluster.Endpoint
	seen := make(map[netip.Addr]bool)
	for _, qtype := range s.types {
		for _, address := range s.known[qtype] {
			if seen[address] {
				continue
			}
			seen[address] = true
			hostPort := net.JoinHostPort(address.String(), strconv.Itoa(s.port))
			all = append(all, cluster.Endpoint{Name: hostPort, Address: hostPort})
		}
	}
	slices.SortFunc(all, func(a, b cluster.Endpoint) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// resolver asks name servers.
type resolver struct {
	name    string
	servers []string // empty: those of resolv.conf
	file    string   // resolv.conf
	timeout time.Duration
}

// maxPacket is what fits a UDP packet on any path, see RFC 9715.
const maxPacket = 1232

// look asks the servers for the name as it is and with the search domains, in the
// order of resolv.conf.
func (r *resolver) look(ctx context.Context, qtype uint16) ([]netip.Addr, time.Duration, error) {
	servers, names := r.servers, []string{dns.Fqdn(r.name)}
	if len(servers) == 0 {
		config, err := dns.ClientConfigFromFile(r.file)
		if err != nil {
			return nil, 0, fmt.Errorf("read %s: %w: name a resolver in source dns", r.file, err)
		}
		for _, host := range config.Servers {
			servers = append(servers, net.JoinHostPort(host, config.Port))
		}
		names = config.NameList(r.name)
	}
	if len(servers) == 0 {
		return nil, 0, fmt.Errorf("%s names no server: name a resolver in source dns", r.file)
	}
	return r.search(ctx, servers, names, qtype)
}

// search asks for one name after the other until one has addresses. That there are
// none is the answer only if each name was answered. When the name as it is cannot be
// asked for, none that a search domain makes of it takes its place.
func (r *resolver) search(ctx context.Context, servers, names []string, qtype uint16) ([]netip.Addr, time.Duration, error) {
	var failure error
	for _, name := range names {
		addresses, ttl, err := r.askAny(ctx, servers, name, qtype)
		switch {
		case err == nil && len(addresses) > 0:
			return addresses, ttl, nil
		case ctx.Err() != nil:
			return nil, 0, ctx.Err()
		case err != nil && name == dns.Fqdn(r.name):
			return nil, 0, err
		case err != nil && failure == nil:
			failure = err
		}
	}
	return nil, 0, failure
}

// askAny asks the servers in turn until one answers.
func (r *resolver) askAny(ctx context.Context, servers []string, name string, qtype uint16) (addresses []netip.Addr, ttl time.Duration, err error) {
	for _, server := range servers {
		if addresses, ttl, err = r.ask(ctx, server, name, qtype); err == nil || ctx.Err() != nil {
			break
		}
	}
	return addresses, ttl, err
}

// ask asks one server.
func (r *resolver) ask(ctx context.Context, server, name string, qtype uint16) ([]netip.Addr, time.Duration, error) {
	question := new(dns.Msg).SetQuestion(name, qtype)
	question.SetEdns0(maxPacket, false)
	fail := func(err error) error {
		return fmt.Errorf("ask %s for %s of %s: %w", server, dns.TypeToString[qtype], name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	client := &dns.Client{Timeout: r.timeout, UDPSize: maxPacket}
	answer, _, err := client.ExchangeContext(ctx, question, server)
	if err == nil && answer.Truncated {
		client.Net = "tcp"
		answer, _, err = client.ExchangeContext(ctx, question, server)
	}
	switch {
	case err != nil:
		return nil, 0, fail(err)
	case answer.Rcode == dns.RcodeNameError:
		return nil, 0, nil
	case answer.Rcode != dns.RcodeSuccess:
		return nil, 0, fail(errors.New(dns.RcodeToString[answer.Rcode]))
	case len(answer.Question) != 1 || !strings.EqualFold(answer.Question[0].Name, name) || answer.Question[0].Qtype != qtype:
		return nil, 0, fail(errors.New("it has answered another question"))
	}
	addresses, ttl := read(answer)
	return addresses, ttl, nil
}

// read returns the addresses of an answer and the shortest time to live in it, that
// of aliases included.
func read(answer *dns.Msg) (addresses []netip.Addr, ttl time.Duration) {
	least := ^uint32(0)
	for _, record := range answer.Answer {
		var ip net.IP
		switch r := record.(type) {
		case *dns.A:
			ip = r.A
		case *dns.AAAA:
			ip = r.AAAA
		case *dns.CNAME:
		default:
			continue
		}
		least = min(least, record.Header().Ttl)
		if address, ok := netip.AddrFromSlice(ip); ok {
			addresses = append(addresses, address.Unmap())
		}
	}
	return addresses, time.Duration(least) * time.Second
}

// Interface guard.
var _ cluster.Source = (*Source)(nil)
