/*
 * A program that uses libpq as it is: the pipeline mode with thousands of statements under way, rows one by one, COPY,
 * notifications on a socket that is only polled, and cancel requests from another thread.
 */
#define _POSIX_C_SOURCE 200809L

#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <libpq-fe.h>

static const char *url;
static const char *check = "start";

/* fail ends the program with a message. */
static void __attribute__((noreturn, format(printf, 1, 2))) fail(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "%s: ", check);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

static PGconn *open_connection(void)
{
	PGconn *c = PQconnectdb(url);

	if (PQstatus(c) != CONNECTION_OK)
		fail("connect: %s", PQerrorMessage(c));
	return c;
}

/* expect checks the status of a result, which stays the caller's. */
static PGresult *expect(PGconn *c, PGresult *r, ExecStatusType want)
{
	if (r == NULL)
		fail("no result, want %s: %s", PQresStatus(want), PQerrorMessage(c));
	if (PQresultStatus(r) != want)
		fail("%s, want %s: %s", PQresStatus(PQresultStatus(r)), PQresStatus(want), PQresultErrorMessage(r));
	return r;
}

/* next is the next result of a query under way; NULL must follow it. */
static PGresult *next_result(PGconn *c, ExecStatusType want)
{
	PGresult *r = expect(c, PQgetResult(c), want);

	if (PQgetResult(c) != NULL)
		fail("more than one result");
	return r;
}

static void run(PGconn *c, const char *sql)
{
	PGresult *r = PQexec(c, sql);

	if (PQresultStatus(r) != PGRES_COMMAND_OK && PQresultStatus(r) != PGRES_TUPLES_OK)
		fail("%s: %s", sql, PQresultErrorMessage(r));
	PQclear(r);
}

/* wants checks the only value of a query with one parameter or none. */
static void wants(PGconn *c, const char *sql, const char *parameter, const char *want)
{
	PGresult *r = expect(c, PQexecParams(c, sql, parameter != NULL, NULL, &parameter, NULL, NULL, 0), PGRES_TUPLES_OK);

	if (PQntuples(r) != 1 || strcmp(PQgetvalue(r, 0, 0), want) != 0)
		fail("%s: %d rows, %.100s, want %s", sql, PQntuples(r), PQntuples(r) > 0 ? PQgetvalue(r, 0, 0) : "none", want);
	PQclear(r);
}

static void refused(PGconn *c, PGresult *r, const char *code)
{
	const char *got;

	expect(c, r, PGRES_FATAL_ERROR);
	got = PQresultErrorField(r, PG_DIAG_SQLSTATE);
	if (got == NULL || strcmp(got, code) != 0)
		fail("SQLSTATE %s, want %s: %s", got ? got : "none", code, PQresultErrorMessage(r));
	PQclear(r);
}

static void own_writes(PGconn *c)
{
	char n[16];

	PQclear(expect(c, PQprepare(c, "write", "INSERT INTO own VALUES ($1)", 1, NULL), PGRES_COMMAND_OK));
	PQclear(expect(c, PQprepare(c, "read", "SELECT n FROM own WHERE n = $1", 1, NULL), PGRES_COMMAND_OK));
	for (int i = 0; i < 1000; i++) {
		const char *values[] = {n};
		PGresult *r;

		snprintf(n, sizeof n, "%d", i);
		PQclear(expect(c, PQexecPrepared(c, "write", 1, values, NULL, NULL, 0), PGRES_COMMAND_OK));
		r = expect(c, PQexecPrepared(c, "read", 1, values, NULL, NULL, 0), PGRES_TUPLES_OK);
		if (PQntuples(r) != 1 || strcmp(PQgetvalue(r, 0, 0), n) != 0)
			fail("insert %d is not there", i);
		PQclear(r);
	}
}

enum { PIPED = 10000, SYNC_EVERY = 250 };

