//go:build cgo

package pgsql

import pgquery "github.com/pganalyze/pg_query_go/v6"

// scan returns the tokens of PostgreSQL's own scanner.
func scan(sql string) (*pgquery.ScanResult, error) { return pgquery.Scan(sql) }
