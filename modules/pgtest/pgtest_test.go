package pgtest

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start is Start for a test: the log goes to the test's, and the cluster ends with it.
func start(t *testing.T, o Options) *Cluster {
	t.Helper()
	o.Log = t.Output()
	c, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// must ends the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// value asks a node for one value and compares it.
func value(t *testing.T, n *Node, sql, want string) {
	t.Helper()
	got, err := n.Value(t.Context(), sql)
	must(t, err)
	if got != want {
		t.Fatalf("%s: %s gives %q, want %q", n.Name(), sql, got, want)
	}
}

func TestClusterLivesThroughKillRestartPromotionAndGrowth(t *testing.T) {
	c := start(t, Options{Replicas: 1, Auth: AuthSCRAM})
	ctx, primary, replica := t.Context(), c.Primary(), c.Node("pg2")
	must(t, primary.Exec(ctx, "CREATE TABLE t (n int); INSERT INTO t VALUES (1)"))
	must(t, c.WaitCaughtUp(ctx))
	value(t, replica, "SELECT pg_is_in_recovery() AND n = 1 FROM t", "t")

	// A killed replica frees its port and comes back as what it was.
	pid := replica.PID()
	must(t, replica.Kill(ctx))
	if replica.Running() || replica.PID() != 0 {
		t.Fatal("a killed node counts as running")
	}
	l, err := net.Listen("tcp", replica.Addr())
	must(t, err)
	must(t, l.Close())
	must(t, replica.Start(ctx))
	if replica.PID() == pid {
		t.Fatal("the same process after a kill")
	}
	must(t, c.WaitStreaming(ctx))

	must(t, primary.Restart(ctx))
	must(t, c.WaitStreaming(ctx))

	// Replay can be held back.
	must(t, replica.PauseReplay(ctx))
	must(t, primary.Exec(ctx, "INSERT INTO t VALUES (2)"))
	value(t, replica, "SELECT count(*) FROM t", "1")
	must(t, replica.ResumeReplay(ctx))
	must(t, c.WaitCaughtUp(ctx))
	value(t, replica, "SELECT count(*) FROM t", "2")

	added, err := c.AddReplica(ctx, "")
	must(t, err)
	if added.Name() != "pg3" {
		t.Fatalf("the next replica is called %s", added.Name())
	}

	// Failover: the other replica follows, the old primary comes back as a standby.
	must(t, primary.Kill(ctx))
	must(t, replica.Promote(ctx))
	if c.Primary() != replica {
		t.Fatal("the promoted node is not the primary")
	}
	must(t, added.Follow(ctx))
	must(t, replica.Exec(ctx, "INSERT INTO t VALUES (3)"))
	must(t, primary.Start(ctx))
	value(t, primary, "SELECT pg_is_in_recovery()", "f")
	must(t, primary.Rejoin(ctx))
	must(t, c.WaitCaughtUp(ctx))
	value(t, primary, "SELECT pg_is_in_recovery() AND count(*) = 3 FROM t", "t")

	must(t, c.RemoveReplica(ctx, added))
	if c.Node("pg3") != nil || len(c.Replicas()) != 1 {
		t.Fatal("a removed replica is still there")
	}
	if _, err := primary.Connect(ctx, "postgres", "wrong", "postgres"); err == nil {
		t.Fatal("a wrong password is let in")
	}
}

func TestReplicaIsCopiedWhereThereIsNoBaseBackup(t *testing.T) {
	bin, err := FindBinaries()
	must(t, err)
	// An installation as embedded ones are: links would lead back to the full one.
	few := t.TempDir()
	for _, name := range []string{"initdb", "postgres"} {
		script := "#!/bin/sh\nexec " + filepath.Join(bin, name) + " \"$@\"\n"
		must(t, os.WriteFile(filepath.Join(few, name), []byte(script), 0o755))
	}
	for dir := few; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		must(t, os.Chmod(dir, 0o755))
	}
	c := start(t, Options{Replicas: 1, Bin: few})
	must(t, c.Primary().Exec(t.Context(), "CREATE TABLE t AS SELECT 7 AS n"))
	must(t, c.WaitCaughtUp(t.Context()))
	value(t, c.Node("pg2"), "SELECT n FROM t", "7")
}