/* send_some queues statements until the socket does not take more; a Sync follows every SYNC_EVERY of them. */
static int send_some(PGconn *c, int sent)
{
	while (sent < PIPED) {
		char n[16];
		const char *values[] = {n, "piped"};

		snprintf(n, sizeof n, "%d", sent / 2);
		if (sent % 2 == 0 ? !PQsendQueryParams(c, "INSERT INTO items VALUES ($1, $2)", 2, NULL, values, NULL, NULL, 0)
		                  : !PQsendQueryPrepared(c, "piped", 1, values, NULL, NULL, 0))
			fail("send %d: %s", sent, PQerrorMessage(c));
		sent++;
		if (sent % SYNC_EVERY == 0 && !PQpipelineSync(c))
			fail("sync: %s", PQerrorMessage(c));
		if (sent % 100 == 0 && PQflush(c) != 0)
			break;
	}
	return sent;
}

/* receive_some takes the results that are there: an INSERT, then a SELECT that sees it, … */
static int receive_some(PGconn *c, int received, int *syncs)
{
	while (!PQisBusy(c)) {
		PGresult *r = PQgetResult(c);

		if (r == NULL) {
			if (received == PIPED && *syncs == PIPED / SYNC_EVERY)
				break;
			r = PQgetResult(c);
			if (r == NULL)
				break;
		}
		if (PQresultStatus(r) == PGRES_PIPELINE_SYNC) {
			++*syncs;
		} else {
			expect(c, r, received % 2 == 0 ? PGRES_COMMAND_OK : PGRES_TUPLES_OK);
			if (received % 2 == 1 && atoi(PQgetvalue(r, 0, 0)) != received / 2)
				fail("result %d is %s", received, PQgetvalue(r, 0, 0));
			received++;
		}
		PQclear(r);
		if (received == PIPED && *syncs == PIPED / SYNC_EVERY)
			break;
	}
	return received;
}

static void pipeline(PGconn *c)
{
	int sent = 0, received = 0, syncs = 0;

	PQclear(expect(c, PQprepare(c, "piped", "SELECT n FROM items WHERE n = $1", 1, NULL), PGRES_COMMAND_OK));
	if (!PQenterPipelineMode(c) || PQsetnonblocking(c, 1) != 0)
		fail("enter: %s", PQerrorMessage(c));
	while (received < PIPED || syncs < PIPED / SYNC_EVERY) {
		struct pollfd p = {.fd = PQsocket(c), .events = POLLIN};

		sent = send_some(c, sent);
		if (PQflush(c) > 0 || sent < PIPED)
			p.events |= POLLOUT;
		if (poll(&p, 1, 20000) <= 0)
			fail("nothing within 20 s: %d sent, %d received", sent, received);
		if (!PQconsumeInput(c))
			fail("read: %s", PQerrorMessage(c));
		received = receive_some(c, received, &syncs);
	}
	if (PQsetnonblocking(c, 0) != 0 || !PQexitPipelineMode(c))
		fail("exit: %s", PQerrorMessage(c));
	wants(c, "SELECT count(*) FROM items", NULL, "5000");
}

