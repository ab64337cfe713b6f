//! A program that uses tokio-postgres: every query of a client is sent at once and answered in order, statements are prepared and
//! described by the driver, values are binary.

use std::error::Error as StdError;
use std::fmt::{Debug, Display};
use std::future::Future;
use std::io::Write;
use std::pin::pin;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::{join_all, poll_fn, try_join_all};
use futures_util::{SinkExt, StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use tokio_postgres::binary_copy::{BinaryCopyInWriter, BinaryCopyOutStream};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{AsyncMessage, Client, Error, IsolationLevel, NoTls, SimpleQueryMessage};

type Outcome = Result<(), Box<dyn StdError + Send + Sync>>;

/// Opens a connection; its notifications come from the channel.
async fn listening(options: &str) -> Result<(Client, mpsc::UnboundedReceiver<String>), Error> {
    let url = std::env::args().nth(1).expect("a URL");
    let (client, mut connection) = tokio_postgres::connect(&(url + options), NoTls).await?;
    let (heard, hears) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(n) = message {
                let _ = heard.send(n.payload().to_owned());
            }
        }
    });
    Ok((client, hears))
}

async fn connect() -> Result<Client, Error> {
    Ok(listening("").await?.0)
}

fn equal<T: PartialEq + Debug>(got: T, want: T) -> Outcome {
    if got == want {
        return Ok(());
    }
    Err(format!("got {got:.200?}, want {want:.200?}").into())
}

fn refused<T>(got: Result<T, Error>, code: SqlState) -> Outcome {
    match got {
        Err(e) if e.code() == Some(&code) => Ok(()),
        Err(e) => Err(format!("got {e:?}, want {}", code.code()).into()),
        Ok(_) => Err(format!("no error, want {}", code.code()).into()),
    }
}

async fn own_writes() -> Outcome {
    let c = connect().await?;
    let write = c.prepare("INSERT INTO own VALUES ($1)").await?;
    let read = c.prepare("SELECT n FROM own WHERE n = $1").await?;
    for n in 0..1000i32 {
        c.execute(&write, &[&n]).await?;
        equal(c.query_one(&read, &[&n]).await?.get::<_, i32>(0), n)?;
    }
    // All of them under way at once: the driver pipelines, and each has its own Sync.
    let pairs = join_all((1000..2000i32).map(|n| {
        let (c, write, read) = (&c, &write, &read);
        async move {
            let params: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&n];
            let (written, found) = futures_util::future::join(c.execute(write, &params), c.query_one(read, &params)).await;
            written?;
            Ok::<_, Error>(found?.get::<_, i32>(0) == n)
        }
    }))
    .await;
    for pair in pairs {
        equal(pair?, true)?;
    }
    Ok(())
}

async fn transactions() -> Outcome {
    let mut c = connect().await?;
    let mut tx = c.transaction().await?;
    tx.execute("INSERT INTO items VALUES (1, 'ett')", &[]).await?;
    {
        let nested = tx.savepoint("ett_namn").await?;
        refused(nested.execute("INSERT INTO items VALUES (1, 'igen')", &[]).await, SqlState::UNIQUE_VIOLATION)?;
        refused(nested.query("SELECT 1", &[]).await, SqlState::IN_FAILED_SQL_TRANSACTION)?;
        nested.rollback().await?;
    }
    tx.commit().await?;
    {
        let tx = c.transaction().await?; // dropped: rolled back by a query that nobody waits for
        tx.execute("INSERT INTO items VALUES (2, 'gone')", &[]).await?;
    }
    equal(c.query_one("SELECT count(*) FROM items", &[]).await?.get::<_, i64>(0), 1)?;
    for level in [IsolationLevel::ReadCommitted, IsolationLevel::RepeatableRead, IsolationLevel::Serializable] {
        let tx = c.build_transaction().isolation_level(level).read_only(true).start().await?;
        equal(tx.query_one("SELECT s FROM items WHERE n = $1", &[&1]).await?.get::<_, String>(0), "ett".to_owned())?;
        refused(tx.execute("INSERT INTO items VALUES (3, 'no')", &[]).await, SqlState::READ_ONLY_SQL_TRANSACTION)?;
        tx.rollback().await?;
    }
    let tx = c.build_transaction().isolation_level(IsolationLevel::Serializable).read_only(true).deferrable(true).start().await?;
    equal(tx.query_one("SELECT count(*) FROM items", &[]).await?.get::<_, i64>(0), 1)?;
    tx.commit().await?;
    Ok(())
}

