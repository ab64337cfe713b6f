package session

import "strings"

// caseSchema is what the rows below speak of.
const caseSchema = `
create schema k_a; create schema k_b;
create table k_t (a int primary key, b text); insert into k_t values (1, 'one'), (2, 'two'), (3, 'three');
create table k_w (a int, b text);
create unlogged table k_u (a int); create sequence k_s; create sequence k_us;
create table k_p (a int) partition by list (a);
create table k_p1 partition of k_p for values in (1); create unlogged table k_p2 partition of k_p for values in (2);
create table k_p3 (a int) partition by list (a); create table k_p31 partition of k_p3 for values in (1);
create function k_stable(int) returns int language sql stable as 'select $1';
create function k_immutable(int) returns int language sql immutable as 'select $1';
create function k_vol(int) returns int language sql volatile as 'select $1';
create function k_writes(int) returns int language sql volatile as 'insert into k_w values ($1) returning a';
create function k_over(int) returns int language sql stable as 'select $1';
create function k_over(text) returns int language sql volatile as 'select 1';
create function k_a.k_path(int) returns int language sql stable as 'select $1';
create function k_b.k_path(int) returns int language sql volatile as 'select $1';
create function k_default(a int default k_vol(1)) returns int language sql stable as 'select $1';
create function k_atomic() returns int language sql stable begin atomic select k_vol(1); end;
create function k_set() returns setof int language sql stable rows 2 as 'select generate_series(1, 2)';
create function k_setvol() returns setof int language sql volatile rows 2 as 'select generate_series(1, 2)';
create function k_table(int) returns table (a int) language sql stable as 'select a from k_t where a = $1';
create table k_row (a int, b text); create function initcap(k_row) returns text language sql volatile as 'select $1.b';
create aggregate k_sum(int) (sfunc = int4pl, stype = int, initcond = '0');
create function k_step(int, int) returns int language sql volatile as 'select $1 + $2';
create aggregate k_sumvol(int) (sfunc = k_step, stype = int, initcond = '0');
create procedure k_proc() language sql as 'select 1';
create procedure k_procw() language sql as 'insert into k_w values (1)';
create view k_v as select * from k_t; create view k_vv as select k_vol(a) as a from k_t; create view k_vvv as select * from k_vv;
create view k_vu as select * from k_u; create view k_vs as select nextval('k_s') as a; create view k_vr as select random() as r, a from k_t;
create view k_vact as select * from pg_stat_activity; create view k_vstable as select k_stable(a) as a from k_t;
create materialized view k_m as select k_vol(a) as a from k_t;
create function k_same(int, text) returns bool language sql volatile as 'select true';
create operator === (leftarg = int, rightarg = text, function = k_same);
create function k_alike(int, text) returns bool language sql stable as 'select true';
create operator ==== (leftarg = int, rightarg = text, function = k_alike);
create view k_vop as select a from k_t where a === b;
create type k_pair as (x int, y int);
create function k_topair(text) returns k_pair language sql volatile as 'select 1, 2';
create cast (text as k_pair) with function k_topair(text);
create type k_couple as (x int, y int);
create function k_tocouple(text) returns k_couple language sql stable as 'select 1, 2';
create cast (text as k_couple) with function k_tocouple(text);
create function k_positive(int) returns bool language sql volatile as 'select $1 > 0';
create domain k_checked as int check (k_positive(value)); create domain k_plain as int check (value > 0);
create table k_rls (a int); insert into k_rls values (1); alter table k_rls enable row level security; create policy k_pol on k_rls using (k_vol(a) > 0);
create table k_rlsw (a int); alter table k_rlsw enable row level security; create policy k_pol on k_rlsw for insert with check (k_vol(a) > 0);
create table k_rlss (a int); alter table k_rlss enable row level security; create policy k_pol on k_rlss using (k_stable(a) > 0);
create foreign data wrapper k_fdw; create server k_srv foreign data wrapper k_fdw; create foreign table k_f (a int) server k_srv;
create table k_rule (a int); create rule k_r as on insert to k_rule do instead select 1;
create function k_trig() returns trigger language plpgsql as 'begin return new; end';
create table k_trg (a int); create trigger k_trigger before insert on k_trg for each row execute function k_trig();
`

// inForms names the forms a row is sent in.
func inForms(forms ...string) caseMore { return caseMore{only: forms} }

// aloneRow is for the forms outside transactions for texts of one statement.
var aloneRow = inForms("simple", "unnamed", "named")

// severalRow is for forms for texts of more than one statement.
var severalRow = inForms("simple", "simple behind a read", "simple with a write", "begin, simple", "begin read only, simple")

// copyRow is for COPY FROM STDIN, behind which nothing may be sent at once.
var copyRow = inForms("simple", "simple behind a read", "simple with a write", "unnamed", "pipeline behind a read", "pipeline with a write", "segments at once")

var ddlRow = caseMore{ddl: true}

func behind(sql string) caseMore { return caseMore{before: sql} }

const atPrimary, atReplica = "primary", "replica"

