package session

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairwaydb/fairway/modules/cluster"
)

// caseState is a sentence about the state of a session: what one client does, what it sees afterwards and what the next one sees.
type caseState struct {
	name  string   // the number of the case and its sentence
	steps []string // statements, each sent by itself
	look  string   // asked afterwards; twice in a form that a replica may answer
	want  string   // what the client that did it sees: a value, or the SQLSTATE of an error
	other string   // what the next client on the same server connections sees; default: what one sees that did nothing
	// undone is what is seen when the steps were part of a transaction that was rolled back; "" like want. none: they cannot be in one.
	undone string
	none   bool
	later  bool // the next client sees it once the one before has been cleaned up after
}

const custom = "select coalesce(nullif(current_setting('st.a', true), ''), 'none') from st"

var caseStates = []caseState{
	{name: "B11_SET_and_COMMIT_persists", steps: []string{"set st.a = 'x'"}, look: custom, want: "x", undone: "none"},
	{name: "B11_SET_SESSION", steps: []string{"set session st.a to x"}, look: custom, want: "x", undone: "none"},
	{name: "B11_SET_ROLLBACK_reverts", steps: []string{"set st.a = 'x'", "begin", "set st.a = 'y'", "rollback"}, look: custom, want: "x", none: true},
	{name: "B11_SET_LOCAL_ends_with_the_transaction", steps: []string{"set st.a = 'x'", "begin", "set local st.a = 'y'", "commit"}, look: custom, want: "x", none: true},
	{name: "B11_a_savepoint_rollback_restores", steps: []string{"begin", "set st.a = 'x'", "savepoint s", "set st.a = 'y'", "rollback to s", "commit"}, look: custom, want: "x", none: true},
	{name: "B11_a_released_savepoint_keeps", steps: []string{"begin", "set st.a = 'x'", "savepoint s", "set st.a = 'y'", "release s", "commit"}, look: custom, want: "y", none: true},
	{name: "B11_a_failed_transaction_reverts", steps: []string{"set st.a = 'x'", "begin", "set st.a = 'y'", "!select 1/0", "commit"}, look: custom, want: "x", none: true},
	{name: "B11_RESET", steps: []string{"set work_mem = '9MB'", "reset work_mem"}, look: "select current_setting('work_mem') from st", want: "7MB"},
	{name: "B11_RESET_ALL", steps: []string{"set work_mem = '9MB'", "set st.a = 'x'", "reset all"}, look: "select current_setting('work_mem') from st", want: "7MB"},
	{name: "B11_SET_TO_DEFAULT", steps: []string{"set work_mem = '9MB'", "set work_mem to default"}, look: "select current_setting('work_mem') from st", want: "7MB"},
	{name: "B11_set_config_of_the_session", steps: []string{"select set_config('st.a', 'x', false)"}, look: custom, want: "x", undone: "none"},
	{name: "B11_set_config_of_the_transaction", steps: []string{"begin", "select set_config('st.a', 'x', true)", "commit"}, look: custom, want: "none", none: true},
	{name: "B11_set_config_bound", steps: []string{"$select set_config($1, $2, false)"}, look: custom, want: "x", undone: "none"},
	{name: "B11_set_config_computed", steps: []string{"select set_config('st.' || chr(97), repeat('x', 1), false)"}, look: custom, want: "x", undone: "none"},
	{name: "B11_SET_ROLE", steps: []string{"set role st_role"}, look: "select current_user from st", want: "st_role", undone: "postgres"},
	{name: "B11_SET_ROLE_NONE", steps: []string{"set role st_role", "set role none"}, look: "select current_user from st", want: "postgres"},
	{name: "B11_SET_SESSION_AUTHORIZATION", steps: []string{"set session authorization st_role"}, look: "select session_user from st", want: "st_role", undone: "postgres"},
	{name: "B11_RESET_SESSION_AUTHORIZATION", steps: []string{"set session authorization st_role", "reset session authorization"}, look: "select session_user from st", want: "postgres"},
	{name: "B11_a_bad_value_is_an_immediate_error", steps: []string{"!set work_mem = 'lots'"}, look: "select current_setting('work_mem') from st", want: "7MB", none: true},
	{name: "B11_an_unknown_setting_is_an_error", steps: []string{"!set st_nothing = 1"}, look: custom, want: "none", none: true},
	{name: "B11_search_path", steps: []string{"set search_path = st_schema, public"}, look: "select a from st_named", want: "42", other: "42P01", undone: "42P01"},
	{name: "B11_a_function_that_changes_settings", steps: []string{"select st_sets()"}, look: custom, want: "x", undone: "none"},
	{name: "B11_a_function_with_SET_clause", steps: []string{"select st_set_clause()"}, look: custom, want: "none"},
	{name: "B11_timezone", steps: []string{"set time zone 'Asia/Tokyo'"}, look: "select current_setting('TimeZone') from st", want: "Asia/Tokyo"},
	{name: "B11_transaction_characteristics", steps: []string{"set session characteristics as transaction isolation level repeatable read"}, look: "select current_setting('default_transaction_isolation') from st", want: "repeatable read", undone: "read committed"},

	{name: "B12_DISCARD_ALL_settings", steps: []string{"set st.a = 'x'", "set work_mem = '9MB'", "discard all"}, look: "select current_setting('work_mem') from st", want: "7MB", none: true},
	{name: "B12_DISCARD_ALL_statements", steps: []string{"prepare st_p as select 1", "discard all"}, look: "execute st_p", want: "26000", other: "26000", none: true},
	{name: "B12_DISCARD_ALL_temp_tables", steps: []string{"create temp table st_t as select 1 as a", "discard all"}, look: "select a from st_t", want: "42P01", other: "42P01", none: true},
	{name: "B12_DISCARD_ALL_locks", steps: []string{"select pg_advisory_lock(5151)", "discard all"}, look: "select count(*) from pg_locks where locktype = 'advisory'", want: "0", none: true},
	{name: "B12_DISCARD_ALL_LISTEN", steps: []string{"listen st_c", "discard all"}, look: "select count(*) from pg_listening_channels()", want: "0", none: true},
	{name: "B12_DISCARD_ALL_in_a_transaction", steps: []string{"begin", "!discard all", "rollback"}, look: custom, want: "none", none: true},
	{name: "B12_DEALLOCATE", steps: []string{"prepare st_p as select 1", "deallocate st_p"}, look: "execute st_p", want: "26000", other: "26000", undone: "26000"},
	{name: "B12_DEALLOCATE_ALL", steps: []string{"prepare st_p as select 1", "deallocate all"}, look: "execute st_p", want: "26000", other: "26000"},
	{name: "B12_CLOSE_ALL", steps: []string{"begin", "declare st_c cursor with hold for select 1", "commit", "close all"}, look: "fetch st_c", want: "34000", other: "34000", none: true},
	{name: "B12_DISCARD_PLANS", steps: []string{"prepare st_p as select 1", "discard plans"}, look: "execute st_p", want: "1", other: "26000"},
	{name: "B12_DISCARD_SEQUENCES", steps: []string{"select nextval('st_s')", "discard sequences"}, look: "select lastval()", want: "55000", other: "55000"},
	{name: "B12_DISCARD_TEMP", steps: []string{"create temp table st_t as select 1 as a", "discard temp"}, look: "select a from st_t", want: "42P01", other: "42P01"},

	{name: "B13_SQL_PREPARE", steps: []string{"prepare st_p as select 7"}, look: "execute st_p", want: "7", other: "26000"},
	{name: "B13_SQL_PREPARE_with_parameters", steps: []string{"prepare st_p (int) as select $1 + a from st"}, look: "execute st_p (1)", want: "2", other: "26000"},

	{name: "B14_a_cursor_WITH_HOLD_survives_COMMIT", steps: []string{"begin", "declare st_c cursor with hold for select 7", "commit"}, look: "fetch st_c", want: "7", other: "34000", none: true},
	{name: "B14_a_cursor_ends_with_its_transaction", steps: []string{"begin", "declare st_c cursor for select 7", "commit"}, look: "fetch st_c", want: "34000", other: "34000", none: true},

	{name: "B15_temporary_tables", steps: []string{"create temp table st_t as select 7 as a"}, look: "select a from st_t", want: "7", other: "42P01", undone: "42P01"},
	{name: "B15_a_temporary_table_in_front_of_another", steps: []string{"create temp table st as select 7 as a"}, look: "select a from st", want: "7", other: "1", undone: "1"},
	{name: "B15_a_temporary_view", steps: []string{"create temp view st_v as select 7 as a"}, look: "select a from st_v", want: "7", other: "42P01", undone: "42P01"},
	{name: "B15_a_temporary_sequence", steps: []string{"create temp sequence st_ts"}, look: "select last_value from st_ts", want: "1", other: "42P01", undone: "42P01"},
	{name: "B15_ON_COMMIT_DROP", steps: []string{"begin", "create temp table st_t (a int) on commit drop", "commit"}, look: "select a from st_t", want: "42P01", other: "42P01", none: true},
	{name: "B15_a_session_lock", steps: []string{"select pg_advisory_lock(5151)"}, look: "select pg_try_advisory_lock(5151)", want: "t", other: "t", later: true},
	{name: "B15_currval_in_the_transaction_of_nextval", steps: []string{"begin", "select setval('st_s', 41), nextval('st_s')"}, look: "select currval('st_s')", want: "42", other: "55000", none: true},
	{name: "B15_currval_of_nobody", steps: nil, look: "select currval('st_s')", want: "55000", other: "55000"},
	{name: "B15_LISTEN", steps: []string{"listen st_c"}, look: "select count(*) from pg_listening_channels()", want: "1", other: "0", undone: "0"},
	{name: "B16_UNLISTEN", steps: []string{"listen st_c", "unlisten *"}, look: "select count(*) from pg_listening_channels()", want: "0"},
}

