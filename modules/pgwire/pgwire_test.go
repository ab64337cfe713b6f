package pgwire

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scriptConn is a connection in memory: each Read gives the next step, bytes or an error, and what is written is
// kept. After the last step it is at its end.
type scriptConn struct {
	net.Conn // nil: a call of anything else fails loudly

	steps    []any // []byte or error
	reads    int
	most     int // largest buffer Read was given
	written  bytes.Buffer
	writes   int
	writeErr error // given by every Write when set
}

func (c *scriptConn) Read(p []byte) (int, error) {
	c.reads++
	c.most = max(c.most, len(p))
	if len(c.steps) == 0 {
		return 0, io.EOF
	}
	switch step := c.steps[0].(type) {
	case error:
		c.steps = c.steps[1:]
		return 0, step
	case []byte:
		n := copy(p, step)
		if n == len(step) {
			c.steps = c.steps[1:]
		} else {
			c.steps[0] = step[n:]
		}
		return n, nil
	}
	panic("scriptConn: a step is bytes or an error")
}

func (c *scriptConn) Write(p []byte) (int, error) {
	c.writes++
	if c.writeErr != nil {
		return 0, c.writeErr
	}
	return c.written.Write(p)
}

// script is a connection that delivers the stream in pieces of k bytes, all at once when k is 0.
func script(stream []byte, k int) *scriptConn {
	c := &scriptConn{}
	for len(stream) > 0 {
		n := len(stream)
		if k > 0 {
			n = min(k, n)
		}
		c.steps = append(c.steps, stream[:n:n])
		stream = stream[n:]
	}
	return c
}

// interrupted is like script with a timeout before every piece.
func interrupted(stream []byte, k int) *scriptConn {
	c := script(stream, k)
	var steps []any
	for _, s := range c.steps {
		steps = append(steps, error(os.ErrDeadlineExceeded), s)
	}
	c.steps = append(steps, os.ErrDeadlineExceeded)
	return c
}

// loopConn gives the same stream over and over again and swallows what is written.
type loopConn struct {
	net.Conn
	stream []byte
	at     int
}

func (c *loopConn) Read(p []byte) (int, error) {
	n := copy(p, c.stream[c.at:])
	c.at = (c.at + n) % len(c.stream)
	return n, nil
}

func (c *loopConn) Write(p []byte) (int, error) { return len(p), nil }

// frame builds a frame without the code under test.
func frame(typ byte, body string) []byte {
	b := binary.BigEndian.AppendUint32([]byte{typ}, uint32(len(body)+4))
	return append(b, body...)
}

func join(frames ...[]byte) []byte { return bytes.Join(frames, nil) }

// filler is a body of n bytes that differ from their neighbours.
func filler(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7)
	}
	return string(b)
}

func mustNext(t *testing.T, r *Reader, typ byte, n int) {
	t.Helper()
	gotTyp, gotN, err := r.Next()
	if err != nil || gotTyp != typ || gotN != n {
		t.Fatalf("Next() = %q, %d, %v; want %q, %d", gotTyp, gotN, err, typ, n)
	}
}
