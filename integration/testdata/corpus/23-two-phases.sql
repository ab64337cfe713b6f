-- Transactions in two phases. Their names are the server's, not the database's.

create table ledger (id int primary key, amount int);
begin;
insert into ledger values (70, 70);
prepare transaction 'corpus transaction';
rollback prepared 'corpus transaction';
begin;
insert into ledger values (71, 71);
prepare transaction 'corpus transaction';
select max(id) from ledger;
select gid from pg_prepared_xacts;
begin;
prepare transaction 'corpus transaction';
commit prepared 'corpus transaction';
select max(id) from ledger;
begin;
insert into ledger values (71, 71);
prepare transaction 'failed';
rollback prepared 'failed';
rollback prepared 'failed';
select count(*) from ledger;
select * from pg_prepared_xacts;
