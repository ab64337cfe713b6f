"""A program that uses psycopg 3 for all it can do."""

import asyncio
import threading
import time
from datetime import datetime, timezone
from decimal import Decimal

import psycopg
from psycopg import errors
from psycopg.types.json import Jsonb

from program import REPLICAS, URL, check, equal, restart, run

ROWS = 1000


def connect(**options):
    return psycopg.connect(URL, **options)


def table(name, columns):
    """Creates a table anew, on a connection of its own, and waits until the replicas have it: other sessions may read there."""
    with connect(autocommit=True) as c:
        c.execute("SET client_min_messages = warning")
        c.execute(f"DROP TABLE IF EXISTS {name}")
        c.execute(f"CREATE TABLE {name} ({columns})")
        position = one(c, "SELECT pg_current_wal_lsn()::text")
    for port in REPLICAS:
        with connect(autocommit=True, port=port) as c:
            while not one(c, "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", (position,)):
                time.sleep(0.005)


def one(c, sql, args=None, **options):
    return c.execute(sql, args, **options).fetchone()[0]


def fails(error, function, *args):
    try:
        function(*args)
    except error as e:
        return e
    raise AssertionError(f"no {error.__name__}")


@check
def own_writes():
    "a read after a write is never stale"
    table("psycopg_own", "n int PRIMARY KEY")
    with connect(autocommit=True) as c:
        for n in range(ROWS):
            c.execute("INSERT INTO psycopg_own VALUES (%s)", (n,))
            row = c.execute("SELECT n FROM psycopg_own WHERE n = %s", (n,)).fetchone()
            if row is None:
                raise AssertionError(f"insert {n} is not there")
    with connect() as c:  # each pair in two transactions
        for n in range(ROWS, 2 * ROWS):
            c.execute("INSERT INTO psycopg_own VALUES (%s)", (n,))
            c.commit()
            equal(one(c, "SELECT count(*) FROM psycopg_own"), n + 1)
            c.commit()


@check
def transactions():
    "transactions commit, roll back, nest and end after an error"
    table("psycopg_tx", "n int UNIQUE")
    with connect() as c:
        with c.transaction():
            c.execute("INSERT INTO psycopg_tx VALUES (1)")
            with c.transaction():
                c.execute("INSERT INTO psycopg_tx VALUES (2)")
        with c.transaction(force_rollback=True):
            c.execute("INSERT INTO psycopg_tx VALUES (3)")
        with c.transaction():
            c.execute("INSERT INTO psycopg_tx VALUES (4)")

            def nested():
                with c.transaction():
                    c.execute("INSERT INTO psycopg_tx VALUES (5), (1)")

            fails(errors.UniqueViolation, nested)
            equal(one(c, "SELECT count(*) FROM psycopg_tx"), 3)
        fails(errors.DivisionByZero, c.execute, "SELECT 1/0")
        fails(errors.InFailedSqlTransaction, c.execute, "SELECT 1")
        equal(c.info.transaction_status, psycopg.pq.TransactionStatus.INERROR)
        c.rollback()
        equal([n for (n,) in c.execute("SELECT n FROM psycopg_tx ORDER BY n")], [1, 2, 4])
        c.commit()
        c.read_only = True
        c.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        equal(one(c, "SELECT count(*) FROM psycopg_tx"), 3)
        fails(errors.ReadOnlySqlTransaction, c.execute, "INSERT INTO psycopg_tx VALUES (6)")
        c.rollback()
        c.read_only = None
        c.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        with c.transaction():
            c.execute("INSERT INTO psycopg_tx VALUES (7)")
        equal(one(c, "SELECT max(n) FROM psycopg_tx"), 7)


@check
def two_phases():
    "a prepared transaction commits from another connection"
    table("psycopg_2pc", "n int")
    c = connect()
    c.tpc_begin(c.xid(1, "fairway", "psycopg"))
    c.execute("INSERT INTO psycopg_2pc VALUES (1)")
    c.tpc_prepare()
    c.close()
    with connect() as c:
        found = [x for x in c.tpc_recover() if x.gtrid == "fairway"]
        equal(len(found), 1)
        c.rollback()  # ends the transaction that tpc_recover has begun
        c.tpc_commit(found[0])
        equal(one(c, "SELECT count(*) FROM psycopg_2pc"), 1)


