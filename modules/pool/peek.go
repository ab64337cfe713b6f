package pool

import (
	"errors"
	"net"
	"syscall"
	"time"
)

// past is a deadline that lets no read block.
var past = time.Unix(1, 0)

// heard is what peeking at an idle connection finds.
type heard uint8

const (
	heardNothing heard = iota // good to be lent
	heardWords                // the server said something unasked: a FATAL, a notice, a changed parameter
	heardEnd                  // the server closed the connection, or the network did
)

// reason returns the reason to close such a connection.
func (h heard) reason() reason {
	if h == heardEnd {
		return reasonEnd
	}
	return reasonUnasked
}

// ear peeks at a socket without blocking and without taking bytes from it.
type ear struct {
	raw     syscall.RawConn              // nil: no socket to peek at
	layered bool                         // between us and the socket is a layer (TLS) that may have bytes buffered
	look    func(fd uintptr) (done bool) // made once, so that a peek does not allocate
	heard   heard                        // what look has found
}

// open finds the socket under c. The ear must not be moved afterwards.
func (e *ear) open(c net.Conn) {
	for {
		if sc, ok := c.(syscall.Conn); ok {
			if raw, err := sc.SyscallConn(); err == nil {
				e.raw = raw
			}
			break
		}
		e.layered = true
		under, ok := c.(interface{ NetConn() net.Conn }) // as *tls.Conn has
		if !ok {
			break
		}
		c = under.NetConn()
	}
	e.layered = e.layered || e.raw == nil
	e.look = func(fd uintptr) bool {
		e.heard = peekSocket(fd)
		return true // never wait
	}
}

// justUsed is the time after its release within which a connection is lent without being peeked at to those who do not notice its
// death ([Set.AcquireRepeatable]). It spares a busy pool a system call per lease.
const justUsed = time.Millisecond

// idled tells whether the connection has been idle for so long that it must be peeked at. For the owner. One that has
// not been idle since it was opened need not be.
func (c *Conn) idled(after time.Duration) bool {
	if c.fresh {
		c.fresh = false
		return false
	}
	return after <= 0 || time.Since(c.since) >= after
}

// listen tells whether the server has said something, or gone, since the connection was used last. For the owner.
func (c *Conn) listen() heard {
	e := &c.ear
	e.heard = heardNothing
	if e.raw != nil {
		if err := e.raw.Read(e.look); err != nil {
			e.heard = heardEnd
		}
	}
	if e.heard == heardNothing && e.layered {
		e.heard = c.readNothing()
	}
	if e.heard == heardNothing && c.R.Buffered() > 0 {
		e.heard = heardWords
	}
	return e.heard
}

// readNothing finds what a layer above the socket holds: a read under a deadline in the past takes nothing from the
// socket, but what has been decrypted already. A timeout leaves the Reader intact.
func (c *Conn) readNothing() heard {
	if c.nc.SetReadDeadline(past) != nil {
		return heardEnd
	}
	_, _, err := c.R.Next()
	if err == nil {
		return heardWords
	}
	if timeout := net.Error(nil); !errors.As(err, &timeout) || !timeout.Timeout() {
		return heardEnd
	}
	if !c.listenOn() {
		return heardEnd
	}
	return heardNothing
}

// listenOn lets reads block again.
func (c *Conn) listenOn() bool {
	return c.nc.SetReadDeadline(time.Time{}) == nil
}