/* pipeline_errors: an error ends its segment alone, and what was under way behind it is told so. */
static void pipeline_errors(PGconn *c)
{
	static const char *const statements[] = {"INSERT INTO items VALUES (5001, 'kept')", NULL, "INSERT INTO items VALUES (5002, 'lost')",
		"INSERT INTO items VALUES (1, 'twice')", "SELECT 1", "SELECT 2", NULL, "INSERT INTO items VALUES (5003, 'kept')", NULL};
	static const ExecStatusType results[] = {PGRES_COMMAND_OK, PGRES_PIPELINE_SYNC, PGRES_COMMAND_OK, PGRES_FATAL_ERROR,
		PGRES_PIPELINE_ABORTED, PGRES_PIPELINE_ABORTED, PGRES_PIPELINE_SYNC, PGRES_COMMAND_OK, PGRES_PIPELINE_SYNC};
	enum { COUNT = sizeof statements / sizeof *statements };

	if (!PQenterPipelineMode(c))
		fail("enter: %s", PQerrorMessage(c));
	for (int i = 0; i < COUNT; i++) {
		if (statements[i] == NULL ? !PQpipelineSync(c) : !PQsendQueryParams(c, statements[i], 0, NULL, NULL, NULL, NULL, 0))
			fail("send %d: %s", i, PQerrorMessage(c));
	}
	for (int i = 0; i < COUNT; i++) {
		PQclear(expect(c, PQgetResult(c), results[i]));
		if (results[i] != PGRES_PIPELINE_SYNC && PQgetResult(c) != NULL)
			fail("statement %d has two results", i);
	}
	/* Without a Sync a Flush request brings the results; the transaction is open all along. */
	if (!PQsendQueryParams(c, "INSERT INTO items VALUES (5004, 'rolled back')", 0, NULL, NULL, NULL, NULL, 0) ||
		!PQsendQueryParams(c, "SELECT count(*) FROM items WHERE n > 5000", 0, NULL, NULL, NULL, NULL, 0) || !PQsendFlushRequest(c) || PQflush(c) != 0)
		fail("send: %s", PQerrorMessage(c));
	PQclear(next_result(c, PGRES_COMMAND_OK));
	PGresult *r = next_result(c, PGRES_TUPLES_OK);
	if (strcmp(PQgetvalue(r, 0, 0), "3") != 0)
		fail("%s rows within the pipeline", PQgetvalue(r, 0, 0));
	PQclear(r);
	if (!PQsendQueryParams(c, "SELECT 1/0", 0, NULL, NULL, NULL, NULL, 0) || !PQpipelineSync(c))
		fail("send: %s", PQerrorMessage(c));
	refused(c, PQgetResult(c), "22012");
	if (PQgetResult(c) != NULL)
		fail("two results of an error");
	PQclear(expect(c, PQgetResult(c), PGRES_PIPELINE_SYNC));
	if (!PQexitPipelineMode(c))
		fail("exit: %s", PQerrorMessage(c));
	wants(c, "SELECT count(*) FROM items WHERE n > 5000", NULL, "2");
}

static void single_rows(PGconn *c)
{
	long sum = 0;
	PGresult *r;

	if (!PQsendQueryParams(c, "SELECT n, repeat('x', 100) FROM items ORDER BY n", 0, NULL, NULL, NULL, NULL, 0) || !PQsetSingleRowMode(c))
		fail("%s", PQerrorMessage(c));
	while ((r = PQgetResult(c)) != NULL) {
		if (PQresultStatus(r) == PGRES_SINGLE_TUPLE)
			sum += atol(PQgetvalue(r, 0, 0));
		else
			expect(c, r, PGRES_TUPLES_OK);
		PQclear(r);
	}
	if (sum != 5000L * 4999 / 2 + 5001 + 5003)
		fail("the sum of all rows is %ld", sum);
	/* An error behind some rows. */
	if (!PQsendQuery(c, "SELECT 1 / (n - 1000) FROM items ORDER BY n") || !PQsetSingleRowMode(c))
		fail("%s", PQerrorMessage(c));
	for (sum = 0; (r = PQgetResult(c)) != NULL && PQresultStatus(r) == PGRES_SINGLE_TUPLE; sum++)
		PQclear(r);
	refused(c, r, "22012");
	if (PQgetResult(c) != NULL || sum > 1000)
		fail("%ld rows before the error", sum);
	wants(c, "SELECT 1", NULL, "1");
}

/* binary sends and receives a large value as it is. */
static void binary(PGconn *c)
{
	enum { SIZE = 8 * 1024 * 1024 };
	char *content = malloc(SIZE);
	const char *values[] = {content};
	const int lengths[] = {SIZE}, formats[] = {1};
	PGresult *r;

	if (content == NULL)
		fail("out of memory");
	for (int i = 0; i < SIZE; i++)
		content[i] = (char) (i * 31 >> 3);
	PQclear(expect(c, PQexecParams(c, "INSERT INTO files VALUES ('large', $1::bytea)", 1, NULL, values, lengths, formats, 1), PGRES_COMMAND_OK));
	r = expect(c, PQexecParams(c, "SELECT content, NULL::text FROM files WHERE name = 'large'", 0, NULL, NULL, NULL, NULL, 1), PGRES_TUPLES_OK);
	if (PQgetlength(r, 0, 0) != SIZE || memcmp(PQgetvalue(r, 0, 0), content, SIZE) != 0 || !PQgetisnull(r, 0, 1))
		fail("the value came back as %d other bytes", PQgetlength(r, 0, 0));
	PQclear(r);
	free(content);
	r = expect(c, PQdescribePrepared(c, "piped"), PGRES_COMMAND_OK);
	if (PQnparams(r) != 1 || PQparamtype(r, 0) != 23 || PQnfields(r) != 1 || strcmp(PQfname(r, 0), "n") != 0)
		fail("describe: %d parameters, %d columns", PQnparams(r), PQnfields(r));
	PQclear(r);
	refused(c, PQexecPrepared(c, "never prepared", 0, NULL, NULL, NULL, 0), "26000");
	refused(c, PQprepare(c, "piped", "SELECT 1", 0, NULL), "42P05");
}

