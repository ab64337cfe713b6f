// A program that uses node-postgres: a pool, named statements, pg-cursor (portals read in pieces) and pg-query-stream.
"use strict";

const assert = require("node:assert/strict");
const readline = require("node:readline");
const { Client, Pool } = require("pg");
const Cursor = require("pg-cursor");
const QueryStream = require("pg-query-stream");

process.noDeprecation = true; // a client's queue of queries still has its users
const url = process.argv[2];
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const checks = [];

function check(name, run) {
  checks.push({ name, run });
}

async function connect(options) {
  const client = new Client({ connectionString: url, ...options });
  await client.connect();
  return client;
}

// using gives a client to a function and closes it.
async function using(run, options) {
  const client = await connect(options);
  try {
    return await run(client);
  } finally {
    await client.end();
  }
}

async function one(client, text, values) {
  return Object.values((await client.query(text, values)).rows[0])[0];
}

async function fails(code, promise) {
  await assert.rejects(promise, (e) => {
    assert.equal(e.code, code, e.stack);
    return true;
  });
}

check("a read after a write is never stale", () =>
  using(async (c) => {
    for (let n = 0; n < 1000; n++) {
      await c.query("INSERT INTO own VALUES ($1)", [n]);
      assert.equal(await one(c, { name: "own", text: "SELECT n FROM own WHERE n = $1", values: [n] }), n);
    }
  }));

check("queries queued on one client, their errors among them", () =>
  using(async (c) => {
    const results = await Promise.allSettled(
      Array.from({ length: 200 }, (_, n) => one(c, n % 50 === 7 ? "SELECT 1 / ($1::int - $1::int)" : "SELECT $1::int", [n])),
    );
    results.forEach((r, n) => (n % 50 === 7 ? assert.equal(r.reason.code, "22012") : assert.equal(r.value, n)));
    const several = await c.query("INSERT INTO items VALUES (1, 'a'); SELECT s FROM items; DELETE FROM items");
    assert.deepEqual(several.map((r) => [r.command, r.rowCount]), [["INSERT", 1], ["SELECT", 1], ["DELETE", 1]]);
    await fails("22012", c.query("INSERT INTO items VALUES (2, 'b'); SELECT 1/0"));
    assert.equal(await one(c, "SELECT count(*)::int FROM items"), 0);
  }));

check("transactions on a client of a pool, and their errors", async () => {
  const pool = new Pool({ connectionString: url, max: 20 });
  const insert = { name: "insert item", text: "INSERT INTO items VALUES ($1, $2)" };
  const transaction = async (n) => {
    const c = await pool.connect();
    try {
      await c.query("BEGIN");
      await c.query({ ...insert, values: [n, `rad ${n} ☃`] });
      await c.query("SAVEPOINT s");
      await fails("23505", c.query({ ...insert, values: [n, "twice"] }));
      await fails("25P02", c.query("SELECT 1"));
      await c.query("ROLLBACK TO SAVEPOINT s");
      assert.equal(await one(c, { name: "read item", text: "SELECT s FROM items WHERE n = $1", values: [n] }), `rad ${n} ☃`);
      await c.query("COMMIT");
      assert.equal(await one(c, { name: "read item", text: "SELECT s FROM items WHERE n = $1", values: [n] }), `rad ${n} ☃`);
    } finally {
      c.release();
    }
  };
  await Promise.all(Array.from({ length: 400 }, (_, n) => transaction(n)));
  assert.equal(await one(pool, "SELECT count(*)::int FROM (SELECT FROM items FOR SHARE) all_of_them"), 400);
  await pool.end();
});

check("cursors are read in pieces, several at a time, inside and outside of transactions", () =>
  using(async (c) => {
    await c.query("BEGIN");
    const cursors = [0, 1, 2].map((k) => c.query(new Cursor("SELECT $1::int + n AS n FROM items ORDER BY n", [1000 * k])));
    for (let from = 0; from < 400; from += 100) {
      // A cursor whose portal is open keeps the client's queue: one after the other.
      const rows = await cursors[0].read(100);
      assert.deepEqual(rows.map((r) => r.n), Array.from({ length: 100 }, (_, i) => from + i));
    }
    assert.equal((await cursors[0].read(100)).length, 0);
    assert.equal((await cursors[1].read(5))[4].n, 1004);
    await cursors[1].close();
    assert.equal((await cursors[2].read(1000)).length, 400);
    await cursors[2].close();
    await c.query("COMMIT");
    const alone = c.query(new Cursor("SELECT n FROM items ORDER BY n"));
    assert.equal((await alone.read(10)).length, 10);
    assert.equal((await alone.read(10))[0].n, 10);
    await alone.close();
    assert.equal(await one(c, "SELECT 1"), 1);
    const bad = c.query(new Cursor("SELECT 1 / (n - 5) FROM items ORDER BY n"));
    await fails("22012", bad.read(100));
    assert.equal(await one(c, "SELECT 1"), 1);
  }));

check("streams of many rows, and one that is left half-way", () =>
  using(async (c) => {
    let sum = 0;
    for await (const row of c.query(new QueryStream("SELECT generate_series(1, $1::int) AS n", [20000], { batchSize: 500 }))) sum += row.n;
    assert.equal(sum, (20000 * 20001) / 2);
    for await (const row of c.query(new QueryStream("SELECT generate_series(1, 1000000) AS n", [], { batchSize: 100 }))) {
      if (row.n === 1234) break;
    }
    assert.equal(await one(c, "SELECT 2"), 2);
  }));

