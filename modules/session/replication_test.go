package session

import (
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairwaydb/fairway/modules/pgtest"
	"github.com/fairwaydb/fairway/modules/pgwire"
)

func TestReplicationGoesToThePrimary(t *testing.T) {
	p := startProxy(t, pg, nil)
	for _, mode := range []string{"true", "database"} {
		for _, version := range []uint32{pgwire.Version30, pgwire.Version32} {
			c := dialVersion(t, p.addr, version, pgwire.Param{Name: "replication", Value: mode}, pgwire.Param{Name: "options", Value: "-c work_mem=3MB"})
			got := c.play("Q IDENTIFY_SYSTEM\nQ SHOW work_mem\nQ no such command\nQ SHOW work_mem", nil)
			all := strings.Join(append(append([]string{}, got[0]...), append(got[1], append(got[2], got[3]...)...)...), "\n")
			if !strings.Contains(all, "IDENTIFY_SYSTEM") || strings.Count(all, "3MB") != 2 || strings.Count(all, "E ERROR") != 1 {
				t.Errorf("replication=%s:\n%s", mode, all)
			}
			c.say("X")
			c.flush()
			if typ, body := c.frame(5 * time.Second); typ != 'X' {
				t.Errorf("after a goodbye: %s", shown(typ, body))
			}
		}
	}
	want := greet(t, pg.Primary().Addr(), pgwire.Version30, param("replication", "database", "options", "-c nothing_such=1")...)
	if got := greet(t, p.addr, pgwire.Version30, param("replication", "database", "options", "-c nothing_such=1")...); got.String() != want.String() {
		t.Errorf("proxied %s\ndirect  %s", got, want)
	}
	refused := greet(t, p.addr, pgwire.Version30, param("replication", "true", "user", "nobody_at_all")...)
	if refused.refusal == nil {
		t.Error("a role that does not exist may replicate")
	}
}

func TestACancelReachesAReplicationCommand(t *testing.T) {
	p := startProxy(t, pg, nil)
	c := dialPeer(t, p.addr, pgwire.Param{Name: "replication", Value: "database"})
	c.w.Query("select pg_sleep(30)")
	c.flush()
	for {
		cancelAt(t, p.addr, c.pid, c.key)
		typ, body := c.frame(300 * time.Millisecond)
		if typ == pgwire.MsgError {
			if e := pgwire.ParseError(body); e.Code != "57014" {
				t.Errorf("got %v", e)
			}
			return
		}
		if typ == 'X' {
			t.Fatal("the connection ended")
		}
	}
}

func TestABackupIsTakenThroughTheProxy(t *testing.T) {
	bin, err := pgtest.FindBinaries()
	if err != nil {
		t.Fatal(err)
	}
	p := startProxy(t, pg, nil)
	host, port, _ := strings.Cut(p.addr, ":")
	dir := filepath.Join(t.TempDir(), "backup")
	cmd := osexec.CommandContext(t.Context(), filepath.Join(bin, "pg_basebackup"), "-D", dir, "-X", "stream", "-c", "fast",
		"-h", host, "-p", port, "-U", "postgres")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, name := range []string{"PG_VERSION", "backup_manifest", "pg_wal"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}
