// Package dockertest starts a Docker engine for tests: one of its own, with a
// directory of its own, that leaves no container, network or rule of the firewall
// behind. It needs root, dockerd and the docker command (Debian's docker.io). Other
// engines on the machine are not touched.
package dockertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Times of an engine.
const (
	startTimeout = 60 * time.Second
	stopTimeout  = 30 * time.Second
	pollInterval = 100 * time.Millisecond
)

// Engine is a Docker engine that runs.
type Engine struct {
	// Host is where it listens, for DOCKER_HOST.
	Host string

	dir   string
	cmd   *exec.Cmd
	log   *os.File
	ended chan struct{} // closed when the process has ended
}

// Start starts an engine that keeps everything in the directory, which must be short
// enough for the path of a socket. The caller stops it with [Engine.Stop].
func Start(ctx context.Context, dir string) (*Engine, error) {
	e := &Engine{Host: "unix://" + filepath.Join(dir, "docker.sock"), dir: dir}
	return e, e.Begin(ctx)
}

// Begin starts the engine again after [Engine.End].
func (e *Engine) Begin(ctx context.Context) error {
	log, err := os.OpenFile(filepath.Join(e.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start docker engine: %w", err)
	}
	// No bridge and no rules: networks are made by those who need one, and go with the
	// containers. Each layer is a copy (vfs), which works on every file system.
	e.cmd = exec.Command(daemon(), "--host", e.Host, "--data-root", filepath.Join(e.dir, "data"),
		"--exec-root", filepath.Join(e.dir, "exec"), "--pidfile", filepath.Join(e.dir, "pid"), "--config-file", filepath.Join(e.dir, "none.json"),
		"--storage-driver=vfs", "--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false")
	if err := os.WriteFile(filepath.Join(e.dir, "none.json"), []byte("{}"), 0o600); err != nil {
		return errors.Join(err, log.Close())
	}
	e.cmd.Stdout, e.cmd.Stderr = log, log
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := e.cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("start docker engine (apt-get install docker.io?): %w", err), log.Close())
	}
	e.log, e.ended = log, make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) { // ends with the process, which End waits for
		_ = cmd.Wait()
		close(ended)
	}(e.cmd, e.ended)
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		if _, err := e.Docker(ctx, "version"); err == nil {
			return nil
		}
		select {
		case <-time.After(pollInterval):
		case <-e.ended:
			return fmt.Errorf("docker engine has ended at once: see %s", e.log.Name())
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("docker engine does not answer, see %s: %w", e.log.Name(), ctx.Err()), e.End())
		}
	}
}

// daemon is the path of the engine's program, which a user's PATH may not have.
func daemon() string {
	if path, err := exec.LookPath("dockerd"); err == nil {
		return path
	}
	return "/usr/sbin/dockerd"
}

// Docker runs the docker command against the engine and returns what it prints.
func (e *Engine) Docker(ctx context.Context, args ...string) (string, error) {
	return e.run(ctx, "docker", args...)
}

// PostgresImage makes the image of PostgreSQL out of the packages of this machine,
// with the script tools/postgres-image/build.sh.
func (e *Engine) PostgresImage(ctx context.Context, script, image string) error {
	_, err := e.run(ctx, "sh", script, image)
	return err
}

// run runs a command that talks to the engine.
func (e *Engine) run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+e.Host)
	var out, trouble strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &trouble
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(trouble.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

// End ends the process and waits for it; what the engine has kept stays, so that
// [Engine.Begin] finds it again. Its containers are stopped.
func (e *Engine) End() error {
	pid := e.cmd.Process.Pid
	_ = syscall.Kill(pid, syscall.SIGTERM) // it may have ended already
	select {
	case <-e.ended:
	case <-time.After(stopTimeout):
		_ = syscall.Kill(pid, syscall.SIGKILL)
		<-e.ended
	}
	return e.log.Close()
}

// Stop removes all containers and networks of the engine, and ends it.
func (e *Engine) Stop(ctx context.Context) error {
	var errs []error
	if ids, err := e.Docker(ctx, "ps", "--all", "--quiet"); err != nil {
		errs = append(errs, err)
	} else if all := strings.Fields(ids); len(all) > 0 {
		_, err := e.Docker(ctx, append([]string{"rm", "--force", "--volumes"}, all...)...)
		errs = append(errs, err)
	}
	_, err := e.Docker(ctx, "network", "prune", "--force")
	return errors.Join(append(errs, err, e.End())...)
}
