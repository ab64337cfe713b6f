//go:build !cgo

package pgsql

import (
	pgquery "github.com/pganalyze/pg_query_go/v6"
	wasmquery "github.com/wasilibs/go-pgquery"
)

const parserName = "pg_query wasm"

// parse returns the tree of a text without NUL bytes, of bounded nesting.
func parse(sql string) (*pgquery.ParseResult, error) { return wasmquery.Parse(sql) }
