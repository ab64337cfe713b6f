package dns

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/fairwaydb/fairway/caddyfile"
)

func init() { caddy.RegisterModule(new(Source)) }

// Source finds backends behind a name of the DNS.
type Source struct {
	// Name is the name whose addresses are the backends. Required.
	Name string `json:"name,omitempty"`

	// Port is where PostgreSQL listens on each of them. Default: 5432.
	Port int `json:"port,omitempty"`

	// Family is "any" (A and AAAA), "ipv4" (A) or "ipv6" (AAAA). Default: any.
	Family string `json:"family,omitempty"`

	// Resolvers are the name servers, host:port or host, asked in this order.
	// Default: those of /etc/resolv.conf, with its search domains.
	Resolvers []string `json:"resolvers,omitempty"`

	// MinTTL is the least time between two look-ups, however short the time to live
	// of an answer is. Default: 1s.
	MinTTL caddy.Duration `json:"min_ttl,omitempty"`

	// MaxTTL is the longest. Default: 30s.
	MaxTTL caddy.Duration `json:"max_ttl,omitempty"`

	// Timeout bounds a question to one name server. Default: 2s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	cluster        string
	logger         *zap.Logger
	metrics        *sourceMetrics
	port           int
	types          []uint16
	minTTL, maxTTL time.Duration
	look           lookup

	known map[uint16][]netip.Addr // by type; only Run's goroutine uses it
}

// The defaults of a source.
const (
	defaultPort    = 5432
	defaultMinTTL  = time.Second
	defaultMaxTTL  = 30 * time.Second
	defaultTimeout = 2 * time.Second
)

// families are the values of Family.
var families = map[string][]uint16{
	"": {dns.TypeA, dns.TypeAAAA}, "any": {dns.TypeA, dns.TypeAAAA}, "ipv4": {dns.TypeA}, "ipv6": {dns.TypeAAAA},
}

// CaddyModule returns the Caddy module information.
func (*Source) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "postgres.sources.dns", New: func() caddy.Module { return new(Source) }}
}

// Provision resolves the settings. Nothing is asked.
func (s *Source) Provision(ctx caddy.Context) error {
	s.logger = ctx.Logger()
	if err := s.resolve(); err != nil {
		return fmt.Errorf("source dns: %w", err)
	}
	return nil
}

// resolve replaces placeholders and fills in the defaults.
func (s *Source) resolve() (err error) {
	if s.Name, err = caddy.NewReplacer().ReplaceOrErr(s.Name, true, true); err != nil {
		return fmt.Errorf("name: %w", err)
	}
	s.types = families[s.Family]
	_, isName := dns.IsDomainName(s.Name)
	_, notAddress := netip.ParseAddr(s.Name)
	switch {
	case s.Name == "":
		return errors.New("no name: write source dns <name>")
	case notAddress == nil:
		return fmt.Errorf("%s is an address, not a name: write backend <name> %s", s.Name, s.Name)
	case !isName || strings.ContainsAny(s.Name, "/: \t\n"):
		return fmt.Errorf("%q is no name of the DNS: write one such as db.internal, and the port as option port", s.Name)
	case s.types == nil:
		return fmt.Errorf("unknown family %q: write any, ipv4 or ipv6", s.Family)
	case s.Port < 0 || s.Port > 65535:
		return fmt.Errorf("port %d: write the port of PostgreSQL, 1 to 65535", s.Port)
	case s.MinTTL < 0 || s.MaxTTL < 0 || s.Timeout < 0:
		return errors.New("min_ttl, max_ttl and timeout must not be negative: write durations such as 5s")
	}
	s.port = cmp.Or(s.Port, defaultPort)
	s.minTTL = cmp.Or(time.Duration(s.MinTTL), defaultMinTTL)
	s.maxTTL = cmp.Or(time.Duration(s.MaxTTL), max(defaultMaxTTL, s.minTTL))
	if s.minTTL > s.maxTTL {
		return fmt.Errorf("min_ttl %v is above max_ttl %v: write a smaller one", s.minTTL, s.maxTTL)
	}
	r := &resolver{name: s.Name, file: "/etc/resolv.conf", timeout: cmp.Or(time.Duration(s.Timeout), defaultTimeout)}
	for _, server := range s.Resolvers {
		host, port, err := net.SplitHostPort(server)
		if err != nil {
			host, port = strings.Trim(server, "[]"), "53"
		}
		if _, err := netip.ParseAddr(host); err != nil {
			return fmt.Errorf("resolver %q is no address: write one such as 10.0.0.53 or 10.0.0.53:5353", server)
		}
		r.servers = append(r.servers, net.JoinHostPort(host, port))
	}
	s.look = r.look
	s.known = make(map[uint16][]netip.Addr)
	return nil
}

// ForCluster tells the name of the cluster, before Run. It implements
// [cluster.Addressee].
func (s *Source) ForCluster(name string) {
	s.cluster = name
	s.metrics = newSourceMetrics(name)
}

// UnmarshalCaddyfile sets up the source from Caddyfile tokens:
//
//	dns <name> {
//		port     <number>
//		family   any|ipv4|ipv6
//		resolver <address>...
//		min_ttl  <duration>
//		max_ttl  <duration>
//		timeout  <duration>
//	}
func (s *Source) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.Args(&s.Name) {
		return d.Errf("source dns has no name: write source dns <name>")
	}
	if d.NextArg() {
		return d.Errf("source dns takes one name: remove %q, or write another source", d.Val())
	}
	return s.Options().ParseBlock(d, "source dns")
}

// Options is the table of the source's block.
func (s *Source) Options() caddyfile.Options {
	return caddyfile.Options{
		caddyfile.Int("port", &s.Port, 1, "<number>", "5432", "where PostgreSQL listens"),
		caddyfile.Enum("family", &s.Family, []string{"any", "ipv4", "ipv6"}, "any", "addresses to ask for: A and AAAA, A, AAAA"),
		caddyfile.Strings("resolver", &s.Resolvers, "<address>...", "those of /etc/resolv.conf", "name servers, asked in this order"),
		caddyfile.PositiveDuration("min_ttl", &s.MinTTL, "1s", "least time between two look-ups"),
		caddyfile.PositiveDuration("max_ttl", &s.MaxTTL, "30s", "longest time between two look-ups"),
		caddyfile.PositiveDuration("timeout", &s.Timeout, "2s", "bound of a question to one name server"),
	}
}

// Interface guards.
var (
	_ caddy.Provisioner     = (*Source)(nil)
	_ caddyfile.Unmarshaler = (*Source)(nil)
	_ caddyfile.Tabled      = (*Source)(nil)
)
