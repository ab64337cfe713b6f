package pgwire

import "encoding/binary"

// ForwardRun is Forward for the current frame and for those behind it, as long as they have its type and are buffered
// whole: rows go from socket to socket a buffer at a time. It fails as Forward does.
func (r *Reader) ForwardRun(w *Writer) error {
	if r.done || r.headSent || r.at > 0 || r.large != nil || r.r < headerLen || headerLen+r.size > r.cap {
		return r.Forward(w) // begun, too large, or its header is not in front of it any more
	}
	if w.err != nil {
		return w.err
	}
	if r.w-r.r < r.size {
		r.r -= headerLen // the header moves along with what has come of the body
		err := r.need(headerLen + r.size)
		r.r += headerLen
		if err != nil {
			return &ReadError{Err: unexpected(err)}
		}
	}
	start, end := r.r-headerLen, r.r+r.size
	for r.w-end >= headerLen && r.buf[end] == r.typ {
		length := binary.BigEndian.Uint32(r.buf[end+1:])
		if length < 4 || uint64(length) > uint64(max(r.MaxFrame, 0)) || int(length) > r.w-end-1 {
			break // broken, which Next says, or not whole
		}
		r.size = int(length) - 4
		end += 1 + int(length)
	}
	w.Raw(r.buf[start:end])
	r.r = end
	r.left, r.at, r.done = 0, r.size, true
	return w.err
}