@check
def prepared_statements():
    "statements are prepared, evicted, and prepared again"
    table("psycopg_prepared", "n int, s text")
    with connect(autocommit=True, prepare_threshold=0) as c:
        c.prepared_max = 5
        for i in range(300):
            k = i % 12
            equal(one(c, f"SELECT {k} + %s::int", (i,)), k + i)
            c.execute(f"INSERT INTO psycopg_prepared VALUES (%s, 'n{k}')", (i,))
        equal(one(c, "SELECT count(*) FROM psycopg_prepared"), 300)
        # The same text with parameters of other types is another statement.
        for v, name in ((1, "smallint"), (1.5, "double precision"), (10**12, "bigint"), (10**5, "integer"), (True, "boolean"), (b"x", "bytea")):
            equal(one(c, "SELECT pg_typeof(%s)::text", (v,)), name)
        # A change of the table changes what the statement returns.
        equal(c.execute("SELECT * FROM psycopg_prepared WHERE n = %s", (1,)).fetchone(), (1, "n1"))
        c.execute("ALTER TABLE psycopg_prepared ADD COLUMN b boolean DEFAULT true")
        equal(c.execute("SELECT * FROM psycopg_prepared WHERE n = %s", (1,)).fetchone(), (1, "n1", True))


@check
def many_clients_prepare():
    "many clients prepare the same statements on few servers"
    table("psycopg_many", "n int")
    failed = []

    def client(k):
        try:
            with connect(autocommit=True, prepare_threshold=0) as c:
                for i in range(40):
                    equal(one(c, "SELECT %s::int + count(*)::int FROM psycopg_many WHERE n < 0", (i,)), i)
                    c.execute("INSERT INTO psycopg_many VALUES (%s)", (k,))
                    equal(one(c, "SELECT count(*) FROM psycopg_many WHERE n = %s", (k,)), i + 1)
        except BaseException as e:
            failed.append(e)

    clients = [threading.Thread(target=client, args=(k,)) for k in range(30)]
    for c in clients:
        c.start()
    for c in clients:
        c.join()
    equal(failed, [])


@check
def pipelines():
    "pipelines keep their order, and one error ends its segment alone"
    table("psycopg_piped", "n int PRIMARY KEY")
    with connect(autocommit=True) as c:
        with c.pipeline():
            cursors = []
            for n in range(500):
                c.execute("INSERT INTO psycopg_piped VALUES (%s)", (n,))
                cursors.append(c.execute("SELECT count(*) FROM psycopg_piped"))
        equal([cur.fetchone()[0] for cur in cursors], list(range(1, 501)))

        def bad():
            with c.pipeline() as p:
                c.execute("INSERT INTO psycopg_piped VALUES (1000)")
                p.sync()
                c.execute("INSERT INTO psycopg_piped VALUES (1001)")
                c.execute("INSERT INTO psycopg_piped VALUES (1)")
                c.execute("INSERT INTO psycopg_piped VALUES (1002)")

        fails(errors.UniqueViolation, bad)
        equal(one(c, "SELECT count(*) FROM psycopg_piped WHERE n >= 1000"), 1)
        with c.pipeline(), c.transaction():
            c.execute("DELETE FROM psycopg_piped WHERE n >= 100")
        equal(one(c, "SELECT count(*) FROM psycopg_piped"), 100)
        c.cursor().executemany("INSERT INTO psycopg_piped VALUES (%s)", [(n,) for n in range(2000, 4000)])
        equal(one(c, "SELECT count(*) FROM psycopg_piped"), 2100)


