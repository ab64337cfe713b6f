package integration_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairwaydb/fairway/modules/pgauth"
	"github.com/fairwaydb/fairway/modules/pgtest"
	"github.com/fairwaydb/fairway/modules/pgwire"
)

// verdict is how a login ended, as the client sees it.
type verdict struct {
	severity, code, message, detail string // of the error; all empty: see in
	in                              bool   // it was let in; otherwise, without an error, the connection was closed
}

func (v verdict) String() string {
	switch {
	case v.in:
		return "let in"
	case v.code == "":
		return "closed without a word"
	case v.detail != "":
		return fmt.Sprintf("%s %s: %s (%s)", v.severity, v.code, v.message, v.detail)
	}
	return fmt.Sprintf("%s %s: %s", v.severity, v.code, v.message)
}

// caller is a client that says what it likes.
type caller struct {
	conn net.Conn
	r    *pgwire.Reader
	w    *pgwire.Writer
	said []string // what must not be found in a log
}

// call connects and sends a startup message.
func call(addr, user, database string) (*caller, error) {
	c, err := callRaw(addr)
	if err != nil {
		return nil, err
	}
	c.w.Startup(pgwire.Version30, []pgwire.Param{{Name: "user", Value: user}, {Name: "database", Value: database}})
	return c, c.w.Flush()
}

// callRaw connects.
func callRaw(addr string) (*caller, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return nil, err
	}
	return &caller{conn: conn, r: pgwire.NewReader(conn, nil, 16<<10), w: pgwire.NewWriter(conn, 4<<10)}, nil
}

// password sends a password message; what cannot be sent any more is not missed.
func (c *caller) password(body string) { c.message(pgwire.MsgPassword, body) }

func (c *caller) message(typ byte, body string) {
	c.w.Frame(typ, []byte(body))
	_ = c.w.Flush()
}

// initial sends SASLInitialResponse.
func (c *caller) initial(mechanism, first string) {
	c.password(mechanism + "\x00" + string(binary.BigEndian.AppendUint32(nil, uint32(len(first)))) + first)
}

// request reads the next authentication request; anything else ends the login.
func (c *caller) request() (code uint32, data string, over *verdict) {
	typ, _, err := c.r.Next()
	if err == nil && typ == pgwire.MsgAuthentication {
		body, err := c.r.Body()
		if err == nil && len(body) >= 4 {
			return binary.BigEndian.Uint32(body), string(body[4:]), nil
		}
	}
	v := c.ended(typ, err)
	return 0, "", &v
}

// ended judges the message at hand, or what hindered it.
func (c *caller) ended(typ byte, err error) verdict {
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.ErrUnexpectedEOF) {
		return verdict{}
	}
	if err != nil {
		return verdict{message: err.Error(), code: "client"}
	}
	if typ != pgwire.MsgError {
		return verdict{in: true}
	}
	body, err := c.r.Body()
	if err != nil {
		return verdict{message: err.Error(), code: "client"}
	}
	e := pgwire.ParseError(body)
	return verdict{severity: e.Severity, code: e.Code, message: e.Message, detail: e.Detail}
}

// end reads up to the end of the login.
func (c *caller) end() verdict {
	for {
		typ, _, err := c.r.Next()
		if err == nil && (typ == pgwire.MsgAuthentication || typ == pgwire.MsgParameterStatus || typ == pgwire.MsgBackendKeyData ||
			typ == pgwire.MsgNotice) {
			continue
		}
		return c.ended(typ, err)
	}
}

// login does it as it ought to be done, with a password.
func (c *caller) login(user, password string) verdict {
	c.said = append(c.said, password)
	err := pgauth.Login(c.r, c.w, user, pgauth.Secret{Password: password}, pgauth.Channel{Private: true})
	var e *pgwire.Error
	switch {
	case errors.As(err, &e):
		return verdict{severity: e.Severity, code: e.Code, message: e.Message, detail: e.Detail}
	case err != nil:
		return c.ended(0, err)
	}
	return c.end()
}

// hba puts rules before those of a server, and reads them in.
func hba(t *testing.T, servers *pgtest.Cluster, rules string) {
	t.Helper()
	for _, n := range servers.Nodes() {
		path := filepath.Join(servers.Dir(), n.Name(), "data", "pg_hba.conf")
		old, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append([]byte(rules+"\n"), old...), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Query(t.Context(), "SELECT pg_reload_conf()"); err != nil {
			t.Fatal(err)
		}
	}
}

// serverTLS has all servers offer TLS with one certificate of their own.
func serverTLS(t *testing.T, servers *pgtest.Cluster) {
	t.Helper()
	certificate, key := selfSigned(t)
	for _, n := range servers.Nodes() {
		data := filepath.Join(servers.Dir(), n.Name(), "data")
		owner, err := os.Stat(filepath.Join(data, "PG_VERSION"))
		if err != nil {
			t.Fatal(err)
		}
		for from, to := range map[string]string{certificate: "server.crt", key: "server.key"} {
			text, err := os.ReadFile(from)
			if err != nil {
				t.Fatal(err)
			}
			to = filepath.Join(data, to)
			if err := os.WriteFile(to, text, 0o600); err != nil {
				t.Fatal(err)
			}
			if s, ok := owner.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
				if err := os.Chown(to, int(s.Uid), int(s.Gid)); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, sql := range []string{"ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()"} {
			if _, err := n.Query(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
		}
		await(t, 10*time.Second, "the server has TLS", func() (string, bool) {
			on, err := n.Value(t.Context(), "SHOW ssl")
			return fmt.Sprint(on, err), on == "on"
		})
	}
}

// secretWords are what of a message must not be found in a log: the proof and what else is long and random.
func secretWords(message string) (words []string) {
	for part := range strings.SplitSeq(message, ",") {
		if proof, ok := strings.CutPrefix(part, "p="); ok {
			words = append(words, proof)
		}
	}
	return words
}
