package integration_test

import (
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tool is a program of PostgreSQL's for a database at an address, with the password of the ordinary program.
func (s *site) tool(t *testing.T, addr, name, database string, args ...string) *exec.Cmd {
	t.Helper()
	ip, port, _ := net.SplitHostPort(addr)
	cmd := program(t.Context(), t, name, append([]string{"-h", ip, "-p", port, "-U", appRole}, append(args, database)...)...)
	cmd.Env = append(cmd.Env, "PGPASSWORD="+documentedPassword, "PGOPTIONS=-c client_min_messages=warning")
	return cmd
}

// run runs a tool of PostgreSQL's, which must succeed without a warning.
func (s *site) run(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil || strings.Contains(stderr.String(), "warning") {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, stderr.String())
	}
	return stdout.String()
}

// dumped is what pg_dump writes of a database at a server or at the proxy.
func (s *site) dumped(t *testing.T, addr, database string, args ...string) string {
	t.Helper()
	text := s.run(t, s.tool(t, addr, "pg_dump", database, append([]string{"--no-sync"}, args...)...))
	// A random word, new for each dump, stands in two of psql's commands.
	return regexp.MustCompile(`(?m)^\\(un)?restrict .*$`).ReplaceAllString(text, "")
}

// toDump is what the database holds that is dumped: each kind of thing that pg_dump asks the catalog for in another way.
const toDump = `
	CREATE TYPE mood AS ENUM ('sad', 'ok');
	CREATE DOMAIN small AS int CHECK (VALUE < 1000000);
	CREATE TABLE parts (n small, region text NOT NULL, mood mood DEFAULT 'ok', PRIMARY KEY (region, n)) PARTITION BY LIST (region);
	CREATE TABLE parts_north PARTITION OF parts FOR VALUES IN ('north');
	CREATE TABLE parts_south PARTITION OF parts FOR VALUES IN ('south');
	INSERT INTO parts SELECT n, CASE n % 2 WHEN 0 THEN 'north' ELSE 'south' END FROM generate_series(1, 20000) n;
	CREATE FUNCTION moody(mood) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN 'so ' || $1; END $$;
	CREATE VIEW moods AS SELECT moody(mood), count(*) FROM parts GROUP BY 1;
	CREATE MATERIALIZED VIEW counted AS SELECT region, count(*) FROM parts GROUP BY 1;
	CREATE INDEX ON parts (lower(region)) WHERE n > 10;
	INSERT INTO items SELECT n, 'rad ' || n || E' ☃\t\\' FROM generate_series(1, 20000) n;
	INSERT INTO orders (item, amount, tags, details) SELECT n, n / 8.0, ARRAY['a', NULL], '{"a": [1, null]}' FROM generate_series(1, 5000) n;
	INSERT INTO files SELECT 'file ' || n, decode(repeat(md5(n::text), 1000), 'hex') FROM generate_series(1, 20) n;
	CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
	CREATE TRIGGER touches BEFORE UPDATE ON items FOR EACH ROW EXECUTE FUNCTION touched();
	CREATE TABLE large AS SELECT lo_from_bytea(0, decode(repeat('00ff', 100000), 'hex')) AS id;
	ANALYZE;`

// TestDriverPgDump dumps a database by way of the proxy, in every format, also by four connections that share a snapshot; restores it
// by way of the proxy, by two connections; and compares it with a dump of the server itself. Between the runs the primary is restarted.
func TestDriverPgDump(t *testing.T) {
	s := startDrivers(t)
	s.freshTables(t)
	primary := s.servers.Primary()
	if err := primary.ExecIn(t.Context(), appRole, "SET ROLE "+appRole+"; "+toDump); err != nil {
		t.Fatal(err)
	}
	if err := s.servers.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := s.dumped(t, primary.Addr(), appRole)
	if len(want) < 1_000_000 {
		t.Fatalf("a dump of %d bytes: there should be more", len(want))
	}
	t.Run("pg_dump", func(t *testing.T) { equalText(t, s.dumped(t, s.addr, appRole), want) })
	dir := t.TempDir()
	for name, args := range map[string][]string{
		"custom":      {"--format=custom"},
		"directory":   {"--format=directory"},
		"directory-4": {"--format=directory", "--jobs=4"},
		"inserts":     {"--format=custom", "--inserts", "--rows-per-insert=100", "--serializable-deferrable"},
	} {
		t.Run("pg_dump "+strings.Join(args, " "), func(t *testing.T) {
			s.dumped(t, s.addr, appRole, append(args, "--file="+filepath.Join(dir, name))...)
			s.restart(t)
		})
	}
	for name, args := range map[string][]string{
		"custom":      {"--single-transaction"},
		"directory":   nil,
		"directory-4": {"--jobs=2"},
		"inserts":     {"--jobs=2"},
	} {
		t.Run("pg_restore "+name+" "+strings.Join(args, " "), func(t *testing.T) {
			database := "restored_" + strings.ReplaceAll(name, "-", "_")
			if err := primary.Exec(t.Context(), "CREATE DATABASE "+database+" OWNER "+appRole+" TEMPLATE template0"); err != nil {
				t.Fatal(err)
			}
			ip, port, _ := net.SplitHostPort(s.addr)
			restore := s.tool(t, s.addr, "pg_restore", filepath.Join(dir, name),
				append(args, "--exit-on-error", "--dbname=host="+ip+" port="+port+" user="+appRole+" dbname="+database)...)
			s.run(t, restore)
			equalText(t, s.dumped(t, primary.Addr(), database), want)
			s.restart(t)
			equalText(t, s.dumped(t, s.addr, database), want)
		})
	}
}

