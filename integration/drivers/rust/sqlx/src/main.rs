//! A program that uses sqlx: a pool, statements cached by their text, transactions that roll back when they are dropped, a listener
//! that connects again by itself.

use std::error::Error as StdError;
use std::fmt::Debug;
use std::future::Future;
use std::io::Write;
use std::time::Duration;

use futures_util::future::try_join_all;
use futures_util::TryStreamExt;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPool, PgPoolOptions};
use sqlx::{Acquire, ConnectOptions, Connection, Error, Executor, Row};

type Outcome = Result<(), Box<dyn StdError + Send + Sync>>;

fn options() -> Result<PgConnectOptions, Error> {
    std::env::args().nth(1).expect("a URL").parse()
}

async fn connect() -> Result<PgConnection, Error> {
    options()?.connect().await
}

fn equal<T: PartialEq + Debug>(got: T, want: T) -> Outcome {
    if got == want {
        return Ok(());
    }
    Err(format!("got {got:.200?}, want {want:.200?}").into())
}

fn refused<T>(got: Result<T, Error>, code: &str) -> Outcome {
    match got {
        Err(Error::Database(e)) if e.code().as_deref() == Some(code) => Ok(()),
        Err(e) => Err(format!("got {e:?}, want {code}").into()),
        Ok(_) => Err(format!("no error, want {code}").into()),
    }
}

async fn own_writes() -> Outcome {
    let mut c = connect().await?;
    for n in 0..1000i32 {
        sqlx::query("INSERT INTO own VALUES ($1)").bind(n).execute(&mut c).await?;
        equal(sqlx::query_scalar::<_, i32>("SELECT n FROM own WHERE n = $1").bind(n).fetch_one(&mut c).await?, n)?;
    }
    Ok(c.close().await?)
}

async fn pool() -> Outcome {
    let pool = PgPoolOptions::new()
        .max_connections(30)
        .test_before_acquire(true)
        .after_connect(|c, _| Box::pin(async move { c.execute("SET application_name = 'pooled'").await.map(|_| ()) }))
        .connect_with(options()?.statement_cache_capacity(10))
        .await?;
    try_join_all((0..60i32).map(|k| {
        let pool: &PgPool = &pool;
        async move {
            for i in 0..10 {
                let n = 1000 + 100 * k + i;
                let mut tx = pool.begin().await?;
                sqlx::query("INSERT INTO items VALUES ($1, $2)").bind(n).bind(format!("rad {n} ☃")).execute(&mut *tx).await?;
                {
                    let mut nested = tx.begin().await?;
                    refused(sqlx::query("INSERT INTO items VALUES ($1, 'twice')").bind(n).execute(&mut *nested).await, "23505")?;
                } // dropped: the savepoint is rolled back before the next statement
                let (s, name): (String, String) =
                    sqlx::query_as("SELECT s, current_setting('application_name') FROM items WHERE n = $1").bind(n).fetch_one(&mut *tx).await?;
                equal((s, name), (format!("rad {n} ☃"), "pooled".to_owned()))?;
                if i % 5 == 4 {
                    drop(tx); // rolled back
                } else {
                    tx.commit().await?;
                }
            }
            Ok::<_, Box<dyn StdError + Send + Sync>>(())
        }
    }))
    .await?;
    equal(sqlx::query_scalar::<_, i64>("SELECT count(*) FROM (SELECT FROM items FOR SHARE) all_of_them").fetch_one(&pool).await?, 60 * 8)?;
    pool.close().await;
    Ok(())
}

async fn statements() -> Outcome {
    let mut c = options()?.statement_cache_capacity(5).connect().await?;
    for i in 0..200i32 {
        let sql = sqlx::AssertSqlSafe(format!("SELECT {} + $1", i % 12)); // more texts than are kept: closed and prepared again
        equal(sqlx::query_scalar::<_, i32>(sql).bind(i).fetch_one(&mut c).await?, i % 12 + i)?;
    }
    c.clear_cached_statements().await?;
    // Not persistent: the unnamed statement.
    equal(sqlx::query_scalar::<_, i32>("SELECT $1 + 1").bind(1).persistent(false).fetch_one(&mut c).await?, 2)?;
    let prepared = c.prepare(sqlx::SqlSafeStr::into_sql_str("SELECT n, s FROM items")).await?;
    equal(sqlx::Statement::columns(&prepared).len(), 2)?;
    // Several statements in one simple query.
    let several = sqlx::raw_sql("INSERT INTO own VALUES (5000); SELECT n FROM own WHERE n = 5000; DELETE FROM own WHERE n = 5000");
    let rows = several.fetch_all(&mut c).await?;
    equal(rows[0].get::<i32, _>(0), 5000)?;
    refused(sqlx::raw_sql("INSERT INTO own VALUES (5001); SELECT 1/0").execute(&mut c).await, "22012")?;
    equal(sqlx::query("SELECT FROM own WHERE n >= 5000").fetch_all(&mut c).await?.len(), 0)
}

