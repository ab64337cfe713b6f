package integration_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgtest"
)

// driver is a driver, or a program of PostgreSQL's, with the program that uses it. docs/drivers.md has a row for each.
type driver struct {
	name    string   // as in docs/drivers.md
	command []string // {built} and {python} are replaced; the connection string is added
	url     string   // as documented: what follows documentedAddr is the same in the tests
}

// documentedAddr and documentedPassword stand in the connection strings of docs/drivers.md.
const (
	documentedHost     = "localhost"
	documentedPort     = "6432"
	documentedPassword = "secret"
)

var drivers = []driver{
	{"pgx", []string{"{built}/go/pgx"}, "postgres://app:secret@localhost:6432/app?sslmode=disable"},
	{"lib/pq", []string{"{built}/go/pq"}, "postgres://app:secret@localhost:6432/app?sslmode=disable"},
	{"psycopg 3", []string{"{python}", "drivers/python/psycopg_program.py"}, "postgresql://app:secret@localhost:6432/app"},
	{"psycopg 2", []string{"{python}", "drivers/python/psycopg2_program.py"}, "host=localhost port=6432 user=app password=secret dbname=app"},
	{"asyncpg", []string{"{python}", "drivers/python/asyncpg_program.py"}, "postgresql://app:secret@localhost:6432/app"},
	{"SQLAlchemy", []string{"{python}", "drivers/python/sqlalchemy_program.py"}, "postgresql+psycopg://app:secret@localhost:6432/app"},
	{"node-postgres", []string{"node", "drivers/node/program.js"}, "postgres://app:secret@localhost:6432/app"},
	{"pgjdbc", []string{"java", "-cp", "{built}/java/postgresql.jar:{built}/java", "Program"}, "jdbc:postgresql://localhost:6432/app?user=app&password=secret"},
	{"tokio-postgres", []string{"{built}/rust/debug/tokio-postgres-program"}, "postgres://app:secret@localhost:6432/app"},
	{"sqlx", []string{"{built}/rust/debug/sqlx-program"}, "postgres://app:secret@localhost:6432/app"},
	{"libpq", []string{"{built}/c/libpq"}, "postgresql://app:secret@localhost:6432/app"},
}

// driverLimit is how long one program may take. They take seconds; this is for machines that have much else to do.
const driverLimit = 10 * time.Minute

// TestDrivers runs the program of each driver before servers that ask for passwords. Each asks, between two of its
// transactions, for the primary to be restarted, and goes on with the connections it has.
func TestDrivers(t *testing.T) {
	s := startDrivers(t)
	readOnly := serve(t, "testdrivers_readonly", s.servers, func(readOnly *site) {
		readOnly.config.Auth, readOnly.config.Credentials = s.config.Auth, s.config.Credentials
		readOnly.handler = map[string]any{"route": "replica"}
	})
	for _, d := range drivers {
		t.Run(d.name, func(t *testing.T) {
			s.freshTables(t)
			s.runDriver(t, d, readOnly.addr)
		})
	}
}

// startDrivers starts servers on which the ordinary program has a password.
func startDrivers(t *testing.T) *site {
	t.Helper()
	s := startSite(t, pgtest.Options{Replicas: 2, Auth: pgtest.AuthSCRAM}, func(s *site) {
		s.config.Auth = nil // auth query is the default
		s.config.Credentials = &cluster.CredentialsConfig{User: s.servers.Superuser(), Password: s.servers.Password()}
	})
	if err := s.servers.Primary().Exec(t.Context(), "ALTER ROLE "+appRole+" PASSWORD '"+documentedPassword+"'"); err != nil {
		t.Fatal(err)
	}
	return s
}

// freshTables creates the tables of all programs anew, and waits until the replicas serve them.
func (s *site) freshTables(t *testing.T) {
	t.Helper()
	schema, err := os.ReadFile("drivers/schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.servers.Primary().ExecIn(t.Context(), appRole, "SET ROLE "+appRole+"; SET client_min_messages = warning; "+string(schema)); err != nil {
		t.Fatal(err)
	}
	if err := s.servers.WaitStreaming(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.servers.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.awaitReady(t, len(s.servers.Replicas()))
}

// at puts the site's address into a documented connection string.
func (d *driver) at(s *site) string {
	host, port, _ := strings.Cut(s.addr, ":")
	return strings.NewReplacer(documentedHost, host, documentedPort, port).Replace(d.url)
}

// python is the interpreter that has the drivers.
func python(t testing.TB) string {
	t.Helper()
	path := os.Getenv("FAIRWAY_PYTHON")
	if path == "" {
		var err error
		if path, err = filepath.Abs("../.build/venv/bin/python"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("no Python with the drivers of drivers/python/requirements.txt: run `make drivers`, "+
			"or set FAIRWAY_PYTHON to an interpreter that has them (%v)", err)
	}
	return path
}

// runDriver runs a program. Each of its checks is a subtest; the line "restart" is its wish to have the primary restarted. At the
// address readOnly reads run on replicas and nothing else runs.
func (s *site) runDriver(t *testing.T, d driver, readOnly string) {
	t.Helper()
	built := os.Getenv("FAIRWAY_DRIVERS")
	if built == "" {
		built = "../.build/drivers"
	}
	built, err := filepath.Abs(built)
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string(nil), d.command...)
	for i, arg := range args {
		if strings.Contains(arg, "{python}") {
			arg = strings.ReplaceAll(arg, "{python}", python(t))
		}
		args[i] = strings.ReplaceAll(arg, "{built}", built)
	}
	var ports []string
	for _, n := range s.servers.Replicas() {
		ports = append(ports, strconv.Itoa(n.Port()))
	}
	ctx, cancel := context.WithTimeout(t.Context(), driverLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], append(args[1:], d.at(s))...)
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "NODE_PATH="+filepath.Join(built, "node", "node_modules"),
		"REPLICAS="+strings.Join(ports, ","), "READ_ONLY="+readOnly)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s is not there: run `make drivers` (%v)", args[0], err)
	}
	checks, restarts := 0, 0
	began := time.Now()
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		switch word, name, _ := strings.Cut(lines.Text(), " "); word {
		case "ok":
			checks++
			t.Run(name, func(t *testing.T) { t.Logf("%v", time.Since(began).Round(time.Millisecond)) })
			began = time.Now()
		case "restart":
			restarts++
			if err := s.servers.Primary().Restart(ctx); err != nil {
				t.Errorf("restart the primary: %v", err)
			}
			fmt.Fprintln(stdin, "restarted")
		default:
			t.Errorf("%s says %q", d.name, lines.Text())
		}
	}
	if err := cmd.Wait(); err != nil || stderr.Len() > 0 {
		t.Errorf("%v\n%s", err, stderr.Bytes())
	}
	if checks == 0 || restarts == 0 {
		t.Errorf("%d checks, %d restarts of the primary: there should be some of both", checks, restarts)
	}
}
