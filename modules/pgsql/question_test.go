package pgsql

import "testing"

func TestRouteQuestions(t *testing.T) {
	for sql, want := range map[string]string{
		"EXPLAIN (ROUTE) SELECT 1":          "SELECT 1",
		" explain\t( route )select 1":       "select 1",
		"explain(route)\n/* c */ SELECT 1;": "/* c */ SELECT 1;",
		"EXPLAIN (ROUTE)":                   "",
	} {
		if got, ok := RouteQuestion([]byte(sql)); !ok || string(got) != want {
			t.Errorf("%q asks for %q, %v", sql, got, ok)
		}
	}
	for _, sql := range []string{
		"", "EXPLAIN SELECT 1", "EXPLAIN (ANALYZE) SELECT 1", "EXPLAIN (ROUTES) SELECT 1", "EXPLAIN (ROUTE, ANALYZE) SELECT 1", "explained (route) select 1", "EXPLAIN (route", "explain",
	} {
		if got, ok := RouteQuestion([]byte(sql)); ok {
			t.Errorf("%q asks for %q", sql, got)
		}
	}
}