async fn portals() -> Outcome {
    let mut c = connect().await?;
    c.execute("INSERT INTO items SELECT n, 'rad ' || n FROM generate_series(10, 1009) n", &[]).await?;
    let tx = c.transaction().await?;
    let up = tx.bind("SELECT n FROM items WHERE n >= $1 ORDER BY n", &[&10]).await?;
    let down = tx.bind("SELECT n FROM items WHERE n >= $1 ORDER BY n DESC", &[&10]).await?;
    for i in 0..10i32 {
        let (a, b) = (tx.query_portal(&up, 100).await?, tx.query_portal(&down, 100).await?);
        equal((a.len(), a[0].get::<_, i32>(0)), (100, 10 + 100 * i))?;
        equal((b.len(), b[0].get::<_, i32>(0)), (100, 1009 - 100 * i))?;
    }
    equal(tx.query_portal(&up, 100).await?.len(), 0)?;
    tx.commit().await?;
    Ok(())
}

async fn copies() -> Outcome {
    let mut c = connect().await?;
    let tx = c.transaction().await?;
    {
        let sink = tx.copy_in("COPY items FROM STDIN (FORMAT binary)").await?;
        let mut writer = pin!(BinaryCopyInWriter::new(sink, &[Type::INT4, Type::TEXT]));
        for n in 10_000..30_000i32 {
            writer.as_mut().write(&[&n, &format!("rad {n} ☃")]).await?;
        }
        equal(writer.finish().await?, 20_000)?;
    }
    let rows = BinaryCopyOutStream::new(tx.copy_out("COPY (SELECT * FROM items WHERE n >= 10000 ORDER BY n) TO STDOUT (FORMAT binary)").await?, &[Type::INT4, Type::TEXT]);
    let rows: Vec<_> = rows.try_collect().await?;
    equal((rows.len(), rows[7].get::<&str>(1)), (20_000, "rad 10007 ☃"))?;
    tx.commit().await?;
    {
        let mut sink = pin!(c.copy_in("COPY items FROM STDIN").await?);
        for _ in 0..1000 {
            if sink.send(Bytes::from("10000\ttwice\n".repeat(100))).await.is_err() {
                break;
            }
        }
        refused(sink.finish().await, SqlState::UNIQUE_VIOLATION)?;
    }
    {
        let mut sink = pin!(c.copy_in::<_, Bytes>("COPY items FROM STDIN").await?); // dropped: CopyFail
        sink.send(Bytes::from("50000\tgone\n")).await?;
    }
    equal(c.query_one("SELECT count(*) FROM items WHERE n >= 10000", &[]).await?.get::<_, i64>(0), 20_000)
}

async fn values() -> Outcome {
    let c = connect().await?;
    let text = "ünïcödé \\ ' ☃ ".repeat(100_000);
    let when = SystemTime::UNIX_EPOCH + Duration::from_micros(1_772_281_815_123_456);
    let sent: (i32, i64, f64, bool, Vec<Option<i32>>, Option<&str>) = (7, 1 << 60, 1.25, true, vec![Some(1), None, Some(3)], None);
    let row = c
        .query_one(
            "SELECT $1::int, $2::int8, $3::float8, $4::bool, $5::int[], $6::text, $7::text, $8::bytea, $9::timestamptz",
            &[&sent.0, &sent.1, &sent.2, &sent.3, &sent.4, &sent.5, &text, &text.as_bytes(), &when],
        )
        .await?;
    equal((row.get(0), row.get(1), row.get(2), row.get(3), row.get::<_, Vec<Option<i32>>>(4), row.get::<_, Option<&str>>(5)), sent)?;
    equal((row.get::<_, &str>(6) == text, row.get::<_, &[u8]>(7) == text.as_bytes(), row.get::<_, SystemTime>(8)), (true, true, when))?;
    // Types that the driver does not know are looked up in the catalog, by statements of its own.
    c.batch_execute("DROP TYPE IF EXISTS mood; CREATE TYPE mood AS ENUM ('sad', 'ok')").await?;
    let statement = c.prepare("SELECT $1::mood, ARRAY['ok']::mood[]").await?;
    equal((statement.params()[0].name(), statement.columns()[1].type_().name()), ("mood", "_mood"))?;
    c.batch_execute("DROP TYPE mood").await?;
    let several = c.simple_query("SELECT 1 AS one; SELECT 2 AS two, NULL").await?;
    let rows: Vec<_> = several.iter().filter_map(|m| if let SimpleQueryMessage::Row(r) = m { r.get(0) } else { None }).collect();
    equal(rows, vec!["1", "2"])?;
    let typed: Vec<_> = c.query_typed_raw("SELECT $1 + 1", vec![(41i32, Type::INT4)]).await?.try_collect().await?;
    equal(typed[0].get::<_, i32>(0), 42)
}

