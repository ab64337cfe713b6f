package session

import (
	"math/rand/v2"
	"strconv"
	"strings"
)

// template is a statement with places for chance: [a|b] is one of them, {9} a number from 1 to 9, {c} the client's schema, {k} a lock
// that no other session takes, {ch} the client's channel, {who} its number.
type template struct {
	weight int
	text   string
}

// What two sessions of one database share would make the answers depend on chance: each client has a schema with tables of its own, a
// channel, its rows of prop_rows, and each session locks of its own.
//
// docs/compatibility.md says what may differ. Row by row, what is left out for that:
//
//   - "now() in a transaction": no time of the transaction is asked for.
//   - "RESET name inside a transaction …": see resetting.
//   - "a custom setting that another client once defined": asked for with coalesce(nullif(current_setting('…', true), ''), 'none').
//   - "pg_prepared_statements shows …": only those made by SQL are counted.
//   - "custom settings … that code changes by running a text": the functions say themselves what they set.
//   - "schemas of temporary tables" and "once a session's temporary objects are gone": no statement names pg_temp but to make something.
//   - "PREPARE and the protocol's Parse do not share their names": one has q1 and q2, the other s1 to s4.
//   - "the context of an error in a PL/pgSQL function": those that fail are in public.
//   - "the first currval or lastval of a session …": a session that asks for them begins by asking, see generator.begin.
//   - "a statement whose table has changed since it was described", inside a transaction: the tables that change are read with count(*),
//     but for reshape, which runs outside of transactions.
//   - The rows about roles' defaults, limits, standbys and TLS have no part in it.

// steady tells whether the parsing of a statement depends on nothing but the settings that tell one statement from another: "a Parse of
// a text that the server connection knows already …" and "literals of dates and times in a prepared statement …" of the rows.
func steady(text string) bool {
	return !strings.Contains(text, "tmp") && !strings.Contains(text, "{c}.x") && !strings.Contains(text, "{c}.v") && !strings.Contains(text, "{c}.f(") &&
		!strings.Contains(text, "date '") && !strings.Contains(text, " [t|u|prop_none]") && !strings.Contains(text, "tv") && !strings.Contains(text, "\\")
}

