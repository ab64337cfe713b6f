package pgwire

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
)

// firstLarge is the first piece of memory for a body larger than the buffer; it grows as the body arrives.
const firstLarge = 256 << 10

// Reader cuts a connection's bytes into frames. One goroutine at a time uses it; it does not own the
// connection and never closes it.
//
// Next reads a header; Body, Peek, Forward, ForwardBody and Discard then deal with that frame. What they hand
// out is borrowed: a Body is valid until the next call of Next, a Peek until the next call of any method that reads.
//
// Every method may be called again after a timeout (a net.Error whose Timeout is true) and goes on where it
// stopped; no byte is lost.
//
// A plain TCP or Unix socket is read by system calls of our own, and every other connection by its Read. While a Reader
// waits for a plain socket or for TLS with nothing read, it holds no buffer.
type Reader struct {
	// MaxFrame is the largest length word accepted, in bytes (default DefaultMaxFrame).
	MaxFrame int
	// BodyLimit is the largest body that Body holds in memory, in bytes (default DefaultBodyLimit). Forward and
	// Discard are not bound by it.
	BodyLimit int

	conn  net.Conn
	raw   raw    // the socket itself, when conn is a plain one
	cap   int    // size of buf
	block *block // where buf came from; nil when nothing is held
	buf   []byte // one buffer; buf[r:w] is read but not taken
	r, w  int
	first [headerLen]byte // what wakes a read that holds no buffer and is not raw

	// The current frame. The body byte at buf[r] has the offset size-left.
	typ      byte
	size     int    // bytes in the body
	left     int    // bytes of the body not yet taken out of buf
	at       int    // offset of the next byte to forward or to discard
	large    []byte // head of a body larger than the buffer, gathered by Body
	headSent bool   // Forward has given the header to the Writer
	done     bool   // nothing is left of the frame; also before the first one
	startup  bool   // the frame is a startup packet whose length is read

	err error // a broken frame: the stream cannot be followed any more
}

// NewReader returns a Reader of c with a buffer of size bytes (16 KiB when size is not positive, never
// less than 16 bytes). The buffered bytes were read from c before and come first; they are copied.
func NewReader(c net.Conn, buffered []byte, size int) *Reader {
	if size <= 0 {
		size = defaultSize
	}
	r := &Reader{
		MaxFrame:  DefaultMaxFrame,
		BodyLimit: DefaultBodyLimit,
		cap:       max(size, minBuffer, len(buffered)),
		done:      true,
	}
	r.attach(c)
	if len(buffered) > 0 {
		r.take()
		r.w = copy(r.buf, buffered)
	}
	return r
}

// Next skips what is left of the frame before and reads the header of the next one: its type and the length n
// of its body in bytes, without the length word.
//
// It returns io.EOF when the peer ended the stream between two frames, io.ErrUnexpectedEOF inside one, and a
// FATAL *Error 08P01 for a length word below 4 or above MaxFrame, after which the stream cannot be followed and
// every call returns the same error. What Body and Peek have handed out is void after the call, even after a timeout.
func (r *Reader) Next() (typ byte, n int, err error) {
	if r.err != nil {
		return 0, 0, r.err
	}
	if !r.done {
		if err := r.Discard(); err != nil {
			return 0, 0, err
		}
	}
	r.large = nil
	if r.w-r.r < headerLen {
		if err := r.need(headerLen); err != nil {
			return 0, 0, err
		}
	}
	h := r.buf[r.r : r.r+headerLen]
	length := binary.BigEndian.Uint32(h[1:])
	if length < 4 || uint64(length) > uint64(max(r.MaxFrame, 0)) {
		r.err = Fatalf(CodeProtocolViolation, "invalid message length %d of message type %q", length, rune(h[0]))
		return 0, 0, r.err
	}
	r.r += headerLen
	r.begin(h[0], int(length)-4)
	return r.typ, r.size, nil
}

// Body returns the whole body, borrowed until the next call of Next. A body larger than the buffer is gathered
// in memory of its own, which grows only as the body arrives; one larger than BodyLimit is an *Error 54000 of
// severity ERROR, taken before any memory is, and the frame can still be forwarded or discarded.
func (r *Reader) Body() ([]byte, error) {
	if r.done || r.at > 0 {
		return nil, r.misuse()
	}
	if r.size > r.BodyLimit {
		return nil, Errorf(CodeProgramLimitExceeded, "message of %d bytes exceeds the limit of %d bytes", r.size, r.BodyLimit)
	}
	if r.size <= r.cap {
		if r.w-r.r < r.size {
			if err := r.need(r.size); err != nil {
				return nil, unexpected(err)
			}
		}
		return r.buf[r.r : r.r+r.size : r.r+r.size], nil
	}
	if err := r.gather(r.size); err != nil {
		return nil, err
	}
	return r.large, nil
}

// Peek returns the first min(k, n) bytes of the body without taking them. They are borrowed until the next
// call of a method that reads. A k larger than the buffer is an error.
func (r *Reader) Peek(k int) ([]byte, error) {
	if r.done || r.at > 0 {
		return nil, r.misuse()
	}
	if k = max(min(k, r.size), 0); k > r.cap {
		return nil, errPeek
	}
	if r.large != nil { // Body has begun to gather it
		if err := r.gather(k); err != nil {
			return nil, err
		}
		return r.large[:k:k], nil
	}
	if r.w-r.r < k {
		if err := r.need(k); err != nil {
			return nil, unexpected(err)
		}
	}
	return r.buf[r.r : r.r+k : r.r+k], nil
}

