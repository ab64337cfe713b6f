//go:build linux

package rig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// stopLimit is how long a process may take to end when it is asked to; then it is killed.
const stopLimit = 10 * time.Second

// process is a program the rig has started. Its output goes to a file in the rig's directory.
type process struct {
	name string
	pid  int
	log  string
	quit syscall.Signal
	gone chan struct{}
	err  error // how it ended, valid once gone is closed
}

// launch starts a program in dir. account is the user it runs as when this process is root, nil for this user.
// quit asks it to end at once; the kernel sends it, too, when this process dies.
func launch(name, dir string, account *syscall.Credential, env []string, quit syscall.Signal, argv ...string) (*process, error) {
	log, err := os.CreateTemp(dir, name+"-*.log")
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer log.Close()
	p := &process{name: name, log: log.Name(), quit: quit, gone: make(chan struct{})}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, env, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: quit, Credential: account}
	started := make(chan error)
	go func() {
		// The parent-death signal comes when the thread that forked ends: it must live as long as the child does.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.gone)
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// stop asks the process to end, kills it when it does not, and returns when it is gone.
func (p *process) stop() error {
	for _, s := range []syscall.Signal{p.quit, syscall.SIGKILL} {
		if err := syscall.Kill(p.pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stop %s: %w", p.name, err)
		}
		select {
		case <-p.gone:
			return nil
		case <-time.After(stopLimit):
		}
	}
	return fmt.Errorf("stop %s: process %d does not end", p.name, p.pid)
}

// failure returns err with the last lines of the log.
func (p *process) failure(err error) error {
	return fmt.Errorf("%s: %w; its log ends with:\n%s", p.name, err, tail(p.log, 20))
}

// tail returns the last lines of a file, or why it cannot be read.
func tail(path string, lines int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return string(bytes.Join(all[max(0, len(all)-lines):], []byte("\n")))
}

// until calls try every 20 ms until it succeeds, the process ends or the context does.
func (p *process) until(ctx context.Context, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.gone:
			return p.failure(fmt.Errorf("it ended: %w", errors.Join(p.err, err)))
		case <-ctx.Done():
			return p.failure(fmt.Errorf("not ready: %w", err))
		case <-tick.C:
		}
	}
}

// unprivileged is the account for programs that refuse to run as root: that of PostgreSQL, or nobody. Without root it
// is nil, which means the present user.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("account %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("account %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("neither the account postgres nor nobody exists: PgBouncer refuses to run as root")
}