// anywhere are statements that may stand alone, beside others in one Query, and in pipelines.
var anywhere = []template{
	// Settings.
	{3, "set [work_mem|maintenance_work_mem] = '{900}64kB'"},
	{2, "set local [work_mem|maintenance_work_mem] = '{900}32kB'"},
	{3, "set app.[x|y] = '{99}'"},
	{2, "set local app.[x|y] = 'local{99}'"},
	{2, "set [timezone|time zone] to '[UTC|Europe/Berlin|America/New_York]'"},
	{1, "set time zone interval '+0[2|5]:00' hour to minute"},
	{2, "set datestyle to '[ISO, DMY|ISO, MDY|German|SQL, DMY]'"},
	{1, "set intervalstyle to [iso_8601|sql_standard|postgres]"},
	{1, "set extra_float_digits to [0|1|3]"},
	{1, "set bytea_output to [escape|hex]"},
	{1, "set client_min_messages to [warning|notice|error]"},
	{1, "set application_name to 'app{9}'"},
	{1, "set standard_conforming_strings to [on|off]"},
	{1, "set client_encoding to '[LATIN1|UTF8|SQL_ASCII]'"},
	{1, "set names '[UTF8|LATIN1]'"},
	{2, "set search_path to [{c}|public|{c}, public|prop_other, {c}]"},
	{1, "set local search_path to [{c}|prop_other]"},
	{1, "set session characteristics as transaction [isolation level repeatable read|isolation level read committed]"},
	{1, "set [work_mem = 'potato'|nosuch = 1|datestyle = 'potato'|role = 'nobody_there'|timezone = 'Mars/Port'|search_path = ]"},
	{2, "set [role|local role|session role] [prop_reader|prop_writer]"},
	{2, "[set role none|reset role|set session authorization default|reset session authorization]"},
	{1, "set session authorization [prop_reader|prop_writer]"},
	{2, "select set_config('[work_mem|app.x|app.y|timezone]', '[1234kB|UTC|77]', [false|false|true])"},
	{1, "select set_config('app.' || '[x|y]', '{99}', false)"},
	{1, "select set_config(n, '{99}', false) from (values ('app.x'), ('app.y')) v(n)"},
	{1, "set fairway.route = '[auto|primary]'"},
	{4, "select current_setting('work_mem'), coalesce(nullif(current_setting('app.x', true), ''), 'none'), coalesce(nullif(current_setting('app.y', true), ''), 'none')"},
	{2, "select current_user, session_user, current_setting('search_path'), current_setting('role')"},
	{3, "show [work_mem|timezone|datestyle|search_path|role|application_name|client_encoding|transaction_isolation|transaction_read_only|default_transaction_read_only|session_authorization|standard_conforming_strings]"},
	{3, "select timestamptz '2024-03-04 05:06:07+00', date '2024-02-01', interval '1 day 2 hours', 0.1::float8 / 3, '\\x00ff41'::bytea"},
	{2, "select date '02/03/2024', timestamptz '2024-07-01 12:00', '02/03/2024'::date + 1"},
	{1, "select 'a\\nb' , length('a\\\\b'), E'c\\td'"},
	{1, "select length('grüße'), 'grüße'"},

	// Transactions.
	{7, "begin"},
	{2, "[start transaction|begin work|begin transaction isolation level repeatable read|begin isolation level serializable|begin read write]"},
	{8, "[commit|end|commit work]"},
	{6, "[rollback|abort]"},
	{1, "[commit|rollback] and chain"},
	{1, "set transaction [isolation level serializable|isolation level repeatable read|read write]"},
	{4, "savepoint [a|b]"},
	{4, "rollback to [a|b|savepoint a]"},
	{2, "release [a|b]"},
	{1, "set constraints all [deferred|immediate]"},

	// Rows: reads may run on a replica.
	{6, "select count(*), coalesce(sum(id), 0) from {c}.t"},
	{4, "select id, v from {c}.t order by id [|desc] limit {4}"},
	{4, "select count(*), coalesce(sum(v), 0) from prop_rows where who = {who}"},
	{2, "select count(*) from [t|u|prop_none]"},
	{2, "select count(*) from {c}.u"},
	{1, "with r as (select * from {c}.t) select count(*) from r, prop_none"},
	{1, "/* route: primary */ select count(*) from {c}.t"},
	{1, "values (1, 'a'), ({9}, 'b')"},
	{1, "table prop_none"},
	{1, "select prop_count({who}), prop_twice({9})"},
	{1, "select g, repeat('x', 30) from generate_series(1, {400}) g"},
	{1, "select length(repeat('x', 100000)), repeat('y', 20000)"},
	{2, "select id from {c}.t order by id for [update|share|no key update]"},
	{1, "explain (costs off) select 1"},
	{6, "insert into {c}.t values ({20}, '[a|b|c]') [|returning id, v]"},
	{2, "insert into {c}.t values ({20}, 'd') on conflict [do nothing|(id) do update set v = excluded.v]"},
	{3, "insert into prop_rows values ({who}, {50})"},
	{2, "update {c}.t set v = v || 'x' where id < {20} [|returning id]"},
	{2, "delete from {c}.t where id = {20} [|returning *]"},
	{1, "delete from prop_rows where who = {who} and v > {50}"},
	{1, "with i as (insert into prop_rows values ({who}, {50}) returning v) select v from i"},
	{1, "merge into {c}.t using (values ({20})) m(id) on t.id = m.id when matched then update set v = 'm' when not matched then insert values (m.id, 'n')"},
	{1, "truncate {c}.u"},
	{1, "insert into {c}.u select g from generate_series(1, {9}) g"},
	{1, "lock table {c}.t in [access exclusive|share|row exclusive] mode"},
	{1, "copy (select id, v from {c}.t order by id) to stdout"},
	{1, "copy prop_none to stdout"},
	{1, "select nextval('{c}.s')"},

	// Errors.
	{2, "select 1 / ({2} - 1)"},
	{1, "select {9}::text::int + 'x'::int"},
	{1, "select from where"},
	{1, "select * from nowhere"},
	{1, "insert into {c}.t values (null, 'x')"},
	{1, "select prop_fail('[a|b]')"},
	{1, "select nosuch({9})"},
	{1, ""},
	{1, "; ;"},

	// Temporary relations.
	{3, "create temp table [|if not exists] tmp (a int, b text)[|| on commit drop| on commit delete rows| on commit preserve rows]"},
	{3, "insert into tmp values ({9}, 'x')"},
	{4, "select count(*), sum(a) from tmp"},
	{2, "drop table [|if exists] tmp"},
	{1, "create temp table t (a int)"},
	{1, "create temp view tv as select 1 as one"},
	{1, "select * from tv"},
	{1, "select {9} as a, 'q' as b into temp tmp"},
	{1, "create temp table tmp as select g as a, 'g' as b from generate_series(1, {5}) g"},
	{1, "create function pg_temp.f() returns int language sql as 'select {9}'"},
	{1, "select prop_temp()"},
	{1, "discard temp"},

	// Prepared by SQL.
	{2, "prepare q1 (int) as select $1 + count(*) from {c}.t"},
	{2, "prepare [q1|q2] as [select {9}|insert into prop_rows values ({who}, {50})|select count(*) from tmp]"},
	{3, "execute [q1 (4)|q2|q1]"},
	{1, "deallocate [q1|q2|prepare q2]"},
	{1, "deallocate all"},
	{1, "select name from pg_prepared_statements where from_sql order by 1"},
	{1, "create temp table tmp as execute q2"},

	// Cursors.
	{3, "declare [c1|c2] [|scroll|no scroll|insensitive] cursor [|with hold|without hold] for select g, count(*) over () from generate_series(1, 8) g"},
	{1, "declare c1 cursor [|with hold] for select id from {c}.t order by id"},
	{4, "fetch [|2|all|next|backward 1|absolute 3|3] from [c1|c2]"},
	{1, "move [2|all] in [c1|c2]"},
	{2, "close [c1|c2|all]"},
	{1, "select name from pg_cursors where name in ('c1', 'c2') order by 1"},

	// Locks.
	{2, "select pg_advisory_lock({k}[|, {2}])"},
	{2, "select pg_try_advisory_lock{_shared}({k})"},
	{1, "select pg_advisory_xact_lock({k}), pg_try_advisory_xact_lock({k})"},
	{3, "select pg_advisory_unlock{_shared}({k}[|, {2}])"},
	{1, "select pg_advisory_unlock_all()"},
	{1, "select prop_lock({k})"},
	{3, "select count(*) from pg_locks where locktype = 'advisory' and [objid|classid] = {k} and database = (select oid from pg_database where datname = current_database())"},

	// Notifications.
	{2, "listen [{ch}|{ch}b]"},
	{2, "notify [{ch}|{ch}b][|, 'p{99}']"},
	{1, "select pg_notify('{ch}', 'f{9}')"},
	{1, "unlisten [*|{ch}]"},
	{1, "select c from pg_listening_channels() c order by 1"},

	// Code.
	{2, "do $$ begin perform set_config('[app.x|work_mem]', '{9}00kB', [false|true]); end $$"},
	{1, "do $$ begin set [local |]app.y = 'do{9}'; end $$"},
	{1, "do $$ begin raise notice 'note {9}'; end $$"},
	{1, "do $$ begin raise exception 'not {9}' using detail = 'so', hint = 'or so'; end $$"},
	{1, "do $$ begin insert into prop_rows values ({who}, {50}); perform 1 / ({2} - 1); exception when division_by_zero then raise warning 'caught'; end $$"},
	{1, "do $$ begin perform pg_advisory_lock({k}); end $$"},
	{1, "do $$ begin create temp table if not exists tmp (a int, b text); insert into tmp values (3, 'do'); end $$"},
	{2, "select prop_set('[|v]{9}')"},
	{1, "select prop_set_local('{9}'), prop_within()"},
	{1, "select prop_insert({who}, {50})"},
	{1, "select prop_notice('[x|y]')"},
	{1, "call prop_commits({who}, {50})"},
	{1, "select setseed(0.{9}), random() between 0 and 1"},

	// The schema.
	{1, "create table {c}.x (a int primary key, b text default 'd')"},
	{1, "create unlogged table {c}.x (a int, b text)"},
	{2, "drop table [|if exists] {c}.x"},
	{2, "insert into {c}.x values ({9})"},
	{3, "select count(*) from {c}.x"},
	{1, "alter table {c}.u [add column if not exists extra int|drop column if exists extra]"},
	{1, "create [or replace|] view {c}.v as select {9} as n"},
	{1, "select n from {c}.v"},
	{1, "create or replace function {c}.f() returns int language sql [stable|volatile|immutable] as 'select {9}'"},
	{1, "create or replace function {c}.f() returns int language sql as 'insert into public.prop_rows values ({who}, 1) returning v'"},
	{1, "select {c}.f()"},
	{1, "create index if not exists ti on {c}.t (v)"},
	{1, "comment on table {c}.t is 'c{9}'"},

	{1, "discard [plans|sequences]"},
}