func TestSynchronousReplicaHoldsCommitsBack(t *testing.T) {
	c := start(t, Options{Replicas: 1, SynchronousReplicas: 1})
	ctx := t.Context()
	must(t, c.Primary().Exec(ctx, "CREATE TABLE t (n int)"))
	must(t, c.Node("pg2").Kill(ctx))
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if err := c.Primary().Exec(short, "INSERT INTO t VALUES (1)"); err == nil {
		t.Fatal("a commit is reported without the synchronous replica")
	}
	must(t, c.Node("pg2").Start(ctx))
	must(t, c.Primary().Exec(ctx, "INSERT INTO t VALUES (2)"))
}

func TestFrozenServerIsSilentUntilItThaws(t *testing.T) {
	c := start(t, Options{})
	ctx, n := t.Context(), c.Primary()
	conn, err := n.Connect(ctx, "postgres", "", "postgres")
	must(t, err)
	defer disconnect(conn)
	must(t, n.Freeze())
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	if _, err := n.Connect(short, "postgres", "", "postgres"); !errors.Is(err, context.DeadlineExceeded) && !pgconn.Timeout(err) {
		t.Fatalf("connecting to a frozen server: %v", err)
	}
	must(t, n.Thaw())
	_, err = query(ctx, conn, "SELECT 1")
	must(t, err)
	must(t, n.Freeze())
	must(t, n.Stop(ctx, Immediate))
}

func TestClusterEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c, err := Start(ctx, Options{})
	must(t, err)
	n, dir := c.Primary(), c.Dir()
	cancel()
	<-n.Gone()
	must(t, c.Close())
	must(t, c.Close())
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the directory is still there: %v", err)
	}
	if err := n.Start(t.Context()); !errors.Is(err, ErrClosed) {
		t.Fatalf("starting a node of a closed cluster: %v", err)
	}
}

func TestStartOnATakenPort(t *testing.T) {
	c := start(t, Options{})
	ctx, n := t.Context(), c.Primary()
	must(t, n.Stop(ctx, Fast))
	l, err := net.Listen("tcp", n.Addr())
	must(t, err)
	short, cancel := context.WithTimeout(ctx, 1500*time.Millisecond)
	defer cancel()
	if err := n.Start(short); !errors.Is(err, errPortTaken) {
		t.Fatalf("start on a taken port: %v", err)
	}
	must(t, l.Close())
	must(t, n.Start(ctx))
}

func TestStartFailsWithTheReason(t *testing.T) {
	full := t.TempDir()
	must(t, os.WriteFile(filepath.Join(full, "x"), nil, 0o600))
	cases := map[string]struct {
		options Options
		want    string
	}{
		"more synchronous replicas than replicas": {Options{SynchronousReplicas: 1}, "1 synchronous of 0 replicas"},
		"an authentication method we do not have": {Options{Auth: "md5"}, `authentication method "md5"`},
		"a directory that is not empty":           {Options{Dir: full}, "not empty"},
		"a setting the server refuses":            {Options{Settings: map[string]string{"max_connections": "many"}}, "max_connections"},
		"a directory of binaries that holds none": {Options{Bin: full}, "initdb"},
	}
	for name, tt := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := Start(t.Context(), tt.options)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want an error about %s", err, tt.want)
			}
		})
	}
}

func TestAnotherVersionIsFetchedAndRuns(t *testing.T) {
	c, err := Start(t.Context(), Options{Version: "18.1.0"})
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	if v, err := c.Primary().Value(t.Context(), "show server_version_num"); err != nil || v != "180001" {
		t.Fatalf("server version %s, %v", v, err)
	}
}
