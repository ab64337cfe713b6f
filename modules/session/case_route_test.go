package session

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/fairwaydb/fairway/modules/pgtest"
)

// caseRun is what became of one statement in one form.
type caseRun struct {
	form            *form
	mark            string
	direct, through string // outcomes at the primary itself and through the proxy
}

// caseSite is where the cases are run, and how many statements were.
type caseSite struct {
	servers *pgtest.Cluster
	proxy   *proxy
	marks   int
	rows    int
	all     bool // every row in every form
}

// usualForms is in how many forms each row is sent, unless FAIRWAY_CASES=all.
const usualForms = 4

// run sends a row in all its forms, through the proxy each time as a new client.
func (s *caseSite) run(t *testing.T, row *caseRow) (runs []caseRun) {
	text := func() string {
		s.marks++
		return mark(strings.ReplaceAll(row.sql, "{n}", strconv.Itoa(s.marks)), s.marks)
	}
	server := dialBehind(t, s.servers.Primary().Addr(), row.before)
	defer server.leave()
	fit := row.forms()
	if !s.all && len(fit) > usualForms {
		// Another choice for each row: all rows and all forms come up.
		fit = append([]*form{fit[0]}, slices.Concat(fit[1:], fit[1:])[s.rows*(usualForms-1)%(len(fit)-1):][:usualForms-1]...)
	}
	s.rows++
	for _, f := range fit {
		client := dialBehind(t, s.proxy.addr, row.before)
		direct, through := f.run(server, text()), f.run(client, text())
		client.leave()
		runs = append(runs, caseRun{form: f, mark: strconv.Itoa(s.marks), direct: direct, through: through})
	}
	return runs
}

// check says what is wrong with a run; seen are the servers that its statement reached.
func (c *caseRun) check(row *caseRow, seen []string) error {
	want := row.want
	if c.form.forced != "" && want != "" {
		want = c.form.forced
	}
	slices.Sort(seen)
	slices.Reverse(seen)
	if c.form.name == "named" && strings.HasPrefix(c.through, "E ERROR") && want == atPrimary {
		// A Parse binds nothing: it may be tried anywhere, and fails on the primary.
		if !slices.Contains(seen, atPrimary) {
			return fmt.Errorf("prepared on %q, and refused: %s", seen, c.through)
		}
		want = strings.Join(seen, ",")
	}
	if got := strings.Join(seen, ","); want != "" && got != want {
		return fmt.Errorf("seen by %q, want %s; outcome %s", got, want, c.through)
	}
	if row.code != "" {
		if !strings.Contains(c.through, "E ERROR "+row.code) {
			return fmt.Errorf("outcome %s, want %s", c.through, row.code)
		}
		return nil
	}
	if c.direct != c.through {
		return fmt.Errorf("outcome\n\t%s of one server\n\t%s through the proxy", c.direct, c.through)
	}
	return nil
}

// TestCasesOfRouting sends every row in every form, to the primary itself and through the proxy. The outcome must be the same, and
// where it ran through the proxy is read from the servers' own logs. FAIRWAY_CASES=all (make cases) sends every row in every form;
// without it each row takes four of them in turn.
func TestCasesOfRouting(t *testing.T) {
	s := &caseSite{servers: witnessed(t), all: os.Getenv("FAIRWAY_CASES") == "all"}
	if err := s.servers.Primary().Exec(t.Context(), caseSchema); err != nil {
		t.Fatal(err)
	}
	if err := s.servers.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.proxy = startProxy(t, s.servers, nil)
	rows := slices.Concat(caseRows, caseRowsWrites, caseRowsDoubt)
	runs := make(map[*caseRow][]caseRun)
	for _, ddl := range []bool{false, true} { // while the schema is read anew reads go to the primary
		for i := range rows {
			row := &rows[i]
			if row.ddl != ddl {
				continue
			}
			runs[row] = s.run(t, row)
		}
	}
	seen := witnesses(t, s.servers)
	for i := range rows {
		row := &rows[i]
		for _, c := range runs[row] {
			t.Run(row.name+"/"+c.form.name, func(t *testing.T) {
				if err := c.check(row, seen[c.mark]); err != nil {
					t.Errorf("%.200s: %v", row.sql, err)
				}
			})
		}
	}
	t.Logf("%d statements in %d runs", len(rows), s.marks/2)
}
