package demo

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

// asCommand makes the test binary be caddy itself.
const asCommand = "FAIRWAY_TEST_AS_CADDY"

// beCaddy runs Caddy's command line when the environment says so; it does not return then.
func beCaddy() {
	if os.Getenv(asCommand) != "" {
		caddycmd.Main()
		os.Exit(0) //nolint:forbidigo // this is the main of a program of its own
	}
}

// caddyDemo prepares `caddy postgres-demo …` in a process of its own, whose temporary files lie in the directory returned.
func caddyDemo(t *testing.T, flags ...string) (cmd *exec.Cmd, out *output, temp string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Short, for Unix sockets lie in it, and open to the account that the servers run as.
	if temp, err = os.MkdirTemp("", "fd-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(temp); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(temp, 0o711); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	cmd = exec.CommandContext(ctx, self, append([]string{"postgres-demo", "--port", "0"}, flags...)...)
	cmd.Env = append(os.Environ(), asCommand+"=1", "TMPDIR="+temp, "HOME="+temp, "XDG_CONFIG_HOME="+temp, "XDG_DATA_HOME="+temp)
	out = new(output)
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, out, temp
}

// output gathers what the command writes and may be read meanwhile.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// nothingLeft fails the test when the demo has left files or servers behind.
func nothingLeft(t *testing.T, temp string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(temp, "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestCommandShowsAWorkingClusterAndEndsByItself(t *testing.T) {
	cmd, out, temp := caddyDemo(t, "--replicas", "2", "--load", "3", "--once")
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Log(out)
	for _, want := range []string{
		`psql "host=127\.0\.0\.1 port=\d+ user=demo dbname=demo"`,
		`(?m)^pg1 +primary +HEALTHY +#+ 1\.00 .* +100% +\d+ +\d+/[1-9]\d* +kill -9 \d+$`,
		`(?m)^pg2 +replica +HEALTHY .* kill -9 \d+$`,
		`(?m)^pg3 +replica +HEALTHY .* kill -9 \d+$`,
		`(?m)^load: 3 clients, [1-9]\d* statements/s, .* 0 errors$`,
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("the output does not match %s", want)
		}
	}
	nothingLeft(t, temp)
}

func TestCommandShowsThatClientsSurviveTheDeathOfThePrimary(t *testing.T) {
	cmd, out, temp := caddyDemo(t, "--for", "16s")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	line := regexp.MustCompile(`(?m)^pg1 +primary .* kill -9 (\d+)$`)
	await(t, "the primary is shown", func() bool { return line.MatchString(out.String()) || len(ended) == 1 })
	if shown := line.FindStringSubmatch(out.String()); shown != nil {
		pid, err := strconv.Atoi(shown[1])
		must(t, err)
		must(t, syscall.Kill(pid, syscall.SIGKILL))
	}
	if err := <-ended; err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Log(out)
	// On a busy machine the last view may have no news from the admin API: the view that matters is any one after the death.
	if shown := `(?m)^pg[23] +primary +HEALTHY `; !regexp.MustCompile(shown).MatchString(out.String()) {
		t.Errorf("no view matches %s", shown)
	}
	views := strings.Split(out.String(), "BACKEND ")
	last := views[len(views)-1]
	for _, want := range []string{
		// Only what was under way may fail: one write for each client, whose outcome nobody knows.
		`(?m)^load: 4 clients, [1-9]\d* statements/s, .* (0 errors|[1-4] errors \(last: 08006 .*\))$`,
		`pg1, the primary, is dead`,
		`pg[23] is the primary now`,
	} {
		if !regexp.MustCompile(want).MatchString(last) {
			t.Errorf("the last view does not match %s", want)
		}
	}
	nothingLeft(t, temp)
}

func TestCommandEndsCleanlyOnASignal(t *testing.T) {
	cmd, out, temp := caddyDemo(t, "--replicas", "0", "--load", "1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	await(t, "Caddy has written its log", func() bool {
		logs, _ := filepath.Glob(filepath.Join(temp, "fairway-demo-*", "caddy.log"))
		return len(logs) == 1 || len(ended) == 1
	})
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	nothingLeft(t, temp)
}

// A client in a transaction ends it; one that is idle hears why it must go.
func TestCommandLetsItsClientsFinish(t *testing.T) {
	cmd, out, temp := caddyDemo(t, "--replicas", "0", "--load", "0")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	line := regexp.MustCompile(`psql "host=127\.0\.0\.1 port=(\d+) `)
	await(t, "the demo says where it is", func() bool { return line.MatchString(out.String()) || len(ended) == 1 })
	shown := line.FindStringSubmatch(out.String())
	if shown == nil {
		t.Fatal(out)
	}
	connect := func() *pgconn.PgConn {
		c, err := pgconn.Connect(t.Context(), "postgres://demo@127.0.0.1:"+shown[1]+"/demo?sslmode=disable")
		must(t, err)
		return c
	}
	run := func(c *pgconn.PgConn, sql string) error {
		_, err := c.Exec(t.Context(), sql).ReadAll()
		return err
	}
	idle, busy := connect(), connect()
	must(t, run(idle, "select 1"))
	must(t, run(busy, "begin; update items set stock = 7 where id = 1"))
	must(t, cmd.Process.Signal(syscall.SIGINT))
	await(t, "the idle client is told to go", func() bool {
		err := run(idle, "select 1")
		var e *pgconn.PgError
		return errors.As(err, &e) && e.Code == "57P01" || err != nil && idle.IsClosed()
	})
	for range 3 {
		must(t, run(busy, "update items set stock = stock + 1 where id = 1"))
	}
	must(t, run(busy, "commit"))
	if err := <-ended; err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	nothingLeft(t, temp)
}

func TestCommandRefusesFlagsThatMakeNoSense(t *testing.T) {
	cmd, out, temp := caddyDemo(t, "--replicas", "99")
	if err := cmd.Run(); err == nil || !strings.Contains(out.String(), "--replicas 99") {
		t.Fatalf("%v\n%s", err, out)
	}
	nothingLeft(t, temp)
}

// must ends the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
