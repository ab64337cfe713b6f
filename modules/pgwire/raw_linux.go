//go:build linux && !386 && !s390x

package pgwire

import (
	"io"
	"syscall"
	"unsafe"
)

// hasRaw: on 386 and s390x recvfrom and sendto are reached another way.
const hasRaw = true

// fillRaw is fill from a plain socket.
func (r *Reader) fillRaw() error {
	before := r.w
	err := r.raw.conn.Read(r.raw.try)
	if err = r.raw.failure(r.conn, "read", err); err != nil {
		return err
	}
	if r.w == before {
		return io.EOF
	}
	return nil
}

// receive reads once from the socket into the free part of the buffer. It returns false, to be called again when the
// socket is readable, after the kernel has said that there is nothing, and only then: whoever waits without having asked
// misses an end of the stream that was there before. An empty buffer is not held meanwhile.
func (r *Reader) receive(fd uintptr) bool {
	r.take()
	free := r.buf[r.w:]
	for {
		// Without telling the scheduler: the call never blocks.
		n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&free[0])), uintptr(len(free)), syscall.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			r.w += int(n)
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			if r.w == 0 {
				r.rest()
			}
			return false
		}
		r.raw.errno = errno
		return true
	}
}

// writeRaw writes p to a plain socket.
func (w *Writer) writeRaw(p []byte) error {
	w.raw.out = p
	err := w.raw.conn.Write(w.raw.try)
	w.raw.out = nil
	return w.raw.failure(w.conn, "write", err)
}

// transmit writes what is left. It returns false, to be called again when the socket takes more, after the kernel has
// said that there is no room.
func (w *Writer) transmit(fd uintptr) bool {
	w.raw.errno = 0
	for len(w.raw.out) > 0 {
		p := w.raw.out
		n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)),
			syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			w.raw.out = p[n:]
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			w.raw.errno = errno
			return true
		}
	}
	return true
}
