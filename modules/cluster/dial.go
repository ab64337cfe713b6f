package cluster

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/fairwaydb/fairway/modules/pgauth"
	"github.com/fairwaydb/fairway/modules/pgwire"
	"github.com/fairwaydb/fairway/modules/pool"
)

// Buffers of a server connection: large on the side results come from.
const (
	serverReadBuffer  = 64 << 10
	serverWriteBuffer = 16 << 10
)

// past is a deadline that has passed: it wakes whoever reads or writes.
var past = time.Unix(1, 0)

// Dial opens a server connection for the identity and logs in with the user's
// secret. It implements [pool.Dialer]; the connection belongs to the caller. The
// secret stays when a server refuses it (28P01): that may be a replica which has
// not heard of a new password yet.
func (b *Backend) Dial(ctx context.Context, id pool.Identity) (*pool.Conn, error) {
	if b.c == nil {
		return nil, errLeaving
	}
	s := b.settings()
	params := []pgwire.Param{{Name: "user", Value: id.User}, {Name: "database", Value: id.Database}}
	l, err := b.connect(ctx, &s.server, params, b.c.Secret(id.User), serverReadBuffer, serverWriteBuffer)
	if err != nil {
		return nil, err
	}
	return pool.NewConn(l.conn, l.r, l.w, id, l.pid, l.key, l.params, b.cancel), nil
}

// DialReplication opens a connection of its own for a client that asks for
// replication, with the parameters of its startup packet, the user first. It
// belongs to no pool and the caller, and closes when it is released.
// See https://www.postgresql.org/docs/current/protocol-replication.html.
func (b *Backend) DialReplication(ctx context.Context, id pool.Identity, params []pgwire.Param) (*pool.Conn, error) {
	if b.c == nil || b.leaving.Load() {
		return nil, errLeaving
	}
	s := b.settings()
	l, err := b.connect(ctx, &s.server, params, b.c.Secret(id.User), serverReadBuffer, serverWriteBuffer)
	if err != nil {
		return nil, err
	}
	return pool.NewConn(l.conn, l.r, l.w, id, l.pid, l.key, l.params, b.cancel), nil
}

// link is a server connection that has logged in.
type link struct {
	server *serverSettings
	conn   net.Conn
	r      *pgwire.Reader
	w      *pgwire.Writer
	pid    uint32
	key    []byte
	params []pgwire.Param
	broken bool
}

// connect opens a connection, logs in and reads until ReadyForQuery. Where the mode
// leaves encryption open, a server that does not let the user in one way is tried
// the other way, as libpq does.
func (b *Backend) connect(
	ctx context.Context, server *serverSettings, params []pgwire.Param, secret pgauth.Secret, readBuffer, writeBuffer int,
) (*link, error) {
	attempt := func(encrypt bool) (*link, error) {
		conn, err := b.open(ctx, server, encrypt)
		if err != nil {
			return nil, err
		}
		l := &link{server: server, conn: conn, r: pgwire.NewReader(conn, nil, readBuffer), w: pgwire.NewWriter(conn, writeBuffer)}
		return l, b.enter(ctx, l, params, secret)
	}
	encrypt := server.mode != TLSAllow
	l, err := attempt(encrypt)
	if err != nil && l != nil && ctx.Err() == nil && server.otherWay(l.conn, err) {
		var second error
		if l, second = attempt(!encrypt); second != nil {
			return nil, fmt.Errorf("%w (the other way: %w)", err, second)
		}
		return l, nil
	}
	if err != nil {
		return nil, err
	}
	return l, nil
}

// enter logs in; the connection is closed when that fails.
func (b *Backend) enter(ctx context.Context, l *link, params []pgwire.Param, secret pgauth.Secret) error {
	done := watch(ctx, l.conn)
	err := l.login(params, secret)
	if ended := done(); ended != nil && err == nil {
		err = ended
	} else if ended != nil {
		err = fmt.Errorf("%w (%w)", ended, err)
	}
	if err != nil {
		_ = l.conn.Close()
		return fmt.Errorf("log in at backend %s as %s: %w", b.name, params[0].Value, err)
	}
	return nil
}