static void copies(PGconn *c)
{
	char line[64];
	char *row;
	int length, rows = 0;

	PQclear(expect(c, PQexec(c, "COPY items FROM STDIN"), PGRES_COPY_IN));
	for (int i = 10000; i < 40000; i++) {
		length = snprintf(line, sizeof line, "%d\tline %d\n", i, i);
		if (PQputCopyData(c, line, length) != 1)
			fail("put: %s", PQerrorMessage(c));
	}
	if (PQputCopyEnd(c, NULL) != 1)
		fail("end: %s", PQerrorMessage(c));
	PQclear(next_result(c, PGRES_COMMAND_OK));
	PQclear(expect(c, PQexec(c, "COPY items FROM STDIN"), PGRES_COPY_IN));
	if (PQputCopyData(c, "50000\tx\n", 8) != 1 || PQputCopyEnd(c, "changed my mind") != 1)
		fail("give up: %s", PQerrorMessage(c));
	refused(c, PQgetResult(c), "57014");
	while (PQgetResult(c) != NULL)
		fail("more than one result");
	PQclear(expect(c, PQexec(c, "COPY (SELECT * FROM items WHERE n >= 10000) TO STDOUT"), PGRES_COPY_OUT));
	while ((length = PQgetCopyData(c, &row, 0)) > 0) {
		rows++;
		PQfreemem(row);
	}
	if (length != -1 || rows != 30000)
		fail("%d rows came out: %s", rows, PQerrorMessage(c));
	PQclear(next_result(c, PGRES_COMMAND_OK));
}

static void *cancel_soon(void *cancel)
{
	static char error[256];
	const struct timespec soon = {.tv_nsec = 100 * 1000 * 1000};

	nanosleep(&soon, NULL);
	return PQcancel(cancel, error, sizeof error) ? NULL : error;
}

static void cancels(PGconn *c)
{
	PGconn *other = open_connection();

	for (int i = 0; i < 5; i++) {
		PGcancel *cancel = PQgetCancel(c);
		pthread_t thread;
		void *error;

		if (pthread_create(&thread, NULL, cancel_soon, cancel) != 0)
			fail("no thread");
		refused(c, PQexec(c, "SELECT pg_sleep(30)"), "57014");
		pthread_join(thread, &error);
		if (error != NULL)
			fail("cancel: %s", (char *) error);
		PQfreeCancel(cancel);
		wants(c, "SELECT 1", NULL, "1");
		wants(other, "SELECT 2", NULL, "2");
	}
	/* In a pipeline: the statement that runs is ended, and what follows it in its segment. */
	if (!PQenterPipelineMode(c) || !PQsendQueryParams(c, "SELECT pg_sleep(30)", 0, NULL, NULL, NULL, NULL, 0) ||
		!PQsendQueryParams(c, "SELECT 1", 0, NULL, NULL, NULL, NULL, 0) || !PQpipelineSync(c))
		fail("send: %s", PQerrorMessage(c));
	PGcancel *cancel = PQgetCancel(c);
	char *error = cancel_soon(cancel);
	if (error != NULL)
		fail("cancel: %s", error);
	PQfreeCancel(cancel);
	refused(c, PQgetResult(c), "57014");
	if (PQgetResult(c) != NULL)
		fail("two results of an error");
	PQclear(next_result(c, PGRES_PIPELINE_ABORTED));
	PQclear(expect(c, PQgetResult(c), PGRES_PIPELINE_SYNC));
	if (!PQexitPipelineMode(c))
		fail("exit: %s", PQerrorMessage(c));
	PQfinish(other);
}