async fn errors() -> Outcome {
    let c = connect().await?;
    let kept = c.prepare("SELECT 10 / $1::int").await?;
    let results = join_all((0..100i32).map(|n| {
        let (c, kept) = (&c, &kept);
        async move { c.query_one(kept, &[&(n % 10)]).await }
    }))
    .await;
    for (n, result) in results.into_iter().enumerate() {
        match n % 10 {
            0 => refused(result, SqlState::DIVISION_BY_ZERO)?,
            k => equal(result?.get::<_, i32>(0), 10 / k as i32)?,
        }
    }
    refused(c.prepare("SELECT * FROM nowhere_at_all").await, SqlState::UNDEFINED_TABLE)?;
    let error = c.execute("INSERT INTO items VALUES (-1)", &[]).await.err().ok_or("no error")?;
    equal(error.as_db_error().and_then(|e| e.constraint()), Some("positive"))?;
    // Rows of a stream that is dropped half-way are read by the driver, and the next query goes on.
    {
        let mut rows = pin!(c.query_raw("SELECT generate_series(1, 100000)", Vec::<i32>::new()).await?);
        equal(rows.next().await.ok_or("no row")??.get::<_, i32>(0), 1)?;
    }
    equal(c.query_one("SELECT 1", &[]).await?.get::<_, i32>(0), 1)
}

async fn cancels() -> Outcome {
    let (c, other) = (connect().await?, connect().await?);
    for _ in 0..5 {
        let token = c.cancel_token();
        let sleep = c.batch_execute("SELECT pg_sleep(30)");
        let cancel = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            token.cancel_query(NoTls).await
        };
        let (slept, canceled) = futures_util::future::join(sleep, cancel).await;
        canceled?;
        refused(slept, SqlState::QUERY_CANCELED)?;
        equal(c.query_one("SELECT 1", &[]).await?.get::<_, i32>(0), 1)?;
        equal(other.query_one("SELECT 1", &[]).await?.get::<_, i32>(0), 1)?;
    }
    Ok(())
}

async fn notifications() -> Outcome {
    let ((c, mut hears), other) = (listening("").await?, connect().await?);
    c.batch_execute("LISTEN tokio_channel").await?;
    for i in 0..5 {
        other.execute("SELECT pg_notify('tokio_channel', $1)", &[&i.to_string()]).await?;
        equal(tokio::time::timeout(Duration::from_secs(20), hears.recv()).await?, Some(i.to_string()))?;
    }
    Ok(())
}

async fn many() -> Outcome {
    try_join_all((0..30i32).map(|k| async move {
        let c = connect().await?;
        let mut outcome: Outcome = Ok(());
        for i in 0..10 {
            let n = 100_000 + 100 * k + i;
            c.execute("INSERT INTO items VALUES ($1, $2)", &[&n, &"many"]).await?; // prepared, executed and closed
            outcome = outcome.and(equal(c.query_one("SELECT n FROM items WHERE n = $1", &[&n]).await?.get::<_, i32>(0), n));
        }
        outcome
    }))
    .await?;
    Ok(())
}

async fn restart() -> Outcome {
    let clients = try_join_all((0..5).map(|_| async { Ok::<_, Error>(listening("?options=-c%20work_mem%3D7MB").await?.0) })).await?;
    let reads = try_join_all(clients.iter().map(|c| c.prepare("SELECT s, current_setting('work_mem') FROM items WHERE n = $1"))).await?;
    let work = |around: i32| {
        try_join_all(clients.iter().zip(&reads).enumerate().map(move |(k, (c, read))| async move {
            let n = 200_000 + 100 * around + k as i32;
            c.batch_execute("BEGIN").await?;
            c.execute("INSERT INTO items VALUES ($1, 'around')", &[&n]).await?;
            c.batch_execute("COMMIT").await?;
            let row = c.query_one(read, &[&n]).await?;
            equal((row.get(0), row.get(1)), ("around", "7MB"))
        }))
    };
    work(0).await?;
    println!("restart");
    std::io::stdout().flush()?;
    let answer = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    });
    equal(answer.await??.as_str(), "restarted\n")?;
    work(1).await?;
    Ok(())
}

/// Runs a check; its failure ends the program.
async fn check<E: Display + Debug>(name: &str, run: impl Future<Output = Result<(), E>>) {
    if let Err(e) = run.await {
        eprintln!("{name}: {e} ({e:?})");
        std::process::exit(1);
    }
    println!("ok {name}");
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    check("a read after a write is never stale, also when all are under way at once", own_writes()).await;
    check("transactions, savepoints, and those that are dropped", transactions()).await;
    check("portals are read in pieces, in turn", portals()).await;
    check("binary COPY both ways, one that fails and one that is dropped", copies()).await;
    check("values of many types, and types of the user's own", values()).await;
    check("errors among queries under way, and streams that are dropped", errors()).await;
    check("a cancel ends the client's own statement alone", cancels()).await;
    check("notifications arrive while the client is idle", notifications()).await;
    check("many clients prepare, execute and close", many()).await;
    check("sessions outlive a restart of the primary", restart()).await;
}
