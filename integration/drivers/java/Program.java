import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.StringReader;
import java.math.BigDecimal;
import java.sql.Array;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Types;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.copy.CopyIn;
import org.postgresql.copy.CopyManager;

/** A program that uses pgjdbc with the options that break poolers: statements prepared at once, batches rewritten, savepoints of its own. */
public final class Program {
    private static String url;
    private static final BufferedReader INPUT = new BufferedReader(new InputStreamReader(System.in, UTF_8));

    private Program() {}

    /** A check, or a part of one. */
    private interface Check {
        void run() throws Exception;
    }

    /** Runs all checks; the first that fails ends the program. */
    public static void main(String[] args) throws Exception {
        url = args[0];
        check("a read after a write is never stale, each statement prepared at once", Program::ownWrites);
        check("transactions, savepoints and their errors", Program::transactions);
        check("autosave rolls back the failed statement alone", Program::autosave);
        check("batches, as they are and rewritten", Program::batches);
        check("rows fetched in pieces", Program::cursors);
        check("values of many types, as text and binary", Program::values);
        check("a table that changes under prepared statements", Program::changes);
        check("several hosts, and the server type that is wanted", Program::hosts);
        check("COPY both ways, and one that fails", Program::copies);
        check("notifications", Program::notifications);
        check("timeouts and cancels", Program::cancels);
        check("many threads prepare the same statements", Program::threads);
        check("sessions outlive a restart of the primary", Program::restart);
        System.exit(0);
    }

    private static void check(String name, Check check) {
        try {
            check.run();
        } catch (Throwable e) {
            System.err.print(name + ": ");
            e.printStackTrace();
            System.exit(1);
        }
        System.out.println("ok " + name);
    }

    private static Connection connect(String options) throws SQLException {
        return DriverManager.getConnection(url + options);
    }

    private static void equal(Object got, Object want) {
        if (!Objects.deepEquals(got, want)) {
            throw new AssertionError("got " + got + ", want " + want);
        }
    }

    private static void fails(String code, Check check) throws Exception {
        try {
            check.run();
        } catch (SQLException e) {
            if (!code.equals(e.getSQLState())) {
                throw new AssertionError("SQLSTATE " + e.getSQLState() + ", want " + code, e);
            }
            return;
        }
        throw new AssertionError("no error, want " + code);
    }

    private static int execute(Connection c, String sql, Object... values) throws SQLException {
        try (PreparedStatement s = c.prepareStatement(sql)) {
            for (int i = 0; i < values.length; i++) {
                s.setObject(i + 1, values[i]);
            }
            return s.execute() ? 0 : s.getUpdateCount();
        }
    }

    private static Object one(Connection c, String sql, Object... values) throws SQLException {
        try (PreparedStatement s = c.prepareStatement(sql)) {
            for (int i = 0; i < values.length; i++) {
                s.setObject(i + 1, values[i]);
            }
            try (ResultSet r = s.executeQuery()) {
                return r.next() ? r.getObject(1) : null;
            }
        }
    }

    private static void ownWrites() throws SQLException {
        try (Connection c = connect("&prepareThreshold=1");
                PreparedStatement write = c.prepareStatement("INSERT INTO own VALUES (?)");
                PreparedStatement read = c.prepareStatement("SELECT n FROM own WHERE n = ?")) {
            for (int n = 0; n < 1000; n++) {
                write.setInt(1, n);
                equal(write.executeUpdate(), 1);
                read.setInt(1, n);
                try (ResultSet r = read.executeQuery()) {
                    equal(r.next() ? r.getInt(1) : null, n);
                }
            }
        }
    }

