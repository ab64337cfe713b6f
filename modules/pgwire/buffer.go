package pgwire

import (
	"math/bits"
	"sync"
)

// maxPooled is the largest buffer that is kept for reuse.
const maxPooled = 1 << 20

// block is a buffer while nobody uses it. The pointer travels with the Reader or Writer so that giving it back
// allocates nothing.
type block struct{ b []byte }

// blocks holds unused buffers by the power of two of their size. A buffer goes from one connection to another: whoever
// keeps what a Reader has lent beyond its time would see bytes of somebody else. The race detector's builds overwrite
// a buffer that is given back, so that tests notice.
var blocks [32]sync.Pool

// takeBlock returns an empty buffer for at least size bytes.
func takeBlock(size int) *block {
	k := bits.Len(uint(size - 1))
	if size > maxPooled {
		return &block{b: make([]byte, 0, size)}
	}
	if b, ok := blocks[k].Get().(*block); ok {
		return b
	}
	return &block{b: make([]byte, 0, 1<<k)}
}

// giveBlock takes a buffer back. The caller keeps no slice of it.
func giveBlock(b *block) {
	if poisons {
		p := b.b[:cap(b.b)]
		for i := range p {
			p[i] = poison
		}
	}
	if size := cap(b.b); size <= maxPooled {
		blocks[bits.Len(uint(size-1))].Put(b)
	}
}

// poison is no message type and no sensible length.
const poison = 0xDB
