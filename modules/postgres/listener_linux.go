package postgres

import (
	"errors"
	"net"
	"syscall"
	"time"
)

// keepAlive has accepted connections probe their clients. They inherit it from
// the listening socket, which saves four system calls for each of them.
func keepAlive(cfg *net.ListenConfig) {
	if cfg.KeepAliveConfig.Enable {
		return
	}
	cfg.KeepAlive = -1 // Go leaves the accepted ones as they are
	before := cfg.Control
	cfg.Control = func(network, address string, c syscall.RawConn) error {
		if before != nil {
			if err := before(network, address, c); err != nil {
				return err
			}
		}
		var failed error
		err := c.Control(func(fd uintptr) {
			failed = errors.Join(
				syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1),
				syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, int(keepAliveIdle/time.Second)),
				syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, int(keepAliveInterval/time.Second)),
				syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, keepAliveCount))
		})
		return errors.Join(err, failed)
	}
}
