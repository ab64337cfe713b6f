package postgres

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/mholt/caddy-l4/layer4"

	"github.com/fairwaydb/fairway/caddyfile"
	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/routing"
	"github.com/fairwaydb/fairway/modules/session"
)

func init() { caddy.RegisterModule(new(Handler)) }

// defaultLoginTimeout is PostgreSQL's authentication_timeout.
const defaultLoginTimeout = time.Minute

// Handler gives the connections of a layer 4 route to sessions. It belongs in a
// route without matchers, on an address of the network pg (pg/:6432), and does
// the TLS handshake of PostgreSQL itself; behind the matcher postgres, or behind
// the handler tls, it works as well.
//
// Its settings hold for sessions that begin after a reload; those of the cluster
// hold for all at once.
type Handler struct {
	// Cluster is the name of a cluster of the app postgres. Required.
	Cluster string `json:"cluster,omitempty"`

	// TLS is offered to clients that ask for it. Default: no TLS.
	TLS *TLS `json:"tls,omitempty"`

	// Route is where statements run, whatever they do: "auto" (by what they do),
	// "primary" or "replica" (a read-only port). Default: auto.
	Route string `json:"route,omitempty"`

	// PoolMode is how long a session of this listener holds a server connection:
	// "transaction" or "session", see the pool of the cluster. Default: the
	// cluster's.
	PoolMode string `json:"pool_mode,omitempty"`

	// LoginTimeout bounds the time from connecting to being logged in. Default:
	// 1m.
	LoginTimeout caddy.Duration `json:"login_timeout,omitempty"`

	// MaxSessions is the number of sessions of the whole process beyond which this
	// listener refuses clients with 53300. Default: 0, no limit.
	MaxSessions int `json:"max_sessions,omitempty"`

	logger  *zap.Logger
	cluster *cluster.Cluster // the handler refers to it from Provision to Cleanup
	options *session.Options
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "layer4.handlers.postgres", New: func() caddy.Module { return new(Handler) }}
}

// Provision finds the cluster and prepares the certificate.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	if h.Cluster == "" {
		return errors.New("no cluster: write postgres NAME with the name of a cluster of the app postgres")
	}
	app, err := ctx.AppIfConfigured(appID)
	switch {
	case errors.Is(err, caddy.ErrNotConfigured):
		return fmt.Errorf("cluster %s: there is no app postgres: write the global option postgres with the cluster", h.Cluster)
	case err != nil:
		return fmt.Errorf("cluster %s: the app postgres: %w", h.Cluster, err)
	}
	p, err := app.(*App).find(h.Cluster)
	if err != nil {
		return err
	}
	route, ok := routing.ParseTarget(orDefault(h.Route, routing.TargetAuto.String()))
	switch {
	case !ok:
		return fmt.Errorf("unknown route %q: write auto, primary or replica", h.Route)
	case h.LoginTimeout < 0:
		return fmt.Errorf("login_timeout is negative: write a duration such as %v", defaultLoginTimeout)
	case h.MaxSessions < 0:
		return errors.New("max_sessions is negative: write a number of sessions, 0 for no limit")
	}
	h.options = &session.Options{
		Cluster: p.cluster, Route: route, Logger: h.logger, MaxSessions: h.MaxSessions,
		LoginTimeout: orDefault(time.Duration(h.LoginTimeout), defaultLoginTimeout),
	}
	if h.PoolMode != "" {
		mode, err := cluster.ParsePoolMode(h.PoolMode)
		if err != nil {
			return fmt.Errorf("pool_mode: %w", err)
		}
		h.options.PoolMode = &mode
	}
	if h.TLS != nil {
		if err := h.TLS.options(ctx, app.(*App), h.options); err != nil {
			return err
		}
		if err := h.TLS.secret(p.settings); err != nil {
			return err
		}
	}
	if err := p.settings.CheckListener(h.options.TLS != nil, h.options.RequireTLS); err != nil {
		return fmt.Errorf("cluster %s: %w", h.Cluster, err)
	}
	h.cluster = registry.Reference(h.Cluster)
	return nil
}

