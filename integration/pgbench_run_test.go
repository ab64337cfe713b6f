package integration_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fairwaydb/fairway/modules/pgtest"
)

// benchTime is the length of each pgbench run.
var benchTime = 2 * time.Second

// readBenchTime takes FAIRWAY_PGBENCH_SECONDS over.
func readBenchTime() error {
	text := os.Getenv("FAIRWAY_PGBENCH_SECONDS")
	if text == "" {
		return nil
	}
	seconds, err := strconv.Atoi(text)
	if err != nil || seconds < 1 {
		return fmt.Errorf("FAIRWAY_PGBENCH_SECONDS is %q: want a number of seconds", text)
	}
	benchTime = time.Duration(seconds) * time.Second
	return nil
}

func benchSeconds() string { return strconv.Itoa(int(benchTime.Seconds())) }

// endLimit is how long a run may take beyond its time, transactions that wait for the pool included.
const endLimit = 40 * time.Second

// scale is pgbench's: the number of branches, 100,000 accounts each.
const scale = 4

// pgbench is one run of the program.
type pgbench struct {
	cmd  *exec.Cmd
	out  lockedBuffer
	done chan struct{}
	err  error // of the process, once done is closed

	limit time.Duration // beyond it a run that should end has failed
}

// report is what a run says at its end.
type report struct {
	processed int64
	output    string
}

// lockedBuffer collects output that is looked at while it grows.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// program returns a program of PostgreSQL's with its arguments.
func program(ctx context.Context, t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	bin, err := pgtest.FindBinaries()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin, name), args...)
	cmd.Env = append(cmd.Environ(), "LC_ALL=C", "PAGER=cat")
	return cmd
}

// initBench creates pgbench's tables, at the primary itself.
func (s *site) initBench(t testing.TB) {
	t.Helper()
	primary := s.servers.Primary()
	out, err := program(t.Context(), t, "pgbench", "-i", "-q", "-s", strconv.Itoa(scale),
		"-h", "127.0.0.1", "-p", strconv.Itoa(primary.Port()), "-U", benchRole, benchRole).CombinedOutput()
	if err != nil {
		t.Fatalf("pgbench -i: %v\n%s", err, out)
	}
	if err := s.servers.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// startBench starts pgbench against the proxy; without -T or -t it runs until it is stopped.
func (s *site) startBench(t testing.TB, args ...string) *pgbench {
	t.Helper()
	ip, port, _ := net.SplitHostPort(s.addr)
	all := append([]string{"-n", "-j", "2", "-T", "3600", "-h", ip, "-p", port, "-U", benchRole}, args...)
	b := &pgbench{
		cmd:  program(context.WithoutCancel(t.Context()), t, "pgbench", append(all, benchRole)...),
		done: make(chan struct{}), limit: benchTime + endLimit,
	}
	b.cmd.Stdout, b.cmd.Stderr = &b.out, &b.out
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		b.err = b.cmd.Wait()
		close(b.done)
	}()
	t.Cleanup(func() {
		_ = b.cmd.Process.Kill()
		<-b.done
	})
	return b
}

var (
	processedLine = regexp.MustCompile(`number of transactions actually processed: (\d+)`)
	failedLine    = regexp.MustCompile(`number of failed transactions: (\d+)`)
	troubleLine   = regexp.MustCompile(`(?m)^pgbench: error.*$|^.*(ERROR|FATAL):.*$`)
)

// wait waits for the end of the run, which must be without a single failure.
func (b *pgbench) wait(t testing.TB) report {
	t.Helper()
	limit := time.NewTimer(b.limit)
	defer limit.Stop()
	select {
	case <-b.done:
	case <-limit.C:
		t.Fatalf("%v does not end\n%s\n%s", b.cmd.Args, b.out.String(), stacks())
	}
	r := report{output: b.out.String()}
	trouble := troubleLine.FindString(r.output)
	if b.err != nil || trouble != "" {
		t.Fatalf("%v: %v\n%s", b.cmd.Args, b.err, r.output)
	}
	if m := failedLine.FindStringSubmatch(r.output); m != nil && m[1] != "0" {
		t.Fatalf("%v: %s", b.cmd.Args, m[0])
	}
	m := processedLine.FindStringSubmatch(r.output)
	if m == nil {
		t.Fatalf("%v: no report\n%s", b.cmd.Args, r.output)
	}
	r.processed, _ = strconv.ParseInt(m[1], 10, 64)
	if r.processed == 0 {
		t.Fatalf("%v: no transaction", b.cmd.Args)
	}
	return r
}

// stop ends the run as its clock would (SIGALRM), with a report.
func (b *pgbench) stop(t testing.TB) report {
	t.Helper()
	_ = b.cmd.Process.Signal(syscall.SIGALRM)
	b.limit = endLimit
	return b.wait(t)
}

// running fails the test if the run has ended already.
func (b *pgbench) running(t testing.TB) {
	t.Helper()
	select {
	case <-b.done:
		t.Fatalf("%v ended: %v\n%s", b.cmd.Args, b.err, b.out.String())
	default:
	}
}

// startReads starts pgbench -S and waits until it reads at full speed.
func (s *site) startReads(t testing.TB, args ...string) *pgbench {
	t.Helper()
	before := scrape(t)
	b := s.startBench(t, append([]string{"-S"}, args...)...)
	await(t, 30*time.Second, "pgbench -S reads", func() (string, bool) {
		b.running(t)
		_, n := s.shares(scrape(t).since(before))
		return fmt.Sprintf("%v reads", n), n > 500
	})
	return b
}

// measure returns the shares of the reads that run during a time, and how many there were.
func (s *site) measure(t testing.TB, d time.Duration) (map[string]float64, float64) {
	t.Helper()
	before := scrape(t)
	<-time.After(d)
	return s.shares(scrape(t).since(before))
}

// activity watches the server connections of a role on every server of a site.
type activity struct {
	stop  context.CancelFunc
	done  sync.WaitGroup
	mu    sync.Mutex
	most  map[string]int // by server
	looks int
	err   error
}

// watchActivity counts server connections until highest is called.
func (s *site) watchActivity(t testing.TB, role string) *activity {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	a := &activity{stop: cancel, most: make(map[string]int)}
	t.Cleanup(func() { cancel(); a.done.Wait() })
	for _, n := range s.servers.Nodes() {
		conn, err := n.Connect(t.Context(), s.servers.Superuser(), "", "postgres")
		if err != nil {
			t.Fatal(err)
		}
		a.done.Go(func() {
			defer conn.Close(context.Background())
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				result := conn.ExecParams(ctx, "SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND backend_type = 'client backend'",
					[][]byte{[]byte(role)}, nil, nil, nil).Read()
				if ctx.Err() != nil {
					return
				}
				a.note(n.Name(), result.Rows, result.Err)
			}
		})
	}
	return a
}

func (a *activity) note(server string, rows [][][]byte, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.err = err
		return
	}
	a.looks++
	count, _ := strconv.Atoi(string(rows[0][0]))
	a.most[server] = max(a.most[server], count)
}

// highest ends the watch and returns the highest number of server connections seen on each server.
func (a *activity) highest(t testing.TB) map[string]int {
	t.Helper()
	a.stop()
	a.done.Wait()
	if a.err != nil || a.looks == 0 {
		t.Fatalf("pg_stat_activity: %d looks, %v", a.looks, a.err)
	}
	return a.most
}
