package cluster

import (
	"errors"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/fairwaydb/fairway/caddyfile"
	"github.com/fairwaydb/fairway/modules/pgtls"
)

// tlsModes are libpq's words.
var tlsModes = map[string]TLSMode{
	"disable": TLSDisable, "allow": TLSAllow, "prefer": TLSPrefer, "require": TLSRequire, "verify-ca": TLSVerifyCA, "verify-full": TLSVerifyFull,
}

const modeWords = "disable, allow, prefer, require, verify-ca or verify-full"

func (c *Config) resolveTLS(ctx caddy.Context, s *Settings) error {
	if err := durations(duration{"keep_alive", c.KeepAlive, true, &s.server.keepAlive}); err != nil {
		return err
	}
	if c.ServerTLS == nil {
		return nil
	}
	if err := c.ServerTLS.resolve(ctx, &s.server); err != nil {
		return fmt.Errorf("server_tls: %w", err)
	}
	return nil
}

// resolve checks the options against each other and reads the files.
func (t *ServerTLSConfig) resolve(ctx caddy.Context, s *serverSettings) (err error) {
	mode, ok := tlsModes[t.Mode]
	switch {
	case t.Mode == "" && (t.CA != "" || len(t.CRL) > 0 || t.ServerName != ""):
		mode = TLSVerifyFull
	case t.Mode == "":
		mode = TLSPrefer
	case !ok:
		return fmt.Errorf("unknown mode %q: write %s", t.Mode, modeWords)
	}
	s.mode, s.direct = mode, t.Negotiation == "direct"
	optional := mode == TLSDisable || mode == TLSAllow || mode == TLSPrefer
	switch {
	case t.CA != "" && optional:
		return fmt.Errorf("%s does not verify anything: write verify-full, or remove ca", t.Mode)
	case len(t.CRL) > 0 && (optional || mode == TLSRequire && t.CA == ""):
		return fmt.Errorf("%s does not verify anything: write verify-full, or remove crl", t.Mode)
	case t.Negotiation != "" && t.Negotiation != "direct" && t.Negotiation != "postgres":
		return fmt.Errorf("unknown negotiation %q: write postgres or direct", t.Negotiation)
	case s.direct && optional:
		return errors.New("negotiation direct needs a server that has TLS for sure: write require, verify-ca or verify-full")
	case (t.Certificate == "") != (t.Key == ""):
		return errors.New("a certificate for the servers has two files: write cert and key")
	case t.ChannelBinding == "require" && optional:
		return errors.New("channel_binding require needs a server that has TLS for sure: write require, verify-ca or verify-full")
	case t.Certificate != "" && mode == TLSDisable:
		return errors.New("disable shows no certificate: write verify-full, or remove cert and key")
	}
	if s.binding, err = bindingMode(t.ChannelBinding); err != nil {
		return err
	}
	if s.serverName, err = replace(t.ServerName); t.ServerName != "" && err != nil {
		return fmt.Errorf("server_name: %w", err)
	}
	if t.CA != "" {
		path, err := replace(t.CA)
		if err != nil {
			return fmt.Errorf("ca: %w", err)
		}
		pem, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("ca: %w", err)
		}
		s.ca = string(pem)
	}
	if err := t.resolveFiles(ctx, s); err != nil {
		return err
	}
	s.tls, err = s.config()
	return err
}

// resolveFiles reads the files that are followed.
func (t *ServerTLSConfig) resolveFiles(ctx caddy.Context, s *serverSettings) (err error) {
	if t.Certificate != "" {
		for i, path := range []string{t.Certificate, t.Key} {
			if s.certificateFiles[i], err = replace(path); err != nil {
				return fmt.Errorf("%s: %w", [...]string{"cert", "key"}[i], err)
			}
		}
		s.certificate, err = pgtls.LoadKeyPair(s.certificateFiles[0], s.certificateFiles[1], func(err error) {
			ctx.Logger().Error("certificate for the servers has changed and cannot be read: the old one stays in use", zap.Error(err))
		})
		if err != nil {
			return err
		}
		if leaf := s.certificate.Leaf(); time.Now().After(leaf.NotAfter) {
			ctx.Logger().Warn("certificate for the servers has expired: they will refuse it", zap.Time("not_after", leaf.NotAfter))
		}
	}
	for _, path := range t.CRL {
		if path, err = replace(path); err != nil {
			return fmt.Errorf("crl: %w", err)
		}
		s.revocationFiles = append(s.revocationFiles, path)
	}
	if len(s.revocationFiles) == 0 {
		return nil
	}
	s.revocations, err = pgtls.LoadRevocations(s.revocationFiles, func(err error) {
		ctx.Logger().Error("revocation list for the servers has changed and cannot be read: the old one stays in use", zap.Error(err))
	})
	if err != nil {
		return fmt.Errorf("crl: %w", err)
	}
	if at := s.revocations.Expires(); !at.IsZero() && time.Now().After(at) {
		ctx.Logger().Warn("revocation list for the servers has expired: those it is for are refused", zap.Time("next_update", at))
	}
	return nil
}

func (c *Config) serverTLSOption() caddyfile.Option {
	return caddyfile.Option{
		Name: "server_tls", Args: "[<mode>]", Default: "prefer",
		Help:  "encryption towards the servers, libpq's sslmode: disable, allow, prefer, require, verify-ca, verify-full",
		Block: func() caddyfile.Options { return new(ServerTLSConfig).options() },
		Parse: func(d *caddyfile.Dispenser, args []string) error {
			c.ServerTLS = new(ServerTLSConfig)
			if len(args) > 0 {
				if _, ok := tlsModes[args[0]]; !ok {
					return d.Errf("option %q: unknown mode %q: write %s", "server_tls", args[0], modeWords)
				}
				c.ServerTLS.Mode = args[0]
			}
			return c.ServerTLS.options().ParseBlock(d, "server_tls")
		},
	}
}

func (t *ServerTLSConfig) options() caddyfile.Options {
	return caddyfile.Options{
		caddyfile.String("ca", &t.CA, "<file>", "the system's", "certificates of the authorities to trust, PEM"),
		caddyfile.Strings("crl", &t.CRL, "<file>...", "", "lists of revoked certificates, one of each authority, PEM"),
		caddyfile.String("cert", &t.Certificate, "<file>", "", "certificate to show to servers that ask for one, for all users, PEM"),
		caddyfile.String("key", &t.Key, "<file>", "", "its key, PEM"),
		caddyfile.String("server_name", &t.ServerName, "<name>", "host of the address", "name the certificates must bear"),
		caddyfile.Enum("channel_binding", &t.ChannelBinding, []string{"prefer", "require", "disable"}, "prefer",
			"binds our logins by SCRAM to the TLS connection, as libpq"),
		caddyfile.Enum("negotiation", &t.Negotiation, []string{"postgres", "direct"}, "postgres",
			"direct begins with the TLS handshake: a round trip less, PostgreSQL 17 and later"),
	}
}
