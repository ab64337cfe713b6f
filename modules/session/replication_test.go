package session

import (
	"context"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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

// A drain does not wait for replication, which has no end: it ends as when a server is stopped.
func TestADrainEndsReplication(t *testing.T) {
	p := startProxy(t, pg, nil)
	const ended = "E FATAL 57P01 terminating connection due to administrator command"
	for name, running := range map[string]string{"nothing runs": "", "a command runs": "select pg_sleep(60) /* drained */"} {
		c := dialPeer(t, p.addr, pgwire.Param{Name: "replication", Value: "database"})
		if running != "" {
			c.w.Query(running)
			c.flush()
			eventually(t, "the command runs", func() (string, bool) {
				rows, err := pg.Primary().Query(t.Context(), "select 1 from pg_stat_activity where query like '%drained%' and pid <> pg_backend_pid()")
				return "", err == nil && len(rows) == 1
			})
		}
		c.session().askToLeave()
		if typ, body := c.frame(5 * time.Second); shown(typ, body) != ended {
			t.Errorf("%s: %s", name, shown(typ, body))
		}
		if typ, body := c.frame(5 * time.Second); typ != 'X' {
			t.Errorf("%s: after the end %s", name, shown(typ, body))
		}
	}
}

// TestADrainEndsAStreamOfWAL: the last words come between two messages, however many there are.
func TestADrainEndsAStreamOfWAL(t *testing.T) {
	bin, err := pgtest.FindBinaries()
	if err != nil {
		t.Fatal(err)
	}
	p := startProxy(t, pg, nil)
	host, port, _ := strings.Cut(p.addr, ":")
	before := sessionsOf(p)
	cmd := osexec.CommandContext(t.Context(), filepath.Join(bin, "pg_receivewal"), "-D", t.TempDir(), "--no-loop", "-h", host, "-p", port, "-U", "postgres")
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() { gone <- cmd.Wait() }()
	streams := func() (string, bool) {
		rows, err := pg.Primary().Query(t.Context(), "select 1 from pg_stat_replication where application_name = 'pg_receivewal' and state = 'streaming'")
		return "", err == nil && len(rows) == 1
	}
	eventually(t, "WAL is streamed", streams)
	busy, stop := context.WithCancel(context.Background())
	var writing sync.WaitGroup
	writing.Go(func() {
		for busy.Err() == nil {
			if err := pg.Primary().Exec(context.Background(), "select pg_logical_emit_message(false, 'drained', repeat('x', 1000000))"); err != nil {
				t.Error(err)
				return
			}
		}
	})
	defer writing.Wait()
	defer stop()
	for _, s := range sessionsOf(p) {
		if !slices.Contains(before, s) {
			s.askToLeave()
		}
	}
	select {
	case err = <-gone:
	case <-time.After(10 * time.Second):
		t.Fatal("pg_receivewal goes on")
	}
	if err == nil || !strings.Contains(said.String(), "terminating connection due to administrator command") {
		t.Errorf("pg_receivewal: %v: %s", err, &said)
	}
	eventually(t, "the server has let go", func() (string, bool) {
		_, on := streams()
		return "it streams", !on
	})
}

// sessionsOf returns the sessions of a proxy's clients.
func sessionsOf(p *proxy) (all []*Session) {
	sessions.mu.Lock()
	defer sessions.mu.Unlock()
	for _, s := range sessions.mu.sessions {
		if s.cluster == p.cluster {
			all = append(all, s)
		}
	}
	return all
}
