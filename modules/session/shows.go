package session

import (
	"strings"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgsql"
	"github.com/fairwaydb/fairway/modules/pgwire"
)

// replacement is what stands for a statement that no server understands as it is meant, or that must fail.
type replacement struct {
	text    string // "" when the statement is what it seems to be
	class   *pgsql.Class
	refusal *pgwire.Error // what it fails with
}

// replace returns what takes the place of a statement. A server runs it, so that transactions and both protocols see it as any other.
func (s *Session) replace(sql []byte, class *pgsql.Class) replacement {
	if s.status == 'E' {
		return replacement{class: class} // the server refuses it anyway
	}
	if text := s.explainText(sql); text != nil {
		return replacement{text: string(text), class: explainClass}
	}
	if class.Show != "" && strings.HasPrefix(class.Show, ownPrefix) {
		return s.replaceShow(class)
	}
	if len(class.Settings)+len(class.Prepared) == 0 && class.Effects&mayRefuse == 0 {
		return replacement{class: class}
	}
	if e := s.refusal(class); e != nil {
		return replacement{text: refusalText, class: refusalClass, refusal: e}
	}
	return replacement{class: class}
}

// stand puts the replacement of a statement of the extended protocol that is being prepared in its place.
func (s *Session) stand(stmt *statement) {
	r := s.replace([]byte(stmt.text), stmt.class)
	if deallocatesOne(stmt.class) && r.text == "" {
		stmt.asks, r.text = stmt.text, s.deallocateText(stmt.text, stmt.class)
	}
	if r.text != "" {
		stmt.asks, stmt.text, stmt.class, stmt.refusal = stmt.text, r.text, r.class, r.refusal
	}
}

// refresh does so again before each Bind, for what a SHOW answers changes. It returns what the Bind must fail with: that holds for this
// one only.
func (s *Session) refresh(stmt *statement) *pgwire.Error {
	sql := []byte(stmt.asks)
	class := s.classifyExact(sql)
	r := s.replace(sql, class)
	if deallocatesOne(class) && s.status != 'E' {
		r.text = s.deallocateText(stmt.asks, class)
	}
	if r.refusal == nil && r.text != "" && r.text != stmt.text {
		stmt.text, stmt.class = r.text, r.class
		s.identify(stmt)
	}
	return r.refusal
}

// showClass is the class of a SHOW of a setting of ours: as any SHOW it runs on the primary.
var showClass = &pgsql.Class{Effects: pgsql.ServerState, Statements: 1, Kind: pgsql.KindUtility, ConstDependent: true}

// replaceShow returns the statement that answers SHOW of a setting of ours. Servers know values that are set, also by the open
// transaction; what holds while none is set, and the position, we know.
func (s *Session) replaceShow(class *pgsql.Class) replacement {
	value := ""
	switch class.Show {
	case settingRoute:
		value = setOr(settingRoute, s.opts.Route.String())
	case settingConsistency:
		value = setOr(settingConsistency, s.cluster.Settings().Consistency.String())
	case settingMinLSN:
		value = setOr(settingMinLSN, "0/0")
	case settingLSN:
		var e *pgwire.Error
		if value, e = s.positionSQL(); e != nil {
			return replacement{text: refusalText, class: refusalClass, refusal: e}
		}
	default:
		return replacement{class: class}
	}
	return replacement{text: "SELECT " + value + " AS " + quoteName(class.Show), class: showClass}
}

// setOr is the expression of a setting's value, or of another one while it is not set.
func setOr(name, otherwise string) string {
	return "COALESCE(NULLIF(pg_catalog.current_setting(" + quoteLiteral(name) + ",true),'')," + quoteLiteral(otherwise) + ")"
}

// positionSQL is the expression of fairway.lsn: a position behind which lies everything that the session has written, and
// fairway.min_lsn when that is later. A session that has not written needs no server to tell.
func (s *Session) positionSQL() (string, *pgwire.Error) {
	if s.mark == 0 && !s.wrote {
		return setOr(settingMinLSN, "0/0"), nil
	}
	position := "pg_catalog.pg_current_wal_insert_lsn()"
	if s.exactFlush() {
		position = "pg_catalog.pg_current_wal_flush_lsn()"
	}
	if s.placed() && s.lease.member.Role == cluster.RoleReplica {
		if !s.lease.member.Backend.CaughtUp(s.mark, s.exactFlush()) {
			e := pgwire.Errorf(pgwire.CodeObjectNotInPrerequisiteState, "the replica of this transaction may not have what the session has written")
			e.Hint = "Ask for fairway.lsn outside the transaction."
			return "", e
		}
		position = "pg_catalog.pg_last_wal_replay_lsn()"
	}
	return "GREATEST(" + position + ",NULLIF(pg_catalog.current_setting(" + quoteLiteral(settingMinLSN) + ",true),'')::pg_catalog.pg_lsn)::pg_catalog.text", nil
}

// exactFlush tells that the session's commits have waited until they were flushed.
func (s *Session) exactFlush() bool {
	return s.settings.value("synchronous_commit") == "on" && !s.asyncCommit
}

// quoteName quotes an identifier.
func quoteName(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
