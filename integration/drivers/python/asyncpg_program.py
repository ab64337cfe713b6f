"""A program that uses asyncpg for all it can do. asyncpg speaks the extended protocol alone, all values binary."""

import asyncio
import io
import json
from datetime import datetime, timezone
from decimal import Decimal

import asyncpg

from program import REPLICAS, URL, check, equal, restart, run

ROWS = 1000


async def connect(**options):
    return await asyncpg.connect(URL, **options)


async def table(name, columns):
    """Creates a table anew, on a connection of its own, and waits until the replicas have it: other sessions may read there."""
    c = await connect(server_settings={"client_min_messages": "warning"})
    await c.execute(f"DROP TABLE IF EXISTS {name}; CREATE TABLE {name} ({columns})")
    position = await c.fetchval("SELECT pg_current_wal_lsn()::text")
    await c.close()
    for port in REPLICAS:
        c = await connect(port=port)
        while not await c.fetchval("SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", position):
            await asyncio.sleep(0.005)
        await c.close()


async def fails(error, awaitable):
    try:
        await awaitable
    except error as e:
        return e
    raise AssertionError(f"no {error.__name__}")


@check
async def own_writes():
    "a read after a write is never stale"
    await table("asyncpg_own", "n int PRIMARY KEY")
    c = await connect()
    for n in range(ROWS):
        await c.execute("INSERT INTO asyncpg_own VALUES ($1)", n)
        equal(await c.fetchval("SELECT n FROM asyncpg_own WHERE n = $1", n), n)
    for n in range(ROWS, 2 * ROWS):
        async with c.transaction():
            await c.execute("INSERT INTO asyncpg_own VALUES ($1)", n)
        equal(await c.fetchval("SELECT count(*) FROM asyncpg_own"), n + 1)
    await c.close()


@check
async def transactions():
    "transactions commit, roll back, nest and end after an error"
    await table("asyncpg_tx", "n int UNIQUE")
    c = await connect()
    async with c.transaction():
        await c.execute("INSERT INTO asyncpg_tx VALUES (1)")
        async with c.transaction():
            await c.execute("INSERT INTO asyncpg_tx VALUES (2)")
    outer = c.transaction()
    await outer.start()
    await c.execute("INSERT INTO asyncpg_tx VALUES (3)")
    inner = c.transaction()
    await inner.start()
    await fails(asyncpg.UniqueViolationError, c.execute("INSERT INTO asyncpg_tx VALUES (1)"))
    await fails(asyncpg.InFailedSQLTransactionError, c.fetch("SELECT 1"))
    await inner.rollback()
    equal(await c.fetchval("SELECT count(*) FROM asyncpg_tx"), 3)
    await outer.rollback()
    equal(await c.fetchval("SELECT count(*) FROM asyncpg_tx"), 2)
    for isolation in ("read_committed", "repeatable_read", "serializable"):
        async with c.transaction(isolation=isolation, readonly=True):
            equal(await c.fetchval("SELECT count(*) FROM asyncpg_tx"), 2)
        async with c.transaction(isolation=isolation):
            await c.execute("UPDATE asyncpg_tx SET n = n + 10")

    async def write():
        async with c.transaction(readonly=True):
            await c.fetchval("SELECT count(*) FROM asyncpg_tx")
            await c.execute("INSERT INTO asyncpg_tx VALUES (9)")

    await fails(asyncpg.ReadOnlySQLTransactionError, write())
    async with c.transaction(isolation="serializable", readonly=True, deferrable=True):
        equal(await c.fetchval("SELECT min(n) FROM asyncpg_tx"), 31)
    await c.close()


@check
async def prepared_statements():
    "statements are prepared, evicted, and prepared again"
    await table("asyncpg_prepared", "n int, s text")
    c = await connect(statement_cache_size=5)
    kept = await c.prepare("SELECT count(*) FROM asyncpg_prepared WHERE n = $1")
    for i in range(300):
        k = i % 12
        equal(await c.fetchval(f"SELECT {k} + $1::int", i), k + i)
        await c.execute(f"INSERT INTO asyncpg_prepared VALUES ($1, 'n{k}')", i)
        equal(await kept.fetchval(i), 1)
    equal([a.name for a in kept.get_attributes()], ["count"])
    equal([p.name for p in kept.get_parameters()], ["int4"])
    equal(tuple(await c.fetchrow("SELECT * FROM asyncpg_prepared WHERE n = $1", 1)), (1, "n1"))
    await c.execute("ALTER TABLE asyncpg_prepared ADD COLUMN b boolean DEFAULT true")
    equal(tuple(await c.fetchrow("SELECT * FROM asyncpg_prepared WHERE n = $1", 1)), (1, "n1", True))
    await c.close()


