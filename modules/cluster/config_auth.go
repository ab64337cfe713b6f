package cluster

import (
	"errors"
	"fmt"
	"strings"

	"github.com/fairwaydb/fairway/caddyfile"
	"github.com/fairwaydb/fairway/modules/pgauth"
)

// bindingModes are libpq's words for channel_binding.
var bindingModes = map[string]pgauth.BindingMode{
	"": pgauth.BindingPrefer, "prefer": pgauth.BindingPrefer, "disable": pgauth.BindingDisable, "require": pgauth.BindingRequire,
}

// bindingMode reads one of the words.
func bindingMode(word string) (pgauth.BindingMode, error) {
	mode, ok := bindingModes[word]
	if !ok {
		return mode, fmt.Errorf("channel_binding: unknown value %q: write prefer, require or disable", word)
	}
	return mode, nil
}

func (c *Config) resolveAuth(s *Settings) error {
	a := c.Auth
	if a == nil {
		return nil
	}
	switch a.Mode {
	case "", "query":
		s.Auth = AuthQuery
	case "user":
		s.Auth = AuthUser
	case "file":
		s.Auth = AuthFile
	case "trust":
		s.Auth = AuthTrust
	default:
		return fmt.Errorf("auth: unknown mode %q: write query, user, file or trust", a.Mode)
	}
	switch {
	case s.Auth == AuthUser && len(a.Users) == 0:
		return errors.New("auth user: no users: write auth user NAME {env.PASSWORD}")
	case s.Auth != AuthUser && len(a.Users) > 0:
		return fmt.Errorf("auth %s takes no users: write auth user NAME {env.PASSWORD}, or remove them", s.Auth)
	case s.Auth == AuthFile && a.File == "":
		return errors.New("auth file: no file: write auth file PATH")
	case s.Auth != AuthFile && a.File != "":
		return fmt.Errorf("auth %s takes no file: write auth file PATH, or remove it", s.Auth)
	case s.Auth != AuthQuery && a.Query != "":
		return fmt.Errorf("auth %s takes no query: write auth query, or remove it", s.Auth)
	case a.CacheSize < 0:
		return errors.New("auth: cache_size is negative: write a number of users")
	}
	s.verify.sql = orDefault(a.Query, s.verify.sql)
	s.verify.size = orDefault(a.CacheSize, s.verify.size)
	s.server.cleartext = a.InsecureServerCleartext
	for _, part := range []func(*Settings) error{c.resolveMethod, c.resolveUsers, c.resolveFile} {
		if err := part(s); err != nil {
			return err
		}
	}
	return durations(
		duration{"auth: timeout", a.Timeout, false, &s.verify.timeout},
		duration{"auth: cache_ttl", a.CacheTTL, true, &s.verify.ttl},
		duration{"auth: cache_missing_ttl", a.CacheMissingTTL, true, &s.verify.missingTTL},
	)
}

// resolveMethod finds out how clients are asked.
func (c *Config) resolveMethod(s *Settings) (err error) {
	a := c.Auth
	switch a.Method {
	case "", MethodSCRAM.String():
		s.Clients.Method = MethodSCRAM
	case MethodMD5.String():
		s.Clients.Method = MethodMD5
	case MethodPassword.String():
		s.Clients.Method = MethodPassword
	default:
		return fmt.Errorf("auth: unknown method %q: write %s", a.Method, strings.Join(methods, ", "))
	}
	if s.Clients.Binding, err = bindingMode(a.ChannelBinding); err != nil {
		return fmt.Errorf("auth: %w", err)
	}
	s.Clients.Cleartext = a.InsecureClientCleartext
	switch {
	case s.Auth == AuthTrust && (a.Method != "" || a.ChannelBinding != "" || a.InsecureClientCleartext):
		return errors.New("auth trust asks for nothing: remove method, channel_binding and insecure_client_cleartext")
	case s.Clients.Method == MethodMD5 && !pgauth.MD5Allowed():
		return errors.New("auth: method md5 is not allowed in FIPS-only mode: write scram-sha-256")
	case s.Clients.Method != MethodSCRAM && s.Clients.Binding == pgauth.BindingRequire:
		return fmt.Errorf("auth: method %s cannot be bound to TLS: write method scram-sha-256, or remove channel_binding require", s.Clients.Method)
	case s.Clients.Method != MethodPassword && a.InsecureClientCleartext:
		return fmt.Errorf("auth: method %s sends no password: remove insecure_client_cleartext, or write method password", s.Clients.Method)
	}
	return nil
}

