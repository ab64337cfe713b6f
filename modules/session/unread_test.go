package session

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fairwaydb/fairway/modules/cluster"
)

// Without a catalog nobody reads what functions do, and what they PREPARE must not reach the next client all the same.
func TestWhatUnreadCodePreparesReachesNobodyElse(t *testing.T) {
	p := startProxy(t, pg, func(c *cluster.Config, o *Options) {
		toPrimary(c, o)
		c.Catalog = "off"
	})
	first := p.connect(t, "default_query_exec_mode=simple_protocol")
	exec(t, first, "create or replace function prepares() returns int language plpgsql as $$begin execute 'prepare unread as select 1'; return 1; end$$")
	second := p.connect(t, "")
	const shared = "select $1::int + 1"
	if got := value[int](t, second, shared, pgx.QueryExecModeCacheStatement, 1); got != 2 {
		t.Fatalf("got %d", got)
	}

	exec(t, first, "select prepares()")
	_, err := second.Exec(t.Context(), "execute unread", pgx.QueryExecModeSimpleProtocol)
	sqlstate(t, err, "26000")
	exec(t, first, "select prepares()") // again: it is not there any more
	if got := value[int](t, second, shared, pgx.QueryExecModeCacheStatement, 2); got != 3 {
		t.Errorf("a shared statement returns %d", got)
	}
	exec(t, first, "select prepares()")
	exec(t, second, "prepare unread as select 2", pgx.QueryExecModeSimpleProtocol)
	if got := value[int](t, second, "execute unread", pgx.QueryExecModeSimpleProtocol); got != 2 {
		t.Errorf("EXECUTE returns %d", got)
	}
}
