package pgwire

import (
	"errors"
	"net"
	"os"
	"syscall"
)

// raw is a plain socket, used by system calls of our own. They are made inside RawConn.Read and RawConn.Write only:
// these hold the descriptor, so that its number cannot come to mean another connection, and they park the goroutine
// until the socket is ready, a deadline passes or the connection is closed.
type raw struct {
	conn  syscall.RawConn       // nil: conn is no plain socket
	try   func(fd uintptr) bool // one attempt, false to wait; made once, as a closure per call would allocate
	errno syscall.Errno         // what ended it, 0 when it succeeded
	out   []byte                // what is left to be written
}

// rawOf returns the socket under c when c is a plain one: nothing between us and the kernel.
func rawOf(c net.Conn) raw {
	var sc syscall.Conn
	switch c := c.(type) {
	case *net.TCPConn:
		sc = c
	case *net.UnixConn:
		if a := c.LocalAddr(); a == nil || a.Network() != "unix" { // the others keep the borders of messages
			return raw{}
		}
		sc = c
	default:
		return raw{}
	}
	if !hasRaw {
		return raw{}
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return raw{} // closed already: the ordinary way says so
	}
	return raw{conn: rc}
}

// failure is the error that net.Conn would have returned for what ended an attempt: err of the poller, or the errno of
// the system call; nil when there was none.
func (w *raw) failure(c net.Conn, op string, err error) error {
	if err == nil && w.errno == 0 {
		return nil
	}
	var waited *net.OpError
	if errors.As(err, &waited) {
		err = waited.Err
	}
	if err == nil {
		err = os.NewSyscallError(op, w.errno)
	}
	remote := c.RemoteAddr()
	network := ""
	if remote != nil {
		network = remote.Network()
	}
	return &net.OpError{Op: op, Net: network, Source: c.LocalAddr(), Addr: remote, Err: err}
}