// reading are statements of a READ ONLY transaction, which may run on a replica. Those are left out that only a primary can do: "inside
// a READ ONLY transaction that runs on a replica …".
var reading = []template{
	{3, "select count(*), coalesce(sum(id), 0) from {c}.t"},
	{2, "select count(*), coalesce(sum(v), 0) from prop_rows where who = {who}"},
	{1, "select prop_count({who}), prop_twice({9})"},
	{1, "select * from nowhere"},
	{1, "select 1 / ({2} - 1)"},
	{1, "insert into {c}.t values ({20}, 'ro')"},
	{1, "update {c}.t set v = 'ro'"},
	{1, "select id from {c}.t order by id for update"},
	{1, "select nextval('{c}.s')"},
	{1, "create table {c}.x (a int)"},
	{1, "set [|local ]work_mem = '{99}kB'"},
	{1, "set app.x = 'ro{9}'"},
	{1, "reset app.y"},
	{1, "show transaction_read_only"},
	{1, "savepoint a"},
	{1, "rollback to a"},
	{1, "declare c1 cursor for select id from {c}.t order by id"},
	{1, "fetch from c1"},
	{1, "copy (select id, v from {c}.t order by id) to stdout"},
}

// resetting are statements that go back to the settings of the startup packet. With such settings they stand alone: compare "RESET name
// inside a transaction shows the server's default … to the statements that come in the same message or pipeline".
var resetting = []template{
	{3, "reset [work_mem|timezone|datestyle|app.x|app.y|search_path|application_name|client_encoding]"},
	{2, "set [work_mem|timezone|app.x|search_path] to default"},
	{2, "reset all"},
	{2, "discard all"},
}