// Forward gives the frame, header and body, to w. A frame that fits the buffer is given as a whole or not at
// all; a larger one is streamed and never held whole.
//
// A failure is a *ReadError or a *WriteError. After a *ReadError that is a timeout Forward may be called again and
// goes on within the frame; after any other error in a streamed frame both connections are of no more use. After a
// *WriteError the rest of the frame can be discarded and the Reader goes on. Forward does not flush w.
func (r *Reader) Forward(w *Writer) error {
	if r.done {
		return r.misuse()
	}
	if !r.headSent {
		if r.at == 0 && r.large == nil && r.size <= r.cap {
			return r.forwardWhole(w)
		}
		if w.err != nil {
			return w.err
		}
		w.Head(r.typ, r.size)
		r.headSent = true
	}
	return r.ForwardBody(w, 0)
}

// ForwardBody gives the body from the offset skip on to w, without the header: for a frame whose head the
// caller has rewritten (Writer.Head). It streams, resumes and fails as Forward does; skip is the same in a resumed call.
func (r *Reader) ForwardBody(w *Writer, skip int) error {
	if r.done {
		return r.misuse()
	}
	if skip < 0 || skip > r.size {
		return errSkip
	}
	if w.err != nil {
		return w.err
	}
	resumed, before := r.at > skip, w.sent
	err := r.stream(w, skip)
	if resumed || w.sent != before {
		w.split = len(w.buf) // the socket has the frame's head: Truncate must leave its tail
	}
	return err
}

// Discard skips the rest of the frame. It does nothing when there is no frame.
func (r *Reader) Discard() error {
	if r.done {
		return r.err
	}
	if err := r.skip(r.size); err != nil {
		return err
	}
	r.done = true
	return nil
}

// Buffered returns how many bytes beyond the current frame are already read from the connection: what Next finds
// without waiting.
func (r *Reader) Buffered() int { return max(r.w-r.r-r.left, 0) }

// begin makes a frame of size body bytes the current one.
func (r *Reader) begin(typ byte, size int) {
	r.typ, r.size, r.left = typ, size, size
	r.at, r.headSent, r.done, r.startup = 0, false, false, false
}

// forwardWhole forwards a frame that fits the buffer and of which nothing was taken yet.
func (r *Reader) forwardWhole(w *Writer) error {
	if w.err != nil {
		return w.err
	}
	if r.w-r.r < r.size {
		if err := r.need(r.size); err != nil {
			return &ReadError{Err: unexpected(err)}
		}
	}
	w.Frame(r.typ, r.buf[r.r:r.r+r.size])
	r.r += r.size
	r.left, r.at, r.done = 0, r.size, true
	return w.err
}

// stream gives the body from offset skip on to w, in pieces of at most one buffer.
func (r *Reader) stream(w *Writer, skip int) error {
	if err := r.skip(skip); err != nil {
		return &ReadError{Err: err}
	}
	for r.at < r.size {
		p, err := r.piece()
		if err != nil {
			return &ReadError{Err: err}
		}
		w.stream(p)
		if w.err != nil {
			return w.err
		}
		r.advance(len(p))
	}
	r.done = true
	return nil
}

// skip drops the body up to the offset to.
func (r *Reader) skip(to int) error {
	for r.at < to {
		p, err := r.piece()
		if err != nil {
			return err
		}
		r.advance(min(len(p), to-r.at))
	}
	return nil
}

// piece returns the bytes of the body from at on that are in memory, and reads some when there are none.
func (r *Reader) piece() ([]byte, error) {
	if r.at < len(r.large) {
		return r.large[r.at:], nil
	}
	if r.w == r.r {
		if err := r.fill(); err != nil {
			return nil, unexpected(err)
		}
	}
	return r.buf[r.r : r.r+min(r.left, r.w-r.r)], nil
}

// advance takes k bytes of what piece returned.
func (r *Reader) advance(k int) {
	if r.at >= len(r.large) {
		r.r += k
		r.left -= k
	}
	r.at += k
}

// gather reads a body larger than the buffer until at least k bytes of it are in large. The memory grows with
// what has arrived, so that a length word alone takes none.
func (r *Reader) gather(k int) error {
	for len(r.large) < k {
		if r.w == r.r {
			if err := r.fill(); err != nil {
				return unexpected(err)
			}
		}
		p := r.buf[r.r : r.r+min(r.left, r.w-r.r)]
		if cap(r.large)-len(r.large) < len(p) {
			want := min(max(2*cap(r.large), firstLarge, len(r.large)+len(p)), r.size)
			r.large = append(make([]byte, 0, want), r.large...)
		}
		r.large = append(r.large, p...)
		r.r += len(p)
		r.left -= len(p)
	}
	return nil
}

// need reads until k bytes are buffered; k is at most the size of the buffer. The end of the stream is io.EOF
// when nothing is buffered and io.ErrUnexpectedEOF otherwise.
func (r *Reader) need(k int) error {
	for r.w-r.r < k {
		if err := r.fill(); err != nil {
			if r.w > r.r {
				return unexpected(err)
			}
			return err
		}
	}
	return nil
}

// misuse returns the error of a call that finds no frame.
func (r *Reader) misuse() error {
	if r.err != nil {
		return r.err
	}
	return errNoFrame
}

// unexpected turns an end of the stream into one inside a frame.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
