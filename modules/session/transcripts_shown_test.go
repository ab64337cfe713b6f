package session

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// wireMessage is a frame of a server. Its type may also be 'X', the end of the connection, '0', silence, and 'b', a byte that is no frame.
type wireMessage struct {
	typ  byte
	body []byte
}

// wireMasks replaces what differs between two runs at one server: process ids, cancel keys, and the numbers of what was made.
type wireMasks struct{ made []uint32 }

// firstMade is the least number of an object that was made after initdb.
const firstMade = 16384

// oid replaces the number of an object that was made by its place among those seen.
func (m *wireMasks) oid(b []byte) {
	oid := binary.BigEndian.Uint32(b)
	if oid < firstMade {
		return
	}
	for i, known := range m.made {
		if known == oid {
			binary.BigEndian.PutUint32(b, firstMade+uint32(i))
			return
		}
	}
	m.made = append(m.made, oid)
	m.oid(b)
}

// mask returns the message without what is masked.
func (m *wireMasks) mask(f wireMessage) wireMessage {
	body := bytes.Clone(f.body)
	switch f.typ {
	case pgwire.MsgBackendKeyData:
		clear(body)
	case pgwire.MsgRowDescription:
		for at := 2; at < len(body); at += 18 {
			at += bytes.IndexByte(body[at:], 0) + 1
			m.oid(body[at:])
			m.oid(body[at+6:])
		}
	case 't':
		for at := 2; at < len(body); at += 4 {
			m.oid(body[at:])
		}
	}
	return wireMessage{f.typ, body}
}

// names of messages whose body is empty, and of those that are shown in a way of their own.
var messageNames = map[byte]string{
	'0': "silence", 'X': "end of connection", 'b': "byte", '1': "ParseComplete", '2': "BindComplete", '3': "CloseComplete", 'n': "NoData",
	'I': "EmptyQueryResponse", 's': "PortalSuspended", 'c': "CopyDone", 'Z': "ReadyForQuery", 'C': "CommandComplete", 'D': "DataRow",
	'T': "RowDescription", 'E': "ErrorResponse", 'N': "NoticeResponse", 'S': "ParameterStatus", 't': "ParameterDescription",
	'G': "CopyInResponse", 'H': "CopyOutResponse", 'd': "CopyData", 'A': "NotificationResponse", 'V': "FunctionCallResponse",
	'R': "Authentication", 'K': "BackendKeyData", 'v': "NegotiateProtocolVersion",
}

// String shows a masked message on one line. Of an error it leaves out where in PostgreSQL's source it was raised, which another
// patch of PostgreSQL changes, and says so when it was raised elsewhere. A long line ends in its hash.
func (f wireMessage) String() string {
	name, ok := messageNames[f.typ]
	if !ok {
		name = fmt.Sprintf("%q", f.typ)
	}
	line := name
	if len(f.body) > 0 {
		line += " " + f.shown()
	}
	if len(line) > 700 {
		return fmt.Sprintf("%s… %d bytes, sha256 %x", strings.ToValidUTF8(line[:200], ""), len(f.body), sha256.Sum256(f.body))
	}
	return line
}

func (f wireMessage) shown() string {
	b := f.body
	word := func() string {
		text, rest, _ := bytes.Cut(b, []byte{0})
		b = rest
		return string(text)
	}
	switch f.typ {
	case 'Z':
		return string(b)
	case 'C':
		return word()
	case 'S':
		name, value := word(), word()
		if name == "server_version" {
			value = regexp.MustCompile(`^(\d+).*`).ReplaceAllString(value, "$1…")
		}
		return name + " = " + value
	case 'D':
		return valuesShown(b[2:])
	case 'V':
		return valuesShown(b)
	case 'T':
		var columns []string
		for b = b[2:]; len(b) > 0; b = b[18:] {
			columns = append(columns, strconv.Quote(word())+fmt.Sprintf(" %s.%d %s %d %d %d", oidShown(b), binary.BigEndian.Uint16(b[4:]),
				oidShown(b[6:]), int16(binary.BigEndian.Uint16(b[10:])), int32(binary.BigEndian.Uint32(b[12:])), binary.BigEndian.Uint16(b[16:])))
		}
		return strings.Join(columns, ", ")
	case 't':
		var types []string
		for b = b[2:]; len(b) > 0; b = b[4:] {
			types = append(types, oidShown(b))
		}
		return strings.Join(types, " ")
	case 'E', 'N':
		return reportShown(b)
	case 'A':
		whose := map[byte]string{1: "from itself", 2: "from another"}[b[3]]
		b = b[4:]
		return fmt.Sprintf("%s %q %q", whose, word(), word())
	case 'K':
		return fmt.Sprintf("with a key of %d bytes", len(b)-4)
	case 'R':
		return fmt.Sprintf("%d %q", binary.BigEndian.Uint32(b), b[4:])
	}
	return strconv.Quote(string(b))
}

// oidShown shows the number of a table or type.
func oidShown(b []byte) string {
	oid := binary.BigEndian.Uint32(b)
	if oid < firstMade {
		return strconv.Itoa(int(oid))
	}
	return fmt.Sprintf("made%d", oid-firstMade+1)
}

// valuesShown shows what a row holds.
func valuesShown(b []byte) string {
	var out []string
	for len(b) >= 4 {
		n := int32(binary.BigEndian.Uint32(b))
		if b = b[4:]; n < 0 {
			out = append(out, "NULL")
			continue
		}
		out = append(out, strconv.Quote(string(b[:n])))
		b = b[n:]
	}
	return strings.Join(out, " ")
}

// reportShown shows an error or a notice, field by field in the order in which they came.
func reportShown(b []byte) string {
	var out []string
	placed := false
	for len(b) > 1 {
		text, rest, _ := bytes.Cut(b[1:], []byte{0})
		switch b[0] {
		case 'F':
			placed = true
		case 'L':
		case 'S', 'V', 'C', 'P', 'p', 'R':
			out = append(out, fmt.Sprintf("%c=%s", b[0], text))
		default:
			out = append(out, fmt.Sprintf("%c=%q", b[0], text))
		}
		b = rest
	}
	if !placed {
		out = append(out, "(raised by no server)")
	}
	return strings.Join(out, " ")
}
