-- Twice the same transaction; behind each of them the client waits until somebody has written to the named pipe.
\set aid random(1, 100000 * :scale)
\set delta random(1, 5000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = 1;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = 1;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, :aid, :delta, CURRENT_TIMESTAMP);
COMMIT;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
\shell cat :gate
