"""A program that uses SQLAlchemy, ORM and Core, with psycopg 3 and with asyncpg beneath it."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from decimal import Decimal

from sqlalchemy import ForeignKey, Identity, Numeric, String, create_engine, event, exc, func, insert, inspect, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload

from program import URL, check, equal, restart, run

ASYNC_URL = URL.replace("+psycopg:", "+asyncpg:")


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "items"
    n: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    s: Mapped[str | None]
    orders: Mapped[list["Order"]] = relationship(back_populates="the_item", cascade="all, delete-orphan")


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    item: Mapped[int] = mapped_column(ForeignKey("items.n"))
    amount: Mapped[Decimal] = mapped_column(Numeric(20, 3))
    tags: Mapped[list[str] | None] = mapped_column(ARRAY(String))
    details: Mapped[dict | None] = mapped_column(JSONB)
    placed: Mapped[datetime] = mapped_column(server_default=func.now())
    the_item: Mapped[Item] = relationship(back_populates="orders")


engine = create_engine(URL, pool_size=10, max_overflow=10, pool_pre_ping=True)


def fails(error, function, *args):
    try:
        function(*args)
    except error as e:
        return e
    raise AssertionError(f"no {error.__name__}")


@check
def reflection():
    "tables are read from the catalog"
    found = inspect(engine)
    equal([c["name"] for c in found.get_columns("orders")], ["id", "item", "amount", "tags", "details", "placed"])
    equal(found.get_pk_constraint("items")["constrained_columns"], ["n"])
    equal([f["referred_table"] for f in found.get_foreign_keys("orders")], ["items"])
    equal([c["name"] for c in found.get_check_constraints("items")], ["positive"])
    equal(engine.dialect.server_version_info >= (12,), True)


@check
def objects():
    "the unit of work writes in order and reads what it wrote"
    with Session(engine) as session:
        for n in range(200):
            item = Item(n=n, s=f"sak {n} ☃")
            item.orders = [Order(amount=Decimal("1234567890123.125") + k, tags=["a", "ö"], details={"k": [k, None]}) for k in range(3)]
            session.add(item)
        session.commit()
        # After the commit everything is expired: these are reads of a session that has just written.
        for n in range(0, 200, 10):
            item = session.get(Item, n)
            equal((item.s, len(item.orders)), (f"sak {n} ☃", 3))
            equal(item.orders[1].details, {"k": [1, None]})
            equal(item.orders[2].amount, Decimal("1234567890125.125"))
            equal(item.orders[0].tags, ["a", "ö"])
        item.s = None
        item.orders.pop()
        session.commit()
        equal(session.scalar(select(func.count()).select_from(Order)), 599)
        loaded = session.scalars(select(Item).options(selectinload(Item.orders)).order_by(Item.n).execution_options(populate_existing=True)).all()
        equal(sum(len(i.orders) for i in loaded), 599)
        equal(loaded[190].s, None)


@check
def savepoints():
    "errors end a savepoint, and the transaction goes on"
    with Session(engine) as session, session.begin():
        for n in (1000, 1, 1001, 2):
            try:
                with session.begin_nested():
                    session.add(Item(n=n, s="nested"))
            except exc.IntegrityError:
                pass
        equal(session.scalar(select(func.count()).where(Item.s == "nested")), 2)
    with Session(engine) as session:
        session.add(Item(n=1, s="twice"))
        fails(exc.IntegrityError, session.flush)
        fails(exc.PendingRollbackError, session.scalar, select(1))
        session.rollback()
        equal(session.scalar(select(func.count()).where(Item.s == "nested")), 2)


@check
def core():
    "inserts of many rows, RETURNING, upserts, server-side cursors"
    with engine.begin() as c:
        rows = c.execute(insert(Item).returning(Item.n, sort_by_parameter_order=True), [{"n": n, "s": "many"} for n in range(2000, 5000)]).all()
        equal([r.n for r in rows], list(range(2000, 5000)))
        statement = upsert(Item).values([{"n": n, "s": "upserted"} for n in range(4900, 5100)])
        c.execute(statement.on_conflict_do_update(index_elements=[Item.n], set_={"s": statement.excluded.s}))
        equal(c.execute(update(Item).where(Item.s == "upserted").values(s="updated")).rowcount, 200)
    with engine.connect().execution_options(yield_per=250) as c:
        got = [n for part in c.execute(select(Item.n).where(Item.n >= 2000).order_by(Item.n)).partitions() for (n,) in part]
        equal(got, list(range(2000, 5100)))


@check
def isolation():
    "isolation levels, by engine and by connection, go and come with the pool"
    serializable = engine.execution_options(isolation_level="SERIALIZABLE")
    autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
    for _ in range(10):
        with serializable.connect() as c:
            equal(c.scalar(text("SHOW transaction_isolation")), "serializable")
            equal(c.scalar(select(func.count()).where(Item.n == 1)), 1)
        with autocommit.connect() as c:
            equal(c.scalar(text("SELECT pg_current_xact_id_if_assigned() IS NULL FROM items LIMIT 1")), True)
            c.execute(text("VACUUM items"))
        with engine.connect() as c:
            equal(c.scalar(text("SHOW transaction_isolation")), "read committed")
            equal(c.scalar(select(func.count()).where(Item.n == 1)), 1)
    with engine.connect().execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True) as c:
        equal(c.scalar(select(func.count()).where(Item.n == 1)), 1)
        fails(exc.DBAPIError, c.execute, insert(Item).values(n=9999))


@check
def threads():
    "many threads share the pool, each session sees its own writes"

    def work(k):
        for i in range(10):
            with Session(engine) as session:
                session.add(Item(n=10000 + 100 * k + i, s=str(k)))
                session.commit()
                equal(session.scalar(select(Item.s).where(Item.n == 10000 + 100 * k + i)), str(k))

    with ThreadPoolExecutor(20) as threads:
        list(threads.map(work, range(20)))


@check
async def asynchronous():
    "the same with asyncpg beneath, its statements prepared and cached"
    async_engine = create_async_engine(ASYNC_URL, pool_size=10, pool_pre_ping=True)

    async def work(k):
        for i in range(10):
            async with AsyncSession(async_engine) as session:
                session.add(Item(n=20000 + 100 * k + i, s=str(k), orders=[Order(amount=k, tags=[str(i)], details={"i": i})]))
                await session.commit()
                item = await session.get(Item, 20000 + 100 * k + i, options=[selectinload(Item.orders)], populate_existing=True)
                equal([(o.amount, o.tags, o.details) for o in item.orders], [(Decimal(k), [str(i)], {"i": i})])

    await asyncio.gather(*(work(k) for k in range(20)))
    async with async_engine.connect() as c:
        total = 0
        async for (n,) in await c.stream(select(Item.n).where(Item.n >= 20000)):
            total += 1
        equal(total, 200)
    async with async_engine.connect() as c:
        try:
            await c.execute(text("SELECT 1/0"))
            raise AssertionError("no error")
        except exc.DBAPIError as e:
            equal(e.orig.sqlstate, "22012")
        await c.rollback()
        # A change of the table under a cached statement: PostgreSQL refuses its plan once, and SQLAlchemy drops what it has cached.
        for column in ("", "ADD COLUMN later int", "DROP COLUMN later"):
            if column:
                await c.execute(text(f"ALTER TABLE files {column}"))
                await c.commit()
                try:
                    await c.execute(text("SELECT * FROM files FOR SHARE"))
                except exc.NotSupportedError as e:
                    equal("cached statement plan is invalid" in str(e), True)
                await c.rollback()
            equal((await c.execute(text("SELECT * FROM files FOR SHARE"))).all(), [])
            await c.commit()
    await async_engine.dispose()


@check
async def restarts():
    "sessions, and pools of both drivers, outlive a restart of the primary"
    reconnected = []
    event.listen(engine, "connect", lambda *_: reconnected.append(1))
    async_engine = create_async_engine(ASYNC_URL)  # without a ping: it must not be needed
    sessions = [Session(engine) for _ in range(5)]
    connections = [await async_engine.connect() for _ in range(3)]

    async def work(around):
        for k, session in enumerate(sessions):
            session.add(Item(n=30000 + 100 * around + k, s="around"))
            session.commit()
            equal(session.scalar(select(Item.s).where(Item.n == 30000 + 100 * around + k)), "around")
            session.commit()
        for k, c in enumerate(connections):
            await c.execute(insert(Item).values(n=31000 + 100 * around + k, s="around"))
            await c.commit()
            equal(await c.scalar(select(Item.s).where(Item.n == 31000 + 100 * around + k)), "around")
            await c.commit()

    await work(0)
    before = len(reconnected)
    restart()
    await work(1)
    equal(len(reconnected), before)
    for session in sessions:
        session.close()
    for c in connections:
        await c.close()
    await async_engine.dispose()


run()
