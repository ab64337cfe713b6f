package integration_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// psql runs psql with a script at its standard input and returns what it prints on both outputs.
func psql(t testing.TB, addr, script string, args ...string) (string, error) {
	t.Helper()
	ip, port, _ := net.SplitHostPort(addr)
	cmd := program(t.Context(), t, "psql", append([]string{"-X", "-v", "ON_ERROR_STOP=1", "-h", ip, "-p", port, "-U", appRole, "-d", appRole}, args...)...)
	cmd.Stdin = strings.NewReader(script)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// mustPsql is psql through the shared site, which must succeed.
func mustPsql(t testing.TB, script string, args ...string) string {
	t.Helper()
	out, err := psql(t, shared.addr, script, args...)
	if err != nil {
		t.Fatalf("psql: %v\n%s", err, out)
	}
	return out
}

// wantOutput compares lines, spaces at their ends aside.
func wantOutput(t testing.TB, what, got, want string) {
	t.Helper()
	trim := func(s string) string {
		lines := strings.Split(strings.TrimSpace(s), "\n")
		for i := range lines {
			lines[i] = strings.TrimRight(lines[i], " ")
		}
		return strings.Join(lines, "\n")
	}
	if trim(got) != trim(want) {
		t.Errorf("%s: got\n%.2000s\nwant\n%.2000s", what, got, want)
	}
}

// TestPsqlDescribesLikeAServer compares what psql says of the catalog with a direct connection.
func TestPsqlDescribesLikeAServer(t *testing.T) {
	mustPsql(t, `
		DROP SCHEMA IF EXISTS described CASCADE;
		CREATE SCHEMA described;
		CREATE TYPE described.mood AS ENUM ('sad', 'ok', 'happy');
		CREATE TABLE described.people (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE,
			mood described.mood DEFAULT 'ok', boss bigint REFERENCES described.people);
		CREATE INDEX ON described.people (lower(name)) WHERE mood <> 'sad';
		CREATE VIEW described.happy AS SELECT name FROM described.people WHERE mood = 'happy';
		CREATE FUNCTION described.twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * $1';
		COMMENT ON TABLE described.people IS 'those we know';`)
	if err := shared.servers.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{
		`\d`, `\d described.people`, `\d+ described.happy`, `\dt+ described.*`, `\di described.*`, `\dT+ described.*`, `\df+ described.*`,
		`\dn+`, `\du`, `\l`, `\dx`, `\sf described.twice`, `\sv described.happy`, `\dp described.*`, `\dconfig work_mem`, `\encoding`,
	} {
		direct, err := psql(t, shared.servers.Primary().Addr(), "", "-c", command)
		if err != nil {
			t.Fatalf("%s directly: %v\n%s", command, err, direct)
		}
		wantOutput(t, command, mustPsql(t, "", "-c", command), direct)
	}
}

func TestPsqlCopiesBothWays(t *testing.T) {
	const rows = 50_000
	var text strings.Builder
	for i := range rows {
		fmt.Fprintf(&text, "%d\tline %d with a tab\\t and a \\\\\n", i, i)
	}
	dir := t.TempDir()
	in, out, bad := filepath.Join(dir, "in.tsv"), filepath.Join(dir, "out.tsv"), filepath.Join(dir, "bad.tsv")
	for path, content := range map[string]string{in: text.String(), bad: text.String() + "not a number\tx\n"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := mustPsql(t, `
		SET client_min_messages = warning;
		DROP TABLE IF EXISTS psql_copied;
		CREATE TABLE psql_copied (id int, line text);
		\copy psql_copied from '`+in+`'
		\copy (select * from psql_copied order by id) to '`+out+`'
		select count(*), sum(id) from psql_copied;
		`, "-q", "-A", "-t")
	wantOutput(t, "copy", got, fmt.Sprintf("%d|%d", rows, rows*(rows-1)/2))
	if back, err := os.ReadFile(out); err != nil || string(back) != text.String() {
		t.Errorf("%d bytes went in, %d came out (%v)", text.Len(), len(back), err)
	}

	said, err := psql(t, shared.addr, `\copy psql_copied from '`+bad+`'`+"\n")
	if err == nil || !strings.Contains(said, "invalid input syntax for type integer") {
		t.Errorf("a bad line: %v\n%s", err, said)
	}
	if n := strings.TrimSpace(mustPsql(t, "", "-Atc", "select count(*) from psql_copied")); n != strconv.Itoa(rows) {
		t.Errorf("after a failed copy there are %s rows", n)
	}
	piped := mustPsql(t, "1\tone\n2\ttwo\n", "-q", "-c", "copy psql_copied from stdin", "-c", "copy (select * from psql_copied where line in ('one', 'two') order by 1) to stdout")
	wantOutput(t, "copy by pipes", piped, "1\tone\n2\ttwo")
}

func TestPsqlRunsScripts(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script.sql")
	if err := os.WriteFile(script, []byte(`
		\set ON_ERROR_ROLLBACK on
		SET client_min_messages = warning;
		DROP TABLE IF EXISTS psql_script;
		CREATE TABLE psql_script (n int);
		BEGIN;
		INSERT INTO psql_script SELECT generate_series(1, 2500);
		SELECT sum(n) AS total FROM psql_script \gset
		\echo total :total
		SAVEPOINT s; DELETE FROM psql_script; ROLLBACK TO s;
		COMMIT;
		SELECT count(*) FROM psql_script;
		\set FETCH_COUNT 100
		SELECT 'row', n FROM psql_script WHERE n % 500 = 0 ORDER BY n;
		\unset FETCH_COUNT
		SELECT n, n::text AS word FROM psql_script \gdesc
		SELECT format('INSERT INTO psql_script VALUES (%s)', -n) FROM generate_series(1, 3) n \gexec
		PREPARE negative(int) AS SELECT count(*) FROM psql_script WHERE n < $1;
		EXECUTE negative(0);
		CREATE TEMP TABLE psql_temp AS SELECT * FROM psql_script WHERE n < 0;
		SELECT sum(n) FROM psql_temp;
		SELECT 1 AS one \; SELECT 2 AS two;
		\timing on
		\timing off
		SET application_name = 'script'; SHOW application_name;
		DROP TABLE psql_script;
	`), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := psql(t, shared.addr, "", "-q", "-A", "-t", "-f", script)
	if err != nil {
		t.Fatalf("%v\n%s", err, got)
	}
	direct, err := psql(t, shared.servers.Primary().Addr(), "", "-q", "-A", "-t", "-f", script)
	if err != nil {
		t.Fatalf("directly: %v\n%s", err, direct)
	}
	wantOutput(t, "script", got, direct)
}

func TestPsqlReportsErrorsAsAServer(t *testing.T) {
	for _, sql := range []string{
		"SELECT 1/0", "SELECT nothing FROM nowhere", "SELEC 1", "INSERT INTO pg_class DEFAULT VALUES", "SELECT 'x'::int",
		"BEGIN; SELECT 1/0; COMMIT", "SELECT 1; SELECT 1/0; SELECT 2", "COMMIT AND CHAIN", "RELEASE SAVEPOINT s", "EXECUTE nothing",
	} {
		got, gotErr := psql(t, shared.addr, "", "-c", sql)
		direct, directErr := psql(t, shared.servers.Primary().Addr(), "", "-c", sql)
		wantOutput(t, sql, got, direct)
		if (gotErr == nil) != (directErr == nil) {
			t.Errorf("%s: %v, directly %v", sql, gotErr, directErr)
		}
	}
}

func TestPgIsReadyAndPgDump(t *testing.T) {
	ip, port, _ := net.SplitHostPort(shared.addr)
	if out, err := program(t.Context(), t, "pg_isready", "-h", ip, "-p", port).CombinedOutput(); err != nil {
		t.Errorf("pg_isready: %v\n%s", err, out)
	}
	mustPsql(t, "DROP TABLE IF EXISTS dumped; CREATE TABLE dumped AS SELECT n, 'x' || n AS x FROM generate_series(1, 1000) n;")
	dump := func(addr string) string {
		ip, port, _ := net.SplitHostPort(addr)
		out, err := program(t.Context(), t, "pg_dump", "-h", ip, "-p", port, "-U", appRole, "-t", "dumped", appRole).CombinedOutput()
		if err != nil {
			t.Fatalf("pg_dump: %v\n%s", err, out)
		}
		// A random word, new for each dump, stands in two of psql's commands.
		return regexp.MustCompile(`(?m)^\\(un)?restrict .*$`).ReplaceAllString(string(out), "")
	}
	wantOutput(t, "pg_dump", dump(shared.addr), dump(shared.servers.Primary().Addr()))
}
