// Package pgbench runs PostgreSQL's pgbench and reads what it says and logs.
// See https://www.postgresql.org/docs/current/pgbench.html.
package pgbench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Options says what to run.
type Options struct {
	Bin      string        // directory of the binary
	Dir      string        // an existing directory for logs, which are removed again
	Addr     string        // host:port
	User     string        // role
	Password string        // "" where nobody asks for one
	Database string        //
	Clients  int           // connections
	Mode     string        // simple, extended or prepared
	Connect  bool          // a new connection for every transaction
	Script   string        // a file; "" is the built-in select-only script
	Duration time.Duration // whole seconds
	Each     int           // transactions of each client; above 0 they end the run, and not the time
	Sampling float64       // part of the transactions whose latency is logged; 0 logs none
}

// Result is what a run has shown.
type Result struct {
	Transactions int64
	Failed       int64
	TPS          float64   // without the time the first connections took
	Latencies    []float64 // microseconds, of the sampled transactions in no order
}

// arguments are the command line for the options, with log as the prefix of log files.
func (o Options) arguments(log string) ([]string, error) {
	host, port, err := net.SplitHostPort(o.Addr)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", o.Addr, err)
	}
	args := []string{
		"--no-vacuum", "--host", host, "--port", port, "--username", o.User,
		"--client", strconv.Itoa(o.Clients), "--jobs", strconv.Itoa(min(2, o.Clients)),
		"--protocol", o.Mode,
	}
	if o.Each > 0 {
		args = append(args, "--transactions", strconv.Itoa(o.Each))
	} else {
		args = append(args, "--time", strconv.Itoa(int(o.Duration.Seconds())))
	}
	if o.Script == "" {
		args = append(args, "--select-only")
	} else {
		args = append(args, "--file", o.Script)
	}
	if o.Connect {
		args = append(args, "--connect")
	}
	if o.Sampling > 0 {
		args = append(args, "--log", "--log-prefix", log)
	}
	if o.Sampling > 0 && o.Sampling < 1 {
		args = append(args, "--sampling-rate", strconv.FormatFloat(o.Sampling, 'f', -1, 64))
	}
	return append(args, o.Database), nil
}

// Run runs pgbench to its end. A client that was aborted, a failed transaction or a run without any transaction is an
// error that holds what pgbench said.
func Run(ctx context.Context, o Options) (Result, error) {
	dir, err := os.MkdirTemp(o.Dir, "pgbench-")
	if err != nil {
		return Result{}, fmt.Errorf("pgbench: %w", err)
	}
	defer os.RemoveAll(dir)
	log := filepath.Join(dir, "log")
	args, err := o.arguments(log)
	if err != nil {
		return Result{}, fmt.Errorf("pgbench: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, o.Duration+time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(o.Bin, "pgbench"), args...)
	cmd.Dir = dir
	cmd.Env = []string{
		"LC_ALL=C", "HOME=" + dir, "PATH=" + os.Getenv("PATH"),
		"PGSSLMODE=disable", "PGGSSENCMODE=disable", "PGPASSWORD=" + o.Password, "PGCONNECT_TIMEOUT=30",
	}
	var said, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &complaints
	if err := cmd.Run(); err != nil {
		return Result{}, fmt.Errorf("pgbench: %w: %s", err, lastOf(complaints.String(), 5))
	}
	result, err := parseSummary(said.String())
	if err != nil {
		return Result{}, fmt.Errorf("pgbench: %w in: %s", err, said.String())
	}
	if result.Failed > 0 || result.Transactions == 0 {
		return Result{}, fmt.Errorf("pgbench: %d transactions, %d failed: %s", result.Transactions, result.Failed,
			lastOf(complaints.String(), 5))
	}
	files, err := filepath.Glob(log + ".*")
	if err != nil {
		return Result{}, fmt.Errorf("pgbench: %w", err)
	}
	for _, file := range files {
		if err := result.readLog(file); err != nil {
			return Result{}, fmt.Errorf("pgbench: %w", err)
		}
	}
	return result, nil
}

// lastOf returns the last lines of a text.
func lastOf(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// The lines of pgbench's summary that are read.
var (
	processed = regexp.MustCompile(`(?m)^number of transactions actually processed: (\d+)`)
	failed    = regexp.MustCompile(`(?m)^number of failed transactions: (\d+)`)
	rate      = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)
)

// parseSummary reads what pgbench prints at its end. Versions before 15 do not count failed transactions: they abort.
func parseSummary(text string) (Result, error) {
	var r Result
	m := processed.FindStringSubmatch(text)
	if m == nil {
		return r, errors.New("no number of transactions")
	}
	var err error
	if r.Transactions, err = strconv.ParseInt(m[1], 10, 64); err != nil {
		return r, fmt.Errorf("number of transactions: %w", err)
	}
	if m = failed.FindStringSubmatch(text); m != nil {
		if r.Failed, err = strconv.ParseInt(m[1], 10, 64); err != nil {
			return r, fmt.Errorf("number of failed transactions: %w", err)
		}
	}
	if m = rate.FindStringSubmatch(text); m == nil {
		return r, errors.New("no tps")
	}
	if r.TPS, err = strconv.ParseFloat(m[1], 64); err != nil {
		return r, fmt.Errorf("tps: %w", err)
	}
	return r, nil
}

// readLog adds the latencies of one log file.
func (r *Result) readLog(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	r.Latencies, err = parseLog(r.Latencies, f)
	return err
}

// parseLog appends the latencies of a per-transaction log: "client transaction time script seconds microseconds", where
// time is in microseconds or says that the transaction failed or was skipped.
func parseLog(latencies []float64, log io.Reader) ([]float64, error) {
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 {
			return nil, fmt.Errorf("log line %q: %d fields, want 6 or more", lines.Text(), len(fields))
		}
		if fields[2] == "failed" || fields[2] == "skipped" {
			continue
		}
		µs, err := strconv.ParseFloat(fields[2], 64)
		if err != nil {
			return nil, fmt.Errorf("log line %q: %w", lines.Text(), err)
		}
		latencies = append(latencies, µs)
	}
	return latencies, lines.Err()
}