    private static void transactions() throws Exception {
        try (Connection c = connect("&prepareThreshold=1")) {
            c.setAutoCommit(false);
            execute(c, "INSERT INTO items VALUES (?, ?)", 1, "ett");
            Savepoint savepoint = c.setSavepoint("Ett namn");
            fails("23505", () -> execute(c, "INSERT INTO items VALUES (?, ?)", 1, "igen"));
            fails("25P02", () -> one(c, "SELECT 1"));
            c.rollback(savepoint);
            c.commit();
            equal(one(c, "SELECT s FROM items WHERE n = ?", 1), "ett");
            c.rollback();
            c.setReadOnly(true);
            for (int level : new int[] {Connection.TRANSACTION_SERIALIZABLE, Connection.TRANSACTION_REPEATABLE_READ, Connection.TRANSACTION_READ_COMMITTED}) {
                c.setTransactionIsolation(level);
                equal(one(c, "SELECT count(*) FROM items"), 1L);
                equal(c.getTransactionIsolation(), level);
                c.rollback();
                fails("25006", () -> execute(c, "INSERT INTO items VALUES (2, 'no')"));
                c.rollback();
            }
            c.setReadOnly(false);
            execute(c, "INSERT INTO items VALUES (?, ?)", 2, "två");
            c.commit();
            c.setAutoCommit(true);
            // In autocommit setReadOnly sends a SET of the session's default, or nothing, by readOnlyMode.
            c.setReadOnly(true);
            equal(one(c, "SELECT count(*) FROM items"), 2L);
            c.setReadOnly(false);
            equal(execute(c, "DELETE FROM items"), 2);
        }
        try (Connection c = connect("&readOnlyMode=always")) {
            c.setReadOnly(true);
            fails("25006", () -> execute(c, "INSERT INTO items VALUES (3, 'no')"));
            equal(one(c, "SELECT count(*) FROM items"), 0L);
            c.setReadOnly(false);
            equal(execute(c, "INSERT INTO items VALUES (3, 'yes')"), 1);
            equal(execute(c, "DELETE FROM items"), 1);
        }
    }

    private static void autosave() throws Exception {
        for (String cleanup : new String[] {"false", "true"}) {
            try (Connection c = connect("&prepareThreshold=1&autosave=always&cleanupSavepoints=" + cleanup)) {
                c.setAutoCommit(false);
                for (int n = 0; n < 100; n++) {
                    int row = n;
                    execute(c, "INSERT INTO items VALUES (?, 'saved')", row);
                    fails("23505", () -> execute(c, "INSERT INTO items VALUES (?, 'twice')", row));
                    equal(one(c, "SELECT count(*) FROM items"), n + 1L);
                }
                c.commit();
                equal(one(c, "SELECT count(*) FROM items WHERE s = ?", "saved"), 100L);
                equal(execute(c, "DELETE FROM items"), 100);
                c.commit();
            }
        }
    }

    private static void batches() throws Exception {
        for (String options : new String[] {"&prepareThreshold=1", "&reWriteBatchedInserts=true&prepareThreshold=1", "&preferQueryMode=simple"}) {
            try (Connection c = connect(options); PreparedStatement s = c.prepareStatement("INSERT INTO items VALUES (?, ?)")) {
                for (int n = 0; n < 3000; n++) {
                    s.setInt(1, n);
                    s.setString(2, "rad " + n);
                    s.addBatch();
                }
                equal(s.executeBatch().length, 3000);
                equal(one(c, "SELECT count(*) FROM items"), 3000L);
                c.setAutoCommit(false);
                for (int n = 3100; n > 2900; n--) {
                    s.setInt(1, n);
                    s.setString(2, "overlaps");
                    s.addBatch();
                }
                try {
                    s.executeBatch();
                    throw new AssertionError("no error");
                } catch (BatchUpdateException e) {
                    equal(e.getSQLState(), "23505");
                }
                c.rollback();
                equal(one(c, "SELECT count(*) FROM items"), 3000L);
                try (PreparedStatement keys = c.prepareStatement("INSERT INTO orders (item, amount) VALUES (?, ?)", Statement.RETURN_GENERATED_KEYS)) {
                    for (int n = 0; n < 500; n++) {
                        keys.setInt(1, n);
                        keys.setBigDecimal(2, new BigDecimal(n + ".125"));
                        keys.addBatch();
                    }
                    keys.executeBatch();
                    ResultSet r = keys.getGeneratedKeys();
                    int count = 0;
                    while (r.next()) {
                        equal(one(c, "SELECT amount FROM orders WHERE id = ?", r.getLong("id")), new BigDecimal(count++ + ".125"));
                    }
                    equal(count, 500);
                }
                try (Statement several = c.createStatement()) {
                    several.addBatch("DELETE FROM orders");
                    several.addBatch("DELETE FROM items");
                    equal(several.executeBatch(), new int[] {500, 3000});
                }
                c.commit();
            }
        }
    }