static void notifications(PGconn *c)
{
	PGconn *other = open_connection();

	run(c, "LISTEN libpq_channel");
	for (int i = 0; i < 5; i++) {
		PGnotify *n = NULL;
		char payload[16];

		snprintf(payload, sizeof payload, "%d", i);
		wants(other, "SELECT pg_notify('libpq_channel', $1) IS NOT NULL", payload, "t");
		while (n == NULL) {
			struct pollfd p = {.fd = PQsocket(c), .events = POLLIN};

			if (poll(&p, 1, 20000) <= 0 || !PQconsumeInput(c))
				fail("nothing was heard: %s", PQerrorMessage(c));
			n = PQnotifies(c);
		}
		if (strcmp(n->extra, payload) != 0)
			fail("heard %s, want %s", n->extra, payload);
		PQfreemem(n);
	}
	run(c, "UNLISTEN *");
	PQfinish(other);
}

/* kinds_of_servers: all of a cluster is one primary to its clients. */
static void kinds_of_servers(PGconn *c)
{
	static const char *const accepted[] = {"any", "read-write", "primary", "prefer-standby"}, *const refused_kinds[] = {"read-only", "standby"};
	char with[512];

	(void) c;
	for (size_t i = 0; i < sizeof accepted / sizeof *accepted; i++) {
		PGconn *one;

		snprintf(with, sizeof with, "%s?target_session_attrs=%s", url, accepted[i]);
		if (PQstatus(one = PQconnectdb(with)) != CONNECTION_OK)
			fail("%s: %s", accepted[i], PQerrorMessage(one));
		PQfinish(one);
	}
	for (size_t i = 0; i < sizeof refused_kinds / sizeof *refused_kinds; i++) {
		PGconn *one;

		snprintf(with, sizeof with, "%s?target_session_attrs=%s", url, refused_kinds[i]);
		if (PQstatus(one = PQconnectdb(with)) == CONNECTION_OK)
			fail("%s was accepted", refused_kinds[i]);
		PQfinish(one);
	}
}

static int notices;

static void count_notice(void *arg, const PGresult *r)
{
	(void) arg;
	(void) r;
	notices++;
}

static void session_state(PGconn *c)
{
	PGconn *other = open_connection();

	PQsetNoticeReceiver(c, count_notice, NULL);
	run(c, "DO $$ BEGIN RAISE NOTICE 'yes'; END $$");
	if (notices != 1)
		fail("%d notices", notices);
	run(c, "DISCARD ALL");
	refused(c, PQexecPrepared(c, "piped", 0, NULL, NULL, NULL, 0), "26000");
	run(c, "BEGIN; SET LOCAL work_mem = '6MB'; CREATE TEMP TABLE mine (n int) ON COMMIT DROP; INSERT INTO mine VALUES (1)");
	if (PQtransactionStatus(c) != PQTRANS_INTRANS)
		fail("no transaction");
	wants(c, "SELECT n || current_setting('work_mem') FROM mine", NULL, "16MB");
	refused(c, PQexec(c, "SELECT * FROM nowhere"), "42P01");
	if (PQtransactionStatus(c) != PQTRANS_INERROR)
		fail("the transaction has not failed");
	run(c, "ROLLBACK");
	wants(c, "SHOW work_mem", NULL, "4MB");
	run(c, "SET application_name = 'ett namn'");
	if (strcmp(PQparameterStatus(c, "application_name"), "ett namn") != 0)
		fail("application_name is %s", PQparameterStatus(c, "application_name"));
	if (PQsetClientEncoding(c, "LATIN1") != 0 || strcmp(PQparameterStatus(c, "client_encoding"), "LATIN1") != 0)
		fail("client_encoding is %s", PQparameterStatus(c, "client_encoding"));
	wants(c, "SELECT '\xe9'::text = chr(233)", NULL, "t");
	wants(other, "SELECT current_setting('client_encoding') FROM items LIMIT 1", NULL, "UTF8");
	if (PQsetClientEncoding(c, "UTF8") != 0)
		fail("client_encoding: %s", PQerrorMessage(c));
	/* PQreset logs in again, with the same parameters. */
	PQreset(other);
	if (PQstatus(other) != CONNECTION_OK || PQserverVersion(other) < 120000)
		fail("reset: %s", PQerrorMessage(other));
	wants(other, "SELECT 1", NULL, "1");
	PQfinish(other);
}

