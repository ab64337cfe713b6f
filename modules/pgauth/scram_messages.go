package pgauth

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// clientFirst is client-first-message, taken apart.
type clientFirst struct {
	header string // gs2-header: "n,,", "y,," or the one of channel binding
	bare   string // the rest
	nonce  string
}

// parseFirst reads client-first-message. The user's name in it is ignored, as PostgreSQL does: the startup packet's
// counts. Optional extensions are ignored too, a mandatory one is refused.
func (x *serverExchange) parseFirst(message string) (clientFirst, error) {
	if err := checkText(message); err != nil {
		return clientFirst{}, malformed(err)
	}
	rest, err := x.cutFlag(message)
	if err != nil {
		return clientFirst{}, err
	}
	switch {
	case strings.HasPrefix(rest, "a"):
		return clientFirst{}, notSupported("client uses authorization identity, but it is not supported")
	case !strings.HasPrefix(rest, ","):
		return clientFirst{}, malformed(fmt.Errorf(`unexpected attribute "%s" in client-first-message`, shown(rest)))
	}
	first := clientFirst{header: message[:len(message)-len(rest)+1], bare: rest[1:]}
	if strings.HasPrefix(first.bare, "m") {
		return clientFirst{}, notSupported("client requires an unsupported SCRAM extension")
	}
	if _, rest, err = cutAttribute(first.bare, 'n'); err != nil {
		return clientFirst{}, malformed(err)
	}
	if first.nonce, rest, err = cutAttribute(rest, 'r'); err != nil {
		return clientFirst{}, malformed(err)
	}
	if checkNonce(first.nonce) != nil {
		return clientFirst{}, pgwire.Fatalf(pgwire.CodeProtocolViolation, "non-printable characters in SCRAM nonce")
	}
	for rest != "" {
		if _, _, rest, err = cutAnyAttribute(rest); err != nil {
			return clientFirst{}, malformed(err)
		}
	}
	return first, nil
}

// cutFlag judges the channel-binding flag and returns what follows its comma. "n": the client does not bind. "y": it
// would, but believes that we cannot; where we can, somebody has lied to it.
func (x *serverExchange) cutFlag(message string) (string, error) {
	switch flag := message[0]; {
	case flag == 'p' && !x.plus:
		return "", malformed(errors.New("the client selected " + mechanism +
			" without channel binding, but the SCRAM message includes channel binding data"))
	case flag == 'p':
		kind, rest, err := cutAttribute(message, 'p')
		if err != nil {
			return "", malformed(err)
		}
		if kind != bindingType {
			return "", pgwire.Fatalf(pgwire.CodeProtocolViolation, `unsupported SCRAM channel-binding type "%s"`, sanitized(kind))
		}
		return rest, nil
	case flag != 'n' && flag != 'y':
		return "", malformed(fmt.Errorf(`unexpected channel-binding flag "%s"`, shown(message)))
	case x.plus:
		return "", malformed(errors.New("the client selected " + mechanismPlus +
			", but the SCRAM message does not include channel binding data"))
	case flag == 'y' && x.binding != nil:
		return "", bindingDowngrade()
	}
	if !strings.HasPrefix(message[1:], ",") {
		return "", malformed(fmt.Errorf(`comma expected, but found character "%s"`, shown(message[1:])))
	}
	return message[2:], nil
}

func checkText(message string) error {
	if message == "" {
		return errors.New("the message is empty")
	}
	if strings.IndexByte(message, 0) >= 0 {
		return errors.New("message length does not match input length")
	}
	return nil
}

// shown is how PostgreSQL shows the character that a message goes on with; its end is a zero byte.
func shown(rest string) string {
	if rest == "" {
		return "0x00"
	}
	if c := rest[0]; c >= 0x21 && c <= 0x7e {
		return "'" + string(c) + "'"
	}
	return fmt.Sprintf("0x%02x", rest[0])
}

// sanitized is the beginning of a client's word, with everything replaced that is not printable.
func sanitized(word string) string {
	return strings.Map(func(c rune) rune {
		if c < 0x21 || c > 0x7e {
			return '?'
		}
		return c
	}, word[:min(len(word), 30)])
}

// readInitialResponse sends what w holds and reads SASLInitialResponse: the mechanism chosen and client-first-message.
// A client may leave the second out; then an empty challenge asks for it.
func (x *serverExchange) readInitialResponse(r *pgwire.Reader, w *pgwire.Writer) (string, error) {
	body, err := x.readSASL(r, w)
	if err != nil {
		return "", err
	}
	chosen, rest, ok := pgwire.ParseCString(body)
	if !ok {
		return "", invalidString()
	}
	switch {
	case string(chosen) == mechanismPlus && x.binding != nil:
		x.plus = true
	case string(chosen) == mechanism && !x.required:
	default:
		return "", invalidMechanism()
	}
	if len(rest) < 4 {
		return "", insufficientData()
	}
	n, rest := int32(binary.BigEndian.Uint32(rest)), rest[4:] //nolint:gosec // a signed length on the wire: -1 is none
	switch {
	case n == -1 && len(rest) == 0:
		writeSASL(w, authSASLContinue, "")
		return x.readResponse(r, w)
	case n < -1 || int(n) > len(rest):
		return "", insufficientData()
	case int(n) != len(rest):
		return "", invalidMessage()
	}
	return string(rest), nil
}

// readResponse sends what w holds and reads SASLResponse.
func (x *serverExchange) readResponse(r *pgwire.Reader, w *pgwire.Writer) (string, error) {
	body, err := x.readSASL(r, w)
	return string(body), err
}

// readSASL reads a SASL message. One that is too long fails as a wrong password does, as in PostgreSQL.
func (x *serverExchange) readSASL(r *pgwire.Reader, w *pgwire.Writer) ([]byte, error) {
	body, err := readFrame(r, w, "SASL", maxMessage)
	if errors.Is(err, ErrOversized) {
		return nil, wrongPassword(x.user)
	}
	return body, err
}

func writeSASL(w *pgwire.Writer, code int, data string) {
	w.Begin(pgwire.MsgAuthentication)
	w.Int32(code)
	w.Bytes([]byte(data))
	w.End()
}
