// Package load is a client of PostgreSQL made for load: thousands of connections in one process, few bytes held for
// each. It speaks just enough of the protocol for the benchmark, and for nothing else.
// See https://www.postgresql.org/docs/current/protocol-flow.html.
package load

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Target is where to connect, and as whom.
type Target struct {
	Addr     string // host:port
	User     string
	Password string // needed when the server asks for SCRAM-SHA-256
	Database string
}

// Client is one connection. It is used by one goroutine at a time.
type Client struct {
	conn net.Conn
	r    *bufio.Reader
	out  []byte // the request being built
}

// loginLimit bounds a login, connecting included.
const loginLimit = time.Minute

// Dial connects and logs in, without TLS.
func Dial(ctx context.Context, t Target) (*Client, error) {
	ctx, cancel := context.WithTimeout(ctx, loginLimit)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", t.Addr)
	if err != nil {
		return nil, err
	}
	c := &Client{conn: conn, r: bufio.NewReaderSize(conn, 1024)}
	if err := c.login(t); err != nil {
		conn.Close()
		return nil, fmt.Errorf("log in at %s: %w", t.Addr, err)
	}
	return c, nil
}

// Close says goodbye and closes the connection.
func (c *Client) Close() error {
	_, err := c.conn.Write([]byte{'X', 0, 0, 0, 4})
	return errors.Join(err, c.conn.Close())
}

// message begins a message of the type; end finishes it by setting its length.
func (c *Client) message(typ byte) (start int) {
	c.out = append(c.out, typ, 0, 0, 0, 0)
	return len(c.out) - 4
}

func (c *Client) end(start int) {
	binary.BigEndian.PutUint32(c.out[start:], uint32(len(c.out)-start))
}

// text appends a string with its final NUL.
func (c *Client) text(s string) { c.out = append(append(c.out, s...), 0) }

// flush sends what was built.
func (c *Client) flush() error {
	_, err := c.conn.Write(c.out)
	c.out = c.out[:0]
	return err
}

// login sends the startup packet and answers until the server is ready.
func (c *Client) login(t Target) error {
	if err := c.conn.SetDeadline(time.Now().Add(loginLimit)); err != nil {
		return err
	}
	c.out = append(c.out, 0, 0, 0, 0, 0, 3, 0, 0) // length, version 3.0
	for _, s := range []string{"user", t.User, "database", t.Database, ""} {
		c.text(s)
	}
	c.end(0)
	if err := c.flush(); err != nil {
		return err
	}
	var s *scram
	for {
		typ, body, err := c.next()
		if err != nil {
			return err
		}
		switch typ {
		case 'R':
			if s, err = c.authenticate(t, s, body); err != nil {
				return err
			}
		case 'Z':
			return c.conn.SetDeadline(time.Time{})
		}
	}
}

// authenticate answers one request of the server.
func (c *Client) authenticate(t Target, s *scram, body []byte) (*scram, error) {
	if len(body) < 4 {
		return nil, fmt.Errorf("authentication request of %d bytes", len(body))
	}
	const ok, start, more, final = 0, 10, 11, 12
	switch kind, data := binary.BigEndian.Uint32(body), string(body[4:]); kind {
	case ok:
		return s, nil
	case start:
		s = newSCRAM(t.Password)
		at := c.message('p')
		c.text("SCRAM-SHA-256")
		first := s.first()
		c.out = binary.BigEndian.AppendUint32(c.out, uint32(len(first)))
		c.out = append(c.out, first...)
		c.end(at)
		return s, c.flush()
	case more:
		if s == nil {
			return nil, errors.New("SCRAM goes on before it has begun")
		}
		answer, err := s.answer(data)
		if err != nil {
			return nil, err
		}
		at := c.message('p')
		c.out = append(c.out, answer...)
		c.end(at)
		return s, c.flush()
	case final:
		if s == nil {
			return nil, errors.New("SCRAM ends before it has begun")
		}
		return s, s.verify(data)
	default:
		return nil, fmt.Errorf("authentication request %d is not spoken here", kind)
	}
}

// next reads one message. Its body is valid until the next call. ErrorResponse becomes an error.
func (c *Client) next() (typ byte, body []byte, err error) {
	head, err := c.r.Peek(5)
	if err != nil {
		return 0, nil, err
	}
	typ = head[0]
	size := int(binary.BigEndian.Uint32(head[1:])) - 4
	if size < 0 {
		return 0, nil, fmt.Errorf("message %q of %d bytes", typ, size)
	}
	if _, err := c.r.Discard(5); err != nil {
		return 0, nil, err
	}
	// Only what is looked at is kept.
	if typ != 'R' && typ != 'E' && typ != 'Z' {
		_, err := c.r.Discard(size)
		return typ, nil, err
	}
	body = make([]byte, size)
	if _, err := io.ReadFull(c.r, body); err != nil {
		return 0, nil, err
	}
	if typ == 'E' {
		return typ, nil, serverError(body)
	}
	return typ, body, nil
}

// serverError is what an ErrorResponse says: its SQLSTATE and its text.
func serverError(body []byte) error {
	var code, text string
	for len(body) > 1 {
		field := body[0]
		end := 1
		for end < len(body) && body[end] != 0 {
			end++
		}
		switch value := string(body[1:end]); field {
		case 'C':
			code = value
		case 'M':
			text = value
		}
		body = body[min(end+1, len(body)):]
	}
	return fmt.Errorf("%s (SQLSTATE %s)", text, code)
}

// untilReady reads up to ReadyForQuery.
func (c *Client) untilReady() error {
	for {
		typ, _, err := c.next()
		if err != nil {
			return err
		}
		if typ == 'Z' {
			return nil
		}
	}
}

// Query runs SQL by the simple protocol and drops what it returns. After an error the connection is of no more use.
func (c *Client) Query(sql string) error {
	at := c.message('Q')
	c.text(sql)
	c.end(at)
	if err := c.flush(); err != nil {
		return err
	}
	return c.untilReady()
}

// Prepare prepares a statement under a name.
func (c *Client) Prepare(name, sql string) error {
	at := c.message('P')
	c.text(name)
	c.text(sql)
	c.out = append(c.out, 0, 0) // no parameter types
	c.end(at)
	c.end(c.message('S'))
	if err := c.flush(); err != nil {
		return err
	}
	return c.untilReady()
}

// Execute runs a prepared statement with one parameter, as text, and drops what it returns.
func (c *Client) Execute(name, value string) error {
	at := c.message('B')
	c.text("")
	c.text(name)
	c.out = append(c.out, 0, 0, 0, 1) // no formats: all text; one value
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(len(value)))
	c.out = append(c.out, value...)
	c.out = append(c.out, 0, 0)
	c.end(at)
	at = c.message('E')
	c.text("")
	c.out = append(c.out, 0, 0, 0, 0) // all rows
	c.end(at)
	c.end(c.message('S'))
	if err := c.flush(); err != nil {
		return err
	}
	return c.untilReady()
}
