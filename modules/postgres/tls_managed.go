package postgres

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
	"github.com/caddyserver/certmagic"

	"github.com/fairwaydb/fairway/modules/pgtls"
)

// issuerInternal is Caddy's own authority.
const issuerInternal = "internal"

// managed has the app tls manage certificates for the names. That begins when the
// app starts; here the policies are made ready.
func (t *TLS) managed(ctx caddy.Context, app *App) (choice, error) {
	loaded, err := ctx.App("tls")
	if err != nil {
		return nil, fmt.Errorf("load the app tls: %w", err)
	}
	tlsApp, ok := loaded.(*caddytls.TLS)
	if !ok {
		return nil, fmt.Errorf("the app tls is a %T", loaded)
	}
	names, err := replaceAll(t.Names)
	if err != nil {
		return nil, fmt.Errorf("name: %w", err)
	}
	for i, name := range names {
		names[i] = strings.ToLower(name)
		if names[i] == "" || !certmagic.SubjectQualifiesForCert(names[i]) {
			return nil, fmt.Errorf("no certificate can bear the name %q: write a host name or an IP address", name)
		}
	}
	if err := automate(tlsApp, names, t.Issuer == issuerInternal); err != nil {
		return nil, err
	}
	app.manage(tlsApp, names)
	policies := caddytls.ConnectionPolicies{{ALPN: []string{pgtls.Protocol}, DefaultSNI: names[0]}}
	if err := policies.Provision(ctx); err != nil {
		return nil, fmt.Errorf("prepare the certificates: %w", err)
	}
	return firstUnless(names, policies[0].TLSConfig.GetCertificate), nil
}

// automate makes a policy for the names that need Caddy's own authority: all of
// them, or those that no public authority knows and no policy names.
func automate(app *caddytls.TLS, names []string, internal bool) error {
	own := names
	if !internal {
		own = slices.DeleteFunc(slices.Clone(names), func(name string) bool {
			return certmagic.SubjectQualifiesForPublicCert(name) || hasPolicy(app, name)
		})
	}
	if len(own) == 0 {
		return nil
	}
	err := app.AddAutomationPolicy(&caddytls.AutomationPolicy{
		SubjectsRaw: own, IssuersRaw: []json.RawMessage{json.RawMessage(`{"module":"internal"}`)},
	})
	if err != nil {
		return fmt.Errorf("issue certificates for %s: %w", strings.Join(own, ", "), err)
	}
	return nil
}

// hasPolicy tells whether somebody has said who issues certificates for the name.
func hasPolicy(app *caddytls.TLS, name string) bool {
	if app.Automation == nil {
		return false
	}
	for _, policy := range app.Automation.Policies {
		subjects := policy.Subjects()
		if len(subjects) == 0 && (len(policy.Issuers) > 0 || len(policy.Managers) > 0) {
			return true
		}
		for _, subject := range subjects {
			if certmagic.MatchWildcard(name, subject) {
				return true
			}
		}
	}
	return false
}

// firstUnless has a client that asks for none of the names shown the certificate of
// the first, as a server has one certificate whatever it is called.
func firstUnless(names []string, get choice) choice {
	return func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		asked := strings.ToLower(hello.ServerName)
		if slices.ContainsFunc(names, func(name string) bool { return certmagic.MatchWildcard(asked, name) }) {
			return get(hello)
		}
		other := *hello
		other.ServerName = names[0]
		return get(&other)
	}
}

// manage notes names whose certificates Start begins to manage.
func (a *App) manage(app *caddytls.TLS, names []string) {
	if a.managed.names == nil {
		a.managed.names = make(map[string]struct{})
	}
	a.managed.app = app
	for _, name := range names {
		a.managed.names[name] = struct{}{}
	}
}
