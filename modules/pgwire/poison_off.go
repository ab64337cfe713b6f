//go:build !race

package pgwire

// poisons: buffers that are given back stay as they are.
const poisons = false