func (c *Config) resolveUsers(s *Settings) error {
	for name, raw := range c.Auth.Users {
		if raw == "" {
			return fmt.Errorf("auth user %s: no password: write {env.NAME} or a SCRAM verifier", name)
		}
		resolved := raw
		if stored, err := pgauth.ParseStored(raw); err != nil || stored.MD5 != "" { // an md5 hash is as good as a password
			if resolved, err = c.password(raw); err != nil {
				return fmt.Errorf("auth user %s: %w", name, err)
			}
		}
		u := user{configured: resolved}
		var err error
		if u.stored, u.password, err = readPassword(resolved, s.Clients.Method); err != nil {
			return fmt.Errorf("auth user %s: %w", name, err)
		}
		s.usual = usualOf(u.stored, s.usual)
		if s.users == nil {
			s.users = make(map[string]user)
		}
		s.users[name] = u
	}
	for name, u := range s.users {
		if u.password != "" {
			u.stored.SCRAM = pgauth.NewVerifier(u.password, nil, s.usual.Iterations)
			s.users[name] = u
		}
	}
	return nil
}

func (c *Config) resolveFile(s *Settings) error {
	if s.Auth != AuthFile {
		return nil
	}
	path, err := replace(c.Auth.File)
	if err == nil {
		s.file, err = openUserFile(path, s.Clients.Method)
	}
	if err != nil {
		return fmt.Errorf("auth file: %w", err)
	}
	return nil
}

// CheckListener tells whether clients of a listener can log in as the settings want it:
// whether it has TLS at all, and whether its clients must use it.
func (s *Settings) CheckListener(has, must bool) error {
	switch {
	case s.Auth == AuthTrust:
		return nil
	case s.Clients.Method == MethodPassword && !s.Clients.Cleartext && !has:
		return errors.New("auth { method password } sends passwords in clear and the listener has no TLS: " +
			"write tls, or method scram-sha-256, or insecure_client_cleartext")
	case s.Clients.Binding == pgauth.BindingRequire && !must:
		return errors.New("auth { channel_binding require } and the listener takes clients without TLS: write tls { require }, or channel_binding prefer")
	}
	return nil
}

func (c *Config) authOption() caddyfile.Option {
	return caddyfile.Option{
		Name: "auth", Args: "query|user|file|trust [<name|password|path>...]", Default: "query", Repeat: true,
		Help: "how clients prove who they are: the servers are asked for verifiers; users with their passwords; a file of users; not at all",
		Block: func() caddyfile.Options {
			return new(AuthConfig).options()
		},
		Parse: c.parseAuth,
	}
}

func (c *Config) parseAuth(d *caddyfile.Dispenser, args []string) error {
	mode, more := args[0], args[1:]
	switch {
	case c.Auth != nil && (c.Auth.Mode != "user" || mode != "user"):
		return d.Errf("option %q is given twice: only auth user may be repeated", "auth")
	case mode != "query" && mode != "user" && mode != "file" && mode != "trust":
		return d.Errf("option %q: unknown value %q: write query, user, file or trust", "auth", mode)
	case mode == "user" && (len(more) == 0 || len(more)%2 != 0):
		return d.Errf("option %q: a user or a password is missing: write %q", "auth", "auth user <name> <password>")
	case mode == "file" && len(more) != 1:
		return d.Errf("option %q: the file has one path: write %q", "auth", "auth file <path>")
	case (mode == "query" || mode == "trust") && len(more) > 0:
		return d.Errf("option %q: %q is superfluous: write %q", "auth", more[0], "auth "+mode)
	}
	a := made(&c.Auth)
	a.Mode = mode
	if mode == "file" {
		a.File = more[0]
		more = nil
	}
	for i := 0; i < len(more); i += 2 {
		if _, twice := a.Users[more[i]]; twice {
			return d.Errf("auth user %q is given twice: remove one of them", more[i])
		}
		if a.Users == nil {
			a.Users = make(map[string]string)
		}
		a.Users[more[i]] = more[i+1]
	}
	return a.options().ParseBlock(d, "auth "+mode)
}

func (a *AuthConfig) options() caddyfile.Options {
	return caddyfile.Options{
		caddyfile.Enum("method", &a.Method, methods, methods[0],
			"how clients are asked, as in pg_hba.conf: SCRAM; md5 for passwords kept as md5 hashes; in clear, over TLS"),
		caddyfile.Enum("channel_binding", &a.ChannelBinding, []string{"prefer", "require", "disable"}, "prefer",
			"binds logins by SCRAM to the TLS connection of the client"),
		caddyfile.String("query", &a.Query, "<sql>", "reads pg_authid", "returns the verifier of user $1"),
		span("timeout", &a.Timeout, false, "5s", "bound of an auth query, connecting included"),
		span("cache_ttl", &a.CacheTTL, true, "off", "how long an answer serves further logins; until then new passwords are refused"),
		span("cache_missing_ttl", &a.CacheMissingTTL, true, "off", "the same for users that do not exist"),
		caddyfile.Int("cache_size", &a.CacheSize, 1, "<number>", "10000", "how many users are remembered"),
		caddyfile.Bool("insecure_client_cleartext", &a.InsecureClientCleartext, "off",
			"method password also without TLS: whoever sees the network sees the passwords"),
		caddyfile.Bool("insecure_server_cleartext", &a.InsecureServerCleartext, "off",
			"passwords in clear to servers that ask for them without TLS"),
	}
}
