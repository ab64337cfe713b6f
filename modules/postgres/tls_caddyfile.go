package postgres

import (
	"slices"
	"strings"

	"github.com/fairwaydb/fairway/caddyfile"
)

// tlsOption is the row of the handler's table; the block makes the object.
func tlsOption(dst **TLS) caddyfile.Option {
	return caddyfile.Option{
		Name: "tls", Args: "<certificate>|<name>|internal [<key>|<name>...]", Default: "no TLS",
		Help: "clients that ask for TLS get it: with files in PEM form; with certificates that Caddy manages for the names; " +
			"the same, from Caddy's own authority",
		Block: func() caddyfile.Options { return new(TLS).Options() },
		Parse: func(d *caddyfile.Dispenser, args []string) error {
			t := new(TLS)
			switch {
			case args[0] == issuerInternal && len(args) == 1:
				return d.Errf("option %q: no name for the certificate: write %q", "tls", "tls internal <name>")
			case args[0] == issuerInternal:
				t.Issuer, t.Names = issuerInternal, args[1:]
			case !slices.ContainsFunc(args, isFile):
				t.Names = args
			case len(args) == 2:
				t.Certificate, t.Key = args[0], args[1]
			case len(args) == 1:
				return d.Errf("option %q: %q is neither a certificate with its key nor a name with a domain: write %q, %q or %q",
					"tls", args[0], "tls <certificate> <key>", "tls <name>", "tls internal <name>")
			default:
				return d.Errf("option %q: neither a certificate with its key nor names with domains: write %q, %q or %q",
					"tls", "tls <certificate> <key>", "tls <name>...", "tls internal <name>...")
			}
			*dst = t
			return t.Options().ParseBlock(d, "tls")
		},
	}
}

// isFile tells the path of a file from the name of a host.
func isFile(arg string) bool {
	for _, ending := range []string{".pem", ".crt", ".cer", ".cert", ".key"} {
		if strings.HasSuffix(arg, ending) {
			return true
		}
	}
	return strings.ContainsAny(arg, `/\{`) || !strings.ContainsAny(arg, ".:") && arg != "localhost"
}

// Options is the Caddyfile table of the block.
func (t *TLS) Options() caddyfile.Options {
	return caddyfile.Options{
		caddyfile.Bool("require", &t.Require, "off", "refuse clients that do not use TLS with 28000"),
		{
			Name: "client_auth", Args: "request|verify-ca|verify-full|cert <ca>...", Default: "no certificate is asked for",
			Help: "certificates of clients, from authorities in PEM files: they may have one; they must; it must belong to the user; " +
				"and then there is no password",
			Block: func() caddyfile.Options { return new(ClientAuth).Options() },
			Parse: func(d *caddyfile.Dispenser, args []string) error {
				if _, ok := clientModes[args[0]]; !ok {
					return d.Errf("option %q: unknown mode %q: write request, verify-ca, verify-full or cert", "client_auth", args[0])
				}
				t.ClientAuth = &ClientAuth{Mode: args[0], CA: args[1:]}
				return t.ClientAuth.Options().ParseBlock(d, "client_auth")
			},
		},
	}
}

// Options is the Caddyfile table of the block.
func (a *ClientAuth) Options() caddyfile.Options {
	return caddyfile.Options{
		caddyfile.Strings("crl", &a.CRL, "<file>...", "", "lists of revoked certificates, one of each authority, PEM"),
		caddyfile.Enum("name", &a.Name, []string{"cn", "dn"}, "cn", "what counts of the certificate: its common name, or its whole subject as RFC 2253 writes it"),
		{
			Name: "user_map", Args: "<name> <user>", Repeat: true, Default: "the name is the user's",
			Help: `as in pg_ident.conf: a certificate of the name, or of one that matches the regular expression after a slash, belongs to the user; \1 is what its parentheses match`,
			Parse: func(_ *caddyfile.Dispenser, args []string) error {
				a.UserMap = append(a.UserMap, UserMapping{Name: args[0], User: args[1]})
				return nil
			},
		},
	}
}
