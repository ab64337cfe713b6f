package pgtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Config returns settings for one plain connection to host:port, with every field said, so that PG* variables of the
// process mean nothing: no TLS, no password file, no fallbacks, no runtime parameters, ten seconds to connect. Change
// it as you like before pgconn.ConnectConfig. It fits servers of this package and a proxy before them alike.
func Config(addr, user, password, database string) (*pgconn.Config, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", addr, err)
	}
	config, err := pgconn.ParseConfig(connString(map[string]string{
		"host": host, "port": port, "user": user, "password": password, "database": database,
		"sslmode": "disable", "sslcert": "", "sslkey": "", "sslrootcert": "", "sslnegotiation": "postgres", "sslcertmode": "disable",
		"passfile": "", "connect_timeout": "10", "target_session_attrs": "any", "application_name": "", "timezone": "", "options": "",
		"min_protocol_version": "3.0", "max_protocol_version": "3.0", "channel_binding": "disable", "require_auth": "",
	}))
	if err != nil {
		return nil, fmt.Errorf("configure connection to %s: %w", addr, err)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", addr, err)
	}
	config.Host, config.Port, config.User, config.Password, config.Database = host, uint16(number), user, password, database
	config.TLSConfig, config.Fallbacks, config.RuntimeParams = nil, nil, map[string]string{}
	config.ConnectTimeout = 10 * time.Second
	return config, nil
}

// connString renders a libpq connection string, sorted by keyword.
func connString(values map[string]string) string {
	var words []string
	for _, keyword := range slices.Sorted(maps.Keys(values)) {
		words = append(words, keyword+"="+quoteConninfo(values[keyword]))
	}
	return strings.Join(words, " ")
}

// ConnString returns a libpq connection string for a role and database of a node. It holds the superuser's password for
// the superuser and none for others.
func (c *Cluster) ConnString(n *Node, user, database string) string {
	values := map[string]string{
		"host": "127.0.0.1", "port": strconv.Itoa(n.Port()), "user": user, "dbname": database, "sslmode": "disable",
	}
	if user == c.options.Superuser {
		values["password"] = c.options.Password
	}
	return connString(values)
}

// Connect opens a connection as any role; an empty password means the superuser's. The caller closes it.
func (n *Node) Connect(ctx context.Context, user, password, database string) (*pgconn.PgConn, error) {
	if password == "" {
		password = n.c.options.Password
	}
	config, err := Config(n.Addr(), user, password, database)
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", n.name, err)
	}
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to node %s: %w", n.name, err)
	}
	return conn, nil
}

// Exec runs SQL as the superuser in database postgres on a connection of its own; several statements may be separated
// by semicolons and are then one transaction, as in every simple Query message.
func (n *Node) Exec(ctx context.Context, sql string) error { return n.ExecIn(ctx, "postgres", sql) }

// ExecIn is Exec in another database.
func (n *Node) ExecIn(ctx context.Context, database, sql string) error {
	_, err := n.QueryIn(ctx, database, sql)
	return err
}

// Query runs SQL like Exec and returns the rows of the last statement as text; NULL is "".
func (n *Node) Query(ctx context.Context, sql string) ([][]string, error) {
	return n.QueryIn(ctx, "postgres", sql)
}

// QueryIn is Query in another database.
func (n *Node) QueryIn(ctx context.Context, database, sql string) ([][]string, error) {
	conn, err := n.Connect(ctx, n.c.options.Superuser, "", database)
	if err != nil {
		return nil, err
	}
	defer disconnect(conn)
	rows, err := query(ctx, conn, sql)
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", n.name, err)
	}
	return rows, nil
}

// QueryRow runs SQL like Exec and returns its only row as text. No row, or more than one, is an error.
func (n *Node) QueryRow(ctx context.Context, sql string) ([]string, error) {
	rows, err := n.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	if len(rows) != 1 {
		return nil, fmt.Errorf("node %s: %d rows instead of one", n.name, len(rows))
	}
	return rows[0], nil
}

// Value runs SQL like Exec and returns the only column of its only row as text.
func (n *Node) Value(ctx context.Context, sql string) (string, error) {
	row, err := n.QueryRow(ctx, sql)
	if err != nil {
		return "", err
	}
	if len(row) != 1 {
		return "", fmt.Errorf("node %s: %d columns instead of one", n.name, len(row))
	}
	return row[0], nil
}

// alterSystem changes settings of a running server and reloads it. ALTER SYSTEM does not run inside a transaction, so
// each is a message of its own.
func (n *Node) alterSystem(ctx context.Context, settings map[string]string) error {
	conn, err := n.Connect(ctx, n.c.options.Superuser, "", "postgres")
	if err != nil {
		return err
	}
	defer disconnect(conn)
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if _, err := query(ctx, conn, "ALTER SYSTEM SET "+name+" = "+quoteLiteral(settings[name])); err != nil {
			return fmt.Errorf("node %s: set %s: %w", n.name, name, err)
		}
	}
	if _, err := query(ctx, conn, "SELECT pg_reload_conf()"); err != nil {
		return fmt.Errorf("node %s: reload: %w", n.name, err)
	}
	return nil
}

// query runs one simple Query message and returns the rows of the last result.
func query(ctx context.Context, conn *pgconn.PgConn, sql string) ([][]string, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(results) == 0 {
		return nil, nil
	}
	var rows [][]string
	for _, values := range results[len(results)-1].Rows {
		row := make([]string, len(values))
		for i, value := range values {
			row[i] = string(value)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// disconnect says goodbye; a server that does not listen any more gets a second, then the socket is closed.
func disconnect(conn *pgconn.PgConn) {
	// The caller's context may have ended, which must not keep the connection from being closed.
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}

// transient reports whether an error is worth another try: the server is not there, or starting (57P03), or going
// (57P01). See https://www.postgresql.org/docs/current/errcodes-appendix.html.
func transient(err error) bool {
	var pgError *pgconn.PgError
	if errors.As(err, &pgError) {
		return pgError.Code == "57P03" || pgError.Code == "57P01"
	}
	return err != nil
}