@check
def copies():
    "COPY works both ways, as text and binary, and leaves nothing when it fails"
    table("psycopg_copied", "n int PRIMARY KEY, s text")
    with connect(autocommit=True) as c:
        with c.cursor() as cur:
            with cur.copy("COPY psycopg_copied FROM STDIN") as copy:
                for n in range(20000):
                    copy.write_row((n, f"row {n}\t\\"))
            with cur.copy("COPY psycopg_copied FROM STDIN (FORMAT binary)") as copy:
                copy.set_types(["int4", "text"])
                for n in range(20000, 30000):
                    copy.write_row((n, "binary"))
            with cur.copy("COPY (SELECT * FROM psycopg_copied WHERE n < 20000 ORDER BY n) TO STDOUT") as copy:
                rows = [(int(n), s) for n, s in copy.rows()]
            equal(len(rows), 20000)
            equal(rows[777], (777, "row 777\t\\"))

            def give_up():
                with cur.copy("COPY psycopg_copied FROM STDIN") as copy:
                    for n in range(50000, 60000):
                        copy.write_row((n, "x"))
                    raise KeyError("enough")

            fails(KeyError, give_up)

            def twice():
                with cur.copy("COPY psycopg_copied FROM STDIN") as copy:
                    for n in range(60000, 160000):
                        copy.write_row((n % 70000, "x"))

            fails(errors.UniqueViolation, twice)

            def stop_reading():
                with cur.copy("COPY (SELECT generate_series(1, 1000000)) TO STDOUT") as copy:
                    for _ in copy:
                        raise KeyError("enough")

            fails(KeyError, stop_reading)
        equal(one(c, "SELECT count(*) FROM psycopg_copied"), 30000)


@check
def errors_of_servers():
    "errors come with their details, and the session goes on"
    table("psycopg_errors", "n int CONSTRAINT positive CHECK (n > 0)")
    with connect(autocommit=True) as c:
        e = fails(errors.CheckViolation, c.execute, "INSERT INTO psycopg_errors VALUES (%s)", (-1,))
        equal((e.diag.constraint_name, e.diag.table_name, e.diag.severity), ("positive", "psycopg_errors", "ERROR"))
        e = fails(errors.SyntaxError, c.execute, "SELECT 1 FRM x")
        equal(e.diag.statement_position, "14")
        fails(errors.UndefinedTable, c.execute, "SELECT * FROM psycopg_nowhere")
        fails(errors.InvalidTextRepresentation, c.execute, "SELECT %s::int", ("x",))
        fails(errors.RaiseException, c.execute, "DO $$ BEGIN RAISE EXCEPTION 'no'; END $$")
        notices = []
        c.add_notice_handler(lambda d: notices.append(d.message_primary))
        c.execute("DO $$ BEGIN RAISE NOTICE 'yes'; END $$")
        equal(notices, ["yes"])
        equal(one(c, "SELECT 1"), 1)


@check
def cancels():
    "a cancel ends the client's own statement alone"
    with connect(autocommit=True) as c, connect(autocommit=True) as other:
        for way in (c.cancel, c.cancel_safe):
            timer = threading.Timer(0.3, way)
            timer.start()
            fails(errors.QueryCanceled, c.execute, "SELECT pg_sleep(30)")
            timer.join()
            equal(one(c, "SELECT 1"), 1)
        c.cancel_safe()  # nothing runs: nobody is hit
        equal(one(other, "SELECT 1 FROM pg_sleep(0.1)"), 1)
        c.execute("SET statement_timeout = '100ms'")
        fails(errors.QueryCanceled, c.execute, "SELECT pg_sleep(30)")


@check
def notifications():
    "notifications arrive, also while the client is idle"
    with connect(autocommit=True) as c, connect(autocommit=True) as other:
        c.execute("LISTEN psycopg_channel")
        timer = threading.Timer(0.3, other.execute, ("NOTIFY psycopg_channel, 'later'",))
        timer.start()
        equal([n.payload for n in c.notifies(timeout=20, stop_after=1)], ["later"])
        timer.join()
        with other.transaction():
            for i in range(5):
                other.execute("SELECT pg_notify('psycopg_channel', %s)", (str(i),))
        equal([n.payload for n in c.notifies(timeout=20, stop_after=5)], ["0", "1", "2", "3", "4"])
        c.execute("UNLISTEN *")


