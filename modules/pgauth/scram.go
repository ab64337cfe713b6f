package pgauth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

const (
	mechanism     = "SCRAM-SHA-256"
	mechanismPlus = "SCRAM-SHA-256-PLUS"

	keyLen   = sha256.Size
	nonceLen = 18 // random bytes, 24 characters in base64: as PostgreSQL, and no padding

	// maxMessage bounds a SASL message of a client, in bytes of body: what PostgreSQL accepts (PG_MAX_SASL_MESSAGE_LENGTH,
	// which counts the length word too). Real ones stay below 300.
	maxMessage = 1024 - 4
)

// Codes of the AuthenticationXxx messages.
// See https://www.postgresql.org/docs/current/protocol-message-formats.html.
const (
	authOK           = 0
	authKerberosV5   = 2
	authCleartext    = 3
	authMD5          = 5
	authSCMCreds     = 6
	authGSS          = 7
	authGSSContinue  = 8
	authSSPI         = 9
	authSASL         = 10
	authSASLContinue = 11
	authSASLFinal    = 12
)

func sign(key []byte, message string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(message))
	return h.Sum(nil)
}

func storedKey(clientKey []byte) []byte {
	sum := sha256.Sum256(clientKey)
	return sum[:]
}

// xorSignature turns a ClientKey into its proof and a proof into its ClientKey: both are the exclusive or with the
// signature that the StoredKey gives the conversation (RFC 5802, part 3). in is 32 bytes.
func xorSignature(in, stored []byte, authMessage string) []byte {
	out := make([]byte, keyLen)
	subtle.XORBytes(out, in, sign(stored, authMessage))
	return out
}

func newNonce() string {
	var raw [nonceLen]byte
	_, _ = rand.Read(raw[:]) // never fails: the process ends first
	return encode(raw[:])
}

func encode(p []byte) string {
	return base64.StdEncoding.EncodeToString(p)
}

// decode refuses what Go's decoder lets pass and PostgreSQL's does not: line breaks, and bits set in the padding.
func decode(text string) ([]byte, error) {
	if strings.ContainsAny(text, "\r\n") {
		return nil, errors.New("invalid base64")
	}
	p, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, errors.New("invalid base64") // the decoder's error would show where, and so what
	}
	return p, nil
}

func decodeKey(text string) ([]byte, error) {
	if len(text) != base64.StdEncoding.EncodedLen(keyLen) {
		return nil, fmt.Errorf("not %d bytes in base64", keyLen)
	}
	key, err := decode(text)
	if err != nil {
		return nil, err
	}
	if len(key) != keyLen {
		return nil, fmt.Errorf("not %d bytes in base64", keyLen)
	}
	return key, nil
}

// cutAttribute takes the attribute called name off the front of a SCRAM message: "r=abc,s=def" gives "abc" and "s=def".
// The errors are details of an error that a client may see: PostgreSQL's own sentences.
func cutAttribute(message string, name byte) (value, rest string, err error) {
	if message == "" || message[0] != name {
		return "", "", fmt.Errorf(`expected attribute "%c" but found "%s"`, name, shown(message))
	}
	_, value, rest, err = cutAnyAttribute(message)
	return value, rest, err
}

// cutAnyAttribute takes the first attribute off a SCRAM message.
func cutAnyAttribute(message string) (name byte, value, rest string, err error) {
	if message == "" {
		return 0, "", "", errors.New("attribute expected, but found end of string")
	}
	name = message[0]
	if (name < 'a' || name > 'z') && (name < 'A' || name > 'Z') {
		return 0, "", "", fmt.Errorf(`attribute expected, but found invalid character "%s"`, shown(message))
	}
	if len(message) < 2 || message[1] != '=' {
		return 0, "", "", fmt.Errorf(`expected character "=" for attribute "%c"`, name)
	}
	value, rest, more := strings.Cut(message[2:], ",")
	if more && rest == "" {
		return 0, "", "", errors.New("attribute expected, but found end of string")
	}
	return name, value, rest, nil
}

// checkNonce allows what RFC 5802 calls printable: visible ASCII without the comma. The comma cannot be there: it
// ends the attribute.
func checkNonce(nonce string) error {
	if nonce == "" {
		return errors.New("the nonce is empty")
	}
	for i := range len(nonce) {
		if nonce[i] < 0x21 || nonce[i] > 0x7e {
			return errors.New("non-printable characters in the nonce")
		}
	}
	return nil
}
