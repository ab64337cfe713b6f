package pgauth

import (
	"crypto/subtle"
	"errors"
	"strings"
)

// clientExchange is our side of one exchange towards a server, without its connection.
type clientExchange struct {
	user      string
	secret    Secret
	header    string // gs2-header, "" is noBinding
	binding   []byte // behind the header, of a bound exchange
	nonce     string // ours
	bare      string // client-first-message without its header
	signature []byte // what the server must show in the end
}

// noBinding is the gs2-header without channel binding and without another identity.
const noBinding = "n,,"

// start makes client-first-message. The user's name is left out as libpq does: the startup packet's counts.
func (x *clientExchange) start() string {
	if x.header == "" {
		x.header = noBinding
	}
	x.nonce = newNonce()
	x.bare = "n=,r=" + x.nonce
	return x.header + x.bare
}

// prove answers server-first-message with client-final-message, from the password or from the keys.
func (x *clientExchange) prove(message string) (string, error) {
	challenge, err := parseServerFirst(message, x.nonce)
	if err != nil {
		return "", serverMalformed(err)
	}
	keys, known := x.secret.keysFor(challenge.salt, challenge.iterations)
	clientKey, serverKey := keys.ClientKey, keys.ServerKey
	switch {
	case x.secret.Password == "" && !known:
		return "", staleKeys(x.user)
	case x.secret.Password != "":
		clientKey, serverKey, err = deriveKeys(x.secret.Password, challenge.salt, challenge.iterations)
		if err != nil {
			return "", err
		}
	}
	if len(clientKey) != keyLen || len(serverKey) != keyLen {
		return "", unusableSecret(x.user)
	}
	withoutProof := "c=" + bindingData(x.header, x.binding) + ",r=" + challenge.nonce
	authMessage := x.bare + "," + message + "," + withoutProof
	x.signature = sign(serverKey, authMessage)
	proof := xorSignature(clientKey, storedKey(clientKey), authMessage)
	return withoutProof + ",p=" + encode(proof), nil
}

// verify checks server-final-message: the server knows the verifier, too.
func (x *clientExchange) verify(message string) error {
	if reason, ok := strings.CutPrefix(message, "e="); ok {
		return serverRefused(reason)
	}
	signature, err := parseServerFinal(message)
	if err != nil {
		return serverMalformed(err)
	}
	if subtle.ConstantTimeCompare(signature, x.signature) != 1 {
		return serverUnproven()
	}
	return nil
}

// serverFirst is server-first-message, taken apart.
type serverFirst struct {
	nonce      string
	salt       []byte
	iterations int
}

// parseServerFirst reads server-first-message. Extensions are refused, as libpq does: none is defined.
func parseServerFirst(message, clientNonce string) (serverFirst, error) {
	var first serverFirst
	if err := checkText(message); err != nil {
		return serverFirst{}, err
	}
	nonce, rest, err := cutAttribute(message, 'r')
	if err != nil {
		return serverFirst{}, err
	}
	if err = checkNonce(nonce); err != nil {
		return serverFirst{}, err
	}
	if len(nonce) <= len(clientNonce) || !strings.HasPrefix(nonce, clientNonce) {
		return serverFirst{}, errors.New("the nonce does not continue ours")
	}
	first.nonce = nonce
	salt, rest, err := cutAttribute(rest, 's')
	if err != nil {
		return serverFirst{}, err
	}
	if first.salt, err = parseSalt(salt); err != nil {
		return serverFirst{}, err
	}
	count, rest, err := cutAttribute(rest, 'i')
	if err != nil {
		return serverFirst{}, err
	}
	if first.iterations, err = parseIterations(count); err != nil {
		return serverFirst{}, err
	}
	if rest != "" {
		return serverFirst{}, errors.New("garbage found at the end of server-first-message")
	}
	return first, nil
}

// parseServerFinal reads the signature out of server-final-message.
func parseServerFinal(message string) ([]byte, error) {
	if err := checkText(message); err != nil {
		return nil, err
	}
	value, rest, err := cutAttribute(message, 'v')
	if err != nil {
		return nil, err
	}
	if rest != "" {
		return nil, errors.New("garbage found at the end of server-final-message")
	}
	return decodeKey(value)
}
