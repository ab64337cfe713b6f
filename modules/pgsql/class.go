package pgsql

import "strings"

// Effects is the set of things a text may do, as far as its wording tells. The zero value is an empty query.
type Effects uint32

// The effects. Their order is the order of String and means nothing else.
const (
	// Read reads relations or computes a result.
	Read Effects = 1 << iota
	// Write changes rows or files, or assigns a transaction id.
	Write
	// RowLock takes row, table or transaction-level advisory locks: a standby cannot.
	RowLock
	// DDL changes the schema, roles or databases.
	DDL
	// Settings changes session or transaction settings; Class.Settings names them.
	Settings
	// TxBegin starts an explicit transaction.
	TxBegin
	// TxEnd ends one (COMMIT, ROLLBACK, PREPARE TRANSACTION, and the first half of … AND CHAIN).
	TxEnd
	// TxReadOnly makes the transaction it begins, or the current one, read only.
	TxReadOnly
	// Savepoint is SAVEPOINT, RELEASE or ROLLBACK TO.
	Savepoint
	// Temp makes or names a temporary relation: it lives in one server connection.
	Temp
	// Listen is LISTEN.
	Listen
	// Notify is NOTIFY or pg_notify.
	Notify
	// AdvisoryLock takes a session-level advisory lock, or tries to.
	AdvisoryLock
	// HoldCursor declares a cursor WITH HOLD.
	HoldCursor
	// SQLPrepare is PREPARE, EXECUTE or anything else that needs an SQL-level prepared statement. The class of a PREPARE
	// has the effects of what it prepares; that of an EXECUTE cannot know them.
	SQLPrepare
	// CopyIn makes the server ask for CopyData.
	CopyIn
	// CopyOut makes the server send CopyData.
	CopyOut
	// ServerState asks about, or acts on, the server itself: the primary answers, or the connection held.
	ServerState
	// Sequence reads what this session last drew from a sequence (currval, lastval).
	Sequence
	// Load changes what else lives in a server connection: LOAD, setseed, a running backup, a temporary slot.
	Load
	// Discard gives up state of the server connection: DISCARD, DEALLOCATE, CLOSE, UNLISTEN, unlocking.
	Discard
	// Unknown may do anything: not understood, or code that the text does not show (DO, CALL).
	Unknown
)

// effectNames are in the order of the constants.
var effectNames = [...]string{
	"read", "write", "rowlock", "ddl", "settings", "txbegin", "txend", "txreadonly", "savepoint", "temp", "listen",
	"notify", "advisorylock", "holdcursor", "sqlprepare", "copyin", "copyout", "serverstate", "sequence", "load",
	"discard", "unknown",
}

const (
	// plainEffects may all be had on a standby, on any server connection.
	plainEffects = Read | CopyOut
	// pinEffects leave something behind that lives in one server connection.
	pinEffects = Temp | Listen | AdvisoryLock | HoldCursor | SQLPrepare | Load | Unknown
	// writeEffects may change what other sessions and standbys see.
	writeEffects = Write | DDL | Unknown
)

// String lists the effects, joined by "|": "read|rowlock". No effect is "none".
func (e Effects) String() string {
	if e == 0 {
		return "none"
	}
	return strings.Join(e.Names(), "|")
}

