package pgsql

import "testing"

func TestWhatADOLeavesBehind(t *testing.T) {
	for sql, want := range map[string]struct{ do, sets, holds bool }{
		"DO $$BEGIN UPDATE t SET a = 1 WHERE b = 2; END$$":                           {true, false, false},
		"DO $$BEGIN PERFORM 1; SET search_path = x; END$$":                           {true, true, false},
		"DO $$BEGIN\n-- why\nSET LOCAL a.b = 'c'; END$$":                             {true, true, false},
		"DO 'BEGIN PERFORM set_config(''a.b'', ''c'', false); END'":                  {true, true, false},
		"DO $$BEGIN CREATE TEMPORARY TABLE x (a int); END$$":                         {true, false, true},
		"DO $$BEGIN PERFORM pg_advisory_lock(1); END$$":                              {true, false, true},
		"DO $$BEGIN EXECUTE 'SET work_mem = 1'; END$$":                               {true, true, true},
		"DO $$BEGIN INSERT INTO t VALUES (1) ON CONFLICT DO UPDATE SET a = 1; END$$": {true, false, false},
		"DO LANGUAGE plpython3u $$pass$$":                                            {false, false, false},
		"DO $$BEGIN END$$; SELECT 1":                                                 {false, false, false},
	} {
		c := New(Options{}).Classify([]byte(sql))
		if c.Do != want.do || c.Do && (c.DoSets != want.sets || c.DoHolds != want.holds) {
			t.Errorf("%s: do %v, sets %v, holds %v", sql, c.Do, c.DoSets, c.DoHolds)
		}
	}
	if c := New(Options{}).Classify([]byte("CALL app.p(1)")); !c.Call || len(c.Functions) != 1 || c.Functions[0] != "app.p" {
		t.Errorf("CALL: %+v", c)
	}
}
