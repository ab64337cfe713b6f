package session

import (
	"github.com/fairwaydb/fairway/modules/catalog"
	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgsql"
)

// schema is what the session knows of its database beyond the wording of statements.
type schema struct {
	keeper  *catalog.Keeper
	changes bool         // the transaction may have changed the schema
	mark    cluster.Mark // when the last one that may have ended; 0: the facts in force know of it

	late   *catalog.Facts // what was known when a duplex turn began; nil between turns
	judged judged
}

// open begins to use the database's facts.
func (sc *schema) open(s *Session) {
	if s.replication != nil {
		return
	}
	sc.keeper = catalog.Open(s.cluster, s.identity.Database)
	if s.cluster.Settings().Catalog {
		sc.keeper.Facts() // the first statement follows soon
	}
}

func (sc *schema) close() {
	if sc.keeper != nil {
		sc.keeper.Close()
		sc.keeper = nil
	}
}

// forgetFacts lets go of what the schema has said in the turn: the facts of a large one take megabytes, and each change of it makes new
// ones. An idle session holds none.
func (s *Session) forgetFacts() {
	s.schema.judged, s.schema.late = judged{}, nil
	s.route.Class, s.route.Facts = nil, nil
}

// note remembers that a statement may change the schema for others. What it does to temporary relations is nobody else's affair.
func (sc *schema) note(class *pgsql.Class) {
	if class.Effects&(pgsql.DDL|pgsql.Unknown) != 0 && class.Effects&pgsql.Temp == 0 {
		sc.changes = true
	}
}

// ended follows the end of a transaction.
func (sc *schema) ended() {
	if sc.changes && sc.keeper != nil {
		sc.mark = sc.keeper.Changed()
	}
	sc.changes = false
}

// facts returns what is known of the database, nil when that is older than the session's own change of it.
func (s *Session) facts() *catalog.Facts {
	if !s.cluster.Settings().Catalog || s.schema.keeper == nil {
		return catalog.Wording
	}
	f := s.schema.keeper.Facts()
	if s.schema.mark == 0 {
		return f
	}
	if f == nil || f.Since < s.schema.mark {
		return nil
	}
	s.schema.mark = 0
	return f
}

// judged is what the schema says of a statement of the turn: it is asked several times.
type judged struct {
	class   *pgsql.Class
	facts   *catalog.Facts
	reads   bool // verdict is known
	verdict catalog.Verdict
	traced  bool // left is known
	left    pgsql.Traces
}

// of makes room for the answers about another statement, or by other facts.
func (j *judged) of(facts *catalog.Facts, class *pgsql.Class) *judged {
	if j.class != class || j.facts != facts {
		*j = judged{class: class, facts: facts}
	}
	return j
}

// judge is [catalog.Facts.Judge].
func (j *judged) judge() catalog.Verdict {
	if !j.reads {
		j.verdict, j.reads = j.facts.Judge(j.class), true
	}
	return j.verdict
}

// leaves is [catalog.Facts.Leaves].
func (j *judged) leaves() pgsql.Traces {
	if !j.traced {
		j.left, j.traced = j.facts.Leaves(j.class), true
	}
	return j.left
}

// reads tells that a statement only reads, by its wording and by the schema.
func (s *Session) reads(class *pgsql.Class) bool {
	return class.MaybeRead() && s.schema.judged.of(s.facts(), class).judge() == catalog.Reads
}

// mayWrite tells that the session's own reads could miss something of what the statement did on a replica.
func (s *Session) mayWrite(class *pgsql.Class) bool {
	if class.Effects&notPlain != 0 {
		return true
	}
	switch s.schema.judged.of(s.facts(), class).judge() {
	case catalog.Reads:
		return false
	case catalog.NotLoaded:
		return len(class.Unproven)+len(class.Relations) > 0
	case catalog.Function, catalog.Relation, catalog.Expression:
	}
	return true
}

// callsUnknown tells that a statement reaches code that may leave something behind on the server connection, or that nobody can tell.
func (s *Session) callsUnknown(class *pgsql.Class, facts *catalog.Facts) bool {
	if class.Do || class.Call || class.Effects&(pgsql.Unknown|pgsql.Temp) != 0 || len(class.Unproven) > 0 {
		return true // also code that only reads may call other code; what is temporary is in no catalog that was read
	}
	fires := class.Effects&firesCode != 0
	switch {
	case facts == catalog.Wording:
		return fires
	case facts == nil || s.schema.changes || s.schema.keeper.Behind():
		return fires || len(class.Relations)+len(class.Functions) > 0
	}
	return s.schema.judged.of(facts, class).leaves() != 0
}

// firesCode are the effects with which a statement may run code that it does not name: of triggers, rules, defaults and checks.
const firesCode = pgsql.Write | pgsql.RowLock | pgsql.DDL | pgsql.CopyIn

// notPlain are the effects after which a session's own reads could be missing something on a replica.
const notPlain = pgsql.Write | pgsql.DDL | pgsql.CopyIn | pgsql.Unknown

// noteCode remembers on the server connection that a request may leave there what only a cleaning takes away.
func (s *Session) noteCode(req *request, st *connState) {
	facts := s.facts()
	if req.duplex {
		s.schema.late = facts
	}
	if !req.duplex && !s.callsUnknown(req.class, facts) {
		return
	}
	st.functionsOf = s.id
	st.unread = st.unread || facts == catalog.Wording || facts == nil
	if s.schema.judged.of(facts, req.class).leaves()&(pgsql.SetsSettings|pgsql.RunsText) != 0 {
		s.tx.shifted = true
	}
}

// lateEffects are those for which a statement counts that is bound when a duplex turn has begun.
const lateEffects = pgsql.Settings | pgsql.Discard | pgsql.DDL | pgsql.Savepoint | pgsql.Sequence | pgsql.Unknown

// counts tells whether a statement that is bound when a duplex turn has begun does anything that the session must know of.
func (sc *schema) counts(class *pgsql.Class) bool {
	return class.Effects&lateEffects != 0 || class.Pins() != 0 || class.Do || class.Call || sc.late.Leaves(class) != 0
}