// alone are statements that can not run beside others.
var alone = []template{
	{1, "vacuum {c}.u"},
	{1, "analyze {c}.t"},
}

// sequences are for sessions that have asked for lastval before.
var sequences = []template{
	{3, "select nextval('{c}.s')"},
	{2, "select currval('{c}.s')"},
	{2, "select lastval()"},
	{1, "select setval('{c}.s', {99}[|, false])"},
	{1, "insert into {c}.w (v) values ('[a|b]') [|returning id]"},
	{1, "discard sequences"},
}

// bound are statements with parameters, and values for them.
var bound = []struct{ text, values string }{
	{"select set_config('app.x', $1, false)", "v{99}"},
	{"select set_config($1, $2, false)", "[app.y|work_mem] {9}00kB"},
	{"select set_config($1, $2, $3)", "app.y {9} [true|false]"},
	{"(23) select $1 + 1, count(*) from {c}.t", "{9}"},
	{"select count(*) from {c}.t where id < $1 and v <> $2", "{20} [a|NULL]"},
	{"insert into {c}.t values ($1, $2) returning id", "{20} z"},
	{"insert into prop_rows values ($1, $2)", "{who} {50}"},
	{"(20) select pg_try_advisory_lock($1)", "{k}"},
	{"(20) select pg_advisory_unlock($1)", "{k}"},
	{"select 10 / $1::int", "[0|1|x]"},
	{"select prop_set($1)", "b{9}"},
	{"select pg_notify($1, $2)", "{ch} n{9}"},
	{"select g from generate_series(1, $1::int) g", "{9}"},
	{"update prop_rows set v = v + $2::int where who = $1", "{who} {9}"},
}

// draw picks one of a list by its weight.
func draw(rng *rand.Rand, list []template) string {
	total := 0
	for _, t := range list {
		total += t.weight
	}
	at := rng.IntN(total)
	for _, t := range list {
		if at -= t.weight; at < 0 {
			return t.text
		}
	}
	return ""
}

// fill takes one alternative of each bracket and puts names and numbers in.
func (g *generator) fill(text string) string {
	for {
		open := strings.IndexByte(text, '[')
		end := strings.IndexByte(text, ']')
		if open < 0 || end < open {
			break
		}
		list := strings.Split(text[open+1:end], "|")
		text = text[:open] + list[g.rng.IntN(len(list))] + text[end+1:]
	}
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(text, "{")
		b.WriteString(before)
		if !ok {
			return strings.TrimSpace(b.String())
		}
		name, after, _ := strings.Cut(rest, "}")
		text = after
		switch name {
		case "c":
			b.WriteString(g.schema())
		case "ch":
			b.WriteString("ch" + strconv.Itoa(g.who))
		case "who":
			b.WriteString(strconv.Itoa(g.who))
		case "k":
			b.WriteString(strconv.Itoa(1000*(g.who+1) + g.sessions))
		case "_shared":
			b.WriteString([...]string{"", "_shared"}[g.rng.IntN(2)])
		default:
			most, _ := strconv.Atoi(name)
			b.WriteString(strconv.Itoa(1 + g.rng.IntN(most)))
		}
	}
}