// orDefault returns v, or the default when v is zero.
func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// Cleanup gives the cluster back. Sessions that go on have references of their
// own.
func (h *Handler) Cleanup() error {
	if h.cluster != nil {
		h.cluster.Unreference()
		h.cluster = nil
	}
	return nil
}

// Handle runs a session. A connection of the network pg is taken away from
// layer4, and Handle returns at once; of others, when the client is gone. All
// errors are the session's affair, so that layer4 logs none.
func (h *Handler) Handle(cx *layer4.Connection, _ layer4.Handler) error {
	// The session reads the socket itself: layer4's view of it hides what a
	// net.TCPConn can do. What a matcher has read already goes along.
	conn, buffered := cx.Conn, bytes.Clone(cx.MatchingBytes())
	if a, ok := conn.(*accepted); ok {
		go h.serve(a.take(), buffered)
	} else {
		h.serve(conn, buffered)
	}
	return nil
}

// serve runs a session until the client is gone. The registry of the sessions
// ends it and waits for it.
func (h *Handler) serve(conn net.Conn, buffered []byte) {
	defer func() {
		if v := recover(); v != nil { // nobody above has one: a panic would end the process
			h.logger.Error("handler panicked", zap.Any("panic", v), zap.ByteString("stack", debug.Stack()))
		}
	}()
	o := h.options
	if caddy.Exiting() {
		session.Refuse(conn, buffered, o)
		return
	}
	c := registry.Reference(h.Cluster)
	defer c.Unreference()
	if c != o.Cluster { // the configuration has ended, and the registry has forgotten its cluster
		if c.Settings() == nil {
			session.Refuse(conn, buffered, o)
			return
		}
		other := *o
		other.Cluster = c
		o = &other
	}
	session.Serve(conn, buffered, o)
}

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens:
//
//	postgres <cluster> {
//		tls           <certificate file> <key file> | [internal] <name>... {
//			require [on|off]
//			client_auth request|verify-ca|verify-full|cert <CA file>... {
//				crl      <file>...
//				name     cn|dn
//				user_map <name> <user>
//			}
//		}
//		route         auto|primary|replica
//		pool_mode     transaction|session
//		login_timeout <duration>
//		max_sessions  <number>
//	}
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.NextArg() {
		return d.Err("postgres needs the name of a cluster: write \"postgres <cluster>\"")
	}
	h.Cluster = d.Val()
	if d.NextArg() {
		return d.Errf("postgres takes one cluster, %q is superfluous: write \"postgres <cluster>\"", d.Val())
	}
	return h.Options().ParseBlock(d, "postgres "+h.Cluster)
}

// Options is the Caddyfile table of the handler.
func (h *Handler) Options() caddyfile.Options {
	return caddyfile.Options{
		tlsOption(&h.TLS),
		caddyfile.Enum("route", &h.Route, []string{"auto", "primary", "replica"}, "auto",
			"where statements run; auto: by what they do; replica: a read-only port"),
		cluster.PoolModeOption("pool_mode", &h.PoolMode, "of the cluster", "how long a session holds a server connection"),
		caddyfile.Duration("login_timeout", &h.LoginTimeout, "1m", "time from connecting to being logged in"),
		caddyfile.Int("max_sessions", &h.MaxSessions, 0, "<number>", "0", "sessions of the process beyond which this listener refuses clients with 53300; 0: no limit"),
	}
}

// Interface guards.
var (
	_ layer4.NextHandler    = (*Handler)(nil)
	_ caddy.Provisioner     = (*Handler)(nil)
	_ caddy.CleanerUpper    = (*Handler)(nil)
	_ caddyfile.Unmarshaler = (*Handler)(nil)
)
