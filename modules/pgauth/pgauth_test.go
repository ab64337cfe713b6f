package pgauth

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

func TestSecretIsRedacted(t *testing.T) {
	s := Secret{Password: "swordfish", ClientKey: []byte("client-key"), ServerKey: []byte("server-key")}
	inside := struct{ Inner Secret }{s}
	var shown []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%10s"} {
		shown = append(shown, fmt.Sprintf(verb, s), fmt.Sprintf(verb, &s), fmt.Sprintf(verb, inside))
	}
	text, err := s.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	inJSON, err := json.Marshal(map[string]any{"value": s, "pointer": &s, "inside": inside})
	if err != nil {
		t.Fatal(err)
	}
	shown = append(shown, s.String(), s.GoString(), string(text), string(inJSON))
	for _, text := range shown {
		if !strings.Contains(text, redacted) {
			t.Errorf("%q does not say that something is redacted", text)
		}
		for _, part := range []string{"swordfish", "client-key", "Y2xpZW50", "636c69656e74", "636C69656E74", "99 108 105"} {
			if strings.Contains(text, part) {
				t.Errorf("%q shows a part of the secret", text)
			}
		}
	}
}

func TestSecretIsZero(t *testing.T) {
	for name, c := range map[string]struct {
		secret Secret
		want   bool
	}{
		"nothing is zero":          {Secret{}, true},
		"empty keys are zero":      {Secret{ClientKey: []byte{}, ServerKey: []byte{}}, true},
		"a password is not zero":   {Secret{Password: "x"}, false},
		"a client key is not zero": {Secret{ClientKey: []byte("x")}, false},
		"a server key is not zero": {Secret{ServerKey: []byte("x")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.secret.IsZero(); got != c.want {
				t.Errorf("IsZero() = %v, want %v", got, c.want)
			}
		})
	}
}

// scripted is a connection that says what it was given and then ends, and keeps what is written to it.
type scripted struct {
	net.Conn
	in      io.Reader
	out     bytes.Buffer
	refuses error // of writes
}

func (s *scripted) Read(p []byte) (int, error) { return s.in.Read(p) }

func (s *scripted) Write(p []byte) (int, error) {
	if s.refuses != nil {
		return 0, s.refuses
	}
	return s.out.Write(p)
}

func (*scripted) Close() error                     { return nil }
func (*scripted) SetDeadline(time.Time) error      { return nil }
func (*scripted) SetReadDeadline(time.Time) error  { return nil }
func (*scripted) SetWriteDeadline(time.Time) error { return nil }

// script is a scripted connection and the Reader and Writer over it.
func script(frames ...[]byte) (*scripted, *pgwire.Reader, *pgwire.Writer) {
	c := &scripted{in: bytes.NewReader(bytes.Join(frames, nil))}
	return c, pgwire.NewReader(c, nil, 4096), pgwire.NewWriter(c, 4096)
}

// frame builds one frame by hand, so that a wrong one can be built as well.
func frame(typ byte, body string) []byte {
	n := len(body) + 4
	return append([]byte{typ, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, body...)
}

// request is an AuthenticationXxx message.
func request(code byte, data string) []byte {
	return frame('R', string([]byte{0, 0, 0, code})+data)
}

// peer is one end of a connection.
type peer struct {
	conn net.Conn
	r    *pgwire.Reader
	w    *pgwire.Writer
}

// pipe is a connection with both ends; they are closed with the test.
func pipe(t *testing.T) (client, server peer) {
	t.Helper()
	a, b := net.Pipe()
	for _, c := range []net.Conn{a, b} {
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	return peer{a, pgwire.NewReader(a, nil, 4096), pgwire.NewWriter(a, 4096)}, peer{b, pgwire.NewReader(b, nil, 4096), pgwire.NewWriter(b, 4096)}
}
