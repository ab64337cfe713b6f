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
	if _, err := readUntil(r, w, "Z"); err != nil {
		return nil, fmt.Errorf("log in: %w", err)
	}
	answers := make([]string, 0, len(statements))
	for _, s := range statements {
		if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
			return nil, err
		}
		answer, err := askExtended(r, w, s)
		if err != nil {
			return answers, fmt.Errorf("%s: after %q: %w", s.sql, answer, err)
		}
		answers = append(answers, answer)
	}
	w.Terminate()
	return answers, w.Flush()
}

// askExtended sends one statement. The Sync of a COPY waits until the rows are sent: before them it would be overlooked, or not, as the server
// is quick to fail.
func askExtended(r *pgwire.Reader, w *pgwire.Writer, s corpusStatement) (string, error) {
	w.Parse("", s.sql, []byte{0, 0})
	w.Frame('B', make([]byte, 2+2+2+2)) // no names, no formats, no values, results as text
	w.Frame('D', []byte{'P', 0})
	w.Frame('E', make([]byte, 1+4)) // no name, all rows
	before := ""
	if copyIn.MatchString(s.sql) {
		w.Frame('H', nil)
		var err error
		if before, err = readUntil(r, w, "GE"); err != nil {
			return before, err
		}
		if strings.HasPrefix(before[strings.LastIndexByte(before[:len(before)-1], '\n')+1:], "G") {
			w.Frame('d', []byte(s.rows))
			w.Frame('c', nil)
		}
	}
	w.Sync()
	after, err := readUntil(r, w, "Z")
	return before + after, err
}

// readUntil sends what is written and reads until a message of one of these types, one line for each message.
func readUntil(r *pgwire.Reader, w *pgwire.Writer, types string) (string, error) {
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
		if strings.IndexByte(types, typ) >= 0 {
			return said.String(), nil
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
