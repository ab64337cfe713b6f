package cluster

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// ErrNoPrimary tells that the cluster has no primary now.
var ErrNoPrimary = errors.New("cluster has no primary")

// Go runs f in a goroutine that the cluster owns: ctx ends with the cluster's last claim, and the release of that claim
// waits for f. It returns false, and does nothing, when no claim is in force.
func (c *Cluster) Go(f func(ctx context.Context)) bool { return c.do(f) }

// OwnDatabase returns the database of the cluster's own account.
func (s *Settings) OwnDatabase() string { return s.login.database }

// OwnConn is a connection of the cluster's own account to the primary. One goroutine at a time uses it; whoever
// connected closes it.
type OwnConn struct {
	link    *link
	backend *Backend
	c       *Cluster
}

// ConnectPrimary logs in to a database of the primary with the cluster's credentials, with search_path pg_catalog,
// statement_timeout timeout and no JIT, which costs more than it saves for what is asked here. The error is
// [ErrNoPrimary], the server's *pgwire.Error, or that of the connection.
func (c *Cluster) ConnectPrimary(ctx context.Context, database string, timeout time.Duration) (*OwnConn, error) {
	primary := c.Topology().Primary
	if primary == nil {
		return nil, ErrNoPrimary
	}
	s := c.Settings()
	const readBuffer, writeBuffer = 64 << 10, 4 << 10
	l, err := primary.Backend.connect(ctx, &s.server, []pgwire.Param{
		{Name: "user", Value: s.login.user},
		{Name: "database", Value: database},
		{Name: "application_name", Value: "fairway"},
		{Name: "search_path", Value: "pg_catalog"},
		{Name: "client_encoding", Value: "UTF8"},
		{Name: "jit", Value: "off"},
		{Name: "statement_timeout", Value: strconv.FormatInt(timeout.Milliseconds(), 10)},
	}, s.login.secret, readBuffer, writeBuffer)
	if err != nil {
		return nil, err
	}
	return &OwnConn{link: l, backend: primary.Backend, c: c}, nil
}

// Query runs one statement with text parameters and gives each row to row, as text; nil is NULL. The values are
// borrowed until row returns. The name keeps the statement prepared: with an empty sql it runs the one of that name.
func (o *OwnConn) Query(ctx context.Context, name, sql string, args []string, row func(values [][]byte) error) error {
	if err := o.link.query(ctx, name, sql, args, row); err != nil {
		return fmt.Errorf("query at backend %s: %w", o.backend.name, err)
	}
	return nil
}

// Current tells that the connection still works and still goes to the cluster's primary.
func (o *OwnConn) Current() bool {
	primary := o.c.Topology().Primary
	return !o.link.broken && primary != nil && primary.Backend == o.backend
}

// Close says goodbye and closes the connection.
func (o *OwnConn) Close() { o.link.close() }