@check
async def pool():
    "a pool of many clients, reset at each release"
    await table("asyncpg_many", "n int")
    async with asyncpg.create_pool(URL, min_size=30, max_size=30) as clients:

        async def client(k):
            for i in range(20):
                async with clients.acquire() as c:
                    equal(await c.fetchval("SELECT $1::int + count(*)::int FROM asyncpg_many WHERE n < 0", i), i)
                    await c.execute("INSERT INTO asyncpg_many VALUES ($1)", k)
                    # The session is another one than that of the insert before, but its own insert is there.
                    if await c.fetchval("SELECT count(*) FROM asyncpg_many WHERE n = $1", k) < 1:
                        raise AssertionError("the insert is not there")
                    await c.execute("SET application_name = 'mine'")

        await asyncio.gather(*(client(k) for k in range(60)))
        equal(await clients.fetchval("SHOW application_name"), "")
    c = await connect()
    equal(await c.fetchval("SELECT count(*) FROM (SELECT * FROM asyncpg_many FOR SHARE) all_of_them"), 60 * 20)
    await c.close()


@check
async def batches():
    "executemany is one pipeline: all rows or none"
    await table("asyncpg_batch", "n int PRIMARY KEY, s text")
    c = await connect()
    await c.executemany("INSERT INTO asyncpg_batch VALUES ($1, $2)", [(n, "x" * 200) for n in range(5000)])
    equal(await c.fetchval("SELECT count(*) FROM asyncpg_batch"), 5000)
    await fails(asyncpg.UniqueViolationError, c.executemany("INSERT INTO asyncpg_batch VALUES ($1, $2)", [(n, "y") for n in (6000, 6001, 1, 6002)]))
    equal(await c.fetchval("SELECT count(*) FROM asyncpg_batch"), 5000)
    rows = await c.fetchmany("SELECT $1::int + n FROM asyncpg_batch WHERE n = $1", [(n,) for n in range(100)])
    equal([r[0] for r in rows], [2 * n for n in range(100)])
    await c.close()


@check
async def copies():
    "COPY works both ways and leaves nothing when it fails"
    await table("asyncpg_copied", "n int PRIMARY KEY, s text")
    c = await connect()
    equal(await c.copy_records_to_table("asyncpg_copied", records=((n, f"row {n}") for n in range(20000))), "COPY 20000")
    text = "".join(f"{n}\ttext\n" for n in range(20000, 30000)).encode()
    equal(await c.copy_to_table("asyncpg_copied", source=io.BytesIO(text)), "COPY 10000")
    out = io.BytesIO()
    await c.copy_from_query("SELECT * FROM asyncpg_copied WHERE n >= $1 ORDER BY n", 20000, output=out)
    equal(out.getvalue(), text)
    await fails(asyncpg.UniqueViolationError, c.copy_records_to_table("asyncpg_copied", records=((n % 40000 + 30000, "x") for n in range(100000))))

    async def enough():
        yield b"50000\tx\n" * 1
        raise KeyError("enough")

    await fails(KeyError, c.copy_to_table("asyncpg_copied", source=enough()))
    equal(await c.fetchval("SELECT count(*) FROM asyncpg_copied"), 30000)
    await c.close()


@check
async def errors_of_servers():
    "errors come with their details, and the session goes on"
    await table("asyncpg_errors", "n int CONSTRAINT positive CHECK (n > 0)")
    c = await connect()
    e = await fails(asyncpg.CheckViolationError, c.execute("INSERT INTO asyncpg_errors VALUES ($1)", -1))
    equal((e.constraint_name, e.table_name, e.severity), ("positive", "asyncpg_errors", "ERROR"))
    e = await fails(asyncpg.PostgresSyntaxError, c.fetch("SELECT 1 FRM x"))
    equal(e.position, "14")
    await fails(asyncpg.UndefinedTableError, c.fetch("SELECT * FROM asyncpg_nowhere"))
    await fails(asyncpg.DivisionByZeroError, c.fetch("SELECT 1 / $1::int", 0))
    await fails(asyncpg.DivisionByZeroError, c.execute("SELECT 1; SELECT 1/0; SELECT 2"))
    logged = []
    c.add_log_listener(lambda _, message: logged.append(message.message))
    await c.execute("DO $$ BEGIN RAISE NOTICE 'yes'; END $$")
    await asyncio.sleep(0)
    equal(logged, ["yes"])
    equal(await c.fetchval("SELECT 1"), 1)
    await c.close()


@check
async def cancels():
    "a timeout cancels the client's own statement alone"
    c, other = await connect(), await connect()
    for _ in range(3):
        await fails(asyncio.TimeoutError, c.fetch("SELECT pg_sleep(30)", timeout=0.2))
        equal(await c.fetchval("SELECT 1"), 1)
    task = asyncio.create_task(c.fetch("SELECT pg_sleep(30)"))
    await asyncio.sleep(0.2)
    task.cancel()
    await fails(asyncio.CancelledError, task)
    equal(await c.fetchval("SELECT 1"), 1)
    equal(await other.fetchval("SELECT 1"), 1)
    await c.close()
    await other.close()


