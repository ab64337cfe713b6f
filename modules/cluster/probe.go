package cluster

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// prober asks one server. It is used by one goroutine; a method returns soon
// after its context has ended.
type prober interface {
	// probe asks for everything, and connects if need be. took is the time the
	// server needed to answer, without connecting.
	probe(ctx context.Context) (f facts, took time.Duration, err error)
	// position asks for the position only, on the connection of the last probe.
	position(ctx context.Context) (position, error)
	close()
}

// The statements of the monitor. The replay position is read before the
// timeline: a standby that changes to another timeline in between is then seen
// on the later one with the earlier position. See
// https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADMIN-BACKUP and
// https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-WAL-RECEIVER-VIEW.
const (
	positionColumns = `SELECT r.r,
 CASE WHEN r.r THEN pg_catalog.pg_last_wal_replay_lsn() END,
 CASE WHEN r.r THEN (SELECT received_tli FROM pg_catalog.pg_stat_wal_receiver) END,
 CASE WHEN NOT r.r THEN pg_catalog.pg_current_wal_flush_lsn() END,
 CASE WHEN NOT r.r THEN pg_catalog.pg_current_wal_insert_lsn() END`

	probeColumns = `,
 (EXTRACT(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::pg_catalog.int8,
 s.system_identifier,
 CASE WHEN r.r THEN (SELECT min_recovery_end_timeline FROM pg_catalog.pg_control_recovery()) END,
 CASE WHEN NOT r.r THEN pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8) END,
 CASE WHEN r.r THEN (EXTRACT(epoch FROM
   pg_catalog.clock_timestamp() - pg_catalog.pg_last_xact_replay_timestamp()) * 1000000)::pg_catalog.int8 END,
 i.wal_block_size, i.bytes_per_wal_segment` + signalColumn

	// OFFSET 0 keeps the planner from asking more than once.
	recovery = ` FROM (SELECT pg_catalog.pg_is_in_recovery() AS r OFFSET 0) r`

	positionSQL = positionColumns + recovery
	probeSQL    = positionColumns + probeColumns + recovery +
		`, pg_catalog.pg_control_system() s, pg_catalog.pg_control_init() i`
)

// errNoLink says that there is no connection to ask on: the next probe makes one.
var errNoLink = errors.New("not connected")

// serverProber asks a PostgreSQL server on a connection of its own.
type serverProber struct {
	b *Backend

	l        *link
	made     *Settings // what l was made under
	prepared map[string]bool
	wal      walSizes
	defaults *Defaults // as last read
}

// probe implements prober. A connection that has broken since the last time says
// nothing about the server: it is made anew once.
func (p *serverProber) probe(ctx context.Context) (facts, time.Duration, error) {
	s := p.b.settings()
	if p.l != nil && p.made != s && !p.made.sameLogin(s) {
		p.close()
	}
	if p.l != nil {
		f, took, err := p.ask(ctx)
		if err == nil || p.l != nil || ctx.Err() != nil {
			return f, took, err
		}
	}
	l, err := p.b.connectOwn(ctx, s)
	if err != nil {
		return facts{}, 0, err
	}
	p.l, p.made, p.prepared = l, s, make(map[string]bool)
	return p.ask(ctx)
}

// ask runs the probe on the connection there is.
func (p *serverProber) ask(ctx context.Context) (f facts, took time.Duration, err error) {
	sent := Now()
	var signal string
	err = p.run(ctx, "probe", probeSQL, func(v []string) (err error) {
		if f, err = p.facts(v); err == nil {
			signal = v[12]
		}
		return err
	})
	f.at.sentAt = sent
	took = sent.Since()
	if err == nil {
		f.defaults = p.learnDefaults(ctx, signal)
	}
	return f, took, err
}

// position implements prober.
func (p *serverProber) position(ctx context.Context) (at position, err error) {
	if p.l == nil {
		return at, errNoLink
	}
	sent := Now()
	err = p.run(ctx, "position", positionSQL, func(v []string) (err error) {
		at, err = p.where(v)
		return err
	})
	at.sentAt = sent
	return at, err
}

