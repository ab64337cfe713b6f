package pgwire

import (
	"encoding/binary"
	"errors"
	"net"
	"strings"
)

var errFrameTooLong = errors.New("pgwire: frame is longer than the protocol allows")

// Writer collects frames and gives them to a connection in few writes. One goroutine at a time uses it; it
// does not own the connection and never closes it.
//
// It writes when more than its size is collected, and at Flush. What it writes by itself are whole frames, except
// for frames larger than its size. The first error is kept: from then on everything collected is dropped, and Flush
// and Err return it as *WriteError. A buffer is held only while something is collected.
//
// Its methods copy what they are given. A plain TCP or Unix socket is written by system calls of our own, and every
// other connection by its Write.
type Writer struct {
	conn  net.Conn
	raw   raw // the socket itself, when conn is a plain one
	size  int
	block *block // where buf came from; nil when nothing is held
	buf   []byte // collected, unsent
	split int    // bytes at the head of buf whose frame has been written in part
	start int    // offset in buf of the length word of the frame being built
	sent  int64
	err   error

	writing bool // a write has not returned
}

// NewWriter returns a Writer to c that collects up to size bytes (16 KiB when size is not positive, never
// less than 16).
func NewWriter(c net.Conn, size int) *Writer {
	if size <= 0 {
		size = defaultSize
	}
	w := &Writer{size: max(size, minBuffer)}
	w.attach(c)
	return w
}

// attach makes c the connection to write to.
func (w *Writer) attach(c net.Conn) {
	w.conn = c
	w.raw = rawOf(c)
	if w.raw.conn != nil {
		w.raw.try = w.transmit
	}
}

// Frame adds a whole frame.
func (w *Writer) Frame(typ byte, body []byte) {
	n := headerLen + len(body)
	if len(w.buf)+n > w.size || w.block == nil {
		if !w.room(n) {
			return
		}
		if n > w.size {
			w.Head(typ, len(body))
			w.stream(body)
			w.push() // no part of a frame that the socket has begun to get stays behind
			return
		}
	}
	length := len(body) + 4
	w.buf = append(w.buf, typ, byte(length>>24), byte(length>>16), byte(length>>8), byte(length))
	w.buf = append(w.buf, body...)
}

// Head adds only the header of a frame whose body of n bytes follows by Raw or Reader.ForwardBody.
func (w *Writer) Head(typ byte, n int) {
	if n > DefaultMaxFrame-4 || n < 0 {
		w.fail(errFrameTooLong)
		return
	}
	if !w.room(headerLen) {
		return
	}
	length := n + 4
	w.buf = append(w.buf, typ, byte(length>>24), byte(length>>16), byte(length>>8), byte(length))
}

// Raw adds bytes that are frames already.
func (w *Writer) Raw(p []byte) {
	if !w.room(len(p)) {
		return
	}
	if len(p) > w.size {
		w.write(p)
		return
	}
	w.buf = append(w.buf, p...)
}

// Begin starts a frame that is built in place by Byte … Bytes and ended by End. Nothing else may be called
// in between; the buffer grows to hold the frame.
func (w *Writer) Begin(typ byte) {
	if w.room(headerLen) {
		w.buf = append(w.buf, typ)
	}
	w.open()
}

// Byte adds one byte to the frame being built.
func (w *Writer) Byte(b byte) { w.buf = append(w.buf, b) }

// Int16 adds the lower 16 bits of v.
func (w *Writer) Int16(v int) { w.buf = append(w.buf, byte(v>>8), byte(v)) }

// Int32 adds the lower 32 bits of v.
func (w *Writer) Int32(v int) { w.buf = binary.BigEndian.AppendUint32(w.buf, uint32(v)) }

// Int64 adds v.
func (w *Writer) Int64(v int64) { w.buf = binary.BigEndian.AppendUint64(w.buf, uint64(v)) }

// String adds s and the NUL that ends it. The protocol has no way to carry a NUL inside: s is cut there.
func (w *Writer) String(s string) {
	if i := strings.IndexByte(s, 0); i >= 0 {
		s = s[:i]
	}
	w.buf = append(append(w.buf, s...), 0)
}