    private static void cursors() throws Exception {
        try (Connection c = connect("&defaultRowFetchSize=70&prepareThreshold=1")) {
            execute(c, "INSERT INTO items SELECT n, 'rad ' || n FROM generate_series(0, 9999) n");
            c.setAutoCommit(false);
            try (PreparedStatement a = c.prepareStatement("SELECT n FROM items ORDER BY n");
                    PreparedStatement b = c.prepareStatement("SELECT n, s FROM items ORDER BY n DESC")) {
                ResultSet up = a.executeQuery();
                ResultSet down = b.executeQuery();
                for (int n = 0; n < 2000; n++) { // two portals, in turn
                    equal(up.next() && down.next(), true);
                    equal(up.getInt(1), n);
                    equal(down.getString(2), "rad " + (9999 - n));
                }
                equal(one(c, "SELECT count(*) FROM items"), 10000L);
                equal(up.next() ? up.getInt(1) : -1, 2000);
            }
            c.commit();
            c.setReadOnly(true); // on a replica, all of it
            int count = 0;
            try (Statement s = c.createStatement(); ResultSet r = s.executeQuery("SELECT n FROM items")) {
                while (r.next()) {
                    count++;
                }
            }
            equal(count, 10000);
            c.commit();
        }
    }

    private static void values() throws Exception {
        OffsetDateTime when = OffsetDateTime.of(2026, 2, 28, 12, 30, 15, 123456000, ZoneOffset.UTC);
        String text = "ünïcödé \\ ' ☃ ".repeat(20_000);
        byte[] content = text.getBytes(UTF_8);
        for (String options : new String[] {"&binaryTransfer=false", "&prepareThreshold=-1", "&prepareThreshold=1", "&preferQueryMode=simple"}) {
            try (Connection c = connect(options); PreparedStatement s = c.prepareStatement(
                    "SELECT ?::int, ?::int8, ?::numeric, ?::float8, ?::text, ?::bytea, ?::int[], ?::timestamptz, ?::bool, ?::text, ?::uuid")) {
                for (int i = 0; i < 4; i++) { // from the second execution on results may come binary
                    s.setInt(1, 7);
                    s.setLong(2, 1L << 60);
                    s.setBigDecimal(3, new BigDecimal("12345678901234567890.123"));
                    s.setDouble(4, 1.25);
                    s.setString(5, text);
                    s.setBytes(6, content);
                    s.setArray(7, c.createArrayOf("int4", new Integer[] {1, null, 3}));
                    s.setObject(8, when);
                    s.setBoolean(9, true);
                    s.setNull(10, Types.VARCHAR);
                    s.setObject(11, java.util.UUID.fromString("6ba7b810-9dad-11d1-80b4-00c04fd430c8"));
                    try (ResultSet r = s.executeQuery()) {
                        equal(r.next(), true);
                        equal(List.of(r.getInt(1), r.getLong(2), r.getBigDecimal(3), r.getDouble(4), r.getBoolean(9)),
                                List.of(7, 1L << 60, new BigDecimal("12345678901234567890.123"), 1.25, true));
                        equal(r.getString(5).equals(text) && Arrays.equals(r.getBytes(6), content), true);
                        Array array = r.getArray(7);
                        equal(array.getArray(), new Integer[] {1, null, 3});
                        equal(r.getObject(8, OffsetDateTime.class), when);
                        equal(r.getString(10), null);
                        equal(r.getObject(11).toString(), "6ba7b810-9dad-11d1-80b4-00c04fd430c8");
                    }
                }
            }
        }
    }

