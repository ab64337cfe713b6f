-- COPY in both directions, all formats, errors in the middle.

create table cargo (id int primary key, name text, weight numeric, notes text default 'none');
copy cargo (id, name, weight) from stdin;
1	anvil	100.5
2	feather	0.01
3	\N	\N
4	tab\there	1
\.
copy cargo to stdout;
copy cargo (name, id) to stdout with (format csv, header);
copy cargo from stdin with (format csv, header true, null 'nil', delimiter ';', quote '''', force_not_null (notes));
id;name;weight;notes
5;'semi;colon';7;
6;nil;nil;'it''s'
\.
select * from cargo order by id;
copy (select id, name from cargo where weight is not null order by id desc) to stdout (delimiter '|', null '-');
copy (values (1, 'a"b'), (2, null)) to stdout (format csv, force_quote *);
copy (select array[1, 2], row(1, 'x'), true, '\x00'::bytea) to stdout;
copy cargo from stdin where id < 11;
10	ten	10	x
11	eleven	11	y
\.
select id from cargo where id >= 10;
copy cargo from stdin;
20	twenty	20	ok
x	bad	1	y
\.
copy cargo from stdin;
1	duplicate	1	x
\.
copy cargo from stdin;
30	too few
\.
copy cargo from stdin;
31	too	1	many	columns
\.
copy cargo (id, weight) from stdin;
32	heavy
\.
copy cargo from stdin (format csv);
33,"unterminated
\.
select max(id) from cargo;
begin;
copy cargo (id, name) from stdin;
40	in a transaction
\.
select name from cargo where id = 40;
savepoint before_bad;
copy cargo (id, name) from stdin;
40	again
\.
rollback to before_bad;
copy cargo (id) from stdin;
41
\.
rollback;
select count(*) from cargo where id >= 40;
select pg_sleep(0.1);
begin read only;
copy cargo to stdout;
-- differs: what a standby refuses in other words
copy cargo from stdin; -- no rows
rollback;
create table empty_one (a int);
copy empty_one from stdin;
\.
copy empty_one to stdout;
copy empty_one to stdout (format csv, header);
copy empty_one from stdin (format csv, header match);
a
1
\.
copy empty_one from stdin (format csv, header match);
b
1
\.
copy empty_one from stdin (format text, freeze);
2
\.
select * from empty_one order by a;
copy (delete from empty_one returning a) to stdout;
copy (insert into empty_one values (7) returning a) to stdout;
copy (update empty_one set a = a + 1 returning a) to stdout;
copy (select 1 / a from (values (1), (0)) v(a)) to stdout;
copy nowhere to stdout;
copy nowhere from stdin; -- no rows
copy cargo (nothing) to stdout;
copy cargo to stdout (format nothing);
copy cargo to stdout (delimiter 'xx');
copy (select 1 into x) to stdout;
create view cargo_view as select id from cargo;
copy cargo_view to stdout;
copy (table cargo_view order by id) to stdout;
copy cargo_view from stdin;
1
\.
copy cargo to '/nowhere/at/all';
copy cargo from '/nowhere/at/all';
copy (select 1) to program 'exit 3';
copy empty_one from program 'echo 99';
select * from empty_one order by a;
create table generated (a int, b int generated always as (a * 2) stored, c text default 'c' || 1);
copy generated (a) from stdin;
1
2
\.
copy generated to stdout;
select * from generated order by a;
copy generated (b) from stdin; -- no rows
create function loud() returns trigger language plpgsql as $$ begin raise notice 'row %', new.a; return new; end $$;
create trigger loud before insert on empty_one for each row execute function loud();
copy empty_one from stdin;
101
102
\.
set client_encoding = latin1;
copy (select 'ü') to stdout with (encoding 'UTF8');
copy (select length('u')) to stdout;
reset client_encoding;
copy cargo (id, name) from stdin with (encoding 'LATIN1');
90	plain
\.
copy (select g, repeat('x', g % 7) from generate_series(1, 300) g order by g) to stdout;
copy binary cargo to stdin;
