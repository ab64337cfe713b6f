package pgtest

import (
	"os"
	"os/exec"
	"syscall"
)

// Stand-ins for signals that do not exist.
const sigStop, sigCont = syscall.Signal(0), syscall.Signal(0)

// detach does nothing: the package compiles on Windows so that commands that import it do, but the postmaster's signals
// do not exist there and Start returns an error.
func detach(*exec.Cmd, account) {}

// signalPID ends the process whatever the signal.
func signalPID(pid int, _ syscall.Signal) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	return p.Kill()
}

// childrenOf knows no children.
func childrenOf(int) ([]int, error) { return nil, nil }