enum { SESSIONS = 5 };

/* work writes and reads in a pipeline on each connection, and by a prepared statement. */
static void work(PGconn **c, int around)
{
	for (int i = 0; i < SESSIONS; i++) {
		char n[16];
		const char *values[] = {n};
		PGresult *r;

		snprintf(n, sizeof n, "%d", 60000 + 100 * around + i);
		if (!PQenterPipelineMode(c[i]) || !PQsendQueryParams(c[i], "BEGIN", 0, NULL, NULL, NULL, NULL, 0) ||
			!PQsendQueryParams(c[i], "INSERT INTO items VALUES ($1, 'around')", 1, NULL, values, NULL, NULL, 0) ||
			!PQsendQueryParams(c[i], "COMMIT", 0, NULL, NULL, NULL, NULL, 0) || !PQpipelineSync(c[i]))
			fail("send: %s", PQerrorMessage(c[i]));
		for (int k = 0; k < 3; k++)
			PQclear(next_result(c[i], PGRES_COMMAND_OK));
		PQclear(expect(c[i], PQgetResult(c[i]), PGRES_PIPELINE_SYNC));
		if (!PQexitPipelineMode(c[i]))
			fail("exit: %s", PQerrorMessage(c[i]));
		r = expect(c[i], PQexecPrepared(c[i], "around", 1, values, NULL, NULL, 0), PGRES_TUPLES_OK);
		if (PQntuples(r) != 1 || strcmp(PQgetvalue(r, 0, 0), "around7MB") != 0)
			fail("session %d reads %s", i, PQntuples(r) > 0 ? PQgetvalue(r, 0, 0) : "nothing");
		PQclear(r);
	}
}

static void restart(PGconn *c)
{
	PGconn *sessions[SESSIONS];
	char answer[32];

	(void) c;
	for (int i = 0; i < SESSIONS; i++) {
		sessions[i] = open_connection();
		run(sessions[i], "SET work_mem = '7MB'");
		PQclear(expect(sessions[i], PQprepare(sessions[i], "around", "SELECT s || current_setting('work_mem') FROM items WHERE n = $1", 1, NULL), PGRES_COMMAND_OK));
	}
	work(sessions, 0);
	puts("restart");
	fflush(stdout);
	if (fgets(answer, sizeof answer, stdin) == NULL || strcmp(answer, "restarted\n") != 0)
		fail("the primary was not restarted");
	work(sessions, 1);
	for (int i = 0; i < SESSIONS; i++)
		PQfinish(sessions[i]);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(PGconn *);
	} checks[] = {
		{"a read after a write is never stale", own_writes},
		{"10,000 statements in a pipeline, without blocking", pipeline},
		{"an error ends its segment of a pipeline alone", pipeline_errors},
		{"rows one by one, and an error behind some", single_rows},
		{"a large binary value, and what statements describe", binary},
		{"COPY both ways, and one given up", copies},
		{"a cancel request ends the connection's own statement alone", cancels},
		{"the kind of server that is asked for", kinds_of_servers},
		{"notifications wake a socket that is polled", notifications},
		{"what lives in one session stays with it", session_state},
		{"sessions outlive a restart of the primary", restart},
	};
	PGconn *c;

	if (argc != 2)
		fail("usage: libpq URL");
	url = argv[1];
	c = open_connection();
	for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
		check = checks[i].name;
		checks[i].run(c);
		printf("ok %s\n", check);
		fflush(stdout);
	}
	PQfinish(c);
	return 0;
}
