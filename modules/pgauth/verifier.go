package pgauth

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	verifierPrefix = mechanism + "$"
	saltLen        = 16  // bytes, as PostgreSQL makes them
	maxSaltLen     = 256 // bytes; a longer one would not fit the messages that libpq accepts
)

// Verifier is what a server keeps of a password for SCRAM-SHA-256: enough to check a proof, not to make one. It is
// still worth guarding: with it passwords can be guessed offline and the server be impersonated. Immutable once made.
type Verifier struct {
	Iterations int    // how often the password was hashed, 1 to MaxIterations
	Salt       []byte // 1 to 256 bytes
	StoredKey  []byte // SHA-256 of the ClientKey, 32 bytes
	ServerKey  []byte // signs the server's last message, 32 bytes
}

// ParseVerifier reads pg_authid.rolpassword: SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>, the last
// three in base64. It is strict: nothing may stand before, between or after. The errors never show the text.
// See https://www.postgresql.org/docs/current/catalog-pg-authid.html.
func ParseVerifier(rolpassword string) (*Verifier, error) {
	rest, ok := strings.CutPrefix(rolpassword, verifierPrefix)
	if !ok {
		return nil, notVerifier(rolpassword)
	}
	cost, keys, ok := strings.Cut(rest, "$")
	if !ok {
		return nil, errors.New("parse verifier: no keys after the salt")
	}
	count, salt, ok := strings.Cut(cost, ":")
	if !ok {
		return nil, errors.New("parse verifier: no salt after the iteration count")
	}
	stored, server, ok := strings.Cut(keys, ":")
	if !ok {
		return nil, errors.New("parse verifier: no server key after the stored key")
	}
	var v Verifier
	var err error
	if v.Iterations, err = parseIterations(count); err != nil {
		return nil, fmt.Errorf("parse verifier: %w", err)
	}
	if v.Salt, err = parseSalt(salt); err != nil {
		return nil, fmt.Errorf("parse verifier: %w", err)
	}
	if v.StoredKey, err = decodeKey(stored); err != nil {
		return nil, fmt.Errorf("parse verifier: stored key: %w", err)
	}
	if v.ServerKey, err = decodeKey(server); err != nil {
		return nil, fmt.Errorf("parse verifier: server key: %w", err)
	}
	return &v, nil
}

// NewVerifier hashes a password (normalised as PostgreSQL does it). A nil salt stands for 16 random bytes, iterations
// below 1 for DefaultIterations. The result is nil, the verifier of nobody, only where the process runs in FIPS-only
// mode and its rules forbid the salt (less than 16 bytes).
func NewVerifier(password string, salt []byte, iterations int) *Verifier {
	if iterations < 1 {
		iterations = DefaultIterations
	}
	if salt == nil {
		salt = make([]byte, saltLen)
		_, _ = rand.Read(salt) // never fails: the process ends first
	}
	client, server, err := deriveKeys(password, salt, iterations)
	if err != nil {
		return nil
	}
	return &Verifier{Iterations: iterations, Salt: append([]byte(nil), salt...), StoredKey: storedKey(client), ServerKey: server}
}

// String is the form PostgreSQL keeps in pg_authid and takes in CREATE ROLE … PASSWORD. It is for configuration and
// SQL, never for logs.
func (v *Verifier) String() string {
	return verifierPrefix + strconv.Itoa(v.Iterations) + ":" + encode(v.Salt) + "$" + encode(v.StoredKey) + ":" + encode(v.ServerKey)
}

// notVerifier says what the text is instead, as far as its shape tells.
func notVerifier(rolpassword string) error {
	if len(rolpassword) == 35 && strings.HasPrefix(rolpassword, "md5") {
		return errors.New("parse verifier: this is an md5 hash; set password_encryption to 'scram-sha-256' and set the password again")
	}
	return errors.New("parse verifier: not a SCRAM-SHA-256 verifier")
}

// deriveKeys turns a password into the two keys of RFC 5802, part 3.
func deriveKeys(password string, salt []byte, iterations int) (client, server []byte, err error) {
	salted, err := pbkdf2.Key(sha256.New, prepare(password), salt, iterations, keyLen)
	if err != nil {
		return nil, nil, fmt.Errorf("hash password: %w", err)
	}
	return sign(salted, "Client Key"), sign(salted, "Server Key"), nil
}

func parseIterations(text string) (int, error) {
	// Atoi alone would take a sign and leading zeros.
	if text == "" || text[0] < '1' || text[0] > '9' {
		return 0, errors.New("the iteration count is not a positive number")
	}
	n, err := strconv.Atoi(text)
	if errors.Is(err, strconv.ErrRange) || err == nil && n > MaxIterations {
		return 0, fmt.Errorf("the iteration count is above %d", MaxIterations)
	}
	if err != nil {
		return 0, errors.New("the iteration count is not a positive number")
	}
	return n, nil
}

func parseSalt(text string) ([]byte, error) {
	if len(text) > base64.StdEncoding.EncodedLen(maxSaltLen) {
		return nil, fmt.Errorf("the salt is longer than %d bytes", maxSaltLen)
	}
	salt, err := decode(text)
	if err != nil {
		return nil, fmt.Errorf("salt: %w", err)
	}
	if len(salt) == 0 {
		return nil, errors.New("the salt is empty")
	}
	if len(salt) > maxSaltLen {
		return nil, fmt.Errorf("the salt is longer than %d bytes", maxSaltLen)
	}
	return salt, nil
}
