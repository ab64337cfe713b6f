-- Functions in SQL and PL/pgSQL, procedures, DO, overloading, polymorphism, variadic and default arguments, errors.

create table accounts (id int primary key, owner text, balance numeric not null check (balance >= 0));
insert into accounts values (1, 'ann', 100), (2, 'bob', 50);
create function add_em(integer, integer) returns integer language sql immutable strict parallel safe as 'select $1 + $2';
select add_em(1, 2), add_em(1, null) is null, add_em(add_em(1, 2), 3);
create function add_em(a numeric, b numeric, out sum numeric, out product numeric) as $$ select a + b, a * b $$ language sql;
select pg_sleep(0.1);
select add_em(1.5, 2), (add_em(1.5, 2)).product;
select * from add_em(2.0, 3.0);
select add_em('a', 'b');
create function double_balance(accounts) returns numeric language sql stable as 'select $1.balance * 2';
select id, double_balance(a.*), a.double_balance from accounts a order by id;
create function of_owner(who text default 'ann', more numeric default 0) returns setof accounts language sql stable rows 2 as 'select id, owner, balance + more from accounts where owner = who order by id';
select pg_sleep(0.1);
select * from of_owner();
select * from of_owner(more => 5, who => 'bob');
select of_owner('ann', more := 1);
select * from of_owner(what => 1);
create function least_of(variadic numbers numeric[]) returns numeric language sql immutable return (select min(n) from unnest(numbers) n);
select least_of(10, -1, 5), least_of(variadic array[3, 4]);
create function anything(x anyelement, y anyarray) returns anyelement language sql as 'select coalesce(x, y[1])';
select anything(null::text, array['first']), anything(1, array[2, 3]);
select anything('x', array[1]);
create function rows_of(n int) returns table (i int, square int) language sql as $$ select g, g * g from generate_series(1, n) g $$;
select * from rows_of(3) order by i desc;
create function standard(a int) returns int immutable language sql begin atomic select a; select a + 1; end;
select standard(41), pg_get_functiondef('standard'::regproc);
create function transfer(source int, target int, amount numeric) returns text language plpgsql as $$
declare
    left_over numeric;
begin
    update accounts set balance = balance - amount where id = source returning balance into left_over;
    if not found then
        raise exception 'no account %', source using errcode = 'no_data_found', hint = 'look again', detail = 'asked by transfer', table = 'accounts';
    end if;
    update accounts set balance = balance + amount where id = target;
    raise notice '% left', left_over;
    return format('%s moved', amount);
exception
    when check_violation then
        raise warning 'not enough: %', sqlerrm;
        return 'refused ' || sqlstate;
end $$;
select pg_sleep(0.1);
select transfer(1, 2, 30);
select transfer(1, 2, 300);
select transfer(9, 2, 1);
select * from accounts order by id;
create function walk(n int) returns setof text language plpgsql as $$
<<outer_loop>>
declare
    r record;
    a int[] := '{}';
    c cursor (low int) for select id, owner from accounts where id >= low order by id;
    i int;
begin
    for i in reverse n..1 by 2 loop
        continue when i = 3;
        return next 'number ' || i;
    end loop;
    for r in c(1) loop
        return next r.id || ' ' || r.owner;
        a := a || r.id;
    end loop;
    foreach i in array a loop
        return next 'element ' || i;
    end loop;
    while n > 0 loop
        n := n - 1;
        exit when n < 3;
    end loop;
    case n when 2 then return next 'two'; else return next 'other'; end case;
    return query select 'query ' || owner from accounts order by 1;
    return query execute 'select $1 || owner from accounts order by 1' using 'dynamic ';
    get diagnostics i = row_count;
    return next i::text;
    assert i = 2, 'there are two';
    perform 1 from accounts where false;
    return next found::text;
end $$;
select * from walk(5);
create function nested(depth int) returns text language plpgsql as $$
declare message text; context text;
begin
    if depth = 0 then
        perform 1 / 0;
    end if;
    return nested(depth - 1);