// equalText fails with the first line that differs, for these texts are long.
func equalText(t *testing.T, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	wanted := strings.Split(want, "\n")
	for i, line := range strings.Split(got, "\n") {
		if i >= len(wanted) || line != wanted[i] {
			t.Fatalf("%d bytes, want %d; line %d is %.200q, want %.200q", len(got), len(want), i+1, line, slices.Concat(wanted[i:], []string{"(the end)"})[0])
		}
	}
	t.Fatalf("%d bytes, want %d", len(got), len(want))
}

// restart restarts the primary.
func (s *site) restart(t *testing.T) {
	t.Helper()
	if err := s.servers.Primary().Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestDriverPgbench runs pgbench in its three protocols: its clients keep their connections, and their prepared statements, over a
// restart of the primary, which falls between two of their transactions; and the sums come out right.
func TestDriverPgbench(t *testing.T) {
	s := startDrivers(t)
	s.freshTables(t)
	s.run(t, s.tool(t, s.addr, "pgbench", appRole, "--initialize", "--quiet", "--init-steps=dtGvp", "--scale=2"))
	script := filepath.Join("drivers", "pgbench.sql")
	for _, protocol := range []string{"simple", "extended", "prepared"} {
		t.Run(protocol, func(t *testing.T) {
			before := sums(t, s)
			out := s.run(t, s.tool(t, s.addr, "pgbench", appRole, "--no-vacuum", "--protocol="+protocol, "--client=8", "--jobs=2", "--transactions=50",
				"--builtin=tpcb-like@2", "--builtin=select-only@4", "--file="+script+"@1"))
			if !strings.Contains(out, "number of transactions actually processed: 400/400") {
				t.Error(out)
			}
			s.betweenTransactions(t, protocol)
			after := sums(t, s)
			for table, sum := range after {
				if sum != after["history"] {
					t.Errorf("the sum of %s is %d, that of the history %d", table, sum, after["history"])
				}
			}
			if maps.Equal(before, after) {
				t.Errorf("nothing was written: %v", after)
			}
		})
	}
}

// sums adds up the balances, which every transaction changes alike.
func sums(t *testing.T, s *site) map[string]int {
	t.Helper()
	sums := make(map[string]int)
	for table, column := range map[string]string{"accounts": "abalance", "tellers": "tbalance", "branches": "bbalance", "history": "delta"} {
		rows, err := s.servers.Primary().QueryIn(t.Context(), appRole, fmt.Sprintf("SELECT coalesce(sum(%s), 0) FROM pgbench_%s", column, table))
		if err != nil {
			t.Fatal(err)
		}
		sums[table], _ = strconv.Atoi(rows[0][0])
	}
	return sums
}

// betweenTransactions restarts the primary while a client of pgbench waits between two transactions: its script ends with a command
// that reads from a named pipe.
func (s *site) betweenTransactions(t *testing.T, protocol string) {
	t.Helper()
	gate := filepath.Join(t.TempDir(), "gate")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := s.tool(t, s.addr, "pgbench", appRole, "--no-vacuum", "--protocol="+protocol, "--transactions=2", "--define=scale=2",
		"--define=gate="+gate, "--file=drivers/pgbench_restart.sql")
	done := make(chan error, 1)
	var out []byte
	go func() {
		var err error
		out, err = cmd.CombinedOutput()
		done <- err
	}()
	restarted := false
	await(t, time.Minute, "pgbench ends", func() (string, bool) {
		select {
		case err := <-done:
			if !restarted || err != nil || !strings.Contains(string(out), "number of transactions actually processed: 2/2") {
				t.Errorf("the primary was restarted: %v, %v\n%s", restarted, err, out)
			}
			return "", true
		default:
		}
		// It opens as soon as somebody reads at the other end.
		pipe, err := os.OpenFile(gate, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			return err.Error(), false
		}
		if !restarted {
			s.restart(t)
			restarted = true
		}
		return "at the gate", pipe.Close() != nil
	})
}
