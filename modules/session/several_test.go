package session

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// A text is refused as a whole: the client must not be told of anything in front of a wrong SET that was not done.
func TestNothingRunsOfATextWithAWrongSettingOfOurs(t *testing.T) {
	p := startProxy(t, pg, toPrimary)
	c, other := p.connect(t, ""), p.connect(t, "")
	table(t, p, c, "several", "a int")
	for sql, status := range map[string]byte{
		"begin; insert into several values (1); commit; set fairway.route = 'x'":         'I',
		"insert into several values (2); set fairway.min_lsn = 'soon'":                   'I',
		"set fairway.route = 'primary'; set fairway.consistency = 'none'":                'I',
		"begin; insert into several values (3); set fairway.route = 'x'":                 'I',
		"insert into several values (4); commit; begin; set local fairway.min_lsn = 'x'": 'I',
	} {
		results, err := c.PgConn().Exec(t.Context(), sql).ReadAll()
		sqlstate(t, err, pgwire.CodeInvalidParameterValue)
		for _, r := range results {
			if tag := r.CommandTag.String(); tag != "" {
				t.Errorf("%s: the client was told %s", sql, tag)
			}
		}
		if got := c.PgConn().TxStatus(); got != status {
			t.Errorf("%s: the status is %c", sql, got)
		}
		if got := value[string](t, c, "show fairway.route", pgx.QueryExecModeSimpleProtocol); got != "auto" && got != "primary" {
			t.Errorf("%s: fairway.route is %s", sql, got)
		}
	}
	if rows, _ := where(t, other, "several"); rows != 0 {
		t.Errorf("%d rows", rows)
	}
}
