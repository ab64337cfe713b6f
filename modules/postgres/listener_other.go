//go:build !linux

package postgres

import "net"

// keepAlive has accepted connections probe their clients.
func keepAlive(cfg *net.ListenConfig) {
	if !cfg.KeepAliveConfig.Enable {
		cfg.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: keepAliveIdle, Interval: keepAliveInterval, Count: keepAliveCount}
	}
}
