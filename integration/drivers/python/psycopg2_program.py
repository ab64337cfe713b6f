"""A program that uses psycopg 2, which knows the simple protocol alone: every value is written into the statement."""

import io
import select
import threading
from datetime import datetime, timezone
from decimal import Decimal

import psycopg2
import psycopg2.extras
import psycopg2.pool
from psycopg2 import errors, extensions

from program import URL, check, equal, restart, run


def connect(autocommit=False, **options):
    c = psycopg2.connect(URL, **options)
    c.autocommit = autocommit
    return c


def one(c, sql, args=None):
    with c.cursor() as cur:
        cur.execute(sql, args)
        return cur.fetchone()[0]


def execute(c, sql, args=None):
    with c.cursor() as cur:
        cur.execute(sql, args)


def fails(error, function, *args):
    try:
        function(*args)
    except error as e:
        return e
    raise AssertionError(f"no {error.__name__}")


@check
def own_writes():
    "a read after a write is never stale"
    c = connect(autocommit=True)
    for n in range(1000):
        execute(c, "INSERT INTO own VALUES (%s)", (n,))
        equal(one(c, "SELECT n FROM own WHERE n = %s", (n,)), n)
    c.close()


@check
def transactions():
    "with-blocks commit, roll back, and follow autocommit and isolation"
    c = connect()
    with c:
        execute(c, "INSERT INTO items VALUES (1, 'one')")

    def twice():
        with c:
            execute(c, "INSERT INTO items VALUES (2, 'two')")
            execute(c, "INSERT INTO items VALUES (1, 'again')")

    fails(errors.UniqueViolation, twice)
    equal(c.get_transaction_status(), extensions.TRANSACTION_STATUS_IDLE)
    equal(one(c, "SELECT count(*) FROM items"), 1)
    fails(errors.DivisionByZero, execute, c, "SELECT 1/0")
    fails(errors.InFailedSqlTransaction, execute, c, "SELECT 1")
    c.rollback()
    for level in (extensions.ISOLATION_LEVEL_READ_COMMITTED, extensions.ISOLATION_LEVEL_REPEATABLE_READ, extensions.ISOLATION_LEVEL_SERIALIZABLE):
        c.set_session(isolation_level=level, readonly=True)
        equal(one(c, "SELECT count(*) FROM items"), 1)
        fails(errors.ReadOnlySqlTransaction, execute, c, "INSERT INTO items VALUES (3, 'no')")
        c.rollback()
    c.set_session(isolation_level="DEFAULT", readonly="DEFAULT", autocommit=True)
    # In autocommit set_session sends SETs of the session's defaults.
    c.set_session(readonly=True)
    fails(errors.ReadOnlySqlTransaction, execute, c, "INSERT INTO items VALUES (3, 'no')")
    equal(one(c, "SELECT count(*) FROM items"), 1)
    c.set_session(readonly=False)
    execute(c, "INSERT INTO items VALUES (3, 'yes')")
    c.reset()
    equal(one(c, "SELECT count(*) FROM items"), 2)
    c.close()


@check
def two_phases():
    "a prepared transaction is finished by another session"
    c = connect()
    c.tpc_begin(c.xid(1, "fairway", "psycopg2"))
    execute(c, "INSERT INTO items VALUES (10, 'two phases')")
    c.tpc_prepare()
    c.close()
    c = connect(autocommit=True)
    (found,) = [x for x in c.tpc_recover() if x.bqual == "psycopg2"]
    c.tpc_commit(found)
    equal(one(c, "SELECT s FROM items WHERE n = 10"), "two phases")
    c.close()


