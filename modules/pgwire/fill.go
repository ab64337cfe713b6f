package pgwire

import (
	"crypto/tls"
	"io"
	"net"
)

// maxEmptyReads is how many reads of nothing in a row it takes to give a broken net.Conn up.
const maxEmptyReads = 100

// attach makes c the connection to read from.
func (r *Reader) attach(c net.Conn) {
	r.conn = c
	r.raw = rawOf(c)
	if r.raw.conn != nil {
		r.raw.try = r.receive
	}
}

// Rest gives the buffer back when nothing follows the current frame, which ends; the next read takes another. What Body
// and Peek have handed out is void after it.
func (r *Reader) Rest() {
	if r.block == nil || r.w-r.r > r.left {
		return
	}
	if !r.done {
		if r.w-r.r < r.left {
			return // the rest of the frame has yet to come
		}
		r.r, r.left, r.at, r.done = r.w, 0, r.size, true
	}
	r.rest()
}

// fill reads at least one byte into the free part of the buffer, once it has moved what is left to its head.
//
// It is the only place that reads from the connection and takes the buffer. One that is empty at an error is given back.
func (r *Reader) fill() error {
	if r.r > 0 {
		r.w = copy(r.buf, r.buf[r.r:r.w])
		r.r = 0
	}
	var err error
	if r.raw.conn != nil {
		err = r.fillRaw()
	} else {
		err = r.fillPlain()
	}
	if err != nil && r.w == 0 {
		r.rest()
	}
	return err
}

// fillPlain is fill by the connection's Read. A TLS connection is waited for without a buffer: it has one itself.
func (r *Reader) fillPlain() error {
	if _, ok := r.conn.(*tls.Conn); ok && r.w == 0 {
		r.rest()
		n, err := r.read(r.first[:])
		if n > 0 {
			r.take()
			r.w = copy(r.buf, r.first[:n])
		}
		return err
	}
	r.take()
	n, err := r.read(r.buf[r.w:])
	r.w += n
	return err
}

// read reads at least one byte, or returns why it did not.
func (r *Reader) read(p []byte) (int, error) {
	for range maxEmptyReads {
		n, err := r.conn.Read(p)
		if n > 0 {
			return n, nil // an error that came with bytes comes again
		}
		if err != nil {
			return 0, err
		}
	}
	return 0, io.ErrNoProgress
}

// take makes sure that there is a buffer.
func (r *Reader) take() {
	if r.block == nil {
		r.block = takeBlock(r.cap)
		r.buf = r.block.b[:r.cap]
	}
}

// rest gives the buffer back, and what is in it is lost.
func (r *Reader) rest() {
	if r.block != nil {
		giveBlock(r.block)
		r.block, r.buf, r.r, r.w = nil, nil, 0, 0
	}
}
