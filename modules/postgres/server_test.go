package postgres

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"github.com/fairwaydb/fairway/modules/pgtest"
	"github.com/fairwaydb/fairway/modules/session"
)

// startServer starts a PostgreSQL; it stops with the test.
func startServer(t *testing.T) *pgtest.Node {
	t.Helper()
	c, err := pgtest.Start(context.WithoutCancel(t.Context()), pgtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c.Primary()
}

// connect logs in; the connection is closed with the test.
func connect(t *testing.T, address string, change ...func(*pgconn.Config)) (*pgconn.PgConn, error) {
	t.Helper()
	config, err := pgtest.Config(address, "postgres", "", "postgres")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range change {
		c(config)
	}
	conn, err := pgconn.ConnectConfig(t.Context(), config)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close(context.Background()) }) // the test's own context has ended
	}
	return conn, err
}

func mustConnect(t *testing.T, address string) *pgconn.PgConn {
	t.Helper()
	conn, err := connect(t, address)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// query runs SQL and returns the first value.
func query(ctx context.Context, conn *pgconn.PgConn, sql string) (string, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return "", err
	}
	for _, r := range results {
		if len(r.Rows) > 0 {
			return string(r.Rows[0][0]), nil
		}
	}
	return "", nil
}

// want fails the test unless the SQL gives the value.
func want(t *testing.T, conn *pgconn.PgConn, sql, value string) {
	t.Helper()
	if got, err := query(t.Context(), conn, sql); err != nil || got != value {
		t.Fatalf("%s: %q, %v, want %q", sql, got, err, value)
	}
}

func TestSessionsGoOnOverReloads(t *testing.T) {
	node := startServer(t)
	p := newProxy(t)
	backend := "backend pg1 " + node.Addr()
	p.load(t, p.config(backend, ""))
	inTransaction, idle := mustConnect(t, p.pg), mustConnect(t, p.pg)
	want(t, idle, "SET application_name = 'kept'", "")
	want(t, inTransaction, "CREATE TABLE t (i int); BEGIN; INSERT INTO t VALUES (1)", "")
	pid, err := query(t.Context(), inTransaction, "SELECT pg_backend_pid()")
	if err != nil {
		t.Fatal(err)
	}
	var (
		busy sync.WaitGroup
		stop atomic.Bool
	)
	for range 2 {
		conn := mustConnect(t, p.pg)
		busy.Go(func() {
			for !stop.Load() {
				if got, err := query(context.Background(), conn, "SELECT 42"); err != nil || got != "42" {
					t.Errorf("a busy session got %q, %v", got, err)
					return
				}
			}
		})
	}
	before := p.counters(t)
	for i := range 200 {
		p.load(t, p.config(backend, fmt.Sprintf("max_sessions %d", 100+i)))
		if i%10 == 0 {
			want(t, inTransaction, "SELECT pg_backend_pid()", pid)
			want(t, idle, "SELECT current_setting('application_name')", "kept")
			before = neverFell(t, before, p.counters(t))
		}
	}
	want(t, inTransaction, "COMMIT; SELECT count(*) FROM t", "1")
	want(t, mustConnect(t, p.pg), "SELECT 'new'", "new")
	stop.Store(true)
	busy.Wait()
	var statements float64
	for name, v := range p.counters(t) {
		if strings.HasPrefix(name, "caddy_postgres_statements_total{") {
			statements += v
		}
	}
	if statements < 40 {
		t.Errorf("only %v statements were counted", statements)
	}
	if _, body := p.get(t, "/postgres/health"); !strings.Contains(body, `"status": "ok"`) {
		t.Errorf("health is %s", body)
	}
}

func TestTLSToTheClient(t *testing.T) {
	node := startServer(t)
	p := newProxy(t)
	certificate, err := filepath.Abs(filepath.Join(caddyfiles, "testdata/tls/server.pem"))
	if err != nil {
		t.Fatal(err)
	}
	files := certificate + " " + strings.TrimSuffix(certificate, "pem") + "key"
	pem, err := os.ReadFile(certificate)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	encrypted := func(c *pgconn.Config) { c.TLSConfig = &tls.Config{RootCAs: roots, ServerName: "localhost"} }

	p.load(t, p.config("backend pg1 "+node.Addr(), "tls "+files))
	for name, change := range map[string]func(*pgconn.Config){"encrypted": encrypted, "not": func(*pgconn.Config) {}} {
		conn, err := connect(t, p.pg, change)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want(t, conn, "SELECT 1", "1")
		if _, ok := conn.Conn().(*tls.Conn); ok != (name == "encrypted") {
			t.Errorf("%s: the connection is a %T", name, conn.Conn())
		}
	}
	p.load(t, p.config("backend pg1 "+node.Addr(), "tls "+files+" {\n\t\t\t\t\t\trequire\n\t\t\t\t\t}"))
	var refused *pgconn.PgError
	if _, err := connect(t, p.pg); !errors.As(err, &refused) || refused.Code != "28000" {
		t.Errorf("a client without TLS got %v", err)
	}
	conn, err := connect(t, p.pg, encrypted)
	if err != nil {
		t.Fatal(err)
	}
	want(t, conn, "SELECT 2", "2")
}

