package pgwire

import (
	"math/bits"
	"sync"
)

// maxPooled is the largest write buffer that is kept for reuse.
const maxPooled = 1 << 20

// block is a write buffer while nobody uses it. The pointer travels with the Writer so that giving it back
// allocates nothing.
type block struct{ b []byte }

// blocks holds unused write buffers by the power of two of their size. Only Writers take from it: nobody borrows
// from their buffers, so no bytes of one connection can show up on another.
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
	if size := cap(b.b); size <= maxPooled {
		blocks[bits.Len(uint(size-1))].Put(b)
	}
}