// stateSchema is what the sentences speak of.
const stateSchema = `
drop table if exists st; create table st (a int); insert into st values (1);
drop schema if exists st_schema cascade; create schema st_schema; create table st_schema.st_named as select 42 as a;
drop sequence if exists st_s; create sequence st_s;
drop role if exists st_role; create role st_role; grant all on schema st_schema to st_role; grant all on st to st_role;
create or replace function st_sets() returns void language plpgsql as $$begin perform set_config('st.a', 'x', false); end$$;
create or replace function st_set_clause() returns void language plpgsql set st.a = 'x' as $$begin end$$;`

// ask sends one statement and returns its first value, the SQLSTATE of its error, or its command tag. A statement that begins with $ is
// sent with the parameters of set_config.
func (p *peer) ask(extended bool, sql string) string {
	p.t.Helper()
	bound, parameters := strings.CutPrefix(sql, "$")
	switch {
	case parameters:
		p.lines("P - "+bound, "B - - st.a x", "E - 0", "S")
	case extended:
		p.parse("", sql)
		p.lines("B - -", "E - 0", "S")
	default:
		p.w.Query(sql)
	}
	p.flush()
	got := ""
	for {
		typ, body := p.frame(20 * time.Second)
		switch {
		case typ == 0 || typ == 'X':
			p.t.Fatalf("%s: %s", sql, shown(typ, body))
		case typ == 'Z':
			return got
		case typ == 'E':
			got = strings.Fields(shown(typ, body))[2]
		case typ == 'D' && got == "":
			if values, ok := rowValues(body); ok && len(values) > 0 && values[0] != nil {
				got = *values[0]
			}
		case typ == 'C' && got == "":
			got = strings.TrimRight(string(body), "\x00")
		}
	}
}

