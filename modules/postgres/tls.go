package postgres

import (
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgtls"
	"github.com/fairwaydb/fairway/modules/session"
)

// TLS is the encryption that a listener offers its clients. Its certificate comes
// from files, or from Caddy's app tls, which obtains and renews certificates for
// names.
type TLS struct {
	// Certificate and Key are the paths of files in PEM form: the certificate with
	// its chain, and its private key. They are read again when they change: a
	// renewed certificate is used from the next handshake on. Required without
	// names.
	Certificate string `json:"certificate,omitempty"`
	Key         string `json:"key,omitempty"`

	// Names are those of the certificates, which Caddy manages: by the automation
	// policies of the app tls, else from a public authority, else, for names that
	// no public authority knows, from Caddy's own. Certificates that the app tls
	// loads are used as well. A client that names none of them is shown the first.
	Names []string `json:"names,omitempty"`

	// Issuer is "internal": the certificates of the names are issued by Caddy's own
	// authority. Default: none, as said for names.
	Issuer string `json:"issuer,omitempty"`

	// Require refuses clients that do not use TLS with 28000. Default: false; true
	// when certificates of clients are required.
	Require bool `json:"require,omitempty"`

	// ClientAuth is what is wanted of the certificates of clients. Default: they are
	// not asked for one.
	ClientAuth *ClientAuth `json:"client_auth,omitempty"`
}

// ClientAuth is what a listener wants of the certificates of its clients.
type ClientAuth struct {
	// Mode is "request" (a client may show one, which must be trusted), "verify-ca"
	// (it must, and give its password), "verify-full" (which must also belong to the
	// user) or "cert" (it must belong to the user; there is no password). Required.
	Mode string `json:"mode,omitempty"`

	// CA are the paths of files with the certificates of the authorities to trust,
	// PEM. Read when the configuration is loaded. Required.
	CA []string `json:"ca,omitempty"`

	// CRL are the paths of files with the lists of revoked certificates, PEM; each
	// authority needs one. They are read again when they change. Default: none,
	// nothing is revoked.
	CRL []string `json:"crl,omitempty"`

	// Name is the name in the certificate that counts: "cn", the common name, or
	// "dn", the whole subject as RFC 2253 writes it. Default: cn.
	Name string `json:"name,omitempty"`

	// UserMap are the lines of a map as in pg_ident.conf. Default: none, the name in
	// the certificate must be the user's.
	UserMap []UserMapping `json:"user_map,omitempty"`
}

// UserMapping lets the certificates of a name log in as a user.
type UserMapping struct {
	// Name is the name in the certificate, or a regular expression after a slash.
	Name string `json:"name,omitempty"`

	// User is the database user; \1 stands for what the first parentheses of the
	// expression have matched.
	User string `json:"user,omitempty"`
}

// options puts what the listener needs into the options of its sessions. Nothing
// is obtained here, only read.
func (t *TLS) options(ctx caddy.Context, app *App, o *session.Options) error {
	choose, err := t.certificates(ctx, app, o.Logger)
	if err != nil {
		return fmt.Errorf("tls: %w", err)
	}
	o.TLS = &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{pgtls.Protocol},
		GetCertificate: session.Shown(choose),
		// As PostgreSQL: a session that is resumed shows no certificate to bind to.
		SessionTicketsDisabled: true,
	}
	o.RequireTLS = t.Require
	if t.ClientAuth != nil {
		if err := t.ClientAuth.options(o); err != nil {
			return fmt.Errorf("tls: client_auth: %w", err)
		}
	}
	return nil
}

// secret tells whether the servers can be logged in at when clients have nothing
// but a certificate.
func (t *TLS) secret(s *cluster.Settings) error {
	if t.ClientAuth == nil || clientModes[t.ClientAuth.Mode] != session.CertificateAlone || s.LogsInAlone() {
		return nil
	}
	return errors.New("tls: client_auth cert: the servers ask for passwords that nobody tells us: write the passwords of the users " +
		"(auth user or auth file), or a certificate that the servers accept for all users (cert of server_tls), or client_auth verify-full")
}

// choice is what finds the certificate for a handshake.
type choice = func(*tls.ClientHelloInfo) (*tls.Certificate, error)

