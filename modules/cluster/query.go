package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// query runs one statement by the extended protocol, parameters and results as
// text, and gives each row to row; its values are borrowed, nil is NULL. A name
// keeps the statement prepared: sql is empty when it is already. After an error
// that leaves the connection unusable l.broken is set.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY.
func (l *link) query(ctx context.Context, name, sql string, args []string, row func(values [][]byte) error) error {
	done := watch(ctx, l.conn)
	if sql != "" {
		l.w.Parse(name, sql, []byte{0, 0})
	}
	l.bind(name, args)
	err := l.w.Flush()
	if err == nil {
		err = l.read(row)
	} else {
		l.broken = true
	}
	if ended := done(); ended != nil {
		l.broken = true
		if err == nil {
			return ended
		}
		return fmt.Errorf("%w (%w)", ended, err)
	}
	return err
}

// bind sends Bind, Execute and Sync.
func (l *link) bind(name string, args []string) {
	l.w.Begin(pgwire.MsgBind)
	l.w.String("")
	l.w.String(name)
	l.w.Int16(0)
	l.w.Int16(len(args))
	for _, a := range args {
		l.w.Int32(len(a))
		l.w.Bytes([]byte(a))
	}
	l.w.Int16(0)
	l.w.End()
	l.w.Begin(pgwire.MsgExecute)
	l.w.String("")
	l.w.Int32(0)
	l.w.End()
	l.w.Sync()
}

// read takes the replies until ReadyForQuery.
func (l *link) read(row func(values [][]byte) error) error {
	var failed error
	var values [][]byte
	for {
		typ, _, err := l.r.Next()
		if err != nil {
			l.broken = true
			return errors.Join(failed, fmt.Errorf("read reply: %w", err))
		}
		body, err := l.r.Body()
		if err != nil {
			l.broken = true
			return errors.Join(failed, fmt.Errorf("read reply: %w", err))
		}
		switch typ {
		case pgwire.MsgDataRow:
			if values, err = decodeRow(values[:0], body); err == nil && failed == nil {
				err = row(values)
			}
			if failed == nil {
				failed = err
			}
		case pgwire.MsgError:
			if failed == nil {
				failed = pgwire.ParseError(body)
			}
		case pgwire.MsgReadyForQuery:
			return failed
		}
	}
}

// decodeRow splits a DataRow into its values.
func decodeRow(values [][]byte, body []byte) ([][]byte, error) {
	if len(body) < 2 {
		return nil, fmt.Errorf("%w: DataRow of %d bytes", ErrProtocol, len(body))
	}
	n := int(binary.BigEndian.Uint16(body))
	body = body[2:]
	for range n {
		if len(body) < 4 {
			return nil, fmt.Errorf("%w: truncated DataRow", ErrProtocol)
		}
		size := int(int32(binary.BigEndian.Uint32(body)))
		body = body[4:]
		if size < 0 {
			values = append(values, nil)
			continue
		}
		if size > len(body) {
			return nil, fmt.Errorf("%w: truncated DataRow", ErrProtocol)
		}
		values = append(values, body[:size:size])
		body = body[size:]
	}
	return values, nil
}

// farewell bounds the goodbye to a server that may not listen any more.
const farewell = time.Second

// close says goodbye and closes the connection.
func (l *link) close() {
	if !l.broken {
		_ = l.conn.SetDeadline(time.Now().Add(farewell))
		l.w.Terminate()
		_ = l.w.Flush()
	}
	_ = l.conn.Close()
}