    private static void changes() throws Exception {
        try (Connection c = connect("&prepareThreshold=1"); Connection other = connect("")) {
            execute(c, "INSERT INTO files VALUES ('a', NULL)");
            for (String change : new String[] {"ADD COLUMN later int", "DROP COLUMN later", "ADD COLUMN later text", "DROP COLUMN later"}) {
                try (PreparedStatement s = c.prepareStatement("SELECT * FROM files FOR SHARE")) {
                    for (int i = 0; i < 3; i++) {
                        s.executeQuery().close();
                    }
                    execute(other, "ALTER TABLE files " + change);
                    // Outside of transactions pgjdbc itself prepares and tries again when PostgreSQL refuses the plan.
                    for (int i = 0; i < 3; i++) {
                        try (ResultSet r = s.executeQuery()) {
                            equal(r.getMetaData().getColumnCount(), change.startsWith("ADD") ? 3 : 2);
                            equal(r.next(), true);
                            equal(r.getString("name"), "a");
                        }
                    }
                }
            }
            // A change of the search path makes another statement of the same text.
            execute(c, "CREATE SCHEMA IF NOT EXISTS elsewhere");
            execute(c, "CREATE TABLE IF NOT EXISTS elsewhere.items (n int)");
            equal(one(c, "SELECT count(*) FROM items"), 10000L);
            execute(c, "SET search_path = elsewhere, public");
            equal(one(c, "SELECT count(*) FROM items"), 0L);
            c.setSchema("public");
            equal(one(c, "SELECT count(*) FROM items"), 10000L);
            equal(c.getSchema(), "public");
            execute(c, "DROP SCHEMA elsewhere CASCADE");
            equal(c.getMetaData().getTables(null, "public", "items", new String[] {"TABLE"}).next(), true);
            equal(c.isValid(5), true);
        }
    }

    private static void hosts() throws Exception {
        String host = url.substring("jdbc:postgresql://".length(), url.indexOf("/app?"));
        String several = url.replace(host, "localhost:1," + host); // nobody listens on the first one
        for (String type : new String[] {"any", "primary", "preferPrimary", "preferSecondary"}) {
            try (Connection c = DriverManager.getConnection(several + "&loadBalanceHosts=true&targetServerType=" + type)) {
                equal(one(c, "SELECT count(*) FROM items"), 10000L);
                equal(c.unwrap(PGConnection.class).getParameterStatus("in_hot_standby"), "off");
                equal(execute(c, "UPDATE items SET s = s WHERE n = 1"), 1);
            }
        }
        // All of a cluster is one primary to its clients: there is no secondary to find, but on a port whose route is replica.
        fails("08001", () -> DriverManager.getConnection(several + "&targetServerType=secondary").close());
        String both = url.replace(host, host + "," + System.getenv("READ_ONLY"));
        for (String type : new String[] {"primary", "secondary", "preferPrimary", "preferSecondary"}) {
            boolean secondary = type.toLowerCase().endsWith("secondary");
            try (Connection c = DriverManager.getConnection(both + "&targetServerType=" + type)) {
                equal(c.unwrap(PGConnection.class).getParameterStatus("in_hot_standby"), secondary ? "on" : "off");
                equal(one(c, secondary ? "SELECT pg_is_in_recovery()" : "SELECT pg_is_in_recovery() FROM items WHERE n = 1 FOR SHARE"), secondary);
                if (secondary) {
                    fails("25006", () -> execute(c, "UPDATE items SET s = s WHERE n = 1"));
                }
            }
        }
    }

    private static void copies() throws Exception {
        try (Connection c = connect("")) {
            CopyManager copy = c.unwrap(PGConnection.class).getCopyAPI();
            equal(copy.copyIn("COPY items FROM STDIN (FORMAT csv)", new StringReader("20000,\"a, \"\"b\"\"\"\n20001,\n")), 2L);
            StringBuilder lines = new StringBuilder();
            for (int n = 30000; n < 50000; n++) {
                lines.append(n).append("\trad ").append(n).append('\n');
            }
            byte[] text = lines.toString().getBytes(UTF_8);
            equal(copy.copyIn("COPY items FROM STDIN", new ByteArrayInputStream(text)), 20000L);
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            equal(copy.copyOut("COPY (SELECT * FROM items WHERE n >= 30000 ORDER BY n) TO STDOUT", out), 20000L);
            equal(out.toByteArray(), text);
            fails("23505", () -> copy.copyIn("COPY items FROM STDIN", new ByteArrayInputStream(text)));
            CopyIn given = copy.copyIn("COPY items FROM STDIN");
            given.writeToCopy(text, 0, 1000);
            given.cancelCopy();
            equal(one(c, "SELECT count(*) FROM items WHERE n >= 20000"), 20002L);
        }
    }

