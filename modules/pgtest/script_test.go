package pgtest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

func TestScriptedClientMeetsScriptedServer(t *testing.T) {
	server := []Step{
		Accept(pgwire.Param{Name: "server_version", Value: "15.1"}),
		Answer("select 1", Rows([]string{"n"}, []string{"1"}, []string{"2"})),
		Expect(pgwire.MsgParse, []byte("s\x00"), []byte("select 2\x00\x00\x00")),
		ExpectTypes("S"),
		Send(func(w *pgwire.Writer) { w.Error(pgwire.Errorf(pgwire.CodeSyntaxError, "no")); w.ReadyForQuery('I') }),
		ExpectThat(pgwire.MsgTerminate, func(body []byte) error {
			if len(body) != 0 {
				return fmt.Errorf("%d bytes", len(body))
			}
			return nil
		}),
		ExpectEnd(),
	}
	client := []Step{
		Login("alice", "shop"),
		Send(func(w *pgwire.Writer) { w.Query("select 1") }),
		ExpectTypes("TDDCZ"),
		Send(func(w *pgwire.Writer) { w.Parse("s", "select 2", []byte{0, 0}); w.Sync() }),
		ExpectError(pgwire.CodeSyntaxError),
		Expect(pgwire.MsgReadyForQuery, []byte("I")),
		SendRaw([]byte{'X', 0, 0, 0, 4}),
	}
	must(t, Run(Play(t, server...), client...))
}

func TestServerRefusesEncryptionFirst(t *testing.T) {
	c := Play(t, AcceptStartup(), Do("look at the startup packet", func(p *Peer) error {
		if p.Startup.Kind != pgwire.KindCancel {
			return fmt.Errorf("kind %v", p.Startup.Kind)
		}
		return nil
	}))
	must(t, Run(c,
		SendRaw([]byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}), // SSLRequest
		Do("read N", func(p *Peer) error {
			b, err := p.R.ReadByte()
			if err == nil && b != 'N' {
				err = fmt.Errorf("got %q", b)
			}
			return err
		}),
		Send(func(w *pgwire.Writer) { w.CancelRequest(1, []byte{1, 2, 3, 4}) }),
	))
}

// recorder stands in for a test that is meant to fail.
type recorder struct {
	failures []string
	cleanups []func()
}

func (r *recorder) Helper()          {}
func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Errorf(format string, a ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, a...))
}

func TestScriptFailures(t *testing.T) {
	cases := map[string]struct {
		step Step
		act  func(w *pgwire.Writer)
		want string
	}{
		"another type":              {Expect(pgwire.MsgSync), func(w *pgwire.Writer) { w.Query("x") }, `step 1 (expect 'S'): got 'Q' "x\x00"`},
		"another body":              {Expect('Q', []byte("y")), func(w *pgwire.Writer) { w.Query("x") }, `body is "x\x00", want "y"`},
		"another text":              {ExpectQuery("y"), func(w *pgwire.Writer) { w.Query("x") }, `step 1 (expect Query "y"): text is "x"`},
		"too few frames":            {ExpectTypes("SS"), func(w *pgwire.Writer) { w.Sync() }, `after "S"`},
		"another error":             {ExpectError("57P01"), func(w *pgwire.Writer) { w.Error(pgwire.Errorf("08006", "gone")) }, "want SQLSTATE 57P01"},
		"bytes before the end":      {ExpectEnd(), func(w *pgwire.Writer) { w.Sync() }, "got 'S' instead"},
		"a test that ends too soon": {Expect('Q'), func(*pgwire.Writer) {}, "step 1 (expect 'Q')"},
	}
	for name, tt := range cases {
		t.Run(name, func(t *testing.T) {
			var r recorder
			c := Play(&r, tt.step)
			w := pgwire.NewWriter(c, 0)
			tt.act(w)
			_ = w.Flush()
			for _, cleanup := range r.cleanups {
				cleanup()
			}
			if got := strings.Join(r.failures, "\n"); !strings.Contains(got, tt.want) {
				t.Fatalf("got %q, want %q", got, tt.want)
			}
		})
	}
}
