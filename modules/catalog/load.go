package catalog

import (
	"context"
	_ "embed"
	"fmt"
	"strings"
	"sync"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgsql"
)

// loadSQL returns rows of kind, schema and name. $1 are the functions of pg_catalog that only read, $2 those that do
// more, both whatever their volatility says.
//
//go:embed load.sql
var loadSQL string

// signalSQL returns one number that moves when the catalogs change that loadSQL reads. It is cheap, but the counters
// come late: a server process reports them when its transaction ends, at most once a second, and what is left over
// when it has been idle for ten. See https://www.postgresql.org/docs/current/monitoring-stats.html.
const signalSQL = `SELECT string_agg((pg_stat_get_tuples_inserted(c) + pg_stat_get_tuples_updated(c) + pg_stat_get_tuples_deleted(c))::text, ',')
 FROM unnest('{pg_proc,pg_class,pg_rewrite,pg_operator,pg_cast,pg_policy,pg_type,pg_aggregate,pg_inherits,pg_namespace,pg_constraint,pg_depend,pg_trigger,pg_attrdef}'::regclass[]) c`

// builtins are the parameters of loadSQL.
var builtins = sync.OnceValue(func() []string {
	return []string{array(pgsql.Harmless()), array(pgsql.Harmful())}
})

// array writes names of letters, digits and underscores as an array literal.
func array(names []string) string { return "{" + strings.Join(names, ",") + "}" }

// querier is what facts are read from.
type querier interface {
	Query(ctx context.Context, name, sql string, args []string, row func(values [][]byte) error) error
}

// load reads all facts of a database.
func load(ctx context.Context, q querier) (*Facts, error) {
	f := &Facts{Since: cluster.Now(), reads: names{}, writes: names{}, relations: names{}, operators: names{}, types: names{}}
	err := q.Query(ctx, "", loadSQL, builtins(), func(values [][]byte) error {
		if len(values) != 3 || len(values[0]) != 1 {
			return fmt.Errorf("catalog: a row of %d columns", len(values))
		}
		schema, name := string(values[1]), string(values[2])
		switch values[0][0] {
		case 'f':
			f.reads.add(schema, name)
		case 'w':
			f.writes.add(schema, name)
		case 'r':
			f.relations.add(schema, name)
		case 'o':
			f.operators.add(schema, name)
		case 't':
			f.types.add(schema, name)
		case 'a':
			f.all = true
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read catalog: %w", err)
	}
	if err := f.loadTraces(ctx, q); err != nil {
		return nil, err
	}
	for name := range f.writes { // one overload that writes is enough
		delete(f.reads, name)
	}
	return f, nil
}

// signalOf reads the number that moves when the catalogs change.
func signalOf(ctx context.Context, q querier, prepared bool) (string, error) {
	sql := signalSQL
	if prepared {
		sql = ""
	}
	var signal string
	err := q.Query(ctx, "signal", sql, nil, func(values [][]byte) error {
		if len(values) == 1 {
			signal = string(values[0])
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("look for changes of the catalog: %w", err)
	}
	return signal, nil
}
