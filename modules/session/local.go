package session

import (
	"encoding/binary"

	"github.com/fairwaydb/fairway/modules/pgsql"
	"github.com/fairwaydb/fairway/modules/pgwire"
)

// single is a batch that runs one statement once and ends with Sync: the only kind that is ever answered without a server.
type single struct {
	text     []byte
	class    *pgsql.Class
	parses   *statement // the statement a Parse in it makes
	portal   string     // the one a Bind in it makes
	binds    int
	executes int
}

// answerBatch answers a batch that needs no server, as answerHere does for a simple Query.
func (s *Session) answerBatch(req *request) bool {
	if s.deallocates(req.class) {
		if one, ok := s.single(req); ok && one.executes == 1 && one.binds == 1 {
			s.statements.set(one.class.Prepared[0], nil)
			if one.parses != nil {
				s.statements.set(one.parses.name, one.parses)
			}
			s.labels.local.Inc()
			s.answerFrames("DEALLOCATE")
			return true
		}
	}
	if s.lease.held() || !s.tx.failed && !s.begin.pending() && !req.class.TxOnly {
		return false
	}
	one, ok := s.single(req)
	if !ok {
		if !s.tx.failed {
			return false
		}
		s.refuseFailed(req.class)
		s.skipping = !req.sync
		if req.sync {
			s.w.ReadyForQuery(s.status)
		}
		return true
	}
	tag := s.localTag(one.class, one.text)
	if tag == "" {
		return false
	}
	s.labels.local.Inc()
	if tag == failedTag {
		s.refuseFailed(one.class)
		s.w.ReadyForQuery(s.status)
		return true
	}
	if one.parses != nil {
		s.statements.set(one.parses.name, one.parses)
	}
	s.answerFrames(tag)
	return true
}

// answerFrames writes the reply to each message of the batch; tag is the command tag of its Execute.
func (s *Session) answerFrames(tag string) {
	for p := s.batch.frames; len(p) > 0; {
		typ, body, rest := nextFrame(p)
		switch typ {
		case pgwire.MsgParse:
			s.w.Frame(pgwire.MsgParseComplete, nil)
		case pgwire.MsgBind:
			s.w.Frame(pgwire.MsgBindComplete, nil)
		case pgwire.MsgDescribe:
			if len(body) > 0 && body[0] == 'S' {
				s.w.Frame(pgwire.MsgParameterDescription, []byte{0, 0})
			}
			s.w.Frame(pgwire.MsgNoData, nil)
		case pgwire.MsgClose:
			s.w.Frame(pgwire.MsgCloseComplete, nil)
		case pgwire.MsgExecute:
			s.w.CommandComplete(tag)
		case pgwire.MsgSync:
			s.w.ReadyForQuery(s.status)
		}
		p = rest
	}
}

// single recognises a batch of at most one Parse, one Bind and one Execute of the same statement, ended by Sync.
func (s *Session) single(req *request) (one single, ok bool) {
	if !req.sync || len(s.batch.classes) != 1 {
		return one, false
	}
	one.class = s.batch.classes[0]
	for p := s.batch.frames; len(p) > 0; {
		typ, body, rest := nextFrame(p)
		p = rest
		switch typ {
		case pgwire.MsgParse:
			name, sql, types, err := pgwire.DecodeParse(body)
			if err != nil || one.parses != nil || one.binds > 0 || len(name) > 0 && s.statements.named[string(name)] != nil || len(types) > 2 {
				return one, false
			}
			one.text = sql
			one.parses = s.newStatement(name, sql, types)
		case pgwire.MsgBind:
			portal, name, rest, err := pgwire.DecodeBind(body)
			if err != nil || one.binds > 0 || !noParameters(body[rest:]) {
				return one, false
			}
			one.portal = string(portal)
			one.binds++
			if one.parses == nil {
				stmt := s.statements.lookup(name)
				if stmt == nil {
					return one, false
				}
				one.text = []byte(stmt.text)
			} else if string(name) != one.parses.name {
				return one, false
			}
		case pgwire.MsgExecute:
			portal, _, ok := pgwire.ParseCString(body)
			if !ok || one.binds == 0 || string(portal) != one.portal {
				return one, false
			}
			one.executes++
		case pgwire.MsgClose, pgwire.MsgDescribe:
			kind, name, err := pgwire.DecodeTarget(body)
			if err != nil || kind == 'P' && (one.binds == 0 || string(name) != one.portal) || kind == 'S' && !one.describes(typ, name) {
				return one, false
			}
		case pgwire.MsgSync:
		default:
			return one, false
		}
	}
	return one, one.binds == 1 && one.executes == 1
}

// describes tells whether a message about a statement is a Describe of the one that the batch has just prepared.
func (one *single) describes(typ byte, name []byte) bool {
	return typ == pgwire.MsgDescribe && one.parses != nil && string(name) == one.parses.name
}

// noParameters tells whether what follows the names in a Bind gives no parameter.
func noParameters(rest []byte) bool {
	if len(rest) < 2 {
		return false
	}
	at := 2 + 2*int(binary.BigEndian.Uint16(rest)) // the formats
	return len(rest) >= at+2 && binary.BigEndian.Uint16(rest[at:]) == 0
}

// merge adds what another statement of the same batch does.
func merge(to, c *pgsql.Class) {
	to.Effects |= c.Effects
	to.Statements += c.Statements
	to.Fingerprint = to.Fingerprint*31 + c.Fingerprint // the same pipeline is known again
	to.Kind = max(to.Kind, c.Kind)
	to.Functions = append(to.Functions, c.Functions...)
	to.Unproven = append(to.Unproven, c.Unproven...)
	to.Relations = append(to.Relations, c.Relations...)
	to.Operators = append(to.Operators, c.Operators...)
	to.Types = append(to.Types, c.Types...)
	to.Settings = append(to.Settings, c.Settings...)
	to.Serializable = to.Serializable || c.Serializable
	to.TxReadWrite = to.TxReadWrite || c.TxReadWrite
	to.SettingsUnknown = to.SettingsUnknown || c.SettingsUnknown
	switch { // a hint for a replica must be everybody's
	case to.Statements == c.Statements || c.Route == pgsql.RoutePrimary:
		to.Route = c.Route
	case to.Route != c.Route && to.Route != pgsql.RoutePrimary:
		to.Route = ""
	}
}
