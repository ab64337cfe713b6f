package pgauth

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"fmt"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// maxPassword bounds a password message in bytes of body: what PostgreSQL accepts (PG_MAX_AUTH_TOKEN_LENGTH, which
// counts the length word too).
const maxPassword = 65535 - 4

// AuthenticateMD5 lets the client at r and w prove the password behind an md5 hash. Nothing is left to send but the
// caller's AuthenticationOk. The Secret returned holds the hash: it logs this user in at every server that asks for
// md5 and keeps the same hash.
//
// An empty hash is a user that does not exist or must not log in: the exchange is the same and fails as a wrong
// password does. Errors for the client are *pgwire.Error, all FATAL, not written to w; those of the connection wrap
// io.EOF and the like, or [ErrOversized]. The deadline is the caller's.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP.
func AuthenticateMD5(r *pgwire.Reader, w *pgwire.Writer, user, hash string) (Secret, error) {
	if !MD5Allowed() {
		return Secret{}, errNoMD5
	}
	var salt [4]byte
	_, _ = rand.Read(salt[:]) // never fails: the process ends first
	w.Begin(pgwire.MsgAuthentication)
	w.Int32(authMD5)
	w.Bytes(salt[:])
	w.End()
	answer, err := readPassword(r, w)
	if err != nil {
		return Secret{}, err
	}
	doomed := hash == ""
	if doomed {
		hash = HashMD5(user, string(processSeed()))
	}
	if subtle.ConstantTimeCompare([]byte(answer), []byte(answerMD5(hash, salt[:]))) != 1 || doomed {
		return Secret{}, wrongPassword(user)
	}
	return Secret{MD5: hash}, nil
}

// AuthenticateCleartext asks the client at r and w for its password and checks it against whatever is stored. The
// password crosses the connection as it is: the caller sees to it that nobody else can read it. The Secret returned
// holds it: it logs this user in at servers whatever they ask. Everything else is as with [AuthenticateMD5]; the cost
// is that of a login with SCRAM at the client's side, thousands of hashes.
func AuthenticateCleartext(r *pgwire.Reader, w *pgwire.Writer, user string, stored Stored, t Terms) (Secret, error) {
	w.Begin(pgwire.MsgAuthentication)
	w.Int32(authCleartext)
	w.End()
	password, err := readPassword(r, w)
	if err != nil {
		return Secret{}, err
	}
	if !stored.matches(user, password, t.mockVerifier(user)) {
		return Secret{}, wrongPassword(user)
	}
	return Secret{Password: password}, nil
}

// readPassword sends what w holds and reads PasswordMessage. The reader's copy is erased.
func readPassword(r *pgwire.Reader, w *pgwire.Writer) (string, error) {
	body, err := readFrame(r, w, "password", maxPassword)
	if err != nil {
		return "", err
	}
	defer clear(body)
	switch end := bytes.IndexByte(body, 0); {
	case end < 0 || end != len(body)-1:
		return "", invalidPacket()
	case end == 0:
		return "", emptyPassword()
	}
	return string(body[:len(body)-1]), nil
}

// readFrame sends what w holds and returns the borrowed body of the client's next password message.
func readFrame(r *pgwire.Reader, w *pgwire.Writer, what string, limit int) ([]byte, error) {
	if err := w.Flush(); err != nil {
		return nil, fmt.Errorf("ask for %s: send: %w", what, err)
	}
	typ, n, err := r.Next()
	if err != nil {
		return nil, fmt.Errorf("read %s response: %w", what, err)
	}
	if typ != pgwire.MsgPassword {
		return nil, expectedResponse(what, typ)
	}
	if n > limit {
		return nil, fmt.Errorf("read %s response: %d bytes: %w", what, n, ErrOversized)
	}
	body, err := r.Body()
	if err != nil {
		return nil, fmt.Errorf("read %s response: %w", what, err)
	}
	return body, nil
}
