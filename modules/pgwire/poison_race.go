//go:build race

package pgwire

// poisons: buffers that are given back are overwritten.
const poisons = true
