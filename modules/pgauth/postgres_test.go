//go:build unix

package pgauth

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// postgres is a server of this test alone.
type postgres struct {
	bin, dir string
	port     int
	as       *syscall.SysProcAttr // PostgreSQL refuses to run as root
	home     string
}

// startPostgreSQL makes a cluster in a temporary folder and starts it on a free port; both go with the test.
func startPostgreSQL(t *testing.T) *postgres {
	t.Helper()
	p := &postgres{bin: findPostgreSQL(t)}
	var err error
	if p.home, err = os.MkdirTemp("", "pgauth"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(p.home) })
	p.dropRoot(t)
	p.dir = filepath.Join(p.home, "data")
	p.run(t, "initdb", "-D", p.dir, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	if err := os.WriteFile(filepath.Join(p.dir, "pg_hba.conf"), []byte(realHBA), 0o600); err != nil {
		t.Fatal(err)
	}
	p.port = freePort(t)
	options := fmt.Sprintf("-c listen_addresses=127.0.0.1 -c port=%d -c unix_socket_directories= -c fsync=off -c shared_buffers=16MB", p.port)
	t.Cleanup(func() {
		_ = p.command(context.Background(), "pg_ctl", "stop", "-D", p.dir, "-m", "immediate", "-w").Run()
	})
	p.run(t, "pg_ctl", "start", "-D", p.dir, "-w", "-t", "60", "-l", filepath.Join(p.home, "log"), "-o", options)
	return p
}

// findPostgreSQL looks along the path (a link leads to the other programs) and then where distributions put the newest version.
func findPostgreSQL(t *testing.T) string {
	t.Helper()
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err != nil {
			t.Fatal(err)
		}
		return filepath.Dir(path)
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		t.Fatal("no PostgreSQL server is installed: initdb is neither on the path nor in /usr/lib/postgresql")
	}
	return filepath.Dir(found[len(found)-1])
}

// dropRoot runs the server as the user postgres where the test runs as root.
func (p *postgres) dropRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		return
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(uidErr, gidErr, os.Chown(p.home, int(uid), int(gid))); err != nil {
		t.Fatal(err)
	}
	p.as = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}

func (p *postgres) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, name), args...)
	cmd.Dir, cmd.SysProcAttr = p.home, p.as
	cmd.Env = []string{"LC_ALL=C", "PATH=" + p.bin + ":/usr/bin:/bin"}
	return cmd
}

func (p *postgres) run(t *testing.T, name string, args ...string) {
	t.Helper()
	// Into a file and not a pipe: the server inherits it and would keep a pipe open.
	out, err := os.Create(filepath.Join(p.home, name+".out"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	cmd := p.command(t.Context(), name, args...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		said, _ := os.ReadFile(out.Name())
		logged, _ := os.ReadFile(filepath.Join(p.home, "log"))
		t.Fatalf("%s: %v\n%s\n%s", name, err, said, logged)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

func (p *postgres) config(t *testing.T, user, password string) *pgconn.Config {
	t.Helper()
	return clientConfig(t, p.port, user, password)
}

// connect is a connection of the superuser.
func (p *postgres) connect(t *testing.T) *pgconn.PgConn {
	t.Helper()
	conn, err := pgconn.ConnectConfig(t.Context(), p.config(t, "postgres", ""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// login uses our own side: Login, and then what follows until the server is ready.
func (p *postgres) login(t *testing.T, user string, s Secret) error {
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.port))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	r, w := pgwire.NewReader(c, nil, 4096), pgwire.NewWriter(c, 4096)
	w.Startup(pgwire.Version30, []pgwire.Param{{Name: "user", Value: user}, {Name: "database", Value: "postgres"}})
	if err := Login(r, w, user, s, Channel{}); err != nil {
		return err
	}
	for {
		typ, _, err := r.Next()
		if err != nil {
			return err
		}
		if typ == pgwire.MsgError {
			body, err := r.Body()
			if err != nil {
				return err
			}
			return pgwire.ParseError(body)
		}
		if typ == pgwire.MsgReadyForQuery {
			w.Terminate()
			return w.Flush()
		}
	}
}