@check
async def notifications():
    "notifications arrive while the client is idle"
    c, other = await connect(), await connect()
    heard = asyncio.Queue()
    await c.add_listener("asyncpg_channel", lambda _c, _pid, _channel, payload: heard.put_nowait(payload))
    await other.execute("NOTIFY asyncpg_channel, 'first'")
    equal(await asyncio.wait_for(heard.get(), 20), "first")
    async with other.transaction():
        for i in range(5):
            await other.execute("SELECT pg_notify('asyncpg_channel', $1)", str(i))
    equal([await asyncio.wait_for(heard.get(), 20) for _ in range(5)], ["0", "1", "2", "3", "4"])
    equal(await c.fetchval("SELECT 1"), 1)
    await c.reset_query_listeners() if hasattr(c, "reset_query_listeners") else None
    await c.close()
    await other.close()


@check
async def cursors():
    "portals are read in pieces, several at a time"
    c = await connect()
    async with c.transaction():
        total = 0
        async for row in c.cursor("SELECT generate_series(1, $1::int) AS n", 1000, prefetch=70):
            total += row["n"]
        equal(total, 500500)
        a, b = await c.cursor("SELECT generate_series(1, 100)"), await c.cursor("SELECT generate_series(101, 200)")
        for i in range(10):
            equal([r[0] for r in await a.fetch(10)], list(range(10 * i + 1, 10 * i + 11)))
            equal([r[0] for r in await b.fetch(10)], list(range(10 * i + 101, 10 * i + 111)))
        cur = await c.cursor("SELECT generate_series(1, 100)")
        equal(await cur.forward(50), 50)
        equal((await cur.fetchrow())[0], 51)
    await c.close()


@check
async def values():
    "values of many types, found out by introspection, come back as they went in"
    c = await connect()
    await c.execute("DROP TYPE IF EXISTS asyncpg_pair; CREATE TYPE asyncpg_pair AS (n int, s text)")
    now = datetime(2026, 2, 28, 12, 30, 15, 123456, timezone.utc)
    sent = (1, 2**60, Decimal("12345678901234567890.123"), 1.25, "ünïcödé \\ ' \x01", b"\x00\xff" * 100, [1, None, 3], now, True, None)
    got = await c.fetchrow("SELECT $1::int, $2::bigint, $3::numeric, $4::float8, $5::text, $6::bytea, $7::int[], $8::timestamptz, $9::bool, $10::text", *sent)
    equal(tuple(got), sent)
    equal(tuple(await c.fetchval("SELECT (1, 'x')::asyncpg_pair")), (1, "x"))
    equal([tuple(p) for p in await c.fetchval("SELECT $1::asyncpg_pair[]", [(1, "x"), (2, None)])], [(1, "x"), (2, None)])
    await c.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    equal(await c.fetchval("SELECT $1::jsonb", {"a": [1, None]}), {"a": [1, None]})
    big = "x" * 5_000_000
    equal(await c.fetchval("SELECT $1::text", big), big)
    await c.close()


@check
async def settings():
    "settings stay with their session, and go with its reset"
    c, other = await connect(), await connect(server_settings={"work_mem": "7MB"})
    await c.execute("SET work_mem = '9MB'")
    for _ in range(20):
        equal(await c.fetchval("SELECT current_setting('work_mem') FROM pg_class LIMIT 1"), "9MB")
        equal(await other.fetchval("SELECT current_setting('work_mem') FROM pg_class LIMIT 1"), "7MB")
    await c.reset()
    equal(await c.fetchval("SHOW work_mem") != "9MB", True)
    await other.reset()
    equal(await other.fetchval("SHOW work_mem"), "7MB")
    await c.close()
    await other.close()


@check
async def restarts():
    "sessions outlive a restart of the primary"
    await table("asyncpg_restart", "n int PRIMARY KEY, s text")
    sessions = [await connect(server_settings={"work_mem": "7MB"}) for _ in range(5)]
    kept = [await c.prepare("SELECT s FROM asyncpg_restart WHERE n = $1") for c in sessions]

    async def work(around, k, c):
        n = 10 * around + k
        async with c.transaction():
            await c.execute("INSERT INTO asyncpg_restart VALUES ($1, $2)", n, "around")
        equal(await kept[k].fetchval(n), "around")
        async with c.transaction(readonly=True):
            equal([r["s"] async for r in c.cursor("SELECT s FROM asyncpg_restart WHERE n = $1", n)], ["around"])
        equal(await c.fetchval("SELECT current_setting('work_mem') FROM asyncpg_restart LIMIT 1"), "7MB")

    await asyncio.gather(*(work(0, k, c) for k, c in enumerate(sessions)))
    await asyncio.to_thread(restart)
    await asyncio.gather(*(work(1, k, c) for k, c in enumerate(sessions)))
    for c in sessions:
        await c.close()


run()
