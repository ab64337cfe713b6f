package pgsql

import (
	"slices"
	"testing"
)

func TestWhatTheWordsOfABodyLeaveBehind(t *testing.T) {
	for body, want := range map[string]Traces{
		"BEGIN UPDATE t SET a = 1 WHERE b = 2; END":                                     0,
		"BEGIN PERFORM 1; SET search_path = x; END":                                     SetsSettings,
		"BEGIN\n-- why\nSET a.b = 'c'; END":                                             SetsSettings,
		"BEGIN /* why */ SET a.b = 'c'; END":                                            SetsSettings,
		"BEGIN /****\n * why\n ****/ SET a.b = 'c'; END":                                SetsSettings,
		"BEGIN UPDATE t /* the table */ SET a = 1; END":                                 0,
		"BEGIN UPDATE t -- the table\n SET a = 1; END":                                  0,
		"BEGIN\n-- why\nSET LOCAL a.b = 'c'; END":                                       0,
		"BEGIN SET TRANSACTION READ ONLY; SET CONSTRAINTS ALL DEFERRED; END":            0,
		"BEGIN IF a THEN RESET work_mem; END IF; END":                                   SetsSettings,
		"BEGIN PERFORM set_config('a.b', 'c', false); END":                              SetsSettings,
		"BEGIN PERFORM set_config('a.b', f(1, 2), true); END":                           0,
		"BEGIN PERFORM pg_catalog.\"set_config\"('a.b', 'c,d)', is_local => true); END": 0,
		"SELECT Set_Config('a.b', 'c', $1)":                                             SetsSettings,
		"BEGIN CREATE TEMPORARY TABLE x (a int); END":                                   HoldsState,
		"BEGIN CREATE TABLE pg_temp.x (a int); END":                                     HoldsState,
		"BEGIN PERFORM pg_advisory_lock(1); END":                                        HoldsState,
		"BEGIN PERFORM pg_advisory_xact_lock(1); END":                                   0,
		"BEGIN EXECUTE 'SET work_mem = 1'; END":                                         SetsSettings | RunsText | HoldsState,
		"BEGIN EXECUTE format($f$SET %I = 1$f$, n); END":                                SetsSettings | RunsText | HoldsState,
		"BEGIN EXECUTE 'INSERT INTO ' || n || ' VALUES (1)'; END":                       RunsText | HoldsState,
		"BEGIN INSERT INTO t VALUES (1) ON CONFLICT DO UPDATE SET a = 1; END":           0,
		"SELECT setseed(0.5)":                                                           Loads,
		"BEGIN LOAD 'auto_explain'; END":                                                Loads,
		"BEGIN DEALLOCATE ALL; END":                                                     Deallocates,
		"SELECT query_to_xml(q, true, true, '')":                                        RunsText | HoldsState,
		"BEGIN template := 1; reload := 2; END":                                         0,
	} {
		if got := ReadCode([]byte(body), func([]byte) {}).Traces; got != want {
			t.Errorf("%s: %b, want %b", body, got, want)
		}
	}
}

func TestTheWordsOfABody(t *testing.T) {
	c := New(Options{}).Classify([]byte("DO $$BEGIN PERFORM App.F(1 ===-2); /*c*/ END$$"))
	if want := []string{"1", "2", "===", "===-", "app", "begin", "c", "end", "f", "perform"}; !c.Do || !slices.Equal(c.Code.Words, want) {
		t.Errorf("%v %q", c.Do, c.Code.Words)
	}
	for sql, want := range map[string]bool{"DO $$BEGIN DELETE FROM t; END$$": true, "DO $$BEGIN PERFORM * FROM t; END$$": false} {
		if c := New(Options{}).Classify([]byte(sql)); c.Code.Writes != want {
			t.Errorf("%s: writes %v", sql, c.Code.Writes)
		}
	}
	for _, sql := range []string{"DO LANGUAGE plpython3u $$pass$$", "DO $$BEGIN END$$; SELECT 1"} {
		if New(Options{}).Classify([]byte(sql)).Do {
			t.Errorf("%s is one DO that is read", sql)
		}
	}
	if c := New(Options{}).Classify([]byte("CALL app.p(1)")); !c.Call || len(c.Functions) != 1 || c.Functions[0] != "app.p" {
		t.Errorf("CALL: %+v", c)
	}
}

func TestWhichBuiltInFunctionsLeaveTraces(t *testing.T) {
	for traces, name := range map[Traces]string{SetsSettings: "set_config", HoldsState: "pg_try_advisory_lock", Loads: "setseed", RunsText: "ts_stat"} {
		if list := Leaving(traces); !slices.Contains(list, name) || slices.Contains(list, "pg_advisory_xact_lock") {
			t.Errorf("%b: %q", traces, list)
		}
	}
}
