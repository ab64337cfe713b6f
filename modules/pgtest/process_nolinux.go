//go:build unix && !linux

package pgtest

import (
	"bytes"
	"fmt"
	"os/exec"
	"strconv"
	"syscall"
)

// dieWithParent does nothing: this system has no parent-death signal.
func dieWithParent(*syscall.SysProcAttr) {}

// childrenOf returns the ids of the processes that pid has forked.
func childrenOf(pid int) ([]int, error) {
	output, err := exec.Command("ps", "-ax", "-o", "pid=,ppid=").Output()
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var children []int
	for line := range bytes.Lines(output) {
		fields := bytes.Fields(line)
		if len(fields) != 2 || string(fields[1]) != strconv.Itoa(pid) {
			continue
		}
		if child, err := strconv.Atoi(string(fields[0])); err == nil {
			children = append(children, child)
		}
	}
	return children, nil
}
