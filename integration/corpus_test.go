package integration_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caddyserver/caddy/v2"

	"github.com/fairwaydb/fairway/modules/cluster"
)

// corpusSize is the least number of statements that the corpus has.
const corpusSize = 600

// corpusRun is one way to have a file of the corpus run. Each has a database of its own.
type corpusRun struct {
	name     string
	addr     string
	database string
	extended bool
	like     *corpusRun // whose answers must be the same; nil for the direct ones
}

// TestTheManualsStatementsAnswerAsDirectly runs the files of testdata/corpus, each on an empty database: directly, through Fairway, and through
// Fairway beside clients that leave everything behind that they can; by psql, and statement by statement by the extended protocol, that beside
// such clients only.
func TestTheManualsStatementsAnswerAsDirectly(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join("testdata", "corpus", "*.sql"))
	if err != nil {
		t.Fatal(err)
	}
	quiet := serve(t, "quiet", shared.servers, swift)
	crowded := serve(t, "crowded", shared.servers, func(s *site) {
		swift(s)
		s.config.Pool = &cluster.PoolConfig{Size: 3, MaxPinned: 1}
	})
	direct := shared.servers.Primary().Addr()
	psqlDirect := &corpusRun{name: "psql directly", addr: direct, database: "corpus_psql_direct"}
	wireDirect := &corpusRun{name: "extended directly", addr: direct, database: "corpus_wire_direct", extended: true}
	runs := []*corpusRun{
		psqlDirect, wireDirect,
		{name: "psql", addr: quiet.addr, database: "corpus_psql", like: psqlDirect},
		{name: "psql in a crowd", addr: crowded.addr, database: "corpus_psql_crowd", like: psqlDirect},
		{name: "extended in a crowd", addr: crowded.addr, database: "corpus_wire_crowd", extended: true, like: wireDirect},
	}
	for _, r := range runs {
		for _, sql := range []string{"DROP DATABASE IF EXISTS " + r.database + " WITH (FORCE)", "CREATE DATABASE " + r.database} {
			if err := shared.servers.Primary().Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
		}
	}
	awaitSchema(t, quiet, "corpus_psql")
	awaitSchema(t, crowded, "corpus_psql_crowd", "corpus_wire_crowd")
	disturb(t, crowded, "corpus_psql_crowd", "corpus_wire_crowd")
	total, listed := 0, compatibilityRows(t)
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		statements := splitCorpus(string(text))
		total += len(statements)
		for _, s := range statements {
			if s.differs != "" && !strings.Contains(listed, "| "+s.differs) {
				t.Errorf("%s:%d: docs/compatibility.md has no row that begins with %q", path, s.line, s.differs)
			}
		}
		t.Run(strings.TrimSuffix(filepath.Base(path), ".sql"), func(t *testing.T) { compareCorpus(t, path, runs, statements) })
	}
	if total < corpusSize {
		t.Errorf("the corpus has %d statements, want %d", total, corpusSize)
	}
	replicas := 0.0
	for _, name := range shared.replicas() {
		for _, cluster := range []string{quiet.name, crowded.name} {
			replicas += scrape(t).sum("caddy_postgres_statements_total", "cluster="+cluster, "backend="+name)
		}
	}
	if replicas < corpusSize/6 {
		t.Errorf("only %v statements ran on replicas", replicas)
	}
	t.Logf("%d statements in %d files, %v of three runs on replicas", total, len(paths), replicas)
}

// swift has a site notice soon that its replicas have caught up: the files of the corpus wait a little before they read.
func swift(s *site) {
	s.config.Monitor = &cluster.MonitorConfig{Interval: caddy.Duration(20 * time.Millisecond)}
}

// awaitSchema waits until the schemas of databases are known: until then reads go to the primary.
func awaitSchema(t *testing.T, s *site, databases ...string) {
	for _, database := range databases {
		c, err := pgx.Connect(t.Context(), s.connString(s.servers.Superuser(), database)+" default_query_exec_mode=simple_protocol")
		if err != nil {
			t.Fatal(err)
		}
		await(t, 30*time.Second, "the schema of "+database+" is known", func() (string, bool) {
			rows, _ := c.Query(t.Context(), "explain (route) select from pg_class")
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			said := strings.Join(lines, "; ")
			return said, err == nil && !strings.Contains(said, "not loaded")
		})
		_ = c.Close(t.Context())
	}
}