// Names lists the effects; nil when there is none.
func (e Effects) Names() []string {
	var names []string
	for i, name := range effectNames {
		if e&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// Kind is the coarse sort of a text, for metrics. Of several statements the last in the order below decides.
type Kind uint8

// The kinds, from the mildest to the strictest.
const (
	KindTransaction Kind = iota
	KindRead
	KindSet
	KindUtility
	KindCopy
	KindWrite
	KindDDL
	KindUnknown
)

// String returns the metric label of the kind.
func (k Kind) String() string {
	switch k {
	case KindTransaction:
		return "transaction"
	case KindRead:
		return "read"
	case KindSet:
		return "set"
	case KindUtility:
		return "utility"
	case KindCopy:
		return "copy"
	case KindWrite:
		return "write"
	case KindDDL:
		return "ddl"
	case KindUnknown:
		return "unknown"
	}
	return "unknown"
}

// Setting is one setting that SET, RESET or set_config names.
type Setting struct {
	// Name is lower-case: SET TIME ZONE is timezone, SET NAMES client_encoding, SET ROLE role,
	// SET SESSION AUTHORIZATION session_authorization, SET TRANSACTION SNAPSHOT transaction_snapshot.
	Name string
	// Value is what current_setting would show if the server takes the text as it is; only when Known.
	Value string
	// Known tells that Value is the literal of the text and that the statement, if it succeeds, surely sets it.
	Known bool
	// Param is the number, from 1, of the parameter whose value set_config surely sets; 0: there is none.
	Param int
	// Local holds until the end of the transaction only (SET LOCAL, SET TRANSACTION, set_config(…, true)).
	Local bool
	// Reset goes back to the session's default (RESET, SET … TO DEFAULT).
	Reset bool
	// All stands for every setting (RESET ALL, DISCARD ALL); Name is empty.
	All bool
}

// Class is what a text does. It is shared between sessions and never changes.
type Class struct {
	// Effects is the union over all statements of the text.
	Effects Effects
	// Ends are the kinds of pinning state that are surely gone when the text succeeded: UNLISTEN * ends Listen,
	// CLOSE ALL HoldCursor, DEALLOCATE ALL SQLPrepare, pg_advisory_unlock_all AdvisoryLock, DISCARD TEMP Temp.
	Ends Effects
	// Statements counts the statements; 0 is the empty query.
	Statements int
	// Kind is the strictest kind of all statements.
	Kind Kind
	// Functions are the functions called, folded as PostgreSQL folds names, with schema when written so. No duplicates.
	// Those that read_functions lists are left out.
	Functions []string
	// Unproven are those of Functions of which the name alone does not tell that they only read.
	Unproven []string
	// Relations are the relations named (not those of WITH), in the same form.
	Relations []string
	// Operators are the operators written, in the same form; LIKE and IN count, what sorting and grouping use does not.
	Operators []string
	// Types are the types that casts name, in the same form.
	Types []string
	// Settings are the settings changed, in the order of the text.
	Settings []Setting
	// Prepared are the names that SQL-level PREPARE, EXECUTE and DEALLOCATE mention.
	Prepared []string
	// Show is the setting that a text of one SHOW asks for, lower-case; SHOW ALL is "all".
	Show string
	// Route is what the hint in a leading comment asks for, "primary" or "replica"; empty: no hint.
	Route string
	// Isolation is the level that BEGIN or SET TRANSACTION spells out, lower-case; empty: none.
	Isolation string
	// TxOnly: exactly one BEGIN or START TRANSACTION and nothing else.
	TxOnly bool
	// TxEndOnly: exactly one COMMIT, END, ROLLBACK or ABORT, without CHAIN and not PREPARED.
	TxEndOnly bool
	// TxEndCommit: with TxEndOnly, it is COMMIT or END.
	TxEndCommit bool
	// SetTxOnly: exactly one SET TRANSACTION.
	SetTxOnly bool
	// TxReadWrite: BEGIN or SET TRANSACTION says READ WRITE, whatever the session's default is.
	TxReadWrite bool
	// Serializable: Isolation is "serializable"; a standby refuses it.
	Serializable bool
	// Call: exactly one CALL; what it may leave behind, the procedures named in Functions tell.
	Call bool
	// Do: exactly one DO, in a language that is read; Code tells what its body does.
	Do   bool
	Code Code
	// SettingsUnknown: settings may change in a way the text does not tell.
	SettingsUnknown bool
	// ConstDependent: the class depends on a literal or a comment; it holds for exactly this text.
	ConstDependent bool
	// Fingerprint is equal for texts that differ in literals, comments and white space only. It is stable between processes.
	Fingerprint uint64
}

// What a hint in a leading comment may ask for.
const (
	RoutePrimary = "primary"
	RouteReplica = "replica"
)

// unknownClass is the answer for everything that is not understood.
var unknownClass = &Class{
	Effects: Unknown, Statements: 1, Kind: KindUnknown, SettingsUnknown: true, ConstDependent: true,
}

// Unparsed returns the class of a text that is not to be parsed at all, such as one with bytes above 0x7f in a
// client encoding that is not ASCII-safe.
func Unparsed() *Class { return unknownClass }

// PlainRead tells that the text may run on a standby and on any server connection: it reads and does nothing that
// needs the primary or the session's own connection. An empty query is one.
func (c *Class) PlainRead() bool {
	return c.MaybeRead() && len(c.Unproven) == 0
}

// MaybeRead tells that the text would be a plain read if each function of Unproven only reads.
func (c *Class) MaybeRead() bool {
	return c.Effects&^plainEffects == 0 && !c.SettingsUnknown
}

// Pins returns the effects that hold the server connection to the session after the text. Settings among them means
// that settings changed in an unknown way.
func (c *Class) Pins() Effects {
	pins := c.Effects & pinEffects &^ c.Ends
	if c.SettingsUnknown {
		pins |= Settings
	}
	return pins
}

// MayWrite tells that the text may change what another session or a standby sees. Functions that are not proven to
// only read count.
func (c *Class) MayWrite() bool {
	return c.Effects&writeEffects != 0 || len(c.Unproven) != 0
}

// size is what the class takes in memory, roughly, in bytes.
func (c *Class) size() int {
	n := 256
	for _, list := range [][]string{c.Functions, c.Relations, c.Operators, c.Types, c.Prepared, c.Code.Words} {
		for _, s := range list {
			n += 16 + len(s)
		}
	}
	n += 16 * len(c.Unproven)
	for i := range c.Settings {
		n += 48 + len(c.Settings[i].Name) + len(c.Settings[i].Value)
	}
	return n
}
