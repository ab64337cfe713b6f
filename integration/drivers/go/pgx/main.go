// Command pgx is a program that uses pgx for what its native interface does: a pool of sessions, batches, COPY with binary
// values, notifications, and every way it has to run a statement.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/jackc/pgx/v5"

	"github.com/fairwaydb/fairway/integration/drivers/go/check"
)

var (
	url = os.Args[1]
	ctx = context.Background()

	modes = []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
		pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	}
)

func main() {
	check.Run("a read after a write is never stale, in any mode", ownWrites)
	check.Run("a pool of sessions, each with its statements", pool)
	check.Run("batches keep their order, and fail as a whole", batches)
	check.Run("COPY takes binary values, and nothing when it fails", copies)
	check.Run("values of many types, binary and text", values)
	check.Run("a context that ends cancels the client's own statement alone", cancels)
	check.Run("notifications arrive while the client is idle", notifications)
	check.Run("what lives in one session stays with it", sessionState)
	check.Run("many sessions commit conflicting transactions with retries", conflicts)
	check.Run("sessions outlive a restart of the primary", restart)
}

// connect opens a connection that the function closes which it returns.
func connect() (*pgx.Conn, func(), error) {
	c, err := pgx.Connect(ctx, url)
	return c, func() { _ = c.Close(ctx) }, err
}

// value is the only column of the only row.
func value[T any](q interface {
	QueryRow(context.Context, string, ...any) pgx.Row
}, sql string, args ...any,
) (v T, err error) {
	err = q.QueryRow(ctx, sql, args...).Scan(&v)
	return v, err
}

// want fails unless the statement returns that value.
func want[T any](q interface {
	QueryRow(context.Context, string, ...any) pgx.Row
}, wanted T, sql string, args ...any,
) error {
	got, err := value[T](q, sql, args...)
	if err == nil {
		err = check.Equal(got, wanted)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}
