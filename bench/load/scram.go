package load

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// scram is the client's side of SCRAM-SHA-256 without channel binding. See https://www.rfc-editor.org/rfc/rfc5802.
type scram struct {
	password  string
	bare      string // the first message without its header
	signature []byte // what the server has to prove
}

// salted keeps hashed passwords: a thousand clients of one user should cost the server time, not this process.
var salted sync.Map // of "password\0salt\0rounds" to *saltedPassword

type saltedPassword struct {
	once sync.Once
	key  []byte
	err  error
}

func newSCRAM(password string) *scram {
	return &scram{password: password, bare: "n=,r=" + rand.Text()}
}

// first is the client's first message.
func (s *scram) first() string { return "n,," + s.bare }

// answer is the client's final message to the server's first.
func (s *scram) answer(server string) (string, error) {
	var nonce, salt, rounds string
	for field := range strings.SplitSeq(server, ",") {
		switch name, value, _ := strings.Cut(field, "="); name {
		case "r":
			nonce = value
		case "s":
			salt = value
		case "i":
			rounds = value
		}
	}
	if !strings.HasPrefix(nonce, strings.TrimPrefix(s.bare, "n=,r=")) {
		return "", errors.New("SCRAM: the server's nonce does not begin with ours")
	}
	key, err := hash(s.password, salt, rounds)
	if err != nil {
		return "", err
	}
	bare := "c=biws,r=" + nonce
	conversation := s.bare + "," + server + "," + bare
	clientKey := mac(key, "Client Key")
	stored := sha256.Sum256(clientKey)
	proof := mac(stored[:], conversation)
	for i := range proof {
		proof[i] ^= clientKey[i]
	}
	s.signature = mac(mac(key, "Server Key"), conversation)
	return bare + ",p=" + base64.StdEncoding.EncodeToString(proof), nil
}

// verify checks the server's final message.
func (s *scram) verify(server string) error {
	got, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(server, "v="))
	if err != nil {
		return fmt.Errorf("SCRAM: the server's signature: %w", err)
	}
	if !hmac.Equal(got, s.signature) {
		return errors.New("SCRAM: the server does not know the password")
	}
	return nil
}

// hash returns the salted password, computed once.
func hash(password, salt, rounds string) ([]byte, error) {
	found, _ := salted.LoadOrStore(password+"\x00"+salt+"\x00"+rounds, new(saltedPassword))
	p := found.(*saltedPassword)
	p.once.Do(func() {
		raw, err := base64.StdEncoding.DecodeString(salt)
		if err != nil {
			p.err = fmt.Errorf("SCRAM: salt: %w", err)
			return
		}
		n, err := strconv.Atoi(rounds)
		if err != nil {
			p.err = fmt.Errorf("SCRAM: rounds: %w", err)
			return
		}
		p.key, p.err = pbkdf2.Key(sha256.New, password, raw, n, sha256.Size)
	})
	return p.key, p.err
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
