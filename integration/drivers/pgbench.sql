-- What the built-in scripts do not: a cursor, a savepoint, a read of what was just written.
\set aid random(1, 100000 * :scale)
BEGIN;
DECLARE c CURSOR FOR SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
FETCH ALL FROM c;
SAVEPOINT s;
UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;
ROLLBACK TO SAVEPOINT s;
COMMIT;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
