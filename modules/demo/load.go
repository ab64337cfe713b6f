package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fairwaydb/fairway/modules/pgtest"
)

const (
	// items is the number of rows of the demo's table. The load changes rows and adds none: it cannot fill a disk.
	items = 1000
	// pace is the least time between two statements of one client: a light load, so that the machine stays usable.
	pace = 25 * time.Millisecond
	// writeShare is how many statements of a hundred write.
	writeShare = 20
	// patience bounds one statement; it is longer than a failover may hold a statement back (failover_wait).
	patience = 20 * time.Second
	// lastWords is how long a statement may run on when the demo ends.
	lastWords = 2 * time.Second
)

// load is a set of clients of the proxy that read and write a little.
type load struct {
	addr    string
	clients int
	wg      sync.WaitGroup

	mu struct {
		sync.Mutex
		total, failed int64
		slowest       time.Duration
		lastFail      string
		counted       int64 // total at the last summary
		since         time.Time
	}
}

// newLoad prepares clients that connect to addr.
func newLoad(addr string, clients int) *load {
	l := &load{addr: addr, clients: clients}
	l.mu.since = time.Now()
	return l
}

// start starts the clients; they end with ctx, and wait waits for that.
func (l *load) start(ctx context.Context) {
	for range l.clients {
		l.wg.Go(func() { l.client(ctx) })
	}
}

func (l *load) wait() { l.wg.Wait() }

// client is one client: it connects again when its connection is lost, as applications do.
func (l *load) client(ctx context.Context) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	var conn *pgconn.PgConn
	for {
		select {
		case <-ctx.Done():
			if conn != nil {
				goodbye(conn)
			}
			return
		case <-tick.C:
		}
		began := time.Now()
		var err error
		if conn == nil {
			conn, err = l.connect(ctx)
		}
		if err == nil {
			err = statement(ctx, conn)
		}
		if ctx.Err() != nil {
			continue // an error of our own making
		}
		l.count(time.Since(began), err)
		if conn != nil && conn.IsClosed() {
			conn = nil
		}
	}
}

// connect opens a connection through the proxy.
func (l *load) connect(ctx context.Context) (*pgconn.PgConn, error) {
	config, err := pgtest.Config(l.addr, demoRole, "", demoDatabase)
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["application_name"] = "load"
	return pgconn.ConnectConfig(ctx, config)
}

// statement runs one statement: mostly a read of the table, sometimes a write. Parameters are bound, so that the
// prepared statements of the extended protocol are in the picture too.
func statement(ctx context.Context, conn *pgconn.PgConn) error {
	ending := ctx
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	// A statement under way when the demo ends is let finish, within limits.
	defer context.AfterFunc(ending, func() { time.AfterFunc(lastWords, cancel) })()
	sql := "SELECT id, name, stock FROM items WHERE id = $1::int"
	if rand.IntN(100) < writeShare {
		sql = "UPDATE items SET stock = stock + 1 WHERE id = $1::int"
	}
	id := strconv.Itoa(1 + rand.IntN(items))
	_, err := conn.ExecParams(ctx, sql, [][]byte{[]byte(id)}, nil, nil, nil).Close()
	return err
}

// count enters the outcome of one statement.
func (l *load) count(took time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.total++
	l.mu.slowest = max(l.mu.slowest, took)
	if err == nil {
		return
	}
	l.mu.failed++
	l.mu.lastFail = err.Error()
	var pgError *pgconn.PgError
	if errors.As(err, &pgError) {
		l.mu.lastFail = fmt.Sprintf("%s %s", pgError.Code, pgError.Message)
	}
}

// summary returns what happened since the last one.
func (l *load) summary(now time.Time) loadSummary {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := loadSummary{
		clients: l.clients, total: l.mu.total, failed: l.mu.failed, slowest: l.mu.slowest, lastFail: l.mu.lastFail,
	}
	if passed := now.Sub(l.mu.since).Seconds(); passed > 0 {
		s.rate = float64(l.mu.total-l.mu.counted) / passed
	}
	l.mu.counted, l.mu.since, l.mu.slowest = l.mu.total, now, 0
	return s
}

// goodbye closes a connection; a server that does not answer gets a second.
func goodbye(conn *pgconn.PgConn) {
	// Its own context: the demo's has ended when this is called.
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}
