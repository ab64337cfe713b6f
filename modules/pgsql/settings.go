package pgsql

import (
	"strconv"
	"strings"
	"unicode/utf8"

	pgquery "github.com/pganalyze/pg_query_go/v6"
)

// quotedLists are the settings whose value is a list of names that the server quotes (GUC_LIST_QUOTE).
var quotedLists = map[string]bool{
	"search_path": true, "temp_tablespaces": true, "session_preload_libraries": true, "shared_preload_libraries": true,
	"local_preload_libraries": true, "unix_socket_directories": true,
}

// settingName folds the name of a setting and gives those that SQL spells differently their own name.
func settingName(name string) string {
	name = strings.ToLower(name)
	switch name {
	case "time zone":
		return "timezone"
	case "session authorization":
		return "session_authorization"
	case "transaction isolation level":
		return "transaction_isolation"
	}
	return name
}

// set is SET and RESET in all their forms; see https://www.postgresql.org/docs/current/sql-set.html.
func (w *walker) set(n *pgquery.VariableSetStmt) {
	s := Setting{Name: settingName(n.GetName()), Local: n.GetIsLocal()}
	if strings.HasPrefix(s.Name, "transaction") && n.GetKind() == pgquery.VariableSetKind_VAR_SET_MULTI {
		w.kind(KindTransaction)
	} else {
		w.kind(KindSet)
	}
	switch n.GetKind() {
	case pgquery.VariableSetKind_VAR_SET_VALUE:
		s.Value, s.Known = w.settingValue(s.Name, n.GetArgs())
		w.changed(s)
	case pgquery.VariableSetKind_VAR_SET_DEFAULT, pgquery.VariableSetKind_VAR_RESET:
		s.Reset = true
		w.changed(s)
	case pgquery.VariableSetKind_VAR_RESET_ALL:
		w.setting(Setting{All: true, Reset: true})
	case pgquery.VariableSetKind_VAR_SET_MULTI:
		w.setMulti(s.Name, n.GetArgs())
	default:
		w.settingsUnknown()
	}
}

// setMulti is SET TRANSACTION, SET TRANSACTION SNAPSHOT and SET SESSION CHARACTERISTICS AS TRANSACTION.
func (w *walker) setMulti(name string, args []*pgquery.Node) {
	switch name {
	case "transaction":
		w.class.SetTxOnly = true
		w.modes(args)
		w.each(args, "", true)
	case "transaction snapshot":
		w.class.SetTxOnly = true
		id, ok := literal(first(args).GetAConst())
		w.setting(Setting{Name: "transaction_snapshot", Value: id, Known: ok, Local: true})
	case "session characteristics":
		w.each(args, "default_", false)
	default:
		w.settingsUnknown()
	}
}

// each notes transaction modes as settings.
func (w *walker) each(args []*pgquery.Node, prefix string, local bool) {
	for _, arg := range args {
		def := arg.GetDefElem()
		s := Setting{Name: prefix + def.GetDefname(), Local: local}
		if s.Value, s.Known = literal(def.GetArg().GetAConst()); def.GetDefname() != "transaction_isolation" {
			if on, ok := boolean(def.GetArg()); ok {
				s.Value = onOff(on)
			}
		}
		w.setting(s)
	}
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func first(nodes []*pgquery.Node) *pgquery.Node {
	if len(nodes) == 0 {
		return nil
	}
	return nodes[0]
}

// changed notes a setting and what it means for the transaction and for where new tables go.
func (w *walker) changed(s Setting) {
	if s.Name == "seed" {
		w.effect(Load) // as setseed: a state of the server connection that nobody can ask for
		return
	}
	w.setting(s)
	if s.Name == "session_authorization" {
		// It ends SET ROLE, see https://www.postgresql.org/docs/current/sql-set-session-authorization.html.
		w.setting(Setting{Name: "role", Local: s.Local, Reset: true})
	}
	if !s.Known {
		return
	}
	switch s.Name {
	case "transaction_read_only":
		if on, ok := parseBool(s.Value); ok {
			w.readOnly(on)
		}
	case "transaction_isolation":
		w.class.Isolation = strings.ToLower(s.Value)
	case "search_path":
		if strings.Contains(strings.ToLower(s.Value), "pg_temp") {
			w.effect(Temp)
		}
	}
}

// settingValue returns what SET would make of its arguments; false: it is not all literals.
func (w *walker) settingValue(name string, args []*pgquery.Node) (string, bool) {
	values := make([]string, 0, len(args))
	for _, arg := range args {
		v, ok := literal(arg.GetAConst())
		if !ok {
			return "", false
		}
		if quotedLists[name] {
			v = quoteIdentifier(v)
		}
		values = append(values, v)
	}
	return strings.Join(values, ", "), len(values) > 0
}

// literal returns the text of a literal. One with bytes that are not UTF-8 is none: they were replaced before parsing.
func literal(n *pgquery.A_Const) (string, bool) {
	switch v := n.GetVal().(type) {
	case *pgquery.A_Const_Ival:
		return strconv.Itoa(int(v.Ival.GetIval())), true
	case *pgquery.A_Const_Fval:
		return v.Fval.GetFval(), true
	case *pgquery.A_Const_Boolval:
		return onOff(v.Boolval.GetBoolval()), true
	case *pgquery.A_Const_Sval:
		s := v.Sval.GetSval()
		return s, !strings.ContainsRune(s, utf8.RuneError)
	}
	return "", false
}

// quoteIdentifier quotes a name unless it is made of lower-case letters, digits and underscores. PostgreSQL leaves
// fewer quotes out (key words); the value means the same.
func quoteIdentifier(s string) string {
	plain := s != "" && (s[0] < '0' || s[0] > '9')
	for i := range len(s) {
		b := s[i]
		plain = plain && (b >= 'a' && b <= 'z' || b >= '0' && b <= '9' || b == '_')
	}
	if plain {
		return s
	}
	return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
}

// setConfig is set_config(name, value, is_local). Its value is known if the call surely happens.
func (w *walker) setConfig(n *pgquery.FuncCall) {
	w.class.ConstDependent = true
	args := n.GetArgs()
	if len(args) != 3 {
		w.settingsUnknown()
		return
	}
	name, ok := literal(args[0].GetAConst())
	if !ok || name == "" {
		w.settingsUnknown()
		return
	}
	s := Setting{Name: settingName(name)}
	local := args[2]
	if cast := local.GetTypeCast(); cast != nil {
		local = cast.GetArg()
	}
	isLocal, localKnown := boolean(local)
	s.Local = isLocal && localKnown
	value, valueKnown := literal(args[1].GetAConst())
	if w.direct[n] {
		if valueKnown && localKnown && local.GetNode() != nil {
			s.Value, s.Known = value, true
		}
		s.Param = parameter(args[1])
	}
	w.changed(s)
}

// parameter is the number of the parameter that an expression is, perhaps cast, else 0.
func parameter(n *pgquery.Node) int {
	if cast := n.GetTypeCast(); cast != nil {
		n = cast.GetArg()
	}
	return int(n.GetParamRef().GetNumber())
}