@check
def cursors():
    "server-side cursors are read in pieces, and WITH HOLD outlives its transaction"
    with connect() as c:
        with c.cursor("pieces") as cur:
            cur.itersize = 100
            cur.execute("SELECT generate_series(1, 1000)")
            equal(sum(n for (n,) in cur), 500500)
        c.commit()
        with c.cursor("scrolls", scrollable=True, withhold=True) as cur:
            cur.execute("SELECT generate_series(1, 1000)")
            equal(len(cur.fetchmany(10)), 10)
            c.commit()
            cur.scroll(989)
            equal(cur.fetchone()[0], 1000)
        c.rollback()
        equal(sum(n for (n,) in c.cursor().stream("SELECT generate_series(1, 1000)")), 500500)


@check
def values():
    "values of many types come back as they went in, as text and binary"
    now = datetime(2026, 2, 28, 12, 30, 15, 123456, timezone.utc)
    sent = (1, 2**60, Decimal("12345678901234567890.123"), 1.25, "ünïcödé \\ ' \x01", b"\x00\xff" * 100, [1, None, 3], now, True, None)
    with connect(autocommit=True) as c:
        for binary in (False, True):
            with c.cursor(binary=binary) as cur:
                cur.execute("SELECT %s::int, %s::bigint, %s::numeric, %s::float8, %s::text, %s::bytea, %s::int[], %s::timestamptz, %s::bool, %s::text", sent)
                equal(cur.fetchone(), sent)
                cur.execute("SELECT %b", (Jsonb({"a": [1, {"b": None}]}),))
                equal(cur.fetchone(), ({"a": [1, {"b": None}]},))
        big = "x" * 5_000_000
        equal(one(c, "SELECT %s", (big,)), big)


@check
def settings():
    "settings stay with their session"
    with connect(autocommit=True) as c, connect(autocommit=True, options="-c work_mem=7MB") as other:
        c.execute("SET work_mem = '9MB'")
        c.execute("SET TIME ZONE 'Asia/Tokyo'")
        for _ in range(20):
            equal(one(c, "SELECT current_setting('work_mem') FROM pg_class LIMIT 1"), "9MB")
            equal(one(other, "SELECT current_setting('work_mem') FROM pg_class LIMIT 1"), "7MB")
        equal(c.info.parameter_status("TimeZone"), "Asia/Tokyo")
        equal(other.info.parameter_status("TimeZone") != "Asia/Tokyo", True)
        c.execute("RESET ALL")
        equal(one(c, "SHOW work_mem") != "9MB", True)


@check
async def asynchronous():
    "many asynchronous connections at once"
    async def client(k):
        async with await psycopg.AsyncConnection.connect(URL, autocommit=True) as c:
            async with c.transaction():
                await c.execute("CREATE TEMP TABLE psycopg_temp (n int) ON COMMIT DROP")
                await c.execute("INSERT INTO psycopg_temp VALUES (%s)", (k,))
                cur = await c.execute("SELECT n FROM psycopg_temp")
                equal(await cur.fetchall(), [(k,)])
            cur = await c.execute("SELECT %s::int", (k,))
            return (await cur.fetchone())[0]

    equal(await asyncio.gather(*(client(k) for k in range(60))), list(range(60)))


@check
def restarts():
    "sessions outlive a restart of the primary"
    table("psycopg_restart", "n int PRIMARY KEY, s text")
    sessions = [connect(prepare_threshold=0, options="-c work_mem=7MB") for _ in range(5)]

    def work(around):
        for k, c in enumerate(sessions):
            with c.transaction():
                c.execute("INSERT INTO psycopg_restart VALUES (%s, %s)", (10 * around + k, "around"))
            with c.transaction():
                equal(one(c, "SELECT s FROM psycopg_restart WHERE n = %s", (10 * around + k,)), "around")
            with c.transaction(), c.pipeline():
                cur = c.execute("SELECT current_setting('work_mem'), current_setting('TimeZone') FROM psycopg_restart LIMIT 1")
            equal(cur.fetchone(), ("7MB", "Asia/Tokyo"))

    for c in sessions:
        c.execute("SET TIME ZONE 'Asia/Tokyo'")
        c.commit()
    work(0)
    restart()
    work(1)
    for c in sessions:
        c.close()


run()