// certificates finds out where the certificates come from.
func (t *TLS) certificates(ctx caddy.Context, app *App, logger *zap.Logger) (choice, error) {
	switch files := t.Certificate != "" || t.Key != ""; {
	case t.Issuer != "" && t.Issuer != issuerInternal:
		return nil, fmt.Errorf("unknown issuer %q: write internal, or leave it out", t.Issuer)
	case files && len(t.Names) > 0:
		return nil, errors.New("there are both files and names: write tls CERTIFICATE.pem KEY.pem, or tls NAME")
	case len(t.Names) > 0:
		return t.managed(ctx, app)
	case t.Issuer != "":
		return nil, errors.New("no name for the certificate: write tls internal NAME")
	case t.Certificate == "" || t.Key == "":
		return nil, errors.New("certificate and key are both required: write tls CERTIFICATE.pem KEY.pem, or tls NAME for a certificate that Caddy manages")
	}
	certificate, err := replace(t.Certificate)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	key, err := replace(t.Key)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	pair, err := pgtls.LoadKeyPair(certificate, key, func(err error) {
		logger.Error("certificate of the listener has changed and cannot be read: the old one stays in use", zap.Error(err))
	})
	if err != nil {
		return nil, err
	}
	if leaf := pair.Leaf(); time.Now().After(leaf.NotAfter) {
		logger.Warn("certificate of the listener has expired: clients that verify it will refuse it",
			zap.String("certificate", certificate), zap.Time("not_after", leaf.NotAfter))
	}
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair.Current(), nil }, nil
}

// replace replaces placeholders. One that is unknown or empty is an error.
func replace(s string) (string, error) {
	return caddy.NewReplacer().ReplaceOrErr(s, true, true)
}

// clientModes are the words for what is wanted of certificates of clients.
var clientModes = map[string]session.CertificateRule{
	"request": session.CertificateIgnored, "verify-ca": session.CertificateVerifyCA,
	"verify-full": session.CertificateVerifyFull, "cert": session.CertificateAlone,
}

// options completes the options of the sessions. A certificate that is not
// trusted ends the handshake, as with PostgreSQL; that there is none is said
// after it.
func (a *ClientAuth) options(o *session.Options) error {
	rule, ok := clientModes[a.Mode]
	switch {
	case !ok:
		return fmt.Errorf("unknown mode %q: write request, verify-ca, verify-full or cert", a.Mode)
	case len(a.CA) == 0:
		return fmt.Errorf("no authority to trust: write client_auth %s CA.pem", a.Mode)
	case a.Name != "" && a.Name != "cn" && a.Name != "dn":
		return fmt.Errorf("unknown name %q: write cn or dn", a.Name)
	case len(a.UserMap) > 0 && rule != session.CertificateVerifyFull && rule != session.CertificateAlone:
		return fmt.Errorf("user_map does nothing with %s: write verify-full or cert, or remove it", a.Mode)
	}
	files, err := replaceAll(a.CA)
	if err != nil {
		return fmt.Errorf("ca: %w", err)
	}
	if o.TLS.ClientCAs, err = pgtls.LoadAuthorities(files...); err != nil {
		return fmt.Errorf("ca: %w", err)
	}
	o.TLS.ClientAuth = tls.VerifyClientCertIfGiven
	if err := a.revocation(o); err != nil {
		return fmt.Errorf("crl: %w", err)
	}
	lines := make([]pgtls.Mapping, len(a.UserMap))
	for i, m := range a.UserMap {
		lines[i] = pgtls.Mapping{Name: m.Name, User: m.User}
	}
	if o.UserMap, err = pgtls.NewUserMap(a.Name == "dn", lines...); err != nil {
		return fmt.Errorf("user_map: %w", err)
	}
	o.Certificate = rule
	o.RequireTLS = o.RequireTLS || rule != session.CertificateIgnored
	return nil
}

// revocation has the handshake refuse what is revoked.
func (a *ClientAuth) revocation(o *session.Options) error {
	if len(a.CRL) == 0 {
		return nil
	}
	files, err := replaceAll(a.CRL)
	if err != nil {
		return err
	}
	logger := o.Logger
	lists, err := pgtls.LoadRevocations(files, func(err error) {
		logger.Error("revocation list has changed and cannot be read: the old one stays in use", zap.Error(err))
	})
	if err != nil {
		return err
	}
	if at := lists.Expires(); !at.IsZero() && time.Now().After(at) {
		logger.Warn("revocation list has expired: clients whose certificates it is for are refused", zap.Time("next_update", at))
	}
	o.TLS.VerifyConnection = func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return nil
		}
		return lists.Check(state.VerifiedChains, time.Now())
	}
	return nil
}

func replaceAll(paths []string) ([]string, error) {
	replaced := make([]string, len(paths))
	for i, path := range paths {
		var err error
		if replaced[i], err = replace(path); err != nil {
			return nil, err
		}
	}
	return replaced, nil
}
