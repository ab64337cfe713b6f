package cluster

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// Settings resolves the configuration of the cluster of that name, in Provision:
// placeholders, files, guests and defaults. Nothing is dialled. The policy is the
// decoded guest of PolicyRaw, kept as it is. Errors name the option and what to
// write instead.
func (c *Config) Settings(ctx caddy.Context, name string, policy any) (*Settings, error) {
	s, err := c.resolve(ctx)
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", name, err)
	}
	s.Policy = policy
	for _, source := range s.Sources {
		if a, ok := source.(Addressee); ok {
			a.ForCluster(name)
		}
	}
	return s, nil
}

// resolve does it part by part.
func (c *Config) resolve(ctx caddy.Context) (*Settings, error) {
	s := newSettings()
	for _, part := range []func(*Settings) error{
		c.resolveBackends, c.resolveCredentials, c.resolveAuth,
		func(s *Settings) error { return c.resolveTLS(ctx, s) },
		c.resolvePool, c.resolveLimits, c.resolveMonitor, c.resolveHealth,
		func(s *Settings) error { return c.loadGuests(ctx, s) },
	} {
		if err := part(s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (c *Config) resolveBackends(s *Settings) error {
	if len(c.Backends) == 0 && len(c.SourcesRaw) == 0 {
		return errors.New("no backends: write backend NAME HOST:PORT, or a source that finds them")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Backends)) {
		b := c.Backends[name]
		switch {
		case strings.TrimSpace(name) == "" || strings.ContainsAny(name, "/ \t\n"):
			return fmt.Errorf("backend %q: the name must not be empty or contain spaces or slashes", name)
		case b == nil || b.Address == "":
			return fmt.Errorf("backend %s: no address: write HOST:PORT", name)
		case b.Weight < 0:
			return fmt.Errorf("backend %s: weight %v is negative: write a share such as 2, or remove the backend", name, b.Weight)
		}
		address, err := replace(b.Address)
		if err == nil {
			address, err = normalize(address)
		}
		if err != nil {
			return fmt.Errorf("backend %s: address: %w", name, err)
		}
		s.Backends = append(s.Backends, Endpoint{Name: name, Address: address, Weight: b.Weight, Priority: b.Priority})
	}
	return nil
}

// defaultPort is PostgreSQL's.
const defaultPort = "5432"

// normalize completes an address with the port.
func normalize(address string) (string, error) {
	if path, ok := strings.CutPrefix(address, "unix/"); ok {
		address = path
	}
	if strings.HasPrefix(address, "/") {
		return address, nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = strings.Trim(address, "[]"), defaultPort
		if strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return "", fmt.Errorf("%q is no address: write HOST:PORT", address)
		}
	}
	if host == "" {
		return "", fmt.Errorf("%q has no host: write HOST:PORT", address)
	}
	return net.JoinHostPort(host, orDefault(port, defaultPort)), nil
}

func (c *Config) resolveCredentials(s *Settings) (err error) {
	k := c.Credentials
	if k == nil || k.User == "" {
		return errors.New("no credentials: write credentials USER {env.PASSWORD}, a role with LOGIN and pg_monitor on every backend")
	}
	if s.login.user, err = replace(k.User); err != nil {
		return fmt.Errorf("credentials: user: %w", err)
	}
	if s.login.database, err = replace(orDefault(k.Database, s.login.database)); err != nil {
		return fmt.Errorf("credentials: database: %w", err)
	}
	if s.login.secret.Password, err = c.password(k.Password); err != nil {
		return fmt.Errorf("credentials: password: %w", err)
	}
	return nil
}

// errLiteral refuses a password that the admin API would show.
var errLiteral = errors.New("a literal password is not accepted, the admin API would show it: " +
	"write {env.NAME} or {file./path}, or set insecure_literal_passwords for a test")

// password resolves a secret.
func (c *Config) password(raw string) (string, error) {
	if raw == "" {
		return "", nil
	}
	resolved, err := replace(raw)
	if err == nil && resolved == raw && !c.InsecureLiteralPasswords {
		err = errLiteral
	}
	return resolved, err
}

// replace replaces placeholders. One that is unknown or empty is an error.
func replace(s string) (string, error) {
	resolved, err := caddy.NewReplacer().ReplaceOrErr(s, true, true)
	if err != nil {
		return "", fmt.Errorf("replace placeholder: %w", err)
	}
	return resolved, nil
}