// login sends the startup message, whose first parameter is the user, proves the
// secret and reads what the server tells about itself. See "Start-up",
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP.
func (l *link) login(params []pgwire.Param, secret pgauth.Secret) error {
	l.w.Startup(pgwire.Version30, params)
	if err := l.w.Flush(); err != nil {
		return fmt.Errorf("send startup message: %w", err)
	}
	if err := pgauth.Login(l.r, l.w, params[0].Value, secret, l.channel()); err != nil {
		return err
	}
	for {
		typ, _, err := l.r.Next()
		if err != nil {
			return fmt.Errorf("read startup reply: %w", err)
		}
		body, err := l.r.Body()
		if err != nil {
			return fmt.Errorf("read startup reply: %w", err)
		}
		switch typ {
		case pgwire.MsgParameterStatus:
			name, value, err := pgwire.DecodeParameterStatus(body)
			if err != nil {
				return fmt.Errorf("%w: %w", ErrProtocol, err)
			}
			l.params = append(l.params, pgwire.Param{Name: string(name), Value: string(value)})
		case pgwire.MsgBackendKeyData:
			if len(body) < 8 || len(body) > 4+pgwire.MaxCancelKey {
				return fmt.Errorf("%w: BackendKeyData of %d bytes", ErrProtocol, len(body))
			}
			l.pid = uint32(body[0])<<24 | uint32(body[1])<<16 | uint32(body[2])<<8 | uint32(body[3])
			l.key = append([]byte(nil), body[4:]...)
		case pgwire.MsgReadyForQuery:
			return nil
		case pgwire.MsgError:
			return pgwire.ParseError(body)
		case pgwire.MsgNotice, pgwire.MsgNegotiateProtocolVersion:
		default:
			return fmt.Errorf("%w: message %q during startup", ErrProtocol, typ)
		}
	}
}

// open dials the backend and encrypts the connection as the settings want it;
// encrypt is the choice where they leave one.
func (b *Backend) open(ctx context.Context, server *serverSettings, encrypt bool) (net.Conn, error) {
	conn, err := b.dialRaw(ctx, server)
	if err != nil {
		return nil, err
	}
	if server.mode == TLSDisable || !encrypt || isUnix(conn) {
		return conn, nil
	}
	encrypted, err := b.startTLS(ctx, conn, server)
	if err == nil {
		return encrypted, nil
	}
	_ = conn.Close()
	if server.mode != TLSPrefer || ctx.Err() != nil || isFinal(err) {
		return nil, err
	}
	return b.dialRaw(ctx, server) // as libpq: what cannot be encrypted goes in clear
}

// dialRaw opens the socket.
func (b *Backend) dialRaw(ctx context.Context, server *serverSettings) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1}
	if server.keepAlive > 0 {
		// Only the idle time: the rest stays the system's, each socket option costs a call.
		d.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: server.keepAlive, Interval: -1, Count: -1}
	}
	d.SetMultipathTCP(false)
	network := "tcp"
	if strings.HasPrefix(b.address, "/") {
		network = "unix"
	}
	conn, err := d.DialContext(ctx, network, b.address)
	if err != nil {
		return nil, fmt.Errorf("dial backend %s: %w", b.name, err)
	}
	return conn, nil
}

// cancel sends a CancelRequest on a connection of its own and waits until the
// server closes it: the signal has been sent then. See
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS.
func (b *Backend) cancel(ctx context.Context, pid uint32, key []byte) error {
	server := &b.settings().server
	conn, err := b.open(ctx, server, server.mode != TLSAllow)
	if err != nil {
		return fmt.Errorf("cancel: %w", err)
	}
	defer func() { _ = conn.Close() }()
	done := watch(ctx, conn)
	w := pgwire.NewWriter(conn, 0)
	w.CancelRequest(pid, key)
	err = w.Flush()
	if err == nil {
		_, _ = io.Copy(io.Discard, conn)
	}
	if ended := done(); ended != nil {
		err = ended
	}
	if err != nil {
		return fmt.Errorf("cancel at backend %s: %w", b.name, err)
	}
	return nil
}

// watch makes reads and writes of conn fail once ctx is done. done ends that and
// returns the cause when ctx is done: the connection is good for nothing then.
func watch(ctx context.Context, conn net.Conn) (done func() error) {
	deadline, bounded := ctx.Deadline()
	if bounded {
		_ = conn.SetDeadline(deadline)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(past) })
	return func() error {
		if !stop() {
			return context.Cause(ctx)
		}
		if bounded && !time.Now().Before(deadline) { // the socket may notice before the context does
			return context.DeadlineExceeded
		}
		if err := conn.SetDeadline(time.Time{}); err != nil {
			return fmt.Errorf("clear deadline: %w", err)
		}
		return nil
	}
}
