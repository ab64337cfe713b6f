package session

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/fairwaydb/fairway/modules/catalog"
	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgsql"
	"github.com/fairwaydb/fairway/modules/routing"
)

// Explanation says where a statement would run, and why.
type Explanation struct {
	// Class is what the statement does by its wording.
	Class *pgsql.Class
	*routing.Explanation
}

// Explain says where a statement would run that is the first of a new session, with a route of its own as fairway.route would give it
// ("auto", "primary", "replica"; empty is auto). The facts of the database may be nil. Nothing runs.
func Explain(c *cluster.Cluster, facts *catalog.Facts, sql string, route routing.Target) *Explanation {
	if !c.Settings().Catalog {
		facts = catalog.Wording
	}
	class := classifierFor(c.Settings()).Classify([]byte(sql))
	r := &routing.Request{
		Class: class, Facts: facts, Hint: hintOf(class, route), Consistency: c.Settings().Consistency,
		ExplicitTx: class.Effects&pgsql.TxBegin != 0,
		ReadOnlyTx: class.Effects&pgsql.TxReadOnly != 0 && class.Effects&needsPrimary == 0,
	}
	return &Explanation{Class: class, Explanation: routing.Explain(c, c.Topology(), r)}
}

// explain is Explain for a statement of this session.
func (s *Session) explain(sql []byte) *Explanation {
	class := s.classify(sql)
	r := *s.routeRequest(class)
	r.Tried, r.Scratch = nil, nil
	return &Explanation{Class: class, Explanation: routing.Explain(s.cluster, s.cluster.Topology(), &r)}
}

// Lines are the explanation as text, one fact a line.
func (e *Explanation) Lines() []string {
	c := e.Class
	lines := []string{"Runs on: " + e.where(), "Class: " + c.Kind.String() + " (" + c.Effects.String() + ")"}
	add := func(name string, list []string) {
		if len(list) > 0 {
			lines = append(lines, name+": "+strings.Join(list, ", "))
		}
	}
	if e.Verdict != catalog.Reads {
		lines = append(lines, strings.TrimRight("Schema: "+e.Verdict.String()+" "+e.Name, " "))
	}
	if c.Route != "" {
		lines = append(lines, "Hint: "+c.Route)
	}
	add("Functions", c.Functions)
	add("Relations", c.Relations)
	if pins := c.Pins(); pins != 0 {
		lines = append(lines, "Holds the server connection for: "+pins.String())
	}
	lines = append(lines, "Fingerprint: "+fmt.Sprintf("%016x", c.Fingerprint))
	for i := range e.Candidates {
		lines = append(lines, "Candidate: "+candidateLine(&e.Candidates[i]))
	}
	return lines
}

// where is the choice in words.
func (e *Explanation) where() string {
	if e.Err != nil {
		return "nowhere: " + e.Err.Error()
	}
	m := e.Choice.Member
	return m.Backend.Name() + " (" + m.Role.String() + "), because of " + e.Choice.Reason.String()
}

func candidateLine(c *routing.Candidate) string {
	m := c.Member
	line := fmt.Sprintf("%s (%s, %s, score %.2f, in flight %d, latency %v)", m.Backend.Name(), m.Role, m.State, m.Score, m.Backend.InFlight(), m.Latency)
	if c.Value != 0 {
		line += " value " + strconv.FormatFloat(c.Value, 'g', 4, 64)
	}
	switch {
	case c.Eligible:
	case c.Why == m.Reason:
		line += " no" // the reason may tell of the network and the cluster's own account: it is the operator's
	default:
		line += " no: " + c.Why
	}
	return line
}

// explainText returns the statement that answers EXPLAIN (ROUTE) with the explanation of the statement in it, nil when sql is no such
// question. A server gives the answer, so that transactions and both protocols see it as any other.
func (s *Session) explainText(sql []byte) []byte {
	asked, ok := pgsql.RouteQuestion(sql)
	if !ok {
		return nil
	}
	lines := s.explain(asked).Lines()
	text := []byte(`SELECT line AS "ROUTE" FROM pg_catalog.unnest(ARRAY[`)
	for i, line := range lines {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(text, quoteLiteral(line)...)
	}
	return append(text, "]::pg_catalog.text[]) line"...)
}

// explainClass is the class of such a statement: any server will do.
var explainClass = &pgsql.Class{Effects: pgsql.Read, Statements: 1, Kind: pgsql.KindUtility, ConstDependent: true}
