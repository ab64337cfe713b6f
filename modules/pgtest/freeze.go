package pgtest

import (
	"errors"
	"fmt"
)

// Freeze stops the postmaster and all its processes with SIGSTOP: connections stay open and nothing answers, as when a
// machine hangs. Connecting still succeeds on the TCP level. Thaw, Stop, Kill and Close end it.
func (n *Node) Freeze() error {
	p := n.process()
	if !p.running() {
		return fmt.Errorf("freeze node %s: it does not run", n.name)
	}
	if err := p.signal(sigStop); err != nil {
		return err
	}
	children, err := childrenOf(p.pid) // the postmaster is stopped: there will be no more
	if err != nil {
		return fmt.Errorf("freeze node %s: %w", n.name, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.frozen = append(children, p.pid)
	for _, child := range children {
		if err := signalPID(child, sigStop); err != nil {
			return fmt.Errorf("freeze node %s: stop process %d: %w", n.name, child, err)
		}
	}
	return nil
}

// Thaw lets a frozen server go on. A server that is not frozen is no error.
func (n *Node) Thaw() error { return n.thaw() }

func (n *Node) thaw() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	for _, pid := range n.mu.frozen {
		if err := signalPID(pid, sigCont); err != nil {
			errs = append(errs, fmt.Errorf("thaw node %s: continue process %d: %w", n.name, pid, err))
		}
	}
	n.mu.frozen = nil
	return errors.Join(errs...)
}
