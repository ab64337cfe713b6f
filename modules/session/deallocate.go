package session

import (
	"strings"

	"github.com/fairwaydb/fairway/modules/pgsql"
	"github.com/fairwaydb/fairway/modules/pgwire"
	"github.com/fairwaydb/fairway/modules/pool"
)

// forgetStatements follows what may have taken prepared statements of the server connection away: none counts as known, and each may
// be there.
func forgetStatements(c *pool.Conn) {
	c.ForgetAll()
	stateOf(c).doubtAll = true
}

// forgetLost follows the error that a server does not have a shared statement any more: something has deallocated it behind our back,
// and the others with it, perhaps. It returns whether that is what the error says.
func (s *Session) forgetLost(c *pool.Conn, r reply, e *pgwire.Error) bool {
	if e.Code != pgwire.CodeUndefinedPreparedStatement || r.stmt == nil || r.stmt.shared == "" || r.expect != expectBind && r.expect != expectDescribe {
		return false
	}
	s.segMu.Lock() // as in segmentFailed: the server reads on
	forgetStatements(c)
	s.segMu.Unlock()
	return true
}

// refusePrepared refuses SQL that names one of the statements that server connections share.
func refusePrepared(class *pgsql.Class) *pgwire.Error {
	for _, name := range class.Prepared {
		if strings.HasPrefix(name, sharedPrefix) {
			e := pgwire.Errorf(pgwire.CodeUndefinedPreparedStatement, "prepared statement %q does not exist", name)
			e.Hint = "Names that begin with " + sharedPrefix + " are those of statements that sessions share."
			return e
		}
	}
	return nil
}

// gone is a statement that is made to be deallocated in place of a client's: servers know that by another name, and others share it.
var gone = &statement{name: "gone", shared: sharedPrefix + "gone", types: []byte{0, 0}}

// deallocatesOne tells that a text is a DEALLOCATE of one name and nothing else.
func deallocatesOne(class *pgsql.Class) bool {
	return class.Effects == pgsql.Discard && class.Statements == 1 && len(class.Prepared) == 1
}

// deallocateText returns what takes the place of a DEALLOCATE: it stays what it is unless the client made the statement by Parse.
func (s *Session) deallocateText(sql string, class *pgsql.Class) string {
	if s.statements.named[class.Prepared[0]] == nil {
		return sql
	}
	return "DEALLOCATE " + gone.shared
}

// deallocating makes sure that what is about to be executed deallocates what the client means. It notes in the reply how the client's
// names are brought back if it fails. What follows in the pipeline finds the names gone.
func (s *Session) deallocating(c *pool.Conn, stmt *statement, r *reply) {
	switch class := stmt.class; {
	case deallocatesOne(class) && stmt.text != stmt.asks:
		c.W.Close('S', gone.shared)
		s.queue.push(reply{expect: expectClose, action: drop})
		c.W.Parse(gone.shared, gone.text, gone.types)
		s.queue.push(reply{expect: expectParse, action: drop, stmt: gone})
		if prev := s.statements.named[class.Prepared[0]]; prev != nil {
			s.statements.set(prev.name, nil)
			r.prev, r.named = prev, true
		}
	case class.Statements == 1 && class.Ends&pgsql.SQLPrepare != 0:
		if r.cleared = s.statements.named; r.cleared == nil {
			r.cleared = names{}
		}
		s.statements.named = nil
		c.ForgetAll()
	}
}
