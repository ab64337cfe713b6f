package pgauth

import (
	"crypto/fips140"
	"crypto/md5" //nolint:gosec // PostgreSQL's older method is made of it
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"strings"
)

// md5Prefix and md5Len are the form of an md5 hash in pg_authid: the prefix and 32 hexadecimal digits.
const (
	md5Prefix = "md5"
	md5Len    = len(md5Prefix) + 2*md5.Size
)

// Stored is what a server keeps of a user's password: a SCRAM verifier or an md5 hash, never both. The zero value is
// the password of nobody. Its textual form is redacted.
type Stored struct {
	// SCRAM checks proofs of SCRAM-SHA-256.
	SCRAM *Verifier
	// MD5 is md5 and 32 hexadecimal digits. Whoever has it can log in with it: it is as good as the password.
	MD5 string
}

// ParseStored reads pg_authid.rolpassword. The errors never show the text.
// See https://www.postgresql.org/docs/current/catalog-pg-authid.html.
func ParseStored(rolpassword string) (Stored, error) {
	if isMD5(rolpassword) {
		return Stored{MD5: rolpassword}, nil
	}
	v, err := ParseVerifier(rolpassword)
	if err != nil {
		return Stored{}, err
	}
	return Stored{SCRAM: v}, nil
}

// IsZero reports whether it is nobody's.
func (s Stored) IsZero() bool { return s.SCRAM == nil && s.MD5 == "" }

// String shows nothing of it.
func (s Stored) String() string { return redacted }

// GoString redacts %#v.
func (s Stored) GoString() string { return redacted }

// HashMD5 is the md5 hash that a server keeps of a user's password.
func HashMD5(user, password string) string { return md5Prefix + md5Hex(password, user) }

// MD5Allowed reports whether the process may use md5 at all: it may not in FIPS-only mode.
func MD5Allowed() bool { return !fips140.Enforced() }

// isMD5 tells an md5 hash by its shape, as PostgreSQL does.
func isMD5(text string) bool {
	digits, ok := strings.CutPrefix(text, md5Prefix)
	return ok && len(text) == md5Len && strings.Trim(digits, "0123456789abcdef") == ""
}

// answerMD5 is what a client sends that has the hash: the hash salted.
func answerMD5(hash string, salt []byte) string {
	return md5Prefix + md5Hex(strings.TrimPrefix(hash, md5Prefix), string(salt))
}

// md5Hex hashes text and salt, one after the other.
func md5Hex(text, salt string) string {
	sum := md5.Sum([]byte(text + salt)) //nolint:gosec // the method says so
	return hex.EncodeToString(sum[:])
}

// matches checks a password in clear. mock is compared for nobody and beside an md5 hash, so that the time tells neither who exists
// nor whose password is kept in the older form.
func (s Stored) matches(user, password string, mock *Verifier) bool {
	v := s.SCRAM
	if v == nil {
		v = mock
	}
	_, serverKey, err := deriveKeys(password, v.Salt, v.Iterations)
	if s.MD5 != "" {
		return subtle.ConstantTimeCompare([]byte(HashMD5(user, password)), []byte(s.MD5)) == 1
	}
	return err == nil && subtle.ConstantTimeCompare(serverKey, v.ServerKey) == 1 && s.SCRAM != nil
}

var errNoMD5 = errors.New("md5 is not allowed in FIPS-only mode")