// Bytes adds p as it is.
func (w *Writer) Bytes(p []byte) { w.buf = append(w.buf, p...) }

// End completes the frame that Begin started.
func (w *Writer) End() {
	if w.err != nil {
		w.drop()
		return
	}
	n := len(w.buf) - w.start
	if n > DefaultMaxFrame {
		w.fail(errFrameTooLong)
		return
	}
	binary.BigEndian.PutUint32(w.buf[w.start:], uint32(n))
	if len(w.buf) > w.size {
		w.push()
	}
}

// Flush writes what is collected and returns the first error that ever happened, a *WriteError.
func (w *Writer) Flush() error {
	w.push()
	w.drop()
	return w.err
}

// Err returns the first error, a *WriteError, or nil.
func (w *Writer) Err() error { return w.err }

// Len returns how many bytes are collected and unsent.
func (w *Writer) Len() int { return len(w.buf) }

// Idle tells whether nothing is collected and no write is under way: only then the connection can go to somebody else.
func (w *Writer) Idle() bool { return len(w.buf) == 0 && !w.writing }

// Truncate drops what was collected beyond the first n bytes: n is a former Len, and Sent is what it was then.
// Bytes that end a frame of which the socket already has the head stay.
func (w *Writer) Truncate(n int) {
	if n = max(n, w.split); n < len(w.buf) {
		w.buf = w.buf[:n]
	}
}

// Sent returns how many bytes were handed to the connection since NewWriter or Reset, whether or not the write
// succeeded: when it has not moved, no byte collected since can have reached the peer.
func (w *Writer) Sent() int64 { return w.sent }

// Reset writes to c from now on. What is collected is dropped, the error forgotten and Sent begins at 0.
func (w *Writer) Reset(c net.Conn) {
	w.drop()
	w.attach(c)
	w.sent, w.err = 0, nil
}

// open reserves the length word of a frame at the end of what is collected.
func (w *Writer) open() {
	w.start = len(w.buf)
	w.buf = append(w.buf, 0, 0, 0, 0)
}

// room makes sure that n more bytes do not exceed the size, by writing what is collected, and that there is a buffer.
// It returns false when nothing can be added any more.
func (w *Writer) room(n int) bool {
	if len(w.buf)+n > w.size {
		w.push()
	}
	if w.err != nil {
		return false
	}
	if w.block == nil {
		w.block = takeBlock(w.size)
		w.buf = w.block.b
	}
	return true
}

// stream adds a piece of a frame that may be larger than the size.
func (w *Writer) stream(p []byte) {
	for w.err == nil && len(w.buf)+len(p) > w.size {
		if len(w.buf) == 0 {
			w.write(p)
			return
		}
		k := w.size - len(w.buf)
		if k > 0 {
			w.buf = append(w.buf, p[:k]...)
			p = p[k:]
		}
		w.push()
	}
	if len(p) > 0 && w.room(len(p)) {
		w.buf = append(w.buf, p...)
	}
}

// push writes what is collected and keeps the buffer.
func (w *Writer) push() {
	if len(w.buf) > 0 && w.err == nil {
		w.write(w.buf)
		w.buf = w.buf[:0]
	}
	w.split = 0
}

// drop empties the Writer and gives its buffer back.
func (w *Writer) drop() {
	if w.block != nil {
		giveBlock(w.block)
		w.block = nil
	}
	w.buf, w.split = nil, 0
}

// fail keeps the first error.
func (w *Writer) fail(err error) {
	if w.err == nil {
		w.err = &WriteError{Err: err}
	}
	w.drop()
}

// write hands p to the connection. It is the only place that writes.
func (w *Writer) write(p []byte) {
	w.sent += int64(len(p))
	w.writing = true
	var err error
	if w.raw.conn != nil {
		err = w.writeRaw(p)
	} else {
		_, err = w.conn.Write(p)
	}
	w.writing = false
	if err != nil {
		w.fail(err)
	}
}