// run runs a statement that returns one row, prepared the first time. NULL is
// the empty string. A broken connection is closed.
func (p *serverProber) run(ctx context.Context, name, sql string, row func(v []string) error) error {
	if p.prepared[name] {
		sql = ""
	}
	rows := 0
	err := p.l.query(ctx, name, sql, nil, func(values [][]byte) error {
		rows++
		v := make([]string, len(values))
		for i := range values {
			v[i] = string(values[i])
		}
		return row(v)
	})
	if err == nil && rows != 1 {
		err = fmt.Errorf("%w: %d rows for the probe", ErrProtocol, rows)
	}
	if err != nil {
		if p.l.broken {
			p.close()
		}
		return fmt.Errorf("probe backend %s: %w", p.b.name, err)
	}
	p.prepared[name] = true
	return nil
}

// where reads the columns of a position.
func (p *serverProber) where(v []string) (at position, err error) {
	if len(v) < 5 {
		return at, fmt.Errorf("%w: %d columns for the probe", ErrProtocol, len(v))
	}
	at.recovery = v[0] == "t"
	for _, c := range []struct {
		text string
		to   *LSN
	}{{v[1], &at.replay}, {v[3], &at.flush}, {v[4], &at.insert}} {
		if c.text == "" {
			continue
		}
		if *c.to, err = ParseLSN(c.text); err != nil {
			return at, err
		}
	}
	at.insert = at.insert.settle(p.wal)
	at.timeline = uint32(number(v[2], 10, 32, &err))
	return at, err
}

// facts reads the columns of a probe.
func (p *serverProber) facts(v []string) (f facts, err error) {
	if len(v) < 13 {
		return f, fmt.Errorf("%w: %d columns for the probe", ErrProtocol, len(v))
	}
	f.incarnation = v[5]
	f.systemID = number(v[6], 10, 64, &err)
	received := uint32(number(v[7], 10, 32, &err))
	own := uint32(number(v[8], 16, 32, &err))
	f.replayAge = -1
	if v[9] != "" {
		age, failed := strconv.ParseInt(v[9], 10, 64)
		if failed != nil {
			err = fmt.Errorf("%w: %w", ErrProtocol, failed)
		}
		f.replayAge = max(time.Duration(age)*time.Microsecond, 0)
	}
	p.wal.page = LSN(number(v[10], 10, 32, &err))
	p.wal.segment = LSN(number(v[11], 10, 64, &err))
	f.wal = p.wal
	if err != nil {
		return f, err
	}
	if f.at, err = p.where(v); err != nil {
		return f, err
	}
	switch {
	case !f.at.recovery:
		f.timeline = own
	case f.at.timeline != 0:
		f.timeline = f.at.timeline
	default:
		f.timeline = received
	}
	return f, nil
}

// number parses an unsigned number, 0 for NULL. A failure goes to err.
func number(s string, base, bits int, err *error) uint64 {
	if s == "" {
		return 0
	}
	n, failed := strconv.ParseUint(s, base, bits)
	if failed != nil {
		*err = fmt.Errorf("%w: %w", ErrProtocol, failed)
	}
	return n
}

// close implements prober.
func (p *serverProber) close() {
	if p.l != nil {
		p.l.close()
		p.l = nil
	}
}

// connectOwn opens a connection with the cluster's own account. Whatever the
// account's defaults are, its statements mean what they say: the search path is
// pinned, and none can run for ever.
func (b *Backend) connectOwn(ctx context.Context, s *Settings) (*link, error) {
	const buffer = 4 << 10
	return b.connect(ctx, &s.server, []pgwire.Param{
		{Name: "user", Value: s.login.user},
		{Name: "database", Value: s.login.database},
		{Name: "application_name", Value: "fairway"},
		{Name: "search_path", Value: "pg_catalog"},
		{Name: "client_encoding", Value: "UTF8"},
		{Name: "statement_timeout", Value: strconv.FormatInt(s.Monitor.Timeout.Milliseconds(), 10)},
	}, s.login.secret, buffer, buffer)
}

// Interface guard.
var _ prober = (*serverProber)(nil)