async fn streams() -> Outcome {
    let mut c = connect().await?;
    let mut sum = 0i64;
    {
        let mut rows = sqlx::query_scalar::<_, i32>("SELECT generate_series(1, $1)").bind(20_000).fetch(&mut c);
        while let Some(n) = rows.try_next().await? {
            sum += i64::from(n);
        }
    }
    equal(sum, 20_000 * 20_001 / 2)?;
    {
        let mut rows = sqlx::query_scalar::<_, i32>("SELECT generate_series(1, 100000)").fetch(&mut c);
        equal(rows.try_next().await?, Some(1))?;
    } // dropped: the rest is read before the next statement
    equal(sqlx::query_scalar::<_, i32>("SELECT 2").fetch_one(&mut c).await?, 2)
}

async fn copies() -> Outcome {
    let mut c = connect().await?;
    let mut copy = c.copy_in_raw("COPY items FROM STDIN (FORMAT csv)").await?;
    for n in 10_000..30_000 {
        copy.send(format!("{n},\"rad {n}\"\n").into_bytes()).await?;
    }
    equal(copy.finish().await?, 20_000)?;
    let mut copy = c.copy_in_raw("COPY items FROM STDIN").await?;
    copy.send(&b"50000\tgone\n"[..]).await?;
    copy.abort("changed my mind").await?;
    let mut copy = c.copy_in_raw("COPY items FROM STDIN").await?;
    copy.send(&b"10000\ttwice\n"[..]).await?;
    refused(copy.finish().await, "23505")?;
    let out: Vec<_> = c.copy_out_raw("COPY (SELECT n FROM items WHERE n >= 10000) TO STDOUT").await?.try_collect().await?;
    equal(out.iter().map(|part| part.iter().filter(|&&b| b == b'\n').count()).sum::<usize>(), 20_000)
}

async fn values() -> Outcome {
    let mut c = connect().await?;
    let text = "ünïcödé \\ ' ☃ ".repeat(100_000);
    let row = sqlx::query("SELECT $1, $2, $3, $4, $5, $6, $7")
        .bind(1i64 << 60)
        .bind(1.25f64)
        .bind(true)
        .bind(vec![Some(1i32), None, Some(3)])
        .bind(None::<String>)
        .bind(&text)
        .bind(text.as_bytes())
        .fetch_one(&mut c)
        .await?;
    equal((row.get(0), row.get(1), row.get(2), row.get(3), row.get(4)), (1i64 << 60, 1.25f64, true, vec![Some(1i32), None, Some(3)], None::<String>))?;
    equal((row.get::<String, _>(5) == text, row.get::<Vec<u8>, _>(6) == text.as_bytes()), (true, true))?;
    let error = sqlx::query("INSERT INTO items VALUES ($1)").bind(-1).execute(&mut c).await.err().ok_or("no error")?;
    equal(error.as_database_error().and_then(|e| e.constraint()), Some("positive"))?;
    Ok(c.ping().await?)
}

async fn cancels() -> Outcome {
    let pool = PgPoolOptions::new().max_connections(2).connect_with(options()?).await?;
    for _ in 0..3 {
        // A future that is dropped: its connection is of no use to the pool, unless the statement ends.
        let slow = sqlx::query("SELECT pg_sleep(0.5)").execute(&pool);
        if tokio::time::timeout(Duration::from_millis(100), slow).await.is_ok() {
            return Err("no timeout".into());
        }
        equal(sqlx::query_scalar::<_, i32>("SELECT 1").fetch_one(&pool).await?, 1)?;
    }
    pool.close().await;
    let mut c = options()?.options([("statement_timeout", "100ms")]).connect().await?;
    refused(sqlx::query("SELECT pg_sleep(30)").execute(&mut c).await, "57014")?;
    equal(sqlx::query_scalar::<_, i32>("SELECT 1").fetch_one(&mut c).await?, 1)
}

