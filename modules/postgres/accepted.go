package postgres

import (
	"net"
	"sync/atomic"
)

// accepted is a connection of a listener of the network pg. For as long as its
// handlers run, layer4 keeps a goroutine with a deep stack and a buffer for
// matchers, more than all that an idle session needs. So a session takes the
// connection away from layer4, which then finds its work done.
type accepted struct {
	net.Conn
	taken atomic.Bool
}

// take leaves the connection to the caller.
func (c *accepted) take() net.Conn {
	c.taken.Store(true)
	return c.Conn
}

// Close closes the connection unless it was taken.
func (c *accepted) Close() error {
	if c.taken.Load() {
		return nil
	}
	return c.Conn.Close()
}
