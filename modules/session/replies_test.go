package session

import "testing"

func TestAClientSeesTheSameMessagesAsFromOneServer(t *testing.T) {
	p := startProxy(t, pg, nil)
	const rows = "drop table if exists tt; create table tt (a int primary key deferrable initially deferred, b text); insert into tt values (1, 'one'), (2, 'two'), (3, 'three')"
	for _, c := range []struct{ name, script string }{
		{"a simple query", "Q select a from tt order by 1"},
		{"an empty query", "Q \nQ ;"},
		{"several statements in one query", "Q select 1; insert into tt values (9); select count(*) from tt"},
		{"an error in the middle of a query undoes all of it", "Q insert into tt values (8); select 1/0; insert into tt values (9)\nQ select count(*) from tt"},
		{"a transaction inside one query", "Q begin; insert into tt values (8); commit; select count(*) from tt\nQ select 1"},
		{"a query that commits and rolls back nothing", "Q begin; insert into tt values (8); commit; rollback\nQ select count(*) from tt"},
		{"a transaction", "Q begin\nQ select count(*) from tt\nQ insert into tt values (5)\nQ commit\nQ select count(*) from tt"},
		{"an empty transaction", "Q begin\nQ commit\nQ start transaction\nQ rollback\nQ begin read only\nQ end\nQ begin\nQ abort"},
		{"BEGIN twice", "Q begin\nQ begin\nQ rollback"},
		{"COMMIT without a transaction", "Q commit\nQ rollback"},
		{"a failed transaction", "Q begin\nQ select 1/0\nQ select 1\nQ commit\nQ select 1"},
		{"a transaction whose first statement fails to parse", "Q begin\nQ selekt 1\nQ select 1\nQ rollback"},
		{"a deferred constraint fails COMMIT", "Q begin\nQ insert into tt values (1)\nQ commit\nQ select count(*) from tt"},
		{"COMMIT AND CHAIN", "Q begin\nQ insert into tt values (7)\nQ commit and chain\nQ insert into tt values (8)\nQ rollback\nQ select count(*) from tt"},
		{"savepoints", "Q begin\nQ savepoint a\nQ insert into tt values (7)\nQ rollback to a\nQ release a\nQ commit\nQ select count(*) from tt"},
		{"SET TRANSACTION after BEGIN", "Q begin\nQ set transaction read only\nQ insert into tt values (7)\nQ rollback"},
		{"SET TRANSACTION READ WRITE after BEGIN READ ONLY", "Q begin read only\nQ set transaction read write\nQ insert into tt values (7)\nQ rollback"},
		{"a SERIALIZABLE READ ONLY transaction", "Q begin isolation level serializable read only\nQ select count(*) from tt\nQ commit"},
		{"DISCARD ALL inside a transaction", "Q begin\nQ discard all\nQ rollback\nQ discard all"},
		{"notices", "Q do $$ begin raise notice 'hello'; end $$\nQ drop table if exists nosuchtable"},
		{"a cursor", "Q begin\nQ declare c cursor for select a from tt order by 1\nQ fetch 2 from c\nQ move 1 in c\nQ close c\nQ commit"},
		{"a cursor that outlives its transaction", "Q begin\nQ declare c cursor with hold for select a from tt order by 1\nQ commit\nQ fetch 2 from c\nQ close c\nQ fetch c"},
		{"SHOW", "Q show server_encoding\nQ show nosuchsetting\nQ show timezone"},
		{"SET reports", "Q set timezone = 'Europe/Berlin'\nQ show timezone\nQ reset timezone\nQ show timezone\nQ set application_name = 'x'\nQ select 1 from tt where a = 1"},
		{"SQL PREPARE", "Q prepare s (int) as select $1 + 1\nQ execute s (2)\nQ deallocate s\nQ execute s (2)"},
		{"a query after an extended segment without Sync", "P - select 1\nB - -\nE - 0 \\\nQ select 2\nS"},
		{"a query after a failed segment without Sync is ignored", "P - select 1/0\nB - -\nE - 0 \\\nQ select 2 \\\nS\nQ select 3"},
	} {
		t.Run(c.name, func(t *testing.T) { same(t, p, rows, c.script) })
	}
}

