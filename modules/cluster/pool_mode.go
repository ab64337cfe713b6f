package cluster

import (
	"errors"
	"fmt"
)

// PoolMode is how long a session holds a server connection.
type PoolMode uint8

// The pool modes.
const (
	PoolTransaction PoolMode = iota // until the transaction ends, or what it made there is gone
	PoolSession                     // from its first statement until it leaves
)

// String returns the word of the configuration.
func (m PoolMode) String() string {
	if m == PoolSession {
		return "session"
	}
	return "transaction"
}

// ParsePoolMode reads the word of the configuration. The error names what to write instead.
func ParsePoolMode(s string) (PoolMode, error) {
	switch s {
	case "", "transaction":
		return PoolTransaction, nil
	case "session":
		return PoolSession, nil
	case "statement":
		return 0, errors.New("pool mode statement is not built, it would take transactions away from clients: write transaction or session")
	}
	return 0, fmt.Errorf("unknown pool mode %q: write transaction or session", s)
}
