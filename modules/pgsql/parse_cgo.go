//go:build cgo

package pgsql

import pgquery "github.com/pganalyze/pg_query_go/v6"

const parserName = "pg_query cgo"

// parse returns the tree of a text without NUL bytes, of bounded nesting.
func parse(sql string) (*pgquery.ParseResult, error) { return pgquery.Parse(sql) }