exception when division_by_zero then
    get stacked diagnostics message = message_text;
    if depth < 2 then
        raise exception '% at %', message, depth using errcode = '22012';
    end if;
    return message || ' caught at ' || depth;
end $$;
select nested(2);
select nested(1);
create function no_return() returns int language plpgsql as $$ begin perform 1; end $$;
select no_return();
create function broken() returns int language plpgsql as $$ begin return nothing_here; end $$;
select broken();
create function syntax() returns int language plpgsql as $$ begin retrun 1; end $$;
create function unknown_language() returns int language nothing as 'x';
create function wrong_result() returns int language sql as 'select ''x''::text';
create or replace function add_em(integer, integer) returns text language sql as 'select ''x''::text';
create or replace function add_em(integer, integer) returns integer language sql as 'select $1 + $2 + 100';
select add_em(1, 2);
do $$ declare n int; begin select count(*) into strict n from accounts; raise notice 'there are %', n; raise log 'for the log'; raise info 'info % and %%', n; raise debug 'not shown'; end $$;
do language plpgsql $$ begin raise division_by_zero; end $$;
do $$ begin raise exception using message = 'all by options', errcode = 'P0123', detail = 'a detail', hint = 'a hint', column = 'c', constraint = 'k', datatype = 'd', schema = 's'; end $$;
do $$ declare x int; begin select id into strict x from accounts; end $$;
do $$ declare x int; begin select id into strict x from accounts where false; end $$;
do $$ begin execute 'create table made_by_do (a int)'; insert into made_by_do values (1); end $$;
select * from made_by_do;
create procedure pay(inout n numeric, who int default 1) language plpgsql as $$ begin update accounts set balance = balance + n where id = who returning balance into n; end $$;
call pay(5);
call pay(5, who => 2);
call pay(-1000);
call nothing();
select pay(1, 1);
create procedure in_steps(n int) language plpgsql as $$
begin
    for i in 1..n loop
        insert into made_by_do values (i * 10);
        if i % 2 = 0 then commit; else rollback; end if;
    end loop;
end $$;
call in_steps(4);
select * from made_by_do order by a;
begin;
call in_steps(2);
rollback;
create procedure plain_sql(a int, b int) language sql as $$ insert into made_by_do values (a); insert into made_by_do values (b) $$;
call plain_sql(100, 200);
select sum(a) from made_by_do;
create function volatile_count() returns bigint language plpgsql as $$ begin insert into made_by_do values (0); return (select count(*) from made_by_do); end $$;
select volatile_count(), volatile_count();
select volatile_count() from generate_series(1, 2);
create view counting as select volatile_count() as n;
select n from counting;
create function quiet() returns void language sql as 'select 1';
select quiet();
create function setting() returns text language plpgsql set work_mem = '3MB' as $$ begin return current_setting('work_mem'); end $$;
select setting(), current_setting('work_mem');
alter function setting() reset work_mem;
alter function setting() set search_path = pg_catalog;
alter function setting() security definer stable cost 50 rename to set_once;
alter function setting() stable cost 50;
alter function setting() rename to set_once;
select set_once() = current_setting('work_mem'), provolatile, procost from pg_proc where proname = 'set_once';
alter procedure plain_sql(int, int) rename to plain;
alter routine plain(int, int) set work_mem = '1MB';
drop function add_em;
drop function add_em(integer, integer), add_em(numeric, numeric);
drop procedure plain;
drop routine if exists nothing;
drop function nothing(int);
create function returns_record() returns record language sql as $$ select 1, 'x'::text $$;
select * from returns_record() as t(a int, b text);
select * from returns_record();
create function cursor_of(refcursor) returns refcursor language plpgsql as $$ begin open $1 for select owner from accounts order by id; return $1; end $$;
begin;
select cursor_of('mine');
fetch all in mine;
commit;
fetch all in mine;
create function spent(n int) returns int language plpgsql as $$ begin return spent(n + 1); end $$;
set max_stack_depth = '100kB';
reset max_stack_depth;
comment on function quiet() is 'says nothing';
select pg_sleep(0.1);
select obj_description('quiet()'::regprocedure, 'pg_proc');