check("values of many types", () =>
  using(async (c) => {
    const when = new Date("2026-02-28T12:30:15.123Z");
    const content = Buffer.alloc(3_000_000, "\0ÿx");
    const text = "ünïcödé \\ ' ☃ ".repeat(200_000);
    const sent = [1, "1152921504606846976", "12345678901234567890.123", 1.25, text, content, [1, null, 3], when, true, null, { a: [1, null] }];
    const casts = ["int", "int8", "numeric", "float8", "text", "bytea", "int[]", "timestamptz", "bool", "text", "jsonb"];
    const { rows } = await c.query({ text: "SELECT " + casts.map((t, i) => `$${i + 1}::${t}`).join(", "), values: sent, rowMode: "array" });
    assert.deepEqual(rows[0], sent);
    await c.query("INSERT INTO files VALUES ('big', $1)", [content]);
    assert.ok(content.equals(await one(c, "SELECT content FROM files WHERE name = $1", ["big"])));
  }));

check("named statements, the same name for another text is the driver's own error", () =>
  using(async (c) => {
    for (let i = 0; i < 300; i++) {
      assert.equal(await one(c, { name: `n${i}`, text: `SELECT ${i} + $1::int`, values: [i] }), 2 * i);
    }
    await assert.rejects(c.query({ name: "n1", text: "SELECT 2" }), /Prepared statements must be unique/);
    await fails("42P01", c.query({ name: "nowhere", text: "SELECT * FROM nowhere_at_all WHERE n = $1", values: [1] }));
    await fails("22P02", c.query({ name: "n1", text: "SELECT 1 + $1::int", values: ["x"] }));
    assert.equal(await one(c, { name: "n1", text: "SELECT 1 + $1::int", values: [3] }), 4);
  }));

check("notifications and notices arrive while the client is idle", () =>
  using((c) =>
    using(async (other) => {
      const heard = [];
      const all = new Promise((resolve) => c.on("notification", (n) => heard.push(n.payload) === 5 && resolve()));
      await c.query("LISTEN node_channel");
      for (let i = 0; i < 5; i++) await other.query("SELECT pg_notify('node_channel', $1)", [String(i)]);
      await all;
      assert.deepEqual(heard, ["0", "1", "2", "3", "4"]);
      const notices = [];
      c.on("notice", (n) => notices.push(n.message));
      await c.query("DO $$ BEGIN RAISE NOTICE 'yes'; END $$");
      assert.deepEqual(notices, ["yes"]);
    }),
  ));

check("timeouts of the statement, and a client that ends in mid-query", async () => {
  await using((c) => fails("57014", c.query("SELECT pg_sleep(30)")), { statement_timeout: 100 });
  const gone = await connect({ query_timeout: 100 });
  await assert.rejects(gone.query("SELECT pg_sleep(30) /* node was here */"), /timeout/);
  gone.on("error", () => {});
  gone.connection.stream.destroy();
  await using(async (c) => {
    const until = Date.now() + 20_000;
    while ((await one(c, "SELECT count(*)::int FROM pg_stat_activity WHERE query LIKE '%node was here%' AND pid <> pg_backend_pid() AND state = 'active'")) > 0) {
      assert.ok(Date.now() < until, "the statement of a client that has left runs on");
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  });
});

check("settings and temporary tables stay with their client", () =>
  using(
    (c) =>
      using(async (other) => {
        await c.query("SET search_path = pg_temp, public");
        await c.query("CREATE TABLE mine (n int)");
        await c.query("INSERT INTO mine VALUES (7)");
        for (let i = 0; i < 10; i++) {
          assert.equal(await one(c, "SELECT n FROM mine"), 7);
          assert.equal(await one(c, "SELECT current_setting('application_name') FROM items LIMIT 1"), "node");
          assert.equal(await one(other, "SELECT current_setting('application_name') FROM items LIMIT 1"), "");
        }
        await fails("42P01", other.query("SELECT n FROM mine"));
      }),
    { application_name: "node", options: "-c work_mem=7MB" },
  ));

check("clients outlive a restart of the primary", async () => {
  const pool = new Pool({ connectionString: url, max: 10, min: 10 });
  pool.on("error", (e) => assert.fail(e));
  const clients = await Promise.all(Array.from({ length: 5 }, () => connect({ options: "-c work_mem=7MB" })));
  clients.forEach((c) => c.on("error", (e) => assert.fail(e)));
  const work = (around) =>
    Promise.all([
      ...clients.map(async (c, k) => {
        const n = 10_000 + 1000 * around + k;
        await c.query("BEGIN");
        await c.query({ name: "insert", text: "INSERT INTO items VALUES ($1, 'around')", values: [n] });
        await c.query("COMMIT");
        assert.equal(await one(c, { name: "read", text: "SELECT s FROM items WHERE n = $1", values: [n] }), "around");
        assert.equal(await one(c, "SELECT current_setting('work_mem') FROM items LIMIT 1"), "7MB");
      }),
      ...Array.from({ length: 50 }, async (_, k) => {
        const n = 20_000 + 1000 * around + k;
        assert.equal(await one(pool, { name: "returning", text: "INSERT INTO items VALUES ($1, 'pooled') RETURNING n", values: [n] }), n);
      }),
    ]);
  await work(0);
  console.log("restart");
  assert.equal((await lines.next()).value, "restarted");
  await work(1);
  await Promise.all([pool.end(), ...clients.map((c) => c.end())]);
});

(async () => {
  for (const { name, run } of checks) {
    try {
      await run();
    } catch (e) {
      console.error(`${name}: ${e.stack}`);
      process.exit(1);
    }
    console.log("ok", name);
  }
  process.exit(0);
})();