// TestTheEndOfTheProcess runs this test binary as a Caddy and ends it while
// clients are connected.
func TestTheEndOfTheProcess(t *testing.T) {
	node := startServer(t)
	p := &proxy{admin: freeAddress(t), pg: freeAddress(t)}
	dir := t.TempDir()
	file := filepath.Join(dir, "Caddyfile")
	config := strings.Replace(p.config("backend pg1 "+node.Addr(), ""), "postgres {", "postgres {\n\t\tgrace_period 20s", 1)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), os.Args[0], "run", "--adapter", "caddyfile", "--config", file)
	child.Env = append(os.Environ(), childVariable+"=1", "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir)
	var said bytes.Buffer
	child.Stdout, child.Stderr = &said, &said
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the child serves", func() bool {
		conn, err := connect(t, p.pg)
		if err == nil {
			_ = conn.Close(t.Context())
		}
		return err == nil
	})
	inTransaction, idle := mustConnect(t, p.pg), mustConnect(t, p.pg)
	want(t, idle, "SELECT 1", "1")
	want(t, inTransaction, "CREATE TABLE t (i int); BEGIN; INSERT INTO t VALUES (1)", "")

	if err := child.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the idle session is ended", func() bool {
		_, err := query(t.Context(), idle, "SELECT 1")
		return err != nil
	})
	// Caddy stops its apps in any order: the listener may be closed already, or
	// take clients and turn them away.
	var refused *pgconn.PgError
	if _, err := connect(t, p.pg); err == nil || errors.As(err, &refused) && refused.Code != "57P03" {
		t.Errorf("a new client got %v", err)
	}
	want(t, inTransaction, "INSERT INTO t VALUES (2)", "")
	want(t, inTransaction, "COMMIT", "")
	if err := child.Wait(); err != nil {
		t.Errorf("the child ended with %v and said\n%s", err, said.String())
	}
	if got, err := node.Query(t.Context(), "SELECT count(*) FROM t"); err != nil || got[0][0] != "2" {
		t.Errorf("the transaction left %v rows, %v", got, err)
	}
}

func TestAClientIsRefusedInItsOwnWords(t *testing.T) {
	for _, test := range []struct {
		name   string
		before [][]byte // what the client sends, each answered by N
		kept   int      // of the first packet: bytes that a matcher has read already
	}{
		{"a startup packet", nil, 0},
		{"an SSLRequest before it", [][]byte{sslRequest}, 0},
		{"an SSLRequest that a matcher has read in part", [][]byte{sslRequest}, 5},
		{"a GSSENCRequest too", [][]byte{{0, 0, 0, 8, 4, 210, 22, 48}, sslRequest}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			client, conn := net.Pipe()
			defer client.Close()
			var buffered []byte
			if test.kept > 0 {
				buffered = test.before[0][:test.kept]
			}
			var done sync.WaitGroup
			gone := registry.Reference("gone")
			o := &session.Options{Cluster: gone, Logger: zap.NewNop()}
			gone.Unreference()
			done.Go(func() { session.Refuse(conn, buffered, o) })
			_ = client.SetDeadline(time.Now().Add(10 * time.Second))
			for i, packet := range test.before {
				if i == 0 {
					packet = packet[test.kept:]
				}
				client.Write(packet)
				var answer [1]byte
				if _, err := client.Read(answer[:]); err != nil || answer[0] != 'N' {
					t.Fatalf("the answer is %q, %v", answer, err)
				}
			}
			client.Write([]byte("\x00\x00\x00\x10\x00\x03\x00\x00user\x00a\x00\x00"))
			reply := make([]byte, 256)
			n, err := client.Read(reply)
			if text := string(reply[:n]); err != nil || text[0] != 'E' || !strings.Contains(text, "C57P03\x00") || !strings.Contains(text, "SFATAL\x00") {
				t.Errorf("the reply is %q, %v", text, err)
			}
			done.Wait()
		})
	}
}
