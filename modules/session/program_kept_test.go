package session

import (
	"fmt"
	"strings"
	"testing"
)

// counterexamples are shrunk programs that once got another answer through Fairway than alone, as [script] writes them.
var counterexamples = []struct{ name, script string }{
	{
		name: "COPY data that the server refuses before it has read the client's CopyFail",
		script: `client 6:
			new
			P - copy c6.u (id) from stdin \
			B - - \
			E - 0 \
			d x \
			f why \
			S
			Q select 1`,
	},
	{
		name: "a message that commits what was reset and fails after it",
		script: `client 0:
			new
			Q set datestyle to 'ISO, DMY'
			Q begin
			P - reset all \
			B - - \
			E - 0 \
			H
			P - select 1 \
			B - - \
			E - 0 \
			S
			Q end; select 1; set nosuch = 1
			Q show datestyle
			B - s2 \
			E - 0 \
			S`,
	},
	{
		name: "a DISCARD ALL that failed behind a savepoint",
		script: `client 7:
			new client_encoding=LATIN1 timezone=Europe/Berlin
			Q insert into prop_rows values (7, 0)
			Q set time zone interval '+05:00' hour to minute
			Q begin
			Q savepoint a
			Q discard all
			Q rollback to a
			Q show timezone
			Q reset timezone
			Q commit
			Q show timezone`,
	},
	{
		name: "a reset behind a savepoint that nobody went back to",
		script: `client 1:
			new search_path=prop_other
			Q begin
			Q savepoint a
			Q reset all
			Q commit
			Q show search_path`,
	},
	{
		name: "a pipeline that deallocates what it binds",
		script: `client 4:
			new
			P - select 1 \
			B - - \
			E - 0 \
			C S s1 \
			P s1 deallocate all \
			B - s1 \
			E - 0 \
			B - s1 \
			D P - \
			E - 0 \
			S \
			C S s1 \
			P s1 rollback \
			B - s1 \
			E - 0 \
			S`,
	},
	{
		name: "a name that is taken, and a text that means nothing",
		script: `client 6:
			new
			P s3 select pg_advisory_lock(7001) \
			B - s3 \
			E - 0 \
			S
			P s3 select count(*) from c6.x \
			B - s3 \
			E - 0 \
			S
			P s3 select 1 \
			S`,
	},
	{
		name: "a name that is taken, and a text that means nothing, in a failed transaction",
		script: `client 2:
			new
			P s1 select 1 \
			S
			Q begin
			Q select 1 / 0
			P s1 select from where \
			S
			P s1 select 2 \
			S
			Q rollback
			B - s1 \
			E - 0 \
			S
			client 3:
			new
			P s3 discard all \
			B - s3 \
			E - 0 \
			S
			P s3 discard all \
			B - s3 \
			E - 0 \
			S
			client 4:
			new
			P s2 call prop_commits(1, 1) \
			S
			Q set search_path to c4
			P s2 select 1 \
			S
			Q begin
			P s2 select 1 \
			S
			Q rollback`,
	},
	{
		name: "RESET of a setting of the startup packet is reported as such",
		script: `client 1:
			new application_name=prog timezone=Europe/Berlin datestyle=German
			Q reset application_name
			Q set datestyle = 'SQL, DMY'
			Q reset datestyle
			Q select date '2024-02-01'
			Q set datestyle = 'SQL, DMY'
			Q begin
			Q reset datestyle
			Q select date '2024-02-01'
			Q rollback
			Q select date '2024-02-01'
			Q set client_encoding = 'LATIN1'
			Q set timezone = 'UTC'
			Q discard all
			Q show timezone`,
	},
	{
		name: "what is drawn from a sequence is kept by a session that has asked, rolled back or not",
		script: `client 2:
			new
			Q select lastval()
			Q insert into c2.w (v) values ('a')
			Q select lastval()
			Q begin
			Q select nextval('c2.s')
			Q rollback
			Q select currval('c2.s')
			Q select nextval('c2.s'), 1 / 0
			Q select currval('c2.s')
			client 3:
			new
			Q select nextval('c3.s')
			Q select count(*) from c3.t
			client 4:
			new
			Q select lastval()
			Q select nextval('c4.s')
			Q select lastval()
			client 5:
			new
			Q select lastval()
			Q select nextval('c5.s')
			Q select lastval()`,
	},
	{
		name: "a write that a replica refuses does not hold a connection to it",
		script: `client 2:
			new
			Q select lastval()
			Q begin read only
			Q select count(*) from c2.t
			Q insert into c2.w (v) values ('a')
			Q rollback
			Q insert into c2.w (v) values ('a')
			Q vacuum c2.u`,
	},
	{
		name: "a rolled back setting of a function pins nothing",
		script: `client 0:
			new
			Q begin; select prop_set('a'); rollback
			Q begin; select prop_set('a'); rollback
			Q begin; select prop_set('a'); rollback
			Q begin; select prop_set('a'); rollback
			Q select prop_set('b')
			Q select current_setting('app.x')`,
	},
	{
		name: "a prepared statement whose table has changed or is gone does not end a session that holds its connection",
		script: `client 7:
			new
			Q create temp table tmp (a int)
			P s4 select * from c7.r \
			D S s4 \
			B - s4 \
			E - 0 \
			S
			Q alter table c7.r add column n2 int
			B - s4 \
			E - 0 \
			S
			Q drop table c7.r
			B - s4 \
			E - 0 \
			S
			Q select count(*) from tmp`,
	},
	{
		name: "what fails behind a DISCARD ALL in a pipeline does not undo it",
		script: `client 6:
			new
			P s1 select 1 \
			S
			Q set application_name to 'app7'
			P - discard all \
			B - - \
			E - 0 \
			H
			P - drop table c6.x \
			S
			Q select current_setting('application_name')
			client 5:
			new timezone=Europe/Berlin
			Q set timezone to 'UTC'
			P - discard all \
			B - - \
			E - 0 \
			P - select 1 / 0 \
			B - - \
			E - 0 \
			S
			Q show timezone`,
	},
	{
		name: "RESET ALL keeps the role also beside a DISCARD",
		script: `client 0:
			new
			Q set session authorization prop_reader
			P - reset all \
			B - - \
			E - 0 \
			P - discard temp \
			B - - \
			E - 0 \
			S
			Q select session_user, current_user
			Q select nextval('c0.s')`,
	},
	{
		name: "a Parse that fails before a Flush fails a transaction that no server knows of",
		script: `client 0:
			new
			Q begin
			P - select count(*) from nowhere \
			D S - \
			H
			B - - \
			E - 0 \
			H
			S
			Q select 1
			Q rollback`,
	},
	{
		name: "literals are read as the session that wrote them reads them",
		script: `client 0:
			new
			Q set datestyle = 'SQL, DMY'
			P s1 select '02/03/2024'::date + 1 \
			S
			B - s1 \
			E - 0 \
			S
			client 1:
			new
			Q set datestyle = 'ISO, MDY'
			P s1 select '02/03/2024'::date + 1 \
			S
			B - s1 \
			E - 0 \
			S
			client 2:
			new datestyle=ISO,DMY
			P s1 select '02/03/2024'::date + 1 \
			S
			B - s1 \
			E - 0 \
			S`,
	},
}

// programsOf reads what [script] wrote. Each client's program is one step.
func programsOf(text string) []program {
	programs := make([]program, clients)
	who := 0
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if n, err := fmt.Sscanf(line, "client %d:", &who); n == 1 && err == nil {
			programs[who] = program{nil}
			continue
		}
		programs[who][0] = append(programs[who][0], line)
	}
	return programs
}

func TestCounterexamplesStaySolved(t *testing.T) {
	st := newStage(t, pg)
	for _, c := range counterexamples {
		t.Run(c.name, func(t *testing.T) {
			p := st.proxy(t)
			for range 3 {
				found, err := st.compare(t.Context(), p, programsOf(c.script))
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range found {
					t.Error(m)
				}
			}
		})
	}
}
