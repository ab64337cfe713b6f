// Package pgauth proves identities in both directions of a PostgreSQL connection: AuthenticateSCRAM, AuthenticateMD5
// and AuthenticateCleartext are our server side towards a client, Login is our client side towards a server. It owns
// verifiers, proofs and the keys a proof reveals; it never opens a connection, sets a deadline, or decides who may log
// in. The session calls the first ones, the cluster's dialer the last; both own the connection and its deadline while
// they call.
//
// A client's proof of its password reveals the ClientKey of SCRAM to whoever holds the verifier. The same key logs
// in at every server that holds the same verifier, so no password needs to be stored anywhere ("pass-through"). An md5
// hash is a key by itself.
//
// Protocol: https://www.postgresql.org/docs/current/sasl-authentication.html, RFC 5802, RFC 7677 and RFC 5929.
package pgauth

import (
	"bytes"
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

// Secret is what logs a user in at a server: the password, the two keys recovered from a client's proof (32 bytes
// each), or an md5 hash. A password goes before the others. The zero value is none: only servers that ask nothing let
// it in.
//
// Every textual form is redacted: fmt with any verb, JSON and text marshalling. Slices are not copied; who shares a
// Secret must not change them.
type Secret struct {
	Password  string
	ClientKey []byte
	ServerKey []byte
	// Salt and Iterations are those of the verifier the keys belong to. A server that shows others has another
	// password for the user and is not sent a proof. A nil Salt goes with every server.
	Salt       []byte
	Iterations int
	// MD5 is the hash as pg_authid keeps it: md5 and 32 hexadecimal digits.
	MD5 string
	// Before has the keys that the user's password had before it was changed, for servers that have not heard of the
	// change yet. nil: none are known.
	Before *Secret
}

// IsZero reports whether there is neither a password nor a key nor a hash.
func (s Secret) IsZero() bool {
	return s.Password == "" && s.MD5 == "" && !s.hasKeys()
}

// hasKeys reports whether there is something to make a SCRAM proof from without a password.
func (s Secret) hasKeys() bool {
	return len(s.ClientKey) != 0 || len(s.ServerKey) != 0
}

// keysFor returns the one among s and what was before it whose keys belong to the salt and count.
func (s Secret) keysFor(salt []byte, iterations int) (Secret, bool) {
	for k := &s; k != nil; k = k.Before {
		if k.hasKeys() && (k.Salt == nil || k.Iterations == iterations && bytes.Equal(k.Salt, salt)) {
			return *k, true
		}
	}
	return Secret{}, false
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