    private static void notifications() throws Exception {
        try (Connection c = connect(""); Connection other = connect("")) {
            execute(c, "LISTEN pgjdbc_channel");
            for (int i = 0; i < 5; i++) {
                one(other, "SELECT pg_notify('pgjdbc_channel', ?)", String.valueOf(i));
                PGNotification[] heard = c.unwrap(PGConnection.class).getNotifications(20_000);
                equal(heard.length, 1);
                equal(heard[0].getParameter(), String.valueOf(i));
            }
        }
    }

    private static void cancels() throws Exception {
        try (Connection c = connect(""); Connection other = connect(""); Statement s = c.createStatement()) {
            s.setQueryTimeout(1);
            fails("57014", () -> s.execute("SELECT pg_sleep(30)"));
            s.setQueryTimeout(0);
            for (int i = 0; i < 3; i++) {
                ExecutorService executor = Executors.newSingleThreadExecutor();
                Future<?> cancel = executor.submit((Callable<Void>) () -> {
                    Thread.sleep(200);
                    s.cancel();
                    return null;
                });
                fails("57014", () -> s.execute("SELECT pg_sleep(30)"));
                cancel.get();
                executor.shutdown();
                equal(one(c, "SELECT 1"), 1);
                equal(one(other, "SELECT 1"), 1);
            }
        }
    }

    private static void threads() throws Exception {
        ExecutorService executor = Executors.newFixedThreadPool(20);
        List<Future<?>> all = new ArrayList<>();
        for (int k = 0; k < 20; k++) {
            int first = 100_000 + 1000 * k;
            all.add(executor.submit((Callable<Void>) () -> {
                try (Connection c = connect("&prepareThreshold=1&preparedStatementCacheQueries=4")) {
                    for (int n = first; n < first + 10; n++) {
                        equal(execute(c, "INSERT INTO items VALUES (?, ?)", n, "tråd"), 1);
                        equal(one(c, "SELECT s FROM items WHERE n = ?", n), "tråd");
                        for (int i = 0; i < 6; i++) { // more than the driver keeps: closed, and prepared again
                            equal(one(c, "SELECT " + i + " + ?::int", n), i + n);
                        }
                    }
                }
                return null;
            }));
        }
        for (Future<?> one : all) {
            one.get();
        }
        executor.shutdown();
    }

    private static void work(List<Connection> connections, int around) throws SQLException {
        for (int k = 0; k < connections.size(); k++) {
            Connection c = connections.get(k);
            int n = 200_000 + 100 * around + k;
            execute(c, "INSERT INTO items VALUES (?, ?)", n, "around");
            if (!c.getAutoCommit()) {
                c.commit();
            }
            equal(one(c, "SELECT s FROM items WHERE n = ?", n), "around");
            equal(one(c, "SELECT current_setting('work_mem') FROM items LIMIT 1"), "7MB");
            if (!c.getAutoCommit()) {
                c.commit();
            }
        }
    }

    private static void restart() throws Exception {
        List<Connection> connections = new ArrayList<>();
        for (String options : new String[] {"&prepareThreshold=1", "&prepareThreshold=1&autosave=always", "&preferQueryMode=simple", "&targetServerType=primary"}) {
            for (boolean autoCommit : new boolean[] {true, false}) {
                Connection c = connect(options + "&options=-c%20work_mem=7MB&tcpKeepAlive=true");
                c.setAutoCommit(autoCommit);
                connections.add(c);
            }
        }
        work(connections, 0);
        System.out.println("restart");
        equal(INPUT.readLine(), "restarted");
        work(connections, 1);
        for (Connection c : connections) {
            equal(c.isValid(5), true);
            c.close();
        }
    }
}
