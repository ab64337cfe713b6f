package session

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairwaydb/fairway/modules/pgtest"
	"github.com/fairwaydb/fairway/modules/pgwire"
)

// witnessed are three servers that write every statement into their logs: what they say there tells where a statement ran.
func witnessed(t *testing.T) *pgtest.Cluster {
	t.Helper()
	servers, err := pgtest.Start(context.WithoutCancel(t.Context()), pgtest.Options{Replicas: 2, Settings: map[string]string{"log_statement": "all"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := servers.Close(); err != nil {
			t.Error(err)
		}
	})
	return servers
}

var markPattern = regexp.MustCompile(`/\*~([0-9]+)~\*/`)

// mark makes a text one of a kind by a comment that the server's log shows.
func mark(sql string, n int) string { return fmt.Sprintf("%s /*~%d~*/", sql, n) }

// witnesses reads the logs: which servers saw each mark, "primary" or "replica", in order.
func witnesses(t *testing.T, servers *pgtest.Cluster) map[string][]string {
	t.Helper()
	seen := make(map[string][]string)
	for _, node := range servers.Nodes() {
		place := "replica"
		if node == servers.Primary() {
			place = "primary"
		}
		log, err := os.ReadFile(filepath.Join(servers.Dir(), node.Name(), "server.log"))
		if err != nil {
			t.Fatal(err)
		}
		here := make(map[string]bool)
		for _, m := range markPattern.FindAllSubmatch(log, -1) {
			if n := string(m[1]); !here[n] {
				here[n] = true
				seen[n] = append(seen[n], place)
			}
		}
	}
	return seen
}

// form is a way to send a statement. It returns what the client saw of the outcome.
type form struct {
	name string
	send func(c *peer, sql string)
	// forced is where the statement runs whatever it does; "" where its own text decides.
	forced string
	// simple: as a Query, so that a text of several statements can be sent, too; planned: only what PREPARE takes can.
	simple, planned bool
	// ready is how many ReadyForQuery answer it, when it is more than one.
	ready int
}

func (p *peer) parse(name, sql string) { p.w.Parse(name, sql, []byte{0, 0}) }

func (p *peer) lines(lines ...string) {
	for _, line := range lines {
		p.say(line)
	}
}

// forms are all ways a statement is sent, outside and inside transactions, alone and in company.
var forms = []form{
	{name: "simple", simple: true, send: func(c *peer, sql string) { c.w.Query(sql) }},
	{name: "simple behind a read", simple: true, send: func(c *peer, sql string) { c.w.Query("select count(*) from k_t;" + sql) }},
	{name: "simple with a write", simple: true, forced: "primary", send: func(c *peer, sql string) { c.w.Query("delete from k_w where a < 0;" + sql) }},
	{name: "unnamed", send: func(c *peer, sql string) {
		c.parse("", sql)
		c.lines("B - -", "D P -", "E - 0", "S")
	}},
	{name: "named", ready: 2, send: func(c *peer, sql string) {
		c.parse("s", sql)
		c.lines("D S s", "S", "B - s", "E - 0", "C S s", "S")
	}},
	{name: "pipeline behind a read", send: func(c *peer, sql string) {
		c.lines("P - select count(*) from k_t", "B - -", "E - 0")
		c.parse("", sql)
		c.lines("B - -", "E - 0", "S")
	}},
	{name: "pipeline with a write", forced: "primary", send: func(c *peer, sql string) {
		c.lines("P - delete from k_w where a < 0", "B - -", "E - 0")
		c.parse("", sql)
		c.lines("B - -", "E - 0", "S")
	}},
	{name: "segments at once", ready: 2, send: func(c *peer, sql string) {
		c.lines("P - select count(*) from k_t", "B - -", "E - 0", "S")
		c.parse("", sql)
		c.lines("B - -", "E - 0", "S")
	}},
	{name: "flushed", forced: "primary", send: func(c *peer, sql string) { // case 21b
		c.parse("", sql)
		c.lines("B - -", "E - 0", "H", "S")
	}},
	{name: "begin, simple", ready: 3, simple: true, forced: "primary", send: func(c *peer, sql string) {
		c.w.Query("begin")
		c.w.Query(sql)
		c.w.Query("rollback")
	}},
	{name: "begin, extended", ready: 3, forced: "primary", send: func(c *peer, sql string) {
		c.lines("P - begin", "B - -", "E - 0", "S")
		c.parse("", sql)
		c.lines("B - -", "E - 0", "S", "P - rollback", "B - -", "E - 0", "S")
	}},
	{name: "begin read only, simple", ready: 3, simple: true, send: func(c *peer, sql string) {
		c.w.Query("begin read only")
		c.w.Query(sql)
		c.w.Query("rollback")
	}},
	{name: "begin read only, extended", ready: 3, send: func(c *peer, sql string) {
		c.lines("P - begin read only", "B - -", "E - 0", "S")
		c.parse("", sql)
		c.lines("B - -", "E - 0", "S", "P - rollback", "B - -", "E - 0", "S")
	}},
	{name: "prepare and execute", ready: 3, simple: true, planned: true, forced: "primary", send: func(c *peer, sql string) {
		c.w.Query("prepare k_prepared as " + sql)
		c.w.Query("execute k_prepared")
		c.w.Query("deallocate k_prepared")
	}},
}

var (
	digits  = regexp.MustCompile(`[0-9]+`)
	planned = regexp.MustCompile(`(?i)^\s*(select|with|values|insert|update|delete)\b`)
)

// outcome reads until every message that asks for one has its ReadyForQuery and shows what came, without what differs between two
// runs. A COPY of the client's is answered with its end.
func (p *peer) outcome(ready int, copySync bool) string {
	p.t.Helper()
	var b strings.Builder
	for ready > 0 {
		typ, body := p.frame(30 * time.Second)
		switch typ {
		case pgwire.MsgCommandComplete:
			fmt.Fprintf(&b, "C %s; ", digits.ReplaceAll(bytes.TrimRight(body, "\x00"), []byte("N")))
		case pgwire.MsgError:
			e := pgwire.ParseError(body)
			fmt.Fprintf(&b, "E %s %s; ", e.Severity, e.Code)
		case pgwire.MsgReadyForQuery:
			fmt.Fprintf(&b, "Z %s; ", body)
			ready--
		case pgwire.MsgCopyIn:
			b.WriteString("G; ")
			p.say("c")
			if copySync {
				p.say("S") // the one sent before the data is ignored
			}
			p.flush()
		case 0:
			return b.String() + "silence"
		case 'X':
			return b.String() + "end"
		default:
			if strings.IndexByte("IsHT", typ) >= 0 {
				fmt.Fprintf(&b, "%c; ", typ)
			}
		}
	}
	return b.String()
}

// dialBehind opens a connection and sends what precedes the statement.
func dialBehind(t *testing.T, addr, before string) *peer {
	t.Helper()
	c := dialPeer(t, addr)
	if before == "" {
		return c
	}
	c.w.Query(before)
	c.flush()
	if got := c.outcome(1, false); strings.Contains(got, "E ERROR") {
		t.Fatalf("%s: %s", before, got)
	}
	return c
}

func (p *peer) leave() {
	_, _ = p.conn.Write([]byte("X\x00\x00\x00\x04"))
	_ = p.conn.Close()
}

// run sends a statement in a form and returns the outcome.
func (f *form) run(c *peer, sql string) string {
	f.send(c, sql)
	c.flush()
	return c.outcome(max(f.ready, 1), !f.simple)
}

// caseRow is a statement and where it runs when it stands alone.
type caseRow struct {
	name string // the number of the case and its sentence
	sql  string // {n} stands for a number that is used once
	want string // primary or replica
	caseMore
}

// caseMore is what few rows need.
type caseMore struct {
	before string   // a simple Query that precedes on the same connection
	ddl    bool     // changes the schema: runs after the others
	code   string   // the SQLSTATE that it has by our own doing, where one server would say something else
	only   []string // the forms it is sent in; default all that fit
}

// forms are the forms that fit the row.
func (r *caseRow) forms() (fit []*form) {
	preparable := planned.MatchString(r.sql) && !strings.Contains(r.sql, ";") && !strings.Contains(strings.ToLower(r.sql), " into k_new")
	for i := range forms {
		f := &forms[i]
		if (len(r.only) == 0 || slices.Contains(r.only, f.name)) && (!f.planned || preparable) {
			fit = append(fit, f)
		}
	}
	return fit
}
