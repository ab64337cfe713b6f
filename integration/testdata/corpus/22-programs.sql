-- Small programs, as tutorials have them: a bank, a tree, a queue, an audit trail, reports.

create table accounts (no int primary key, holder text not null, balance numeric(12, 2) not null default 0 check (balance >= 0));
create table entries (id bigint generated always as identity primary key, no int not null references accounts, amount numeric(12, 2) not null, at int not null default 0);
create or replace function book(account int, sum numeric) returns numeric language plpgsql as $$
declare result numeric;
begin
    update accounts set balance = balance + sum where no = account returning balance into strict result;
    insert into entries (no, amount) values (account, sum);
    return result;
exception when no_data_found then
    raise exception 'account % does not exist', account using errcode = 'foreign_key_violation';
end $$;
insert into accounts values (1, 'Ann', 100), (2, 'Bob', 0), (3, 'Cyd', 50);
select pg_sleep(0.1);
select book(1, -30), book(2, 30);
select book(9, 1);
select book(2, -100);
begin;
select book(1, -70);
savepoint more;
select book(1, -1);
rollback to more;
select book(3, 70);
commit;
select pg_sleep(0.1);
select a.holder, a.balance, coalesce(sum(e.amount), 0) as moved from accounts a left join entries e using (no) group by a.no order by a.no;
select sum(balance) from accounts;
select no, amount, sum(amount) over (partition by no order by id) from entries order by id;
create view overview as select holder, balance, rank() over (order by balance desc) from accounts;
select * from overview order by 3, 1;
create materialized view balances as select count(*) as n, sum(balance) from accounts;
select * from balances;
insert into accounts values (4, 'Dee', 1);
select * from balances;
refresh materialized view balances;
select * from balances;
create table nodes (id int primary key, parent int references nodes on delete cascade, label text);
insert into nodes values (1, null, 'root'), (2, 1, 'left'), (3, 1, 'right'), (4, 2, 'leaf'), (5, 3, 'leaf');
create function path_of(node int) returns text language sql stable as $$
    with recursive up as (select id, parent, label, 1 as depth from nodes where id = node
        union all select n.id, n.parent, n.label, depth + 1 from nodes n join up on n.id = up.parent)
    select string_agg(label, '/' order by depth desc) from up
$$;
select id, path_of(id) from nodes order by id;
with recursive tree as (select id, label, array[id] as way from nodes where parent is null union all select n.id, n.label, way || n.id from nodes n join tree t on n.parent = t.id) select repeat('  ', cardinality(way) - 1) || label as tree from tree order by way;
delete from nodes where id = 2 returning id;
select count(*) from nodes;
create table jobs (id int primary key, state text not null default 'waiting', tries int not null default 0);
insert into jobs select generate_series(1, 5);
with next as (select id from jobs where state = 'waiting' order by id limit 2 for update skip locked) update jobs set state = 'running', tries = tries + 1 from next where jobs.id = next.id returning jobs.id;
update jobs set state = 'done' where state = 'running' and id % 2 = 0 returning id;
select state, count(*), array_agg(id order by id) from jobs group by state order by state;
delete from jobs where id in (select id from jobs where state = 'waiting' order by id for update skip locked limit 1) returning id;
create table audited (id int primary key, v text);
create table audit (n int generated always as identity, op text, was jsonb, is_now jsonb, who text default current_user);
create function audit() returns trigger language plpgsql security definer as $$
begin
    insert into audit (op, was, is_now) values (tg_op, to_jsonb(old), to_jsonb(new));
    return coalesce(new, old);
end $$;
create trigger audit after insert or update or delete on audited for each row execute function audit();
insert into audited values (1, 'a'), (2, 'b');
update audited set v = v || '!' where id = 1;
delete from audited where id = 2;
select n, op, was, is_now from audit order by n;
create table counters (name text primary key, n int not null);
insert into counters values ('hits', 1) on conflict (name) do update set n = counters.n + 1 returning n;
insert into counters values ('hits', 1) on conflict (name) do update set n = counters.n + 1 returning n;
insert into counters values ('hits', 1) on conflict (name) do update set n = counters.n + 1 returning n, xmax <> 0 as updated;
create table readings (sensor int, minute int, value numeric);
insert into readings select s, m, s * 10 + m % 7 from generate_series(1, 3) s, generate_series(0, 59) m where (s + m) % 5 <> 0;
select pg_sleep(0.1);
select sensor, count(*), min(value), max(value), avg(value)::numeric(8, 3), percentile_disc(0.9) within group (order by value) from readings group by sensor order by sensor;
select m / 15 as quarter, count(value) from generate_series(0, 59) m left join readings r on r.minute = m and r.sensor = 1 group by 1 order by 1;
select sensor, minute, value - lag(value) over (partition by sensor order by minute) as step from readings where minute < 4 order by 1, 2;
select sensor, sum(case when value > sensor * 10 + 3 then 1 else 0 end) as high, count(*) filter (where minute < 30) as early from readings group by rollup (sensor) order by 1 nulls last;
select s.sensor, last.* from (select distinct sensor from readings) s cross join lateral (select minute, value from readings r where r.sensor = s.sensor order by minute desc limit 1) last order by 1;
create function median_step(numeric[], numeric) returns numeric[] language sql immutable as 'select $1 || $2';
create function median_end(numeric[]) returns numeric language sql immutable as $$ select avg(x) from (select x from unnest($1) x order by x offset (cardinality($1) - 1) / 2 limit 2 - cardinality($1) % 2) m $$;
create aggregate median (numeric) (sfunc = median_step, stype = numeric[], finalfunc = median_end, initcond = '{}');
select sensor, median(value)::numeric(6, 2) from readings group by sensor order by sensor;
create extension if not exists pgcrypto;
select encode(digest('abc', 'sha256'), 'hex') = encode(sha256('abc'), 'hex');
drop extension pgcrypto;
create procedure fill(n int) language plpgsql as $$
begin
    for i in 1..n loop
        insert into readings values (9, i, i);
        if i % 10 = 0 then commit; end if;
    end loop;
    rollback;
end $$;
call fill(25);
select count(*) from readings where sensor = 9;
do $$ declare r record; begin for r in select sensor, count(*) as n from readings group by sensor order by sensor loop raise notice 'sensor %: %', r.sensor, r.n; end loop; end $$;
select pg_sleep(0.1);
select format('%-10s|%5s', holder, balance) from accounts order by no;
select jsonb_pretty(jsonb_agg(jsonb_build_object('no', no, 'holder', holder) order by no)) from accounts;
select string_agg(distinct state, ', ' order by state) from jobs;
select n, case when n % 15 = 0 then 'fizzbuzz' when n % 5 = 0 then 'buzz' when n % 3 = 0 then 'fizz' else n::text end from generate_series(1, 15) n order by 1, n.n;
with recursive fib(a, b) as (values (0::numeric, 1::numeric) union all select b, a + b from fib where b < 1000) select array_agg(a order by a) from fib;
select x, y, x * y as product from generate_series(1, 3) x, generate_series(1, 3) y where x <= y order by x, y;
drop table accounts;
drop table accounts cascade;
