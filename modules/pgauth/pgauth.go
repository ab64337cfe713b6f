// Package pgauth proves identities in both directions of a PostgreSQL connection: AuthenticateSCRAM is our server
// side towards a client, Login our client side towards a server. It owns verifiers, proofs and the keys a proof
// reveals; it never opens a connection, sets a deadline, or decides who may log in. The session calls the first,
// the cluster's dialer the second; both own the connection and its deadline while they call.
//
// A client's proof of its password reveals the ClientKey of SCRAM to whoever holds the verifier. The same key logs
// in at every server that holds the same verifier, so no password needs to be stored anywhere ("pass-through").
//
// Protocol: https://www.postgresql.org/docs/current/sasl-authentication.html, RFC 5802 and RFC 7677.
package pgauth

import (
	"fmt"
	"io"
)

const (
	// DefaultIterations is the iteration count of PostgreSQL's own verifiers (scram_iterations), without unit.
	DefaultIterations = 4096
	// MaxIterations is the highest iteration count accepted, in verifiers and from servers. A login with a password
	// costs that many HMACs of our processor, and the count is the server's to choose: this is about half a second.
	MaxIterations = 1_000_000
)

// redacted is what every textual form of a Secret shows.
const redacted = "[redacted]"

// Secret is what logs a user in at a server: the password, or the two keys recovered from a client's proof (32 bytes
// each). A password goes before keys. The zero value is none: only servers that ask nothing let it in.
//
// Every textual form is redacted: fmt with any verb, JSON and text marshalling. Slices are not copied; who shares a
// Secret must not change them.
type Secret struct {
	Password  string
	ClientKey []byte
	ServerKey []byte
}

// IsZero reports whether there is neither a password nor a key.
func (s Secret) IsZero() bool {
	return s.Password == "" && len(s.ClientKey) == 0 && len(s.ServerKey) == 0
}

// String shows that a secret is there, never which.
func (s Secret) String() string {
	return redacted
}

// GoString redacts %#v.
func (s Secret) GoString() string {
	return redacted
}

// Format redacts every verb: %x and %d would print the fields otherwise.
func (s Secret) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, redacted)
}

// MarshalJSON redacts JSON, and with it reflecting loggers. There is no way back by design.
func (s Secret) MarshalJSON() ([]byte, error) {
	return []byte(`"` + redacted + `"`), nil
}

// MarshalText redacts the encoders that ask for text.
func (s Secret) MarshalText() ([]byte, error) {
	return []byte(redacted), nil
}
