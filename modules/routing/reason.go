package routing

import (
	"github.com/fairwaydb/fairway/modules/catalog"
	"github.com/fairwaydb/fairway/modules/pgsql"
)

// Reason says why a statement ran where it did. The set is closed: it is a metric
// label.
type Reason uint8

// The reasons.
const (
	ReasonNone         Reason = iota // no choice was made
	ReasonRead                       // a plain read: on a replica
	ReasonReadOnlyTx                 // a read only transaction: on a replica
	ReasonNoReplica                  // a read, but no replica is fit: on the primary
	ReasonOwnWrite                   // a read, but no replica has the session's own writes or its fairway.min_lsn: on the primary
	ReasonStrong                     // a read under strong consistency: on the primary
	ReasonWrite                      // it writes or changes the schema
	ReasonRowLock                    // it locks rows, tables or takes a transaction's advisory lock
	ReasonTransaction                // an explicit transaction that may write
	ReasonServerState                // it asks about the server itself
	ReasonSessionState               // it makes or uses state of the session: settings, temporary tables, LISTEN, cursors
	ReasonFunction                   // it calls a function, operator or cast of which it is not known that it only reads
	ReasonRelation                   // it reads a relation that a standby cannot read, or that reaches such a function
	ReasonCatalog                    // nobody knows yet what the schema of its database says
	ReasonUnknown                    // it is not understood
	ReasonRoute                      // a hint, fairway.route or the listener says so
	ReasonPinned                     // the session holds a server connection: nothing was chosen
	ReasonCorrected                  // a standby refused it: run again on the primary
	ReasonLocal                      // the session answers it: no server was asked
	reasonCount
)

// String returns the metric label.
func (r Reason) String() string {
	if r >= reasonCount {
		r = ReasonNone
	}
	return reasonNames[r]
}

var reasonNames = [reasonCount]string{
	ReasonNone: "none", ReasonRead: "read", ReasonReadOnlyTx: "read_only_transaction", ReasonNoReplica: "no_replica",
	ReasonOwnWrite: "own_write", ReasonStrong: "strong", ReasonWrite: "write", ReasonRowLock: "row_lock",
	ReasonTransaction: "transaction", ReasonServerState: "server_state", ReasonSessionState: "session_state",
	ReasonFunction: "function", ReasonRelation: "relation", ReasonCatalog: "catalog", ReasonUnknown: "unknown", ReasonRoute: "route", ReasonPinned: "pinned",
	ReasonCorrected: "corrected", ReasonLocal: "local",
}

// Reasons returns all reasons but ReasonNone, for metrics that name them in
// advance.
func Reasons() []Reason {
	all := make([]Reason, 0, reasonCount-1)
	for r := ReasonNone + 1; r < reasonCount; r++ {
		all = append(all, r)
	}
	return all
}

// reads tells that the reason sends the statement to a replica if it can.
func (r Reason) reads() bool { return r == ReasonRead || r == ReasonReadOnlyTx }

const (
	writes = pgsql.Write | pgsql.DDL | pgsql.Notify | pgsql.CopyIn

	sessionState = pgsql.Settings | pgsql.Temp | pgsql.Listen | pgsql.AdvisoryLock | pgsql.HoldCursor | pgsql.SQLPrepare |
		pgsql.Sequence | pgsql.Load | pgsql.Discard

	// onReadOnlyTx may all be had in a read only transaction on a standby.
	onReadOnlyTx = pgsql.Read | pgsql.CopyOut | pgsql.TxBegin | pgsql.TxEnd | pgsql.TxReadOnly | pgsql.Savepoint | pgsql.Settings
)

// reasonOf says where the statement wants to run, and why; the strictest reason
// wins.
func reasonOf(r *Request) Reason {
	c := r.Class
	switch {
	case c == nil:
		return ReasonUnknown
	case c.Serializable:
		// A standby refuses SERIALIZABLE, see
		// https://www.postgresql.org/docs/current/hot-standby.html#HOT-STANDBY-CAVEATS.
		return ReasonTransaction
	case r.ExplicitTx && r.ReadOnlyTx:
		if c.Effects&^onReadOnlyTx == 0 && !c.SettingsUnknown {
			return judge(r, ReasonReadOnlyTx)
		}
	case !r.ExplicitTx && c.MaybeRead():
		return judge(r, ReasonRead)
	}
	return primaryReason(c)
}

// judge asks the schema about a statement that by its wording only reads.
func judge(r *Request, read Reason) Reason {
	switch r.Facts.Judge(r.Class) {
	case catalog.Reads:
		return read
	case catalog.NotLoaded:
		return ReasonCatalog
	case catalog.Relation:
		return ReasonRelation
	case catalog.Function, catalog.Expression:
	}
	return ReasonFunction
}

// primaryReason says why a statement that is no plain read runs on the primary.
func primaryReason(c *pgsql.Class) Reason {
	switch e := c.Effects; {
	case e&writes != 0:
		return ReasonWrite
	case e&pgsql.Unknown != 0:
		return ReasonUnknown
	case e&pgsql.RowLock != 0:
		return ReasonRowLock
	case e&sessionState != 0 || c.SettingsUnknown:
		return ReasonSessionState
	case e&pgsql.ServerState != 0:
		return ReasonServerState
	case len(c.Unproven) != 0:
		return ReasonFunction
	}
	return ReasonTransaction
}
