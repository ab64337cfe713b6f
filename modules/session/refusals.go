package session

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgsql"
	"github.com/fairwaydb/fairway/modules/pgwire"
	"github.com/fairwaydb/fairway/modules/routing"
)

// refusalText takes the place of a statement that must fail for a reason only we know. No server understands it; its error is replaced
// by ours. The failure is the server's, so that its transaction and what follows in the pipeline fail as they should.
const refusalText = "fairway refuses this statement"

// refusalClass is the class of such a statement.
var refusalClass = &pgsql.Class{Effects: pgsql.ServerState, Statements: 1, Kind: pgsql.KindSet, ConstDependent: true}

// unreadableFormat is a format that no server knows: a Bind with it fails.
const unreadableFormat = 2

// refusedName is a statement that no server has, for no statement of ours is called so: a Bind of it fails.
const refusedName = "fairway_refused"

// refuses tells whether the error of a server is the one that a refusal was to provoke.
func refuses(refusal, e *pgwire.Error) bool {
	return refusal != nil && (e.Code == pgwire.CodeSyntaxError || e.Code == pgwire.CodeInvalidParameterValue || e.Code == pgwire.CodeUndefinedPreparedStatement)
}

// refusal is the error a statement must fail with, nil for most: it gives a setting of ours a value that means nothing, or is sent to
// a replica although it certainly writes.
func (s *Session) refusal(class *pgsql.Class) *pgwire.Error {
	for i := range class.Settings {
		set := &class.Settings[i]
		if !strings.HasPrefix(set.Name, ownPrefix) {
			continue
		}
		if set.Known || set.Reset && set.Name == settingLSN {
			if e := s.refuseSetting(set.Name, set.Value); e != nil {
				return e
			}
		}
	}
	if e := refusePrepared(class); e != nil {
		return e
	}
	if e := s.refuseAlone(class); e != nil {
		return e
	}
	return s.refuseOnReplica(class)
}

// refuseAlone refuses what a transaction on a replica could not do, or would do for that replica alone, although a READ ONLY
// transaction may: an advisory lock of a standby excludes nobody elsewhere.
func (s *Session) refuseAlone(class *pgsql.Class) *pgwire.Error {
	if !s.placed() || !s.tx.open || s.lease.member.Role != cluster.RoleReplica || s.opts.Route != routing.TargetAuto {
		return nil
	}
	if class.Effects&(pgsql.AdvisoryLock|pgsql.Listen|pgsql.Notify) == 0 && !slices.ContainsFunc(class.Functions, primaryAlone) {
		return nil
	}
	e := pgwire.Errorf(pgwire.CodeFeatureNotSupported, "cannot run this statement in a transaction on a replica")
	e.Hint = "A comment /* route: primary */ in front of BEGIN, or SET fairway.route = 'primary', runs the transaction on the primary."
	return e
}

// primaryAlone tells whether a function takes an advisory lock or a transaction id, or exports a snapshot.
func primaryAlone(name string) bool {
	name = strings.TrimPrefix(name, "pg_catalog.")
	switch name {
	case "txid_current", "pg_current_xact_id", "pg_export_snapshot":
		return true
	}
	return strings.HasPrefix(name, "pg_advisory_xact_lock") || strings.HasPrefix(name, "pg_try_advisory_xact_lock")
}

// mayRefuse are the effects without which refusal has nothing to say.
const mayRefuse = certainWrites | pgsql.AdvisoryLock | pgsql.Listen | pgsql.RowLock

// certainWrites are the effects of statements that a standby always refuses.
const certainWrites = pgsql.Write | pgsql.DDL | pgsql.CopyIn | pgsql.Notify

// refuseOnReplica refuses what a hint sends to a replica that can not do it. What is in doubt (EXECUTE, CALL, DO, statements nobody
// understands) is the replica's to refuse, and a transaction stays where it is whatever hints say.
func (s *Session) refuseOnReplica(class *pgsql.Class) *pgwire.Error {
	if class.Effects&certainWrites == 0 || class.Effects&(pgsql.Unknown|pgsql.SQLPrepare) != 0 || class.Call || class.Do ||
		s.placed() || s.opts.Route != routing.TargetAuto || s.hint(class) != routing.TargetReplica ||
		slices.ContainsFunc(class.Functions, standbyHasIt) {
		return nil
	}
	e := pgwire.Errorf(pgwire.CodeReadOnlyTransaction, "cannot run a statement that writes on a replica")
	e.Hint = "The comment in front of it or the setting fairway.route sends it there: leave that out, or write primary."
	return e
}

// standbyHasIt tells of functions that count as writing and that a standby runs all the same: those of its own replication slots, and
// the export of snapshots.
func standbyHasIt(function string) bool {
	return strings.Contains(function, "_slot") || strings.HasSuffix(function, "pg_export_snapshot")
}

