-- Views, materialized views, rules, triggers, event triggers.

create table staff (id int primary key, name text, salary int, dept text);
insert into staff values (1, 'Ann', 100, 'it'), (2, 'Bob', 200, 'hr'), (3, 'Cyd', 300, 'it');
create view it_staff as select id, name, dept from staff where dept = 'it' with local check option;
select * from it_staff order by id;
insert into it_staff values (4, 'Dee', 'it') returning *;
insert into it_staff values (5, 'Eli', 'hr');
update it_staff set name = upper(name) where id = 1 returning name;
delete from it_staff where id = 2;
create or replace view it_staff as select id, name, dept, salary from staff where dept = 'it';
create or replace view it_staff as select id from staff;
create view totals (dept, total) as select dept, sum(salary) from staff group by dept;
select * from totals order by dept;
insert into totals values ('x', 1);
create view it_staff as select 1;
create view secure with (security_barrier) as select name from staff;
create recursive view countdown (n) as values (3) union all select n - 1 from countdown where n > 1;
select * from countdown;
alter view secure rename to secured;
alter view secured alter column name set default 'nobody';
alter view secured set schema nowhere;
select pg_get_viewdef('totals'::regclass, true);
select table_name, is_updatable from information_schema.views where table_schema = 'public' order by 1;
alter table staff drop column salary;
alter table staff alter dept type varchar(10);
drop view totals;
drop view totals;
create materialized view per_dept as select dept, count(*) as n from staff group by dept;
select * from per_dept order by dept;
insert into staff values (6, 'Flo', 50, 'ops');
select * from per_dept order by dept;
refresh materialized view concurrently per_dept;
create unique index on per_dept (dept);
refresh materialized view concurrently per_dept;
select * from per_dept order by dept;
insert into per_dept values ('x', 1);
refresh materialized view per_dept with no data;
select * from per_dept;
refresh materialized view per_dept;
alter materialized view per_dept rename column n to heads;
select max(heads) from per_dept;
drop materialized view per_dept;
create table log (n int generated always as identity, what text);
create rule staff_log as on update to staff where new.name <> old.name do also insert into log (what) values (old.name || ' -> ' || new.name);
update staff set name = 'Zoe' where id = 3;
select what from log order by n;
create view names as select id, name from staff;
create rule names_insert as on insert to names do instead insert into staff values (new.id, new.name, 0, 'new') returning id, name;
insert into names values (9, 'Gus') returning *;
create rule names_delete as on delete to names do instead nothing;
delete from names where id = 9;
select count(*) from names where id = 9;
create rule protect as on delete to staff do instead (insert into log (what) values ('kept ' || old.name); insert into log (what) values ('twice'));
delete from staff where id = 9;
select what from log order by n;
drop rule protect on staff;
drop rule nothing on staff;
create function stamp() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' then
        insert into log (what) values (format('%s %s %s %s', tg_when, tg_op, tg_level, old.name));
        return old;
    end if;
    if new.name = 'forbidden' then
        raise exception 'no such name: %', new.name using hint = 'choose another', errcode = '22023';
    elsif new.name = 'skip' then
        return null;
    end if;
    new.name := initcap(new.name);
    insert into log (what) values (format('%s %s %s %s', tg_when, tg_op, tg_level, new.name));
    return new;
end $$;
create trigger stamp before insert or update of name or delete on staff for each row execute function stamp();
insert into staff values (10, 'hal brown', 1, 'it') returning name;
insert into staff values (11, 'skip', 1, 'it') returning name;
insert into staff values (12, 'forbidden', 1, 'it');
update staff set salary = 2 where id = 10;
update staff set name = 'ida' where id = 10 returning name;
delete from staff where id = 10;
select what from log order by n;
create function count_changes() returns trigger language plpgsql as $$
declare n int;
begin
    select count(*) into n from changed;
    raise notice '% changed % rows of % (%)', tg_name, n, tg_table_name, tg_argv[0];
    return null;
end $$;
create trigger summed after update on staff referencing new table as changed for each statement execute function count_changes('argument');
update staff set salary = salary + 1;
create trigger conditional after update on staff for each row when (old.salary is distinct from new.salary and new.id = 1) execute function suppress_redundant_updates_trigger();
create function do_insert() returns trigger language plpgsql as $$ begin insert into staff values (new.id, new.name, 7, 'view'); return new; end $$;
create view plain as select id, name from staff;
create trigger on_view instead of insert on plain for each row execute function do_insert();
insert into plain values (20, 'jon') returning *;
select dept, salary from staff where id = 20;
create constraint trigger late after insert on log deferrable initially deferred for each row execute function count_changes();
alter table staff disable trigger stamp;
insert into staff values (21, 'skip', 1, 'it') returning name;
alter table staff enable always trigger stamp;
alter trigger stamp on staff rename to stamped;
select tgname, pg_get_triggerdef(oid) from pg_trigger where tgrelid = 'staff'::regclass and not tgisinternal order by 1;
drop trigger stamped on staff;
drop trigger stamped on staff;
create trigger bad before insert on staff for each row execute function nothing();
create function not_a_trigger() returns int language sql as 'select 1';
create trigger bad before insert on staff for each row execute function not_a_trigger();
select stamp();
create function on_ddl() returns event_trigger language plpgsql as $$
declare r record;
begin
    for r in select command_tag, object_identity from pg_event_trigger_ddl_commands() loop
        raise notice '%: %', r.command_tag, r.object_identity;
    end loop;
end $$;
create event trigger watch_ddl on ddl_command_end when tag in ('CREATE TABLE', 'CREATE INDEX') execute function on_ddl();
create table watched (a int primary key);
create view unwatched as select 1 as a;
alter event trigger watch_ddl disable;
create table silent (a int);
create function on_drop() returns event_trigger language plpgsql as $$ begin raise exception 'nothing is dropped here'; end $$;
create event trigger no_drops on sql_drop execute function on_drop();
drop table silent;
drop event trigger no_drops;
drop table silent;
drop event trigger watch_ddl;
drop event trigger watch_ddl;
