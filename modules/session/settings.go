package session

import (
	"slices"
	"sort"
	"strings"

	"github.com/fairwaydb/fairway/modules/pgsql"
	"github.com/fairwaydb/fairway/modules/pgwire"
)

// settings are run-time parameters a session has in force beyond the server's defaults: immutable, sorted by name. Two sessions
// with the same settings have the same key, so a server connection passes between them without a round trip.
type settings struct {
	list []pgwire.Param
	key  string
}

var noSettings = &settings{}

// newSettings builds settings from m, names in lower case.
func newSettings(m map[string]string) *settings {
	if len(m) == 0 {
		return noSettings
	}
	list := make([]pgwire.Param, 0, len(m))
	for n, v := range m {
		list = append(list, pgwire.Param{Name: n, Value: v})
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	var b strings.Builder
	for _, p := range list {
		b.WriteString(p.Name)
		b.WriteByte(0)
		b.WriteString(p.Value)
		b.WriteByte(0)
	}
	return &settings{list: list, key: b.String()}
}

func (set *settings) value(name string) string {
	for i := range set.list {
		if set.list[i].Name == name {
			return set.list[i].Value
		}
	}
	return ""
}

func (set *settings) has(name string) bool {
	for i := range set.list {
		if set.list[i].Name == name {
			return true
		}
	}
	return false
}

// with returns the settings changed by m: a nil value removes the name.
func (set *settings) with(m map[string]*string) *settings {
	next := make(map[string]string, len(set.list)+len(m))
	for _, p := range set.list {
		next[p.Name] = p.Value
	}
	for n, v := range m {
		if v == nil {
			delete(next, n)
		} else {
			next[n] = *v
		}
	}
	return newSettings(next)
}

// difference is the SQL that brings a server connection from one set of settings to another; "" when there is nothing to do. safe
// is false when a change could fail on this server although another one took it (a role, an extension's setting): then the client's
// statement must not be sent before the answer.
//
// Who the session is goes first when it ends and comes last when it begins: what else is in force was set before, by somebody who may
// have had the right to.
func difference(from, to *settings) (sql string, safe bool) {
	same := func(p pgwire.Param) bool { return from.has(p.Name) && from.value(p.Name) == p.Value }
	guarded := false // something changes that not everybody may change
	for _, p := range from.list {
		guarded = guarded || !to.has(p.Name) && !isIdentity(p.Name) && !isBuiltin(p.Name)
	}
	for _, p := range to.list {
		guarded = guarded || !same(p) && !isIdentity(p.Name) && !isBuiltin(p.Name)
	}
	safe = !guarded
	var b strings.Builder
	for _, name := range [...]string{"role", sessionAuthorization} {
		if from.has(name) && (guarded || !to.has(name)) {
			b.WriteString("RESET " + name + ";")
		}
	}
	for _, p := range from.list {
		if !to.has(p.Name) && !isIdentity(p.Name) {
			b.WriteString("RESET ")
			b.WriteString(quoteSettingName(p.Name))
			b.WriteByte(';')
		}
	}
	sep := "SELECT "
	set := func(p pgwire.Param) {
		b.WriteString(sep)
		b.WriteString(settingSQL(p.Name, p.Value))
		sep = ","
	}
	for _, p := range to.list {
		if !same(p) && !isIdentity(p.Name) {
			set(p)
		}
	}
	for _, name := range [...]string{sessionAuthorization, "role"} { // the first decides which roles may be set
		if p := (pgwire.Param{Name: name, Value: to.value(name)}); to.has(name) && (guarded || !same(p)) {
			set(p)
			safe = false
		}
	}
	return b.String(), safe
}

// isIdentity tells whether a setting says who the session is.
func isIdentity(name string) bool { return name == "role" || name == sessionAuthorization }

// isBuiltin tells whether a value one server has taken can not fail on another: settings any user may change at any time, known to
// every PostgreSQL since 9.6.
func isBuiltin(name string) bool {
	_, ok := builtinSettings[name]
	return ok || strings.HasPrefix(name, ownPrefix)
}

var builtinSettings = map[string]struct{}{
	"application_name": {}, "bytea_output": {}, "client_encoding": {}, "client_min_messages": {}, "constraint_exclusion": {},
	"cursor_tuple_fraction": {}, "datestyle": {}, "default_transaction_deferrable": {}, "default_transaction_isolation": {},
	"default_transaction_read_only": {}, "effective_cache_size": {}, "enable_bitmapscan": {}, "enable_hashagg": {}, "enable_hashjoin": {},
	"enable_indexonlyscan": {}, "enable_indexscan": {}, "enable_material": {}, "enable_mergejoin": {}, "enable_nestloop": {},
	"enable_seqscan": {}, "enable_sort": {}, "extra_float_digits": {}, "idle_in_transaction_session_timeout": {}, "intervalstyle": {},
	"lock_timeout": {}, "maintenance_work_mem": {}, "random_page_cost": {}, "row_security": {}, "search_path": {}, "seq_page_cost": {},
	"standard_conforming_strings": {}, "statement_timeout": {}, "synchronous_commit": {}, "timezone": {}, "work_mem": {}, "xmloption": {},
}

// quoteLiteral makes an SQL string constant that means s whatever standard_conforming_strings is.
func quoteLiteral(s string) string {
	q := strings.ReplaceAll(s, "'", "''")
	if strings.Contains(s, `\`) {
		return " E'" + strings.ReplaceAll(q, `\`, `\\`) + "'"
	}
	return "'" + q + "'"
}

// quoteSettingName quotes each part of a setting's name, which may be qualified as in myapp.user.
func quoteSettingName(name string) string {
	parts := strings.Split(name, ".")
	for i, p := range parts {
		parts[i] = `"` + strings.ReplaceAll(p, `"`, `""`) + `"`
	}
	return strings.Join(parts, ".")
}

// touched collects the settings that statements of the running lease may have changed, until the server is asked what they are now.
type touched struct {
	names map[string]pgsql.Setting // the last change seen of each name
	all   bool                     // RESET ALL or DISCARD ALL went through
	// undone: a ROLLBACK TO may have undone some of them.
	undone bool
}

func (t *touched) add(list []pgsql.Setting) {
	for _, st := range list {
		if st.All {
			t.all = true
			clear(t.names)
			continue
		}
		if t.names == nil {
			t.names = make(map[string]pgsql.Setting)
		}
		t.names[st.Name] = st
	}
}

func (t *touched) none() bool { return !t.all && len(t.names) == 0 }

// resets tells whether a setting went back to a default that only the server knows.
func (t *touched) resets() bool {
	for _, st := range t.names {
		if st.Reset {
			return true
		}
	}
	return t.all
}

// undone tells whether what the transaction that ends has set and reset is undone. A message that fails after its COMMIT undoes nothing
// of the transaction before.
func (s *Session) undone() bool {
	if s.turn.rolled {
		return true
	}
	if s.turn.failed == "" && !s.segmentLost {
		return false
	}
	class := s.request.class
	return !s.turn.committed || class.Effects&pgsql.Discard != 0 || slices.ContainsFunc(class.Settings, func(st pgsql.Setting) bool { return st.Reset || st.All })
}

// doubt follows a reset that a ROLLBACK TO may have undone: every setting in force is asked for and taken as it is.
func (t *touched) doubt(inForce *settings) {
	for _, p := range inForce.list {
		t.add([]pgsql.Setting{{Name: p.Name}})
	}
	for n := range t.names {
		t.names[n] = pgsql.Setting{Name: n}
	}
	t.all = false
}

func (t *touched) clear() {
	clear(t.names)
	t.all, t.undone = false, false
}

// sorted returns the names in the order the probe asks for them.
func (t *touched) sorted() []string {
	names := make([]string, 0, len(t.names))
	for n := range t.names {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// probeSQL asks for the current values of names in one row; a setting that does not exist is NULL.
func probeSQL(names []string) string { return probe(names, currentSQL) }

// probeUndoneSQL follows changes that may have been undone: a setting that the session has not set in the end, and that it may have no
// right to set, is NULL too. It must not be set elsewhere.
func probeUndoneSQL(names []string) string {
	return probe(names, func(name string) string {
		if isBuiltin(name) || isIdentity(name) {
			return currentSQL(name)
		}
		return "CASE WHEN NOT EXISTS(SELECT FROM pg_catalog.pg_settings WHERE pg_catalog.lower(name)=" + quoteLiteral(name) +
			" AND source<>'session') THEN " + currentSQL(name) + " END"
	})
}

// probe asks for one value of each name.
func probe(names []string, value func(name string) string) string {
	var b strings.Builder
	sep := "SELECT "
	for _, n := range names {
		b.WriteString(sep)
		b.WriteString(value(n))
		sep = ","
	}
	return b.String()
}

// currentSQL is the value of a setting, NULL when there is none.
func currentSQL(name string) string {
	return "pg_catalog.current_setting(" + quoteLiteral(name) + ",true)"
}

// startupSettings are the run-time parameters of a startup packet in the order in which a server takes them, names as they were sent:
// those inside options, then every parameter that is not user, database, replication or options.
// See https://www.postgresql.org/docs/current/protocol-message-formats.html (StartupMessage).
func startupSettings(params []pgwire.Param) (asked []pgwire.Param, err *pgwire.Error) {
	var direct []pgwire.Param
	var options string
	for _, p := range params {
		switch p.Name {
		case "user", "database", "replication":
		case "options":
			options = p.Value
		default:
			direct = append(direct, p)
		}
	}
	if asked, err = parseOptions(options); err != nil {
		return nil, err
	}
	return append(asked, direct...), nil
}

// sessionAuthorization is checked in a startup packet, and then overridden: who has logged in is who the session is.
const sessionAuthorization = "session_authorization"

// settingsOf are the settings in force when all of them were taken: of two of one name the later one.
func settingsOf(asked []pgwire.Param) *settings {
	m := make(map[string]string, len(asked))
	for _, p := range asked {
		if name := strings.ToLower(p.Name); name != sessionAuthorization {
			m[name] = p.Value
		}
	}
	return newSettings(m)
}

// askSQL asks a server for startup parameters, one after the other: the first one that it refuses is the error.
func askSQL(asked []pgwire.Param) string {
	var calls, last []string
	for _, p := range asked {
		if call := settingSQL(p.Name, p.Value); strings.EqualFold(p.Name, sessionAuthorization) {
			last = append(last, call)
		} else {
			calls = append(calls, call)
		}
	}
	if len(calls)+len(last) == 0 {
		return ""
	}
	sql := "SELECT " + strings.Join(append(calls, last...), ",")
	if len(last) > 0 {
		sql += ";RESET session_authorization"
	}
	return sql
}

// settingSQL is the call that sets a setting until the session's end.
func settingSQL(name, value string) string {
	return "pg_catalog.set_config(" + quoteLiteral(name) + "," + quoteLiteral(value) + ",false)"
}