@check
def extras():
    "execute_values, execute_batch and prepared statements in SQL"
    c = connect()
    with c.cursor() as cur:
        cur.execute("DELETE FROM items")
        got = psycopg2.extras.execute_values(
            cur, "INSERT INTO items VALUES %s RETURNING n", [(n, f"värde {n}") for n in range(5000)], page_size=500, fetch=True
        )
        equal(sum(n for (n,) in got), 5000 * 4999 // 2)
        # Many statements in one query message, EXECUTEs of a statement that was prepared by one.
        cur.execute("PREPARE another AS INSERT INTO items VALUES ($1, $2)")
        psycopg2.extras.execute_batch(cur, "EXECUTE another (%s, %s)", [(n, "batch") for n in range(5000, 7000)], page_size=100)
        cur.execute("DEALLOCATE another")
        c.commit()
        cur.execute("SELECT count(*), count(*) FILTER (WHERE s = 'batch') FROM items")
        equal(cur.fetchone(), (7000, 2000))
    with c.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cur:
        cur.execute("SELECT * FROM items WHERE n = 7")
        equal(dict(cur.fetchone()), {"n": 7, "s": "värde 7"})
    c.close()


@check
def copies():
    "copy_from, copy_expert both ways, and one that fails"
    c = connect(autocommit=True)
    with c.cursor() as cur:
        cur.execute("TRUNCATE items CASCADE")
        cur.copy_from(io.StringIO("".join(f"{n}\tline {n}\n" for n in range(20000))), "items")
        text = "".join(f"{n},\"quoted \"\"{n}\"\"\"\n" for n in range(20000, 30000))
        cur.copy_expert("COPY items FROM STDIN (FORMAT csv)", io.StringIO(text))
        equal(cur.rowcount, 10000)
        out = io.StringIO()
        cur.copy_expert("COPY (SELECT * FROM items WHERE n >= 20000 ORDER BY n) TO STDOUT (FORMAT csv, FORCE_QUOTE (s))", out)
        equal(out.getvalue() == text, True)
        fails(errors.UniqueViolation, cur.copy_from, io.StringIO("50000\tx\n" * 100000), "items")

        class Broken(io.StringIO):
            def read(self, size=-1):
                raise KeyError("enough")

        fails(psycopg2.Error, cur.copy_expert, "COPY items FROM STDIN", Broken())
    equal(one(c, "SELECT count(*) FROM items"), 30000)
    c.close()


@check
def cursors():
    "named cursors, scrolled, and held beyond their transaction"
    c = connect()
    with c.cursor("pieces") as cur:
        cur.itersize = 300
        cur.execute("SELECT n FROM items WHERE n < 10000 ORDER BY n")
        equal(sum(n for (n,) in cur), 10000 * 9999 // 2)
    c.commit()
    cur = c.cursor("held", scrollable=True, withhold=True)
    cur.execute("SELECT generate_series(1, 1000)")
    equal(len(cur.fetchmany(10)), 10)
    c.commit()
    cur.scroll(1000, mode="absolute")
    cur.scroll(-1)
    equal(cur.fetchone()[0], 1000)
    cur.close()
    c.commit()
    c.close()


@check
def values():
    "values of many types"
    extensions.register_type(extensions.UNICODE)
    c = connect(autocommit=True)
    psycopg2.extras.register_uuid()
    now = datetime(2026, 2, 28, 12, 30, 15, 123456, timezone.utc)
    sent = (2**60, Decimal("12345678901234567890.123"), 1.25, "ünïcödé \\ ' % \x01", [1, None, 3], now, True, None, {"a": [1, None]})
    with c.cursor() as cur:
        cur.execute("SELECT %s, %s, %s::float8, %s, %s, %s, %s, %s, %s::jsonb", sent[:-1] + (psycopg2.extras.Json(sent[-1]),))
        equal(cur.fetchone(), sent)
        big = bytes(range(256)) * 12000
        cur.execute("INSERT INTO files VALUES ('big', %s) RETURNING content", (psycopg2.Binary(big),))
        equal(bytes(cur.fetchone()[0]) == big, True)
        cur.execute("SELECT content FROM files WHERE name = 'big'")
        equal(bytes(cur.fetchone()[0]) == big, True)
    c.set_client_encoding("LATIN1")
    equal(one(c, "SELECT 'é' || chr(233)"), "éé")
    equal(one(c, "SHOW client_encoding"), "LATIN1")
    c.close()


@check
def large_objects():
    "large objects, read and written in a transaction"
    c = connect()
    with c:
        large = c.lobject(mode="wb")
        large.write(b"x" * 1_000_000)
        large.close()
    with c:
        equal(len(c.lobject(large.oid, "rb").read()), 1_000_000)
    with c:
        c.lobject(large.oid).unlink()
    c.close()


@check
def notifications():
    "notifications come to a connection that only waits"
    c, other = connect(autocommit=True), connect(autocommit=True)
    execute(c, "LISTEN psycopg2_channel")
    timer = threading.Timer(0.2, execute, (other, "NOTIFY psycopg2_channel, 'later'"))
    timer.start()
    equal(select.select([c], [], [], 20), ([c], [], []))
    c.poll()
    equal([n.payload for n in c.notifies], ["later"])
    timer.join()
    c.close()
    other.close()


@check
def cancels():
    "a cancel ends the connection's own statement alone"
    c, other = connect(autocommit=True), connect(autocommit=True, options="-c statement_timeout=100ms")
    timer = threading.Timer(0.2, c.cancel)
    timer.start()
    fails(extensions.QueryCanceledError, execute, c, "SELECT pg_sleep(30)")
    timer.join()
    equal(one(c, "SELECT 1"), 1)
    fails(errors.QueryCanceled, execute, other, "SELECT pg_sleep(30)")
    equal(one(other, "SELECT 1"), 1)
    c.close()
    other.close()


@check
def notices():
    "notices and the details of errors"
    c = connect(autocommit=True)
    execute(c, "DO $$ BEGIN RAISE NOTICE 'first'; RAISE WARNING 'second'; END $$")
    equal(c.notices, ["NOTICE:  first\n", "WARNING:  second\n"])
    e = fails(errors.CheckViolation, execute, c, "INSERT INTO items VALUES (-1)")
    equal((e.diag.constraint_name, e.diag.table_name, e.pgcode), ("positive", "items", "23514"))
    e = fails(errors.UndefinedTable, execute, c, "SELECT * FROM nowhere_at_all")
    equal(e.diag.statement_position, "15")
    c.close()


@check
def threads():
    "a pool that many threads share, and one connection that they share"
    pool = psycopg2.pool.ThreadedConnectionPool(1, 20, URL)
    shared = connect(autocommit=True)
    failed = []

    def work(k):
        try:
            for i in range(10):
                c = pool.getconn()
                with c:
                    execute(c, "CREATE TEMP TABLE mine (n int) ON COMMIT DROP")
                    execute(c, "INSERT INTO mine VALUES (%s)", (k * 100 + i,))
                    equal(one(c, "SELECT n FROM mine"), k * 100 + i)
                    equal(one(c, "SELECT pg_try_advisory_xact_lock(1, %s)", (k,)), True)
                pool.putconn(c)
                equal(one(shared, "SELECT %s::int FROM items LIMIT 1", (k,)), k)
        except BaseException as e:
            failed.append(e)

    all_of_them = [threading.Thread(target=work, args=(k,)) for k in range(15)]
    for t in all_of_them:
        t.start()
    for t in all_of_them:
        t.join()
    equal(failed, [])
    pool.closeall()
    shared.close()


@check
def restarts():
    "sessions outlive a restart of the primary"
    execute(c := connect(autocommit=True), "TRUNCATE items CASCADE")
    c.close()
    sessions = [connect(autocommit=k % 2 == 0, options="-c work_mem=7MB") for k in range(6)]

    def work(around):
        for k, c in enumerate(sessions):
            with c:
                execute(c, "INSERT INTO items VALUES (%s, 'around')", (10 * around + k,))
            equal(one(c, "SELECT s FROM items WHERE n = %s", (10 * around + k,)), "around")
            equal(one(c, "SELECT current_setting('work_mem') || current_setting('TimeZone') FROM items LIMIT 1"), "7MBAsia/Tokyo")
            if not c.autocommit:
                c.commit()

    for c in sessions:
        with c:
            execute(c, "SET TIME ZONE 'Asia/Tokyo'")
    work(0)
    restart()
    work(1)
    for c in sessions:
        c.close()


run()
