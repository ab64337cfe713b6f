//go:build !cgo

package pgsql

import (
	pgquery "github.com/pganalyze/pg_query_go/v6"
	wasmquery "github.com/wasilibs/go-pgquery"
)

// scan returns the tokens of PostgreSQL's own scanner.
func scan(sql string) (*pgquery.ScanResult, error) { return wasmquery.Scan(sql) }