// placed tells that the server connection the session holds was there before the statement: nothing chooses where that runs.
func (s *Session) placed() bool { return s.lease.held() && !s.turn.fresh }

// refuseSetting returns what is wrong with a value for a setting of ours, nil when it is fine.
func (s *Session) refuseSetting(name, value string) *pgwire.Error {
	e := checkSetting(name, value)
	if e != nil || name != settingMinLSN || !s.placed() || s.lease.member.Role != cluster.RoleReplica {
		return e
	}
	if at, err := cluster.ParseLSN(value); err != nil || s.lease.member.Backend.Replayed(at) {
		return nil
	}
	e = pgwire.Errorf(pgwire.CodeActiveTransaction, "parameter %q is beyond what the replica of this transaction is known to have", name)
	e.Hint = "Set it before the first query of the transaction."
	return e
}

// checkSetting is refuseSetting without a session.
func checkSetting(name, value string) *pgwire.Error {
	hint := ""
	switch name {
	case settingRoute:
		if _, ok := routing.ParseTarget(strings.ToLower(value)); !ok {
			hint = "Available values: auto, primary, replica."
		}
	case settingConsistency:
		if _, ok := cluster.ParseConsistency(strings.ToLower(value)); !ok {
			hint = "Available values: session, strong, eventual."
		}
	case settingMinLSN:
		if _, err := cluster.ParseLSN(value); err != nil && value != "" {
			hint = "Write what SHOW fairway.lsn has shown, such as 0/16B3748. RESET fairway.min_lsn asks for nothing."
		}
	case settingLSN:
		e := pgwire.Errorf(pgwire.CodeCannotChangeRuntimeParam, "parameter %q cannot be changed", name)
		e.Hint = "To read no older state set fairway.min_lsn."
		return e
	default:
		e := pgwire.Errorf(pgwire.CodeInvalidName, "invalid configuration parameter name %q", name)
		e.Detail = `"fairway" is a reserved prefix.`
		e.Hint = "There are fairway.route, fairway.consistency, fairway.min_lsn and fairway.lsn."
		return e
	}
	if hint == "" {
		return nil
	}
	e := pgwire.Errorf(pgwire.CodeInvalidParameterValue, "invalid value for parameter %q: %q", name, value)
	e.Hint = hint
	return e
}

// checkStartup returns what is wrong with settings of ours in a startup packet.
func checkStartup(asked []pgwire.Param) *pgwire.Error {
	for _, p := range asked {
		if name := strings.ToLower(p.Name); strings.HasPrefix(name, ownPrefix) {
			if e := checkSetting(name, p.Value); e != nil {
				e.Severity, e.Fatal = pgwire.SeverityFatal, true
				return e
			}
		}
	}
	return nil
}

// refuseBound returns what is wrong with a statement that was prepared before its transaction was on a replica, or with the values that
// a Bind gives to settings of ours; rest is what follows the names in it.
func (s *Session) refuseBound(stmt *statement, rest []byte) *pgwire.Error {
	if stmt == nil {
		return nil
	}
	if stmt.refusal == nil && (len(stmt.class.Settings) > 0 || stmt.class.Effects&mayRefuse != 0) {
		if e := s.refusal(stmt.class); e != nil {
			return e
		}
	}
	for i := range stmt.class.Settings {
		set := &stmt.class.Settings[i]
		if set.Param == 0 || !strings.HasPrefix(set.Name, ownPrefix) {
			continue
		}
		if value, ok := boundValue(rest, set.Param); ok {
			if e := s.refuseSetting(set.Name, value); e != nil {
				return e
			}
		}
	}
	return nil
}

// boundParameters cuts the formats off what follows the names in a Bind: the count of parameters and their values are left.
func boundParameters(rest []byte) ([]byte, bool) {
	if len(rest) < 2 {
		return nil, false
	}
	at := 2 + 2*int(binary.BigEndian.Uint16(rest))
	if len(rest) < at+2 {
		return nil, false
	}
	return rest[at:], true
}

// boundValue is the value of a parameter, counted from 1; text has the same bytes in both formats. There is none when it is NULL or
// the message is broken.
func boundValue(rest []byte, number int) (string, bool) {
	p, ok := boundParameters(rest)
	if !ok || number > int(binary.BigEndian.Uint16(p)) {
		return "", false
	}
	p = p[2:]
	for n := 1; len(p) >= 4; n++ {
		size := int(int32(binary.BigEndian.Uint32(p)))
		p = p[4:]
		if size > len(p) {
			return "", false
		}
		if n == number {
			if size < 0 {
				return "", false
			}
			return string(p[:size]), true
		}
		p = p[max(size, 0):]
	}
	return "", false
}

// unreadable is what follows the names in a Bind, with a format that makes it fail.
func unreadable(rest []byte) []byte {
	p, ok := boundParameters(rest)
	if !ok {
		return rest
	}
	return append([]byte{0, 1, 0, unreadableFormat}, p...)
}
