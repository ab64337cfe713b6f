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
