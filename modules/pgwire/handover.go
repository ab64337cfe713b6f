package pgwire

import "net"

// PeekByte returns the next byte of the stream, between two frames, without taking it: a TLS client that sends
// no SSLRequest is known by it.
func (r *Reader) PeekByte() (byte, error) {
	if !r.done {
		return 0, errNoFrame
	}
	if err := r.need(1); err != nil {
		return 0, err
	}
	return r.buf[r.r], nil
}

// ReadByte takes one byte that is not a frame, such as a server's answer to SSLRequest.
func (r *Reader) ReadByte() (byte, error) {
	b, err := r.PeekByte()
	if err == nil {
		r.r++
	}
	return b, err
}

// Take removes the bytes that are read but not yet consumed, and returns a copy of them, nil when there are
// none: for who reads the connection from now on without the Reader.
func (r *Reader) Take() []byte {
	p := append([]byte(nil), r.buf[r.r:r.w]...)
	r.r, r.w = 0, 0
	r.left, r.large, r.done = 0, nil, true
	r.rest()
	return p
}

// Reset reads from c from now on, after a TLS handshake over the connection before. Bytes that are still
// buffered were sent before the handshake and could be an attacker's: they give a FATAL *Error 08P01 and c is
// not taken.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL.
func (r *Reader) Reset(c net.Conn) error {
	if r.w > r.r || !r.done {
		e := Fatalf(CodeProtocolViolation, "received unencrypted data after SSL request")
		e.Detail = "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack."
		return e
	}
	r.rest()
	r.attach(c)
	r.err, r.left, r.large = nil, 0, nil
	return nil
}
