package session

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// badSettings are statements that give a setting of ours a value that means nothing, with the SQLSTATE.
var badSettings = map[string]string{
	"set fairway.min_lsn = 'soon'":                                                            pgwire.CodeInvalidParameterValue,
	"set local fairway.min_lsn = '1'":                                                         pgwire.CodeInvalidParameterValue,
	"set fairway.min_lsn = '0/0/0'":                                                           pgwire.CodeInvalidParameterValue,
	"set fairway.route = 'somewhere'":                                                         pgwire.CodeInvalidParameterValue,
	"set fairway.consistency to 'perhaps'":                                                    pgwire.CodeInvalidParameterValue,
	"select set_config('fairway.min_lsn', 'x/y', true)":                                       pgwire.CodeInvalidParameterValue,
	"select set_config('fairway.route', 'nowhere', false)":                                    pgwire.CodeInvalidParameterValue,
	"set fairway.lsn = '0/5'":                                                                 pgwire.CodeCannotChangeRuntimeParam,
	"reset fairway.lsn":                                                                       pgwire.CodeCannotChangeRuntimeParam,
	"set fairway.min_lns = '0/5'":                                                             pgwire.CodeInvalidName,
	"/* route: replica */ insert into refused_writes values (1)":                              pgwire.CodeReadOnlyTransaction,
	"/* route: replica */ create table refused_more (a int)":                                  pgwire.CodeReadOnlyTransaction,
	"/* route: replica */ notify refused_writes":                                              pgwire.CodeReadOnlyTransaction,
	"/* route: replica */ truncate refused_writes":                                            pgwire.CodeReadOnlyTransaction,
	"/* route: replica */ with x as (delete from refused_writes returning a) select * from x": pgwire.CodeReadOnlyTransaction,
}

func TestWhatIsWrongForUsIsAnErrorAtOnce(t *testing.T) {
	p := startProxy(t, pg, nil)
	table(t, p, p.connect(t, ""), "refused_writes", "a int")
	for sql, code := range badSettings {
		for _, mode := range protocols {
			t.Run(sql+" "+mode.String(), func(t *testing.T) {
				c := p.connect(t, "")
				_, err := c.Exec(t.Context(), sql, mode)
				sqlstate(t, err, code)
				var e *pgconn.PgError
				if errors.As(err, &e); e.Hint == "" || e.Position != 0 || e.Routine != "" {
					t.Errorf("the error is %+v", e)
				}
				if got := value[int](t, c, "select 1", mode); got != 1 {
					t.Errorf("then 1 is %d", got)
				}
				exec(t, c, "begin")
				if strings.HasPrefix(sql, "/*") {
					_, err = c.Exec(t.Context(), sql, mode) // the hint's transaction is not begun yet
				} else {
					exec(t, c, "create temp table refused_temp (a int)")
					_, err = c.Exec(t.Context(), sql, mode)
				}
				sqlstate(t, err, code)
				_, err = c.Exec(t.Context(), "select 1")
				sqlstate(t, err, pgwire.CodeInFailedTransaction)
				if tag := exec(t, c, "commit"); tag.String() != "ROLLBACK" {
					t.Errorf("COMMIT answers %s", tag)
				}
				exec(t, c, "select 1 from refused_writes")
			})
		}
	}
	c := p.connect(t, "")
	_, err := c.Exec(t.Context(), "insert into refused_writes values (5); set fairway.min_lsn = 'soon'", pgx.QueryExecModeSimpleProtocol)
	sqlstate(t, err, pgwire.CodeInvalidParameterValue)
	if rows, _ := where(t, c, "refused_writes"); rows != 0 {
		t.Errorf("%d rows are left of a text with an error in it", rows)
	}
}

func TestAHintTakesToAReplicaWhatOnlyCountsAsAWrite(t *testing.T) {
	p := startProxy(t, pg, nil)
	for _, mode := range protocols {
		c := p.connect(t, "")
		_, err := c.Exec(t.Context(), "/* route: replica */ select pg_drop_replication_slot('nothing_of_that_name')", mode)
		sqlstate(t, err, pgwire.CodeUndefinedObject)
		exec(t, c, "/* route: replica */ select pg_wal_replay_resume()", mode)
		exec(t, c, "/* route: replica */ checkpoint", mode)
	}
}

