package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// process is a running postmaster with all that it has forked.
type process struct {
	pid  int
	gone chan struct{} // closed when the postmaster was waited for and no process it forked is left
	err  error         // how the postmaster ended; valid once gone is closed
}

// spawn starts cmd and a goroutine that waits for it; the goroutine ends when everything cmd forked has ended too.
//
// How that is known: the child inherits the write end of a pipe and so does all it forks, PostgreSQL's backends put
// themselves in sessions of their own but keep the descriptor. The read end meets EOF when the last of them is gone.
func spawn(cmd *exec.Cmd) (*process, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	cmd.ExtraFiles = []*os.File{w}
	p := &process{gone: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The parent-death signal is bound to the forking thread: it must live as long as the child does.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.gone)
		defer r.Close()
		err := cmd.Start()
		w.Close()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		_, _ = io.Copy(io.Discard, r) // nobody writes: this returns when the last holder of the other end is gone
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return p, nil
}

// running reports whether the postmaster or anything it forked is still there. A nil process is not.
func (p *process) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.gone:
		return false
	default:
		return true
	}
}

// signal sends s to the postmaster. A process that has ended already is no error.
func (p *process) signal(s syscall.Signal) error {
	if !p.running() {
		return nil
	}
	if err := signalPID(p.pid, s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %v to postmaster %d: %w", s, p.pid, err)
	}
	return nil
}

// wait returns when the postmaster and all it forked are gone, or with the context's cause.
func (p *process) wait(ctx context.Context) error {
	if p == nil {
		return nil
	}
	select {
	case <-p.gone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for postmaster %d to end: %w", p.pid, context.Cause(ctx))
	}
}

// command prepares a PostgreSQL binary to be run as the cluster's account, in dir, with an environment that holds
// nothing of ours but the paths: variables such as PGDATA or PGHOST must not reach it.
func (c *Cluster) command(ctx context.Context, dir, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, name), args...)
	cmd.Dir = dir
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC", "HOME=" + c.account.home}
	for _, name := range []string{"PATH", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"} {
		if value, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	detach(cmd, c.account)
	return cmd
}

// run runs a prepared command to its end; its output becomes part of the error.
func run(cmd *exec.Cmd) error {
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, strings.TrimSpace(output.String()))
	}
	return nil
}