var caseRows = []caseRow{
	// Plain reads, so that the others say something.
	{"A0_plain_reads", "select a from k_t", atReplica, caseMore{}},
	{"A0_plain_reads", "select t.a, count(*) over (partition by b) from k_t t join k_t u using (a, b) where exists (select from k_t) order by 1", atReplica, caseMore{}},
	{"A0_plain_reads", "with recursive x(n) as (values (1) union all select n + 1 from x where n < 3) select n, a from x, k_t", atReplica, caseMore{}},
	{"A0_plain_reads", "select a from k_t union all (select a from k_t order by 1 limit 1) except select 7", atReplica, caseMore{}},
	{"A0_plain_reads", "(select a from k_t) intersect (select 1)", atReplica, caseMore{}},
	{"A0_plain_reads", "select l.a from k_t t, lateral (select t.a) l group by grouping sets ((l.a), ())", atReplica, caseMore{}},
	{"A0_plain_reads", "select * from k_t tablesample system (50)", atReplica, caseMore{}},
	{"A0_plain_reads", "select 'for update', 'insert into k_w values (1)', $$delete from k_w$$, \"b\" from k_t", atReplica, caseMore{}},
	{"A0_plain_reads", "select /* for update */ a from k_t -- delete from k_w\n", atReplica, caseMore{}},
	{"A0_plain_reads", "select 1", atReplica, caseMore{}},

	// 1. All statements of one Query run on one server, by the strictest of them.
	{"A1_multi_statement", "select a from k_t; select b from k_t", atReplica, severalRow},
	{"A1_multi_statement", "insert into k_w values (1); select 1/0; insert into k_w values (2)", atPrimary, severalRow},
	{"A1_multi_statement", "select 1; delete from k_w", atPrimary, severalRow},
	{"A1_multi_statement", "begin; insert into k_w values (1); commit; select count(*) from k_t", atPrimary, inForms("simple")},
	{"A1_multi_statement", "begin read only; select a from k_t; commit; delete from k_w", atPrimary, inForms("simple")},
	{"A1_multi_statement", "set k.a = 1; select a from k_t", atPrimary, inForms("simple")},
	{"A1_multi_statement", "select a from k_t; select a from k_t for update", atPrimary, severalRow},
	{"A1_multi_statement", "select a from k_t; select k_vol(1); select 2", atPrimary, severalRow},
	{"A1_multi_statement", "select a from k_t; show server_version", atPrimary, severalRow},
	{"A1_multi_statement", ";;select a from k_t;;", atReplica, severalRow},
	{"A1_multi_statement", "select a from k_t; copy k_w from stdin", atPrimary, inForms("simple", "simple behind a read")},
	{"A1_multi_statement", "create temp table k_new{n} (a int); select a from k_t", atPrimary, caseMore{ddl: true, only: []string{"simple"}}},

	// 3. Locking clauses at any depth.
	{"A3_locking_clauses", "select a from k_t for update", atPrimary, caseMore{}},
	{"A3_locking_clauses", "select a from k_t for no key update", atPrimary, caseMore{}},
	{"A3_locking_clauses", "select a from k_t for share", atPrimary, caseMore{}},
	{"A3_locking_clauses", "select a from k_t for key share", atPrimary, caseMore{}},
	{"A3_locking_clauses", "select t.a from k_t t, k_w for update of t nowait", atPrimary, caseMore{}},
	{"A3_locking_clauses", "select a from k_t for share skip locked limit 1", atPrimary, caseMore{}},
	{"A3_locking_clauses", "select a from k_t where a in (select a from k_t for update)", atPrimary, caseMore{}},
	{"A3_locking_clauses", "select (select a from k_t limit 1 for share) from k_t", atPrimary, caseMore{}},
	{"A3_locking_clauses", "select * from (select * from (select a from k_t for key share) x) y", atPrimary, caseMore{}},
	{"A3_locking_clauses", "with x as (select a from k_t for update) select a from x", atPrimary, caseMore{}},
	{"A3_locking_clauses", "with x as (with y as (select a from k_t for update) select a from y) select a from x", atPrimary, caseMore{}},
	{"A3_locking_clauses", "select a from k_t union all (select a from k_t for update)", atPrimary, caseMore{}},
	{"A3_locking_clauses", "(select a from k_t for share) union all select 1", atPrimary, caseMore{}},
	{"A3_locking_clauses", "select array(select a from k_t for update)", atPrimary, caseMore{}},
	{"A3_locking_clauses", "select a from k_t where exists (select from k_t for share)", atPrimary, caseMore{}},
	{"A3_locking_clauses", "select l.a from k_t t, lateral (select a from k_t for update) l", atPrimary, caseMore{}},
	{"A3_locking_clauses", "select case when a > (select a from k_t limit 1 for update) then 1 end from k_t", atPrimary, caseMore{}},
	{"A3_locking_clauses", "select coalesce((select a from k_t limit 1 for no key update), 1)", atPrimary, caseMore{}},
	{"A3_locking_clauses", "select a from k_t order by (select a from k_t limit 1 for share)", atPrimary, caseMore{}},
	{"A3_locking_clauses", "select a from k_t limit (select 1 from k_t limit 1 for share)", atPrimary, caseMore{}},
	{"A3_locking_clauses", "select a from k_v for update", atPrimary, caseMore{}},
	{"A3_locking_clauses", "copy (select a from k_t for update) to stdout", atPrimary, caseMore{}},
	{"A3_locking_clauses", "explain analyze select a from k_t for update", atPrimary, caseMore{}},
	{"A3_lock_table", "lock table k_t in access share mode", atPrimary, caseMore{}},
	{"A3_lock_table", "lock k_w", atPrimary, caseMore{}},
}

// deep nests a text n times.
func deep(n int, inner string) string {
	return strings.Repeat("(", n) + inner + strings.Repeat(")", n)
}
