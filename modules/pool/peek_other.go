//go:build !unix

package pool

// peekSocket cannot peek here: a dead connection is noticed when it is used.
func peekSocket(uintptr) heard { return heardNothing }