func TestAHintRefusesAWriteThatWasFineBefore(t *testing.T) {
	p := startProxy(t, pg, nil)
	c := p.connect(t, "")
	table(t, p, c, "refused_later", "a int")
	if _, err := c.Prepare(t.Context(), "hint", "set fairway.route = replica"); err != nil {
		t.Fatal(err)
	}
	const insert = "insert into refused_later values (1)"
	exec(t, c, insert, pgx.QueryExecModeExec) // the unnamed statement: a Parse of the same text makes it anew
	exec(t, c, "hint")
	_, err := c.Exec(t.Context(), insert, pgx.QueryExecModeExec)
	sqlstate(t, err, pgwire.CodeReadOnlyTransaction)
	if rows, _ := where(t, p.connect(t, ""), "refused_later"); rows > 1 {
		t.Errorf("%d rows", rows)
	}
}

func TestABoundValueThatIsWrongFailsAtItsBind(t *testing.T) {
	p := startProxy(t, pg, nil)
	for setting, bad := range map[string]string{"min_lsn": "soon", "route": "where", "consistency": "none"} {
		for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeExec, pgx.QueryExecModeCacheStatement, pgx.QueryExecModeDescribeExec} {
			c := p.connect(t, "")
			sql := "select set_config('fairway." + setting + "', $1, false)"
			_, err := c.Exec(t.Context(), sql, mode, bad)
			sqlstate(t, err, pgwire.CodeInvalidParameterValue)
			if !strings.Contains(err.Error(), bad) {
				t.Errorf("the error is %v", err)
			}
			tx, err := c.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(t.Context(), "select 1"); err != nil {
				t.Fatal(err)
			}
			_, err = tx.Exec(t.Context(), sql, mode, bad)
			sqlstate(t, err, pgwire.CodeInvalidParameterValue)
			if status := c.PgConn().TxStatus(); status != 'E' {
				t.Errorf("the transaction is in state %c", status)
			}
			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			good := map[string]string{"min_lsn": "0/7", "route": "primary", "consistency": "strong"}[setting]
			exec(t, c, sql, mode, good)
			if got := value[string](t, c, "show fairway."+setting); got != good {
				t.Errorf("fairway.%s is %q", setting, got)
			}
			var none *string
			if _, err := c.Exec(t.Context(), sql, mode, none); err != nil {
				t.Errorf("NULL: %v", err)
			}
		}
	}
}

func TestWhatFailsInAPipelineFailsOnlyItsSegment(t *testing.T) {
	p := startProxy(t, pg, nil)
	c := p.connect(t, "")
	table(t, p, c, "refused_pipe", "a int")
	pipe := c.PgConn().StartPipeline(t.Context())
	send := func(sql string, args ...string) {
		values := make([][]byte, len(args))
		for i, a := range args {
			values[i] = []byte(a)
		}
		pipe.SendQueryParams(sql, values, nil, nil, nil)
	}
	sync := func() {
		if err := pipe.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	send("insert into refused_pipe values (1)")
	send("set fairway.min_lsn = 'soon'")
	send("insert into refused_pipe values (2)")
	sync()
	send("insert into refused_pipe values (3)")
	send("select set_config('fairway.route', $1, false)", "nowhere")
	sync()
	send("/* route: replica */ insert into refused_pipe values (4)")
	sync()
	send("insert into refused_pipe values (5)")
	send("/* route: replica */ select count(*) from refused_pipe") // a hint of one is not everybody's
	sync()
	var codes []string
	for {
		results, err := pipe.GetResults()
		if results == nil && err == nil {
			break
		}
		if reader, ok := results.(*pgconn.ResultReader); ok {
			_, err = reader.Close()
		}
		if err != nil {
			codes = append(codes, stateIn(err))
		}
	}
	if err := pipe.Close(); err != nil {
		t.Log(err)
	}
	if got := strings.Join(codes, " "); got != "22023 22023 25006" {
		t.Errorf("the errors are %s", got)
	}
	if rows, _ := where(t, c, "refused_pipe"); rows != 1 {
		t.Errorf("%d rows", rows)
	}
}

func TestABadStartupSettingOfOursEndsTheLogin(t *testing.T) {
	p := startProxy(t, pg, nil)
	host, port, _ := net.SplitHostPort(p.addr)
	for extra, code := range map[string]string{
		"fairway.min_lsn=soon":              pgwire.CodeInvalidParameterValue,
		"options='-c fairway.min_lsn=soon'": pgwire.CodeInvalidParameterValue,
		"fairway.route=nowhere":             pgwire.CodeInvalidParameterValue,
		"options='--fairway.consistency=x'": pgwire.CodeInvalidParameterValue,
		"fairway.lsn=0/1":                   pgwire.CodeCannotChangeRuntimeParam,
		"fairway.nothing=1":                 pgwire.CodeInvalidName,
	} {
		_, err := pgx.Connect(t.Context(), fmt.Sprintf("host=%s port=%s user=postgres dbname=postgres sslmode=disable %s", host, port, extra))
		sqlstate(t, err, code)
	}
}
