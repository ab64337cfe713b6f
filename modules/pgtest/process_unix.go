//go:build unix

package pgtest

import (
	"os/exec"
	"syscall"
)

// The signals that stop and continue a process.
const (
	sigStop = syscall.SIGSTOP
	sigCont = syscall.SIGCONT
)

// detach makes cmd run as the account and in a process group of its own, so that a Ctrl-C in the terminal reaches us
// and not the servers, and asks for its end when we end (where the system can).
func detach(cmd *exec.Cmd, a account) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if a.switched {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid, Groups: a.groups}
	}
	dieWithParent(cmd.SysProcAttr)
}

// signalPID sends s to one process; that it has ended already is no error.
func signalPID(pid int, s syscall.Signal) error {
	if err := syscall.Kill(pid, s); err != nil && err != syscall.ESRCH {
		return err
	}
	return nil
}