// TestCasesOfSessionState does what each sentence says, alone, inside a transaction that is committed and in one that is rolled back,
// by the simple and by the extended protocol. Everything happens on pools of two server connections, so that the client itself and the
// one after it meet the same ones again.
func TestCasesOfSessionState(t *testing.T) {
	if err := pg.Primary().Exec(t.Context(), stateSchema); err != nil {
		t.Fatal(err)
	}
	if err := pg.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	px := startProxy(t, pg, func(c *cluster.Config, _ *Options) { c.Pool = &cluster.PoolConfig{Size: 2, MaxPinned: 1} })
	for i := range caseStates {
		c := &caseStates[i]
		for _, way := range []string{"alone", "committed", "rolled back"} {
			if way != "alone" && c.none {
				continue
			}
			for _, extended := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/extended %v", c.name, way, extended), func(t *testing.T) { c.run(t, px, way, extended) })
			}
		}
	}
}

func (c *caseState) run(t *testing.T, px *proxy, way string, extended bool) {
	start := param("work_mem", "7MB")[2:]
	fresh := dialPeer(t, px.addr, start...)
	other := c.other
	if other == "" {
		other = fresh.ask(extended, c.look)
	}
	fresh.leave()

	a := dialPeer(t, px.addr, start...)
	steps := c.steps
	want := c.want
	switch way {
	case "committed":
		steps = slices.Concat([]string{"begin"}, steps, []string{"commit"})
	case "rolled back":
		steps = slices.Concat([]string{"begin"}, steps, []string{"rollback"})
		if c.undone != "" {
			want = c.undone
		}
	}
	for _, sql := range steps {
		sql, fails := strings.CutPrefix(sql, "!")
		got := a.ask(extended, sql)
		if failed := len(got) == 5 && strings.ToUpper(got) == got && got[0] >= '0' && got[0] <= '9'; failed != fails {
			t.Fatalf("%s: %s", sql, got)
		}
	}
	if way == "rolled back" && c.undone == "" {
		want = "" // the sentence says nothing of it
	}
	looks := 3
	if strings.HasPrefix(c.look, "fetch") {
		looks = 1
	}
	for range looks {
		if got := a.ask(extended, c.look); want != "" && got != want {
			t.Errorf("%s: %q, want %q", c.look, got, want)
		}
	}
	held := a.ask(extended, "select count(*) from st")
	if held != "1" && held != "25P02" && !strings.Contains(c.name, "in_front") {
		t.Errorf("the session does not go on: %s", held)
	}
	a.leave()
	b := dialPeer(t, px.addr, start...)
	for deadline := time.Now().Add(10 * time.Second); c.later && b.ask(extended, c.look) != other && time.Now().Before(deadline); {
		b.ask(false, "select pg_sleep(0.01)")
	}
	for range 3 {
		if got := b.ask(extended, c.look); got != other {
			t.Errorf("the next client: %s: %q, want %q", c.look, got, other)
		}
	}
	b.leave()
}