async fn changes() -> Outcome {
    let (mut c, mut other) = (connect().await?, connect().await?);
    sqlx::query("INSERT INTO files VALUES ('a', NULL)").execute(&mut other).await?;
    equal(sqlx::query("SELECT * FROM files FOR SHARE").fetch_one(&mut c).await?.len(), 2)?;
    sqlx::query("ALTER TABLE files ADD COLUMN later int").execute(&mut other).await?;
    // The statement is cached with its columns: the server's refusal is the only right answer, as from one server.
    refused(sqlx::query("SELECT * FROM files FOR SHARE").fetch_one(&mut c).await, "0A000")?;
    c.clear_cached_statements().await?;
    equal(sqlx::query("SELECT * FROM files FOR SHARE").fetch_one(&mut c).await?.len(), 3)?;
    sqlx::query("ALTER TABLE files DROP COLUMN later").execute(&mut other).await?;
    Ok(())
}

async fn await_restart() -> Outcome {
    println!("restart");
    std::io::stdout().flush()?;
    let answer = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    });
    equal(answer.await??.as_str(), "restarted\n")
}

async fn listener() -> Outcome {
    let mut c = connect().await?;
    let mut listener = PgListener::connect_with(&PgPoolOptions::new().connect_with(options()?).await?).await?;
    listener.listen("sqlx_channel").await?;
    for i in 0..5 {
        sqlx::query("SELECT pg_notify('sqlx_channel', $1)").bind(i.to_string()).execute(&mut c).await?;
        equal(tokio::time::timeout(Duration::from_secs(20), listener.recv()).await??.payload(), &i.to_string())?;
    }
    await_restart().await?;
    // What listens is bound to its server connection: it is told of the loss, and the listener connects again.
    equal(tokio::time::timeout(Duration::from_secs(20), listener.try_recv()).await??.is_none(), true)?;
    sqlx::query("NOTIFY sqlx_channel, 'after'").execute(&mut c).await?;
    equal(tokio::time::timeout(Duration::from_secs(20), listener.recv()).await??.payload(), "after")
}

async fn restart() -> Outcome {
    // Without a test before each use: it must not be needed.
    let pool = PgPoolOptions::new().min_connections(5).max_connections(5).test_before_acquire(false).connect_with(options()?.options([("work_mem", "7MB")])).await?;
    let work = |around: i32| {
        let pool = &pool;
        try_join_all((0..20i32).map(move |k| async move {
            let n = 200_000 + 100 * around + k;
            let mut c = pool.acquire().await?;
            let mut tx = c.begin().await?;
            sqlx::query("INSERT INTO items VALUES ($1, 'around')").bind(n).execute(&mut *tx).await?;
            tx.commit().await?;
            let got: (String, String) = sqlx::query_as("SELECT s, current_setting('work_mem') FROM items WHERE n = $1").bind(n).fetch_one(&mut *c).await?;
            equal(got, ("around".to_owned(), "7MB".to_owned()))
        }))
    };
    work(0).await?;
    await_restart().await?;
    work(1).await?;
    pool.close().await;
    Ok(())
}

/// Runs a check; its failure ends the program.
async fn check(name: &str, run: impl Future<Output = Outcome>) {
    if let Err(e) = run.await {
        eprintln!("{name}: {e} ({e:?})");
        std::process::exit(1);
    }
    println!("ok {name}");
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    check("a read after a write is never stale", own_writes()).await;
    check("a pool of sessions, transactions that are dropped, savepoints", pool()).await;
    check("statements are cached, evicted and prepared again", statements()).await;
    check("rows come one by one, and a stream is dropped", streams()).await;
    check("COPY both ways, one that fails and one given up", copies()).await;
    check("values of many types", values()).await;
    check("timeouts, and futures that are dropped", cancels()).await;
    check("a table that changes under a cached statement", changes()).await;
    check("a listener hears, and connects again after a restart of the primary", listener()).await;
    check("sessions outlive a restart of the primary", restart()).await;
    std::process::exit(0);
}