// compatibilityRows is the text of the page that lists what may differ.
func compatibilityRows(t *testing.T) string {
	text, err := os.ReadFile(filepath.Join("..", "docs", "compatibility.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// makesShared finds statements that make what databases share: the runs of their files follow each other.
var makesShared = regexp.MustCompile(`(?i)^(create (role|user|group) corpus|prepare transaction\b)`)

// compareCorpus has one file run in all ways and compares their answers.
func compareCorpus(t *testing.T, path string, runs []*corpusRun, statements []corpusStatement) {
	answers := make(map[*corpusRun][]string)
	var mu sync.Mutex
	var wg sync.WaitGroup
	inTurn := false
	for _, s := range statements {
		inTurn = inTurn || makesShared.MatchString(s.sql)
	}
	for _, r := range runs {
		wg.Go(func() {
			said, err := r.run(t, statements)
			if err == nil && len(said) != len(statements) {
				err = fmt.Errorf("%d answers to %d statements", len(said), len(statements))
			}
			if err != nil {
				t.Errorf("%s: %v", r.name, err)
			}
			for i := range said {
				said[i] = strings.ReplaceAll(said[i], r.database, "corpus")
			}
			mu.Lock()
			defer mu.Unlock()
			answers[r] = said
		})
		if inTurn {
			wg.Wait()
		}
	}
	wg.Wait()
	for _, r := range runs {
		shown := 0
		for i, s := range statements {
			if r.like == nil || s.differs != "" || shown == 5 {
				continue
			}
			if want, got := answerAt(answers[r.like], i), answerAt(answers[r], i); got != want {
				t.Errorf("%s:%d, %s\n%s\n\tgot\n%.1500s\n\twant\n%.1500s", path, s.line, r.name, s.sql, got, want)
				shown++
			}
		}
	}
}

// answerAt is the answer to one statement, whatever a broken run has left.
func answerAt(answers []string, i int) string {
	if i >= len(answers) {
		return "nothing"
	}
	return answers[i]
}

// emptyDatabase takes away what a file has left.
const emptyDatabase = `SET client_min_messages = warning;
DO $$ DECLARE victim text; BEGIN
	FOR victim IN SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\_%' AND nspname <> 'information_schema' LOOP
		EXECUTE format('DROP SCHEMA %I CASCADE', victim);
	END LOOP;
END $$;
CREATE SCHEMA public; GRANT ALL ON SCHEMA public TO public;`

// notifier is how psql names who sent a notification.
var notifier = regexp.MustCompile(`process with PID \d+`)

// run has the statements of a file run on an empty database and returns the answer to each.
func (r *corpusRun) run(t *testing.T, statements []corpusStatement) ([]string, error) {
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	if err := shared.servers.Primary().ExecIn(ctx, r.database, emptyDatabase); err != nil {
		return nil, fmt.Errorf("empty the database: %w", err)
	}
	user := shared.servers.Superuser()
	if r.extended {
		return runExtended(ctx, r.addr, user, r.database, statements)
	}
	// A line before each statement tells whose answer it is.
	const mark = "==== "
	var script strings.Builder
	for i, s := range statements {
		fmt.Fprintf(&script, "\\echo %s%d\n%s\n", mark, i, s.text)
	}
	ip, port, err := net.SplitHostPort(r.addr)
	if err != nil {
		return nil, err
	}
	cmd := program(ctx, t, "psql", "-X", "-a", "-q", "-v", "VERBOSITY=verbose", "-h", ip, "-p", port, "-U", user, "-d", r.database)
	cmd.Stdin = strings.NewReader(script.String())
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("psql: %w\n%.2000s", err, out)
	}
	var answers []string
	for line := range strings.Lines(string(out)) {
		switch {
		case strings.HasPrefix(line, mark):
			answers = append(answers, "")
		case strings.HasPrefix(line, "LOCATION:"), strings.HasPrefix(line, "\\echo "+mark):
		case len(answers) > 0:
			answers[len(answers)-1] += notifier.ReplaceAllString(line, "process")
		}
	}
	return answers, nil
}

// traces are what the neighbors leave in their server connections.
var traces = [][]string{
	{"set work_mem = '1MB'", "set datestyle = 'SQL, DMY'", "set search_path = nowhere", "create temp table items (nothing int)", "set timezone = 'Asia/Tokyo'"},
	{"set standard_conforming_strings = off", "set intervalstyle = iso_8601", "prepare by_id as select 'not yours'", "set extra_float_digits = -5"},
	{"set default_transaction_read_only = on", "set client_min_messages = error", "listen elsewhere", "select pg_advisory_lock(990017)"},
	{"create temp table people as select 'not yours' as name", "set enable_seqscan = off", "set bytea_output = escape", "set statement_timeout = '1h'"},
	{"begin", "set local lc_messages = 'C'", "declare c cursor with hold for select 'not yours'", "commit", "set default_transaction_isolation = serializable"},
	{"begin", "create temp table accounts (nothing int) on commit drop", "select set_config('app.tenant', 'not yours', false)", "select 1/0"},
	{"set session authorization pg_monitor", "set row_security = off", "set lock_timeout = '1h'", "set plan_cache_mode = force_generic_plan"},
	{"set client_encoding = latin1", "set quote_all_identifiers = on", "set constraint_exclusion = off", "select setseed(0.5)"},
}

// disturb has two clients of each database come, leave something behind and go, until the test ends.
func disturb(t *testing.T, s *site, databases ...string) {
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	t.Cleanup(func() { stop(); wg.Wait() })
	for who := range 2 * len(databases) {
		database := databases[who/2]
		wg.Go(func() {
			pace := time.NewTicker(15 * time.Millisecond)
			defer pace.Stop()
			for i := who * len(traces) / 2; ; i++ {
				select {
				case <-ctx.Done():
					return
				case <-pace.C:
				}
				// A visit is never broken off: the site must be empty when it goes.
				if err := leaveTraces(context.WithoutCancel(ctx), s, database, traces[i%len(traces)]); err != nil {
					t.Errorf("a neighbor: %v", err)
					return
				}
			}
		})
	}
}

// leaveTraces is one visit. Statements may fail; only a session that is not let in is an error.
func leaveTraces(ctx context.Context, s *site, database string, statements []string) error {
	config, err := pgx.ParseConfig(s.connString(s.servers.Superuser(), database))
	if err != nil {
		return err
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	config.StatementCacheCapacity, config.DescriptionCacheCapacity = 0, 0
	c, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	for _, sql := range statements {
		_, _ = c.PgConn().Exec(ctx, sql).ReadAll()
	}
	return nil
}
