//go:build !linux || 386 || s390x

package pgwire

import "errors"

// hasRaw: every connection is used the ordinary way here.
const hasRaw = false

func (r *Reader) fillRaw() error { return errors.ErrUnsupported }

func (r *Reader) receive(uintptr) bool { return true }

func (w *Writer) writeRaw([]byte) error { return errors.ErrUnsupported }

func (w *Writer) transmit(uintptr) bool { return true }
