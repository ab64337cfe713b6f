//go:build linux

package rig

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// initialize makes pgbench's tables on the server at addr.
func (r *Rig) initialize(ctx context.Context, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(r.bin, "pgbench"), "--initialize", "--init-steps=dtGp", "--quiet",
		"--scale", strconv.Itoa(r.options.Scale), "--host", host, "--port", port, "--username", User, Database)
	cmd.Env = []string{"LC_ALL=C", "HOME=" + r.dir, "PATH=" + os.Getenv("PATH")}
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("pgbench --initialize: %w: %s", err, output)
	}
	return nil
}

// splitStatements cuts at each semicolon that ends a line.
func splitStatements(sql string) []string {
	var statements []string
	for _, s := range strings.Split(sql, ";\n") {
		if s = strings.TrimSpace(s); s != "" {
			statements = append(statements, s)
		}
	}
	return statements
}

// RaiseFileLimit allows this process and what it starts as many open files as the system does, and complains when
// these are fewer than want. Ten thousand clients are ten thousand files, here and in the proxy.
func RaiseFileLimit(want uint64) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("limit of open files: %w", err)
	}
	limit.Cur = limit.Max
	// Set even when it is there already: Go gives programs it starts the limit of old unless somebody has called this.
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("raise the limit of open files to %d: %w", limit.Max, err)
	}
	if limit.Max < want {
		return fmt.Errorf("only %d files may be open and %d are needed: raise the hard limit (ulimit -Hn %d as root, or LimitNOFILE)",
			limit.Max, want, want)
	}
	return nil
}