func TestExtendedMessagesAreAnsweredAsByOneServer(t *testing.T) {
	p := startProxy(t, pg, nil)
	const rows = "drop table if exists te; create table te (a int primary key, b text); insert into te values (1, 'one'), (2, 'two'), (3, 'three')"
	for _, c := range []struct{ name, script string }{
		{"Sync alone", "S\nS"},
		{"Flush alone", "H\nS"},
		{"a statement with a parameter", "P - select b from te where a = $1\nB - - 2\nD P -\nE - 0\nS"},
		{"Describe of a statement", "P - select b from te where a = $1\nD S -\nS"},
		{"prepare, then execute", "P s select b from te where a = $1\nD S s\nS\nB - s 2\nE - 0\nS\nB - s 3\nE - 0\nS"},
		{"prepare with Flush, then execute", "P s select b from te where a = $1\nD S s\nH\nB - s 2\nE - 0\nS"},
		{"a row limit within a transaction", "Q begin\nP - select a from te order by 1\nB p -\nE p 1\nH\nE p 1\nS\nE p 5\nS\nQ commit"},
		{"a row limit ends with its segment", "P - select a from te order by 1\nB p -\nE p 1\nS\nE p 1\nS"},
		{"portals interleaved", "P - select a from te order by 1\nB p -\nB q -\nE p 1\nE q 2\nE p 1\nC P p\nE q 1\nS"},
		{"an empty statement", "P - \nB - -\nD P -\nE - 0\nS"},
		{"an error skips to Sync", "P - select 1/0\nB - -\nE - 0\nP - select 2\nB - -\nE - 0\nS\nP - select 3\nB - -\nE - 0\nS"},
		{"an error at Parse", "P s selekt\nB - s\nS\nB - s\nS"},
		{"an error after Flush skips to Sync", "P - select 1/0\nB - -\nE - 0\nH\nP - select 2\nH\nS"},
		{"several segments at once", "P - select 1\nB - -\nE - 0\nS \\\nP - select 1/0\nB - -\nE - 0\nS \\\nP - select 3\nB - -\nE - 0\nS"},
		{"a pipeline is one transaction", "P - insert into te values (7)\nB - -\nE - 0\nP - select count(*) from te\nB - -\nE - 0\nS\nQ select count(*) from te"},
		{"an error rolls a pipeline back", "P - insert into te values (7)\nB - -\nE - 0\nP - select 1/0\nB - -\nE - 0\nS\nQ select count(*) from te"},
		{"a pipeline with Flush in it", "P - insert into te values (7)\nB - -\nE - 0\nH\nP - select count(*) from te\nB - -\nE - 0\nS\nQ select count(*) from te"},
		{"BEGIN and COMMIT as statements", "P - begin\nB - -\nD P -\nE - 0\nS\nP - select 1 from te where a = 1\nB - -\nE - 0\nS\nP - commit\nB - -\nE - 0\nS"},
		{"BEGIN prepared under a name", "P b begin\nD S b\nS\nB - b\nE - 0\nS\nP c commit\nS\nB - c\nE - 0\nS\nB - b\nE - 0\nS\nQ rollback"},
		{"BEGIN, statement and COMMIT in one pipeline", "P - begin\nB - -\nE - 0\nP - insert into te values (7)\nB - -\nE - 0\nP - commit\nB - -\nE - 0\nS\nQ select count(*) from te"},
		{"Describe of BEGIN in the same batch", "P b begin\nD S b\nB - b\nD P -\nE - 0\nS\nQ rollback"},
		{"BEGIN with a parameter too many", "P - begin\nB - - 1\nE - 0\nS\nQ select 1"},
		{"BEGIN bound to one portal and run from another", "P - begin\nB p -\nE q 0\nS\nQ select 1"},
		{"BEGIN executed before it is bound", "P - begin\nE - 0\nB - -\nS\nQ select 1"},
		{"BEGIN closed after it ran", "P b begin\nB - b\nE - 0\nC P -\nS\nC S b\nS\nQ rollback\nB - b\nS"},
		{"prepare in a transaction that has not begun", "Q begin\nP s select 1\nD S s\nS\nB - s\nE - 0\nS\nQ commit"},
		{"a failed Parse in a transaction that has not begun", "Q begin\nP s selekt 1\nS\nP s select 1\nS\nQ select 1\nQ rollback"},
		{"FETCH through the extended protocol", "Q begin\nQ declare c cursor for select a from te order by 1\nP - fetch 2 from c\nB - -\nD P -\nE - 0\nS\nQ commit"},
		{"a failed transaction refuses Bind and takes ROLLBACK", "Q begin\nQ select 1/0\nP - select 1\nS\nP - rollback\nB - -\nE - 0\nS"},
		{"a warning at Execute", "P - rollback\nB - -\nE - 0\nS"},
		{"a notice in a pipeline", "P - do $$ begin raise notice 'x'; end $$\nB - -\nE - 0\nS"},
		{"SET through the extended protocol", "P - select set_config('app.x', $1, false)\nB - - one\nE - 0\nS\nQ select current_setting('app.x')"},
		{"a Sync before the reply to the Parse", "P s select 1\nS \\\nB - s\nE - 0\nS \\\nC S s\nS"},
		{"parameter types declared", "P - (20) select $1\nB - - 5\nD P -\nE - 0\nS\nP - (25) select $1\nB - - 5\nD P -\nE - 0\nS"},
		{"too few parameters", "P - select $1::int\nB - -\nE - 0\nS"},
		{"Describe of what is not there", "D S nosuch\nS\nD P nosuch\nS\nD S -\nS\nD P -\nS"},
	} {
		t.Run(c.name, func(t *testing.T) { same(t, p, rows, c.script) })
	}
}
