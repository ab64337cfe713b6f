//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// describeMachine says where, when and how the numbers were made.
func (b *bench) describeMachine(ctx context.Context, began time.Time) string {
	var s strings.Builder
	fmt.Fprintf(&s, "| | |\n|---|---|\n")
	row := func(name, value string) { fmt.Fprintf(&s, "| %s | %s |\n", name, value) }
	row("Command", "`"+b.command()+"`: "+fmt.Sprintf("rounds of %s, %d of each", b.round, b.rounds))
	row("When", fmt.Sprintf("%s, in %s", began.UTC().Format("2006-01-02 15:04 UTC"), time.Since(began).Round(time.Second)))
	row("Machine", fmt.Sprintf("%s, %d cores, %s of memory, Linux %s", field("/proc/cpuinfo", "model name"), runtime.NumCPU(),
		memory(field("/proc/meminfo", "MemTotal")), firstLine(ctx, "uname", "-r")))
	row("Load average before and after", b.load+"; "+loadAverage())
	row("PostgreSQL", firstLine(ctx, filepath.Join(b.rig.Bin(), "postgres"), "--version"))
	row("Fairway", version(ctx, b.caddy))
	row("PgBouncer", firstLine(ctx, "pgbouncer", "--version"))
	row("Pgpool-II", firstLine(ctx, "pgpool", "--version"))
	row("HAProxy", firstLine(ctx, "haproxy", "-v"))
	return s.String()
}

// command is the make target of the run.
func (b *bench) command() string {
	switch {
	case b.full:
		return "make bench-full"
	case b.scale:
		return "make bench-scale"
	}
	return "make bench"
}

// version names the commit when the binary was built from one, and the Go that built it.
func version(ctx context.Context, binary string) string {
	commit := firstLine(ctx, "git", "describe", "--always", "--dirty")
	if commit == "" {
		commit = "unknown"
	}
	return "commit " + commit + ", Caddy " + firstLine(ctx, binary, "version") + ", " + runtime.Version()
}

// loadAverage is that of the last minute, and of five.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(text))
	if err != nil || len(fields) < 2 {
		return "unknown"
	}
	return fields[0] + " (1 min), " + fields[1] + " (5 min)"
}

// field finds "name : value" in a file of /proc.
func field(path, name string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// memory turns "24000000 kB" into GiB.
func memory(kB string) string {
	var n float64
	if _, err := fmt.Sscanf(kB, "%f kB", &n); err != nil {
		return kB
	}
	return fmt.Sprintf("%.0f GiB", n/(1<<20))
}

// firstLine is the first line a command prints, "" when it cannot be run.
func firstLine(ctx context.Context, name string, args ...string) string {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/usr/local/sbin")
	if cmd.Err != nil { // not in this process's PATH: perhaps where Debian keeps services
		cmd = exec.CommandContext(ctx, filepath.Join("/usr/sbin", name), args...)
	}
	output, err := cmd.CombinedOutput()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(output), "\n")
	return strings.TrimSpace(line)
}
