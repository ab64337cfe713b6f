package postgres

import (
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/caddyserver/caddy/v2"

	"github.com/fairwaydb/fairway/caddyfile"
)

// TLS is the encryption that a listener offers its clients.
type TLS struct {
	// Certificate and Key are the paths of files in PEM form: the certificate with
	// its chain, and its private key. They are read when the configuration is
	// loaded. Required.
	Certificate string `json:"certificate,omitempty"`
	Key         string `json:"key,omitempty"`

	// Require refuses clients that do not use TLS with 28000. Default: false.
	Require bool `json:"require,omitempty"`
}

// alpn is the protocol that clients name in a direct TLS handshake.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL
const alpn = "postgresql"

// config reads the files.
func (t *TLS) config() (*tls.Config, error) {
	if t.Certificate == "" || t.Key == "" {
		return nil, errors.New("tls: certificate and key are both required: write tls CERTIFICATE.pem KEY.pem")
	}
	repl := caddy.NewReplacer()
	certificate, err := repl.ReplaceOrErr(t.Certificate, true, true)
	if err != nil {
		return nil, fmt.Errorf("tls: certificate: %w", err)
	}
	key, err := repl.ReplaceOrErr(t.Key, true, true)
	if err != nil {
		return nil, fmt.Errorf("tls: key: %w", err)
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("tls: load certificate: %w", err)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{pair},
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{alpn},
	}, nil
}

// tlsOption is the row of the handler's table; the block makes the object.
func tlsOption(dst **TLS) caddyfile.Option {
	return caddyfile.Option{
		Name: "tls", Args: "<certificate> <key>", Default: "no TLS",
		Help:  "files in PEM form; clients that ask for TLS get it",
		Block: func() caddyfile.Options { return new(TLS).Options() },
		Parse: func(d *caddyfile.Dispenser, args []string) error {
			t := &TLS{Certificate: args[0], Key: args[1]}
			*dst = t
			return t.Options().ParseBlock(d, "tls")
		},
	}
}

// Options is the Caddyfile table of the block.
func (t *TLS) Options() caddyfile.Options {
	return caddyfile.Options{
		caddyfile.Bool("require", &t.Require, "off", "refuse clients that do not use TLS with 28000"),
	}
}
