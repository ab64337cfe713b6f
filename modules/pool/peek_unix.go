//go:build unix

package pool

import (
	"errors"
	"syscall"
)

// peekSocket looks at the first byte the socket has received.
func peekSocket(fd uintptr) heard {
	var b [1]byte
	for {
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch {
		case errors.Is(err, syscall.EAGAIN):
			return heardNothing
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil || n == 0:
			return heardEnd
		}
		return heardWords
	}
}
