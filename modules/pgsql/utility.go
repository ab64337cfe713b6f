package pgsql

import (
	"strings"

	pgquery "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// utilityNames are the statements whose effects depend on what is in them.
const utilityNames = `
	TransactionStmt VariableSetStmt VariableShowStmt ExplainStmt CopyStmt DeclareCursorStmt FetchStmt ClosePortalStmt
	PrepareStmt ExecuteStmt DeallocateStmt DiscardStmt UnlistenStmt`

// cursorHold is CURSOR_OPT_HOLD of parsenodes.h.
const cursorHold = 0x20

// utility handles the statements of utilityNames. It reports whether m is one.
func (w *walker) utility(m protoreflect.Message) bool {
	if w.nested > 0 && !mayNest(m.Interface()) {
		return false
	}
	switch n := m.Interface().(type) {
	case *pgquery.TransactionStmt:
		w.transaction(n)
	case *pgquery.VariableSetStmt:
		w.class.ConstDependent = true
		w.set(n)
	case *pgquery.VariableShowStmt:
		w.effect(ServerState)
		w.kind(KindUtility)
		w.class.Show = settingName(n.GetName())
	case *pgquery.ExplainStmt:
		w.explain(n)
	case *pgquery.CopyStmt:
		w.copyData(n)
	case *pgquery.DeclareCursorStmt:
		w.kind(KindRead)
		if n.GetOptions()&cursorHold != 0 {
			w.effect(HoldCursor)
		}
		w.inside(m)
	case *pgquery.FetchStmt:
		w.effect(Read | ServerState)
		w.kind(KindRead)
	case *pgquery.ClosePortalStmt:
		w.gone(HoldCursor, n.GetPortalname() == "")
	case *pgquery.PrepareStmt:
		w.prepare(n)
	case *pgquery.ExecuteStmt:
		w.effect(SQLPrepare | Write)
		w.kind(KindWrite)
		w.settingsUnknown()
		w.add(&w.class.Prepared, "p", n.GetName())
		w.inside(m)
	case *pgquery.DeallocateStmt:
		w.gone(SQLPrepare, n.GetName() == "")
		if n.GetName() != "" {
			w.add(&w.class.Prepared, "p", n.GetName())
		}
	case *pgquery.DiscardStmt:
		w.discard(n.GetTarget())
	case *pgquery.UnlistenStmt:
		w.gone(Listen, n.GetConditionname() == "")
	default:
		return false
	}
	return true
}

// mayNest tells the statements that the grammar allows inside others: EXPLAIN and CREATE TABLE AS take EXECUTE and
// DECLARE.
func mayNest(m proto.Message) bool {
	switch m.(type) {
	case *pgquery.ExecuteStmt, *pgquery.DeclareCursorStmt:
		return true
	}
	return false
}

// inside walks what is in a statement.
func (w *walker) inside(m protoreflect.Message) {
	w.nested++
	w.children(m)
	w.nested--
}

// gone notes a statement that gives up state of the server connection: some, or all of its kind.
func (w *walker) gone(e Effects, all bool) {
	w.effect(Discard)
	w.kind(KindUtility)
	if all {
		w.ends(e)
	}
}

// discard is DISCARD. LOAD and setseed outlive it; see https://www.postgresql.org/docs/current/sql-discard.html.
func (w *walker) discard(mode pgquery.DiscardMode) {
	w.effect(Discard)
	w.kind(KindUtility)
	switch mode {
	case pgquery.DiscardMode_DISCARD_ALL:
		w.setting(Setting{All: true, Reset: true})
		w.ends(Temp | Listen | AdvisoryLock | HoldCursor | SQLPrepare | Sequence)
	case pgquery.DiscardMode_DISCARD_TEMP:
		w.ends(Temp)
	case pgquery.DiscardMode_DISCARD_SEQUENCES:
		w.ends(Sequence)
	case pgquery.DiscardMode_DISCARD_PLANS, pgquery.DiscardMode_DISCARD_MODE_UNDEFINED:
	}
}

// prepare is PREPARE: it does nothing yet, but its class stands for what each EXECUTE may do.
func (w *walker) prepare(n *pgquery.PrepareStmt) {
	w.effect(SQLPrepare)
	w.kind(KindUtility)
	w.add(&w.class.Prepared, "p", n.GetName())
	settings := len(w.class.Settings)
	w.inside(n.ProtoReflect())
	if len(w.class.Settings) > settings {
		w.class.Settings = w.class.Settings[:settings]
		w.settingsUnknown()
	}
}

// explain is EXPLAIN: with ANALYZE the statement runs, else it is only planned.
func (w *walker) explain(n *pgquery.ExplainStmt) {
	w.class.ConstDependent = true
	w.effect(Read)
	w.kind(KindRead)
	analyze := false
	for _, option := range n.GetOptions() {
		if def := option.GetDefElem(); def.GetDefname() == "analyze" {
			value, ok := boolean(def.GetArg())
			analyze = value || !ok
		}
	}
	w.nested++
	if !analyze {
		w.quoted++
	}
	w.node(n.GetQuery())
	if !analyze {
		w.quoted--
	}
	w.nested--
}

// boolean reads the argument of an option as defGetBoolean does; ok is false if it is none.
func boolean(arg *pgquery.Node) (value, ok bool) {
	if arg.GetNode() == nil {
		return true, true
	}
	switch n := arg.GetNode().(type) {
	case *pgquery.Node_Integer:
		return n.Integer.GetIval() != 0, n.Integer.GetIval() == 0 || n.Integer.GetIval() == 1
	case *pgquery.Node_Boolean:
		return n.Boolean.GetBoolval(), true
	case *pgquery.Node_String_:
		return parseBool(n.String_.GetSval())
	case *pgquery.Node_AConst:
		return constant(n.AConst)
	}
	return false, false
}

// constant reads a literal as a boolean.
func constant(n *pgquery.A_Const) (value, ok bool) {
	switch v := n.GetVal().(type) {
	case *pgquery.A_Const_Ival:
		return v.Ival.GetIval() != 0, true
	case *pgquery.A_Const_Boolval:
		return v.Boolval.GetBoolval(), true
	case *pgquery.A_Const_Sval:
		return parseBool(v.Sval.GetSval())
	}
	return false, false
}

// parseBool reads what PostgreSQL takes for a boolean: unique beginnings of true, false, yes, no, and on, off, 1, 0.
func parseBool(s string) (value, ok bool) {
	s = strings.ToLower(strings.TrimSpace(s))
	switch {
	case s == "":
		return false, false
	case strings.HasPrefix("true", s), strings.HasPrefix("yes", s), s == "on", s == "1":
		return true, true
	case strings.HasPrefix("false", s), strings.HasPrefix("no", s), s == "off", s == "of", s == "0":
		return false, true
	}
	return false, false
}

// copyData is COPY. To and from files and programs it belongs to the primary, whatever it moves.
func (w *walker) copyData(n *pgquery.CopyStmt) {
	w.class.ConstDependent = true
	w.kind(KindCopy)
	client := n.GetFilename() == "" && !n.GetIsProgram()
	switch {
	case n.GetIsFrom() && client:
		w.effect(Write | CopyIn)
	case n.GetIsFrom() || !client:
		w.effect(Write)
	default:
		w.effect(Read | CopyOut)
	}
	w.inside(n.ProtoReflect())
}

// transaction is BEGIN, COMMIT and their kin.
func (w *walker) transaction(n *pgquery.TransactionStmt) {
	w.kind(KindTransaction)
	c := w.class
	switch n.GetKind() {
	case pgquery.TransactionStmtKind_TRANS_STMT_BEGIN, pgquery.TransactionStmtKind_TRANS_STMT_START:
		w.effect(TxBegin)
		w.modes(n.GetOptions())
		c.TxOnly = true
	case pgquery.TransactionStmtKind_TRANS_STMT_COMMIT, pgquery.TransactionStmtKind_TRANS_STMT_ROLLBACK:
		w.effect(TxEnd)
		if n.GetChain() {
			w.effect(TxBegin)
			return
		}
		c.TxEndOnly = true
		c.TxEndCommit = n.GetKind() == pgquery.TransactionStmtKind_TRANS_STMT_COMMIT
	case pgquery.TransactionStmtKind_TRANS_STMT_SAVEPOINT, pgquery.TransactionStmtKind_TRANS_STMT_RELEASE,
		pgquery.TransactionStmtKind_TRANS_STMT_ROLLBACK_TO:
		w.effect(Savepoint)
	case pgquery.TransactionStmtKind_TRANS_STMT_PREPARE:
		w.effect(TxEnd | Write)
	case pgquery.TransactionStmtKind_TRANS_STMT_COMMIT_PREPARED, pgquery.TransactionStmtKind_TRANS_STMT_ROLLBACK_PREPARED:
		w.effect(Write)
	default:
		w.effect(Unknown)
	}
}

// modes notes the transaction modes of BEGIN and SET TRANSACTION. Of several the last counts.
func (w *walker) modes(options []*pgquery.Node) {
	for _, option := range options {
		def := option.GetDefElem()
		switch def.GetDefname() {
		case "transaction_isolation":
			w.class.Isolation = strings.ToLower(def.GetArg().GetAConst().GetSval().GetSval())
		case "transaction_read_only":
			readOnly, _ := boolean(def.GetArg())
			w.readOnly(readOnly)
		}
	}
}

func (w *walker) readOnly(on bool) {
	w.class.TxReadWrite = !on
	w.class.Effects &^= TxReadOnly
	if on {
		w.effect(TxReadOnly)
	}
}
