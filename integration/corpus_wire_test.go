package integration_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// runExtended sends each statement of a file by itself by the extended protocol, all values as text, and returns what the server said to it,
// message by message.
func runExtended(ctx context.Context, addr, user, database string, statements []corpusStatement) ([]string, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	r, w := pgwire.NewReader(conn, nil, 8192), pgwire.NewWriter(conn, 8192)
	w.Startup(pgwire.Version30, []pgwire.Param{{Name: "user", Value: user}, {Name: "database", Value: database}})
	answers := make([]string, 0, len(statements))
	for i := -1; i < len(statements); i++ {
		rows := ""
		if i >= 0 {
			writeExtended(w, statements[i].sql)
			rows = statements[i].rows
		}
		if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
			return nil, err
		}
		answer, err := readExtended(r, w, rows)
		if err != nil {
			return answers, fmt.Errorf("after %q: %w", answer, err)
		}
		if i >= 0 {
			answers = append(answers, answer)
		}
	}
	w.Terminate()
	return answers, w.Flush()
}

// writeExtended writes the messages of one statement.
func writeExtended(w *pgwire.Writer, sql string) {
	w.Parse("", sql, []byte{0, 0})
	w.Frame('B', make([]byte, 2+2+2+2)) // no names, no formats, no values, results as text
	w.Frame('D', []byte{'P', 0})
	w.Frame('E', make([]byte, 1+4)) // no name, all rows
	w.Sync()
}

// readExtended reads until ReadyForQuery, one line for each message. A server that asks for the rows of a COPY gets them, and the Sync that it
// has overlooked.
func readExtended(r *pgwire.Reader, w *pgwire.Writer, rows string) (string, error) {
	if err := w.Flush(); err != nil {
		return "", err
	}
	var said strings.Builder
	for {
		typ, _, err := r.Next()
		if err != nil {
			return said.String(), err
		}
		body, err := r.Body()
		if err != nil {
			return said.String(), err
		}
		said.WriteString(showMessage(typ, body) + "\n")
		switch typ {
		case pgwire.MsgReadyForQuery:
			return said.String(), nil
		case pgwire.MsgCopyIn:
			w.Frame('d', []byte(rows))
			w.Frame('c', nil)
			w.Sync()
			if err := w.Flush(); err != nil {
				return said.String(), err
			}
		}
	}
}

// firstOID is the first number that PostgreSQL gives to objects that users make; they differ between two databases.
const firstOID = 16384

// showMessage renders a message for comparison: without what differs between two databases.
func showMessage(typ byte, body []byte) string {
	switch typ {
	case pgwire.MsgError, pgwire.MsgNotice:
		return fmt.Sprintf("%c %s", typ, strings.ReplaceAll(strings.TrimRight(string(body), "\x00"), "\x00", " | "))
	case pgwire.MsgRowDescription:
		return "T " + showColumns(body)
	case pgwire.MsgDataRow:
		var values []string
		for rest := body[2:]; len(rest) > 0; {
			n := int32(binary.BigEndian.Uint32(rest))
			if rest = rest[4:]; n < 0 {
				values = append(values, "NULL")
				continue
			}
			values, rest = append(values, string(rest[:n])), rest[n:]
		}
		return "D " + strings.Join(values, " | ")
	case pgwire.MsgNotification: // without the process
		return fmt.Sprintf("A %q", body[4:])
	}
	return fmt.Sprintf("%c %q", typ, body)
}

// showColumns renders the columns of a RowDescription.
func showColumns(body []byte) string {
	number := func(oid uint32) string {
		if oid >= firstOID {
			return "own"
		}
		return fmt.Sprint(oid)
	}
	var columns []string
	for rest := body[2:]; len(rest) > 0; {
		name, tail, _ := pgwire.ParseCString(rest)
		columns = append(columns, fmt.Sprintf("%s(table %s, column %d, type %s, %v)", name, number(binary.BigEndian.Uint32(tail)),
			binary.BigEndian.Uint16(tail[4:]), number(binary.BigEndian.Uint32(tail[6:])), tail[10:18]))
		rest = tail[18:]
	}
	return strings.Join(columns, " ")
}
