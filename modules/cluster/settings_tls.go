package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fairwaydb/fairway/modules/pgauth"
	"github.com/fairwaydb/fairway/modules/pgtls"
)

// serverSettings say how a backend is dialled.
type serverSettings struct {
	mode       TLSMode
	direct     bool        // begin with the handshake
	serverName string      // to be verified; empty: the host of the address
	ca         string      // contents of the CA file; empty: the system's
	tls        *tls.Config // complete but for the server name; nil with TLSDisable
	keepAlive  time.Duration

	binding   pgauth.BindingMode // of logins to the TLS connection
	cleartext bool               // passwords are sent to servers that ask for them, TLS or not

	certificate      *pgtls.KeyPair // shown to servers that ask for one; nil: none
	certificateFiles [2]string      // its certificate and key
	revocations      *pgtls.Revocations
	revocationFiles  []string
}

// same tells whether connections made under s are as good as new ones under o.
func (s *serverSettings) same(o *serverSettings) bool {
	return s.mode == o.mode && s.serverName == o.serverName && s.ca == o.ca && s.binding == o.binding && s.cleartext == o.cleartext &&
		s.certificateFiles == o.certificateFiles && slices.Equal(s.revocationFiles, o.revocationFiles)
}

// LogsInAlone tells whether the servers can be logged in at without anything that
// clients prove: the passwords of all users are configured, or the servers trust us
// or the certificate that we show them.
func (s *Settings) LogsInAlone() bool {
	if s.Auth == AuthTrust || s.server.certificate != nil {
		return true
	}
	if s.file != nil {
		return s.file.list.Load().plain
	}
	for _, u := range s.users {
		if u.password == "" {
			return false
		}
	}
	return len(s.users) > 0
}

// unverified is TLS that believes every certificate.
func unverified() *tls.Config {
	return &tls.Config{ // libpq's prefer and require
		MinVersion: tls.VersionTLS12, InsecureSkipVerify: true, NextProtos: []string{pgtls.Protocol},
	}
}

// config makes the TLS configuration of the mode.
func (s *serverSettings) config() (*tls.Config, error) {
	if s.mode == TLSDisable {
		return nil, nil // no TLS at all
	}
	var roots *x509.CertPool // nil: the system's
	if s.ca != "" {
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM([]byte(s.ca)) {
			return nil, errors.New("ca: the file has no certificate in PEM form")
		}
	}
	config := unverified()
	config.ServerName = s.serverName
	if s.certificate != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return s.certificate.Current(), nil }
	}
	switch {
	case s.mode == TLSVerifyFull:
		config.InsecureSkipVerify = false
		config.RootCAs = roots
		config.VerifyConnection = func(state tls.ConnectionState) error { return s.checkRevocation(state.VerifiedChains) }
	case s.mode == TLSVerifyCA, s.mode == TLSRequire && roots != nil: // as libpq
		config.VerifyConnection = func(state tls.ConnectionState) error {
			chains, err := verifyChain(state, roots)
			if err != nil {
				return err
			}
			return s.checkRevocation(chains)
		}
	}
	return config, nil
}

func (s *serverSettings) checkRevocation(chains [][]*x509.Certificate) error {
	if s.revocations == nil {
		return nil
	}
	if err := s.revocations.Check(chains, time.Now()); err != nil {
		return fmt.Errorf("verify server certificate: %w", err)
	}
	return nil
}

// verifyChain checks that the certificate was signed by a trusted authority,
// whatever name it bears.
func verifyChain(state tls.ConnectionState, roots *x509.CertPool) ([][]*x509.Certificate, error) {
	opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
	for _, c := range state.PeerCertificates[1:] {
		opts.Intermediates.AddCert(c)
	}
	chains, err := state.PeerCertificates[0].Verify(opts)
	if err != nil {
		return nil, fmt.Errorf("verify server certificate: %w", err)
	}
	return chains, nil
}
