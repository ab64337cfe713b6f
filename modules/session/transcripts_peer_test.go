package session

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// scriptWords are the words of the files and the letters of the protocol. Small letters and words without one are acts of the test.
var scriptWords = map[string]string{
	"Query": "Q", "Parse": "P", "Bind": "B", "Describe": "D", "Execute": "E", "Close": "C", "Sync": "S", "Flush": "H", "CopyData": "d",
	"CopyDone": "c", "CopyFail": "f", "FunctionCall": "F", "Terminate": "X",
}

// inWords spells the letter of a message out.
func inWords(line string) string {
	letter, rest, found := strings.Cut(line, " ")
	for word, l := range scriptWords {
		if l == letter {
			letter = word
		}
	}
	if !found {
		return letter
	}
	return letter + " " + rest
}

// scriptActor plays the client of one connection of an exchange. Its lines are those of peer.say, in words, and
//
//	Parse name [(oids…)] text
//	Bind portal statement [in=formats] [out=formats] values…       a value is a word, NULL, "a Go string" or one of those below
//	FunctionCall oid [in=formats] [out=format] arguments…
//	CopyData "a Go string"                     what has no quotes gets an end of line
//	Raw "bytes"                                any bytes
//	Garbage "bytes"                            any bytes, which open the connection
//	Startup 3.0 name=value…                    opens the connection; without it, it is opened as user and database postgres, unseen
//	SSLRequest  GSSENCRequest                  open the connection
//	Cancel                                     a cancel request for this connection; with a word behind it, one with a wrong key
//	Until sql                                  waits until a server says yes
//	Wait                                       reads what comes
//
// {3, $#} stands for $1, $2, $3 (a blank between them in a Bind); without its comma nothing comes between.
type scriptActor struct {
	*peer
	t      testing.TB
	addr   string
	ended  bool
	owed   int  // ReadyForQuery that are to come
	copies bool // a Sync is ignored
	single bool // the answer is a byte and no frame
}

// dial opens the connection without a word.
func (a *scriptActor) dial() {
	a.t.Helper()
	conn, err := net.Dial("tcp", a.addr)
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { _ = conn.Close() })
	a.peer = &peer{t: a.t, conn: conn, r: pgwire.NewReader(conn, nil, 8192), w: pgwire.NewWriter(conn, 8192)}
}

// act does what a line says; told whether an answer is awaited then.
func (a *scriptActor) act(line string) (awaits bool) {
	a.t.Helper()
	word, rest, _ := strings.Cut(line, " ")
	if a.peer == nil {
		if word == "Startup" || word == "SSLRequest" || word == "GSSENCRequest" || word == "Garbage" {
			a.dial()
		} else {
			a.peer = dialPeer(a.t, a.addr)
		}
	}
	switch word {
	case "Startup":
		a.startup(rest)
	case "SSLRequest", "GSSENCRequest":
		code := map[string]byte{"SSLRequest": 47, "GSSENCRequest": 48}[word]
		a.w.Raw([]byte{0, 0, 0, 8, 4, 210, 22, code})
		a.single = true
	case "Raw", "Garbage":
		a.w.Raw([]byte(goString(a.t, rest)))
	case "Bind":
		a.bind(rest)
		return false
	case "Parse":
		a.parse(repeated(rest, ", "))
		return false
	case "FunctionCall":
		oid, rest, _ := strings.Cut(rest, " ")
		number, _ := strconv.Atoi(oid)
		in, out, values := bindWords(a.t, rest)
		a.w.Begin('F')
		a.w.Int32(number)
		addInt16s(a.w, in)
		a.values(values)
		a.w.Int16(append(out, 0)[0])
		a.w.End()
		a.owed++
	case "Cancel":
		a.cancel(rest)
	case "Until":
		a.until(rest)
		return false
	case "Wait":
	case "CopyData":
		if strings.HasPrefix(rest, `"`) {
			a.w.Frame('d', []byte(goString(a.t, rest)))
			return false
		}
		fallthrough
	default:
		letter, ok := scriptWords[word]
		if !ok {
			a.t.Fatalf("bad line %q", line)
		}
		a.say(strings.TrimSpace(letter + " " + repeated(rest, ", ")))
		if letter == "Q" || letter == "S" && !a.copies {
			a.owed++
		}
		if letter == "c" || letter == "f" {
			a.copies = false
		}
		return strings.Contains("QSHcfX", letter)
	}
	return true
}

// repeated writes out what is between braces.
func repeated(text, separator string) string {
	for {
		before, rest, found := strings.Cut(text, "{")
		inner, after, closed := strings.Cut(rest, "}")
		count, each, _ := strings.Cut(inner, " ")
		n, err := strconv.Atoi(strings.TrimSuffix(count, ","))
		if !found || !closed || err != nil {
			return text
		}
		if !strings.HasSuffix(count, ",") {
			separator = ""
		}
		if !strings.Contains(each, "#") {
			text = before + strings.TrimSuffix(strings.Repeat(each+separator, n), separator) + after
			continue
		}
		parts := make([]string, n)
		for i := range parts {
			parts[i] = strings.ReplaceAll(each, "#", strconv.Itoa(i+1))
		}
		text = before + strings.Join(parts, separator) + after
	}
}

// goString reads a string in quotes.
func goString(t testing.TB, text string) string {
	t.Helper()
	s, err := strconv.Unquote(repeated(text, ""))
	if err != nil {
		t.Fatalf("bad string %s", text)
	}
	return s
}

// bindWords parts the formats from the values. A nil value is NULL.
func bindWords(t testing.TB, text string) (in, out []int, values [][]byte) {
	t.Helper()
	text = repeated(text, " ")
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		if text[0] == '"' {
			quoted, err := strconv.QuotedPrefix(text)
			if err != nil {
				t.Fatalf("bad value %s", text)
			}
			values = append(values, []byte(goString(t, quoted)))
			text = text[len(quoted):]
			continue
		}
		var word string
		word, text, _ = strings.Cut(text, " ")
		name, list, _ := strings.Cut(word, "=")
		switch {
		case name == "in" || name == "out":
			for _, format := range strings.Split(list, ",") {
				number, _ := strconv.Atoi(format)
				if name == "in" {
					in = append(in, number)
				} else {
					out = append(out, number)
				}
			}
		case word == "NULL":
			values = append(values, nil)
		default:
			values = append(values, []byte(word))
		}
	}
	return in, out, values
}

func addInt16s(w *pgwire.Writer, numbers []int) {
	w.Int16(len(numbers))
	for _, n := range numbers {
		w.Int16(n)
	}
}

// values adds the values of a Bind or a FunctionCall.
func (a *scriptActor) values(values [][]byte) {
	a.w.Int16(len(values))
	for _, v := range values {
		if v == nil {
			a.w.Int32(-1)
			continue
		}
		a.w.Int32(len(v))
		a.w.Bytes(v)
	}
}

// parse prepares a statement; its text may begin with the types of parameters in parentheses.
func (a *scriptActor) parse(text string) {
	name, sql, _ := strings.Cut(text, " ")
	types := []byte{0, 0}
	if list, rest, ok := strings.Cut(sql, ") "); ok && strings.HasPrefix(list, "(") {
		sql = rest
		oids := strings.Split(list[1:], ",")
		binary.BigEndian.PutUint16(types, uint16(len(oids)))
		for _, oid := range oids {
			number, _ := strconv.Atoi(strings.TrimSpace(oid))
			types = binary.BigEndian.AppendUint32(types, uint32(number))
		}
	}
	a.w.Parse(strings.TrimPrefix(name, "-"), sql, types)
}

func (a *scriptActor) bind(text string) {
	portal, text, _ := strings.Cut(text, " ")
	statement, text, _ := strings.Cut(text, " ")
	in, out, values := bindWords(a.t, text)
	a.w.Begin('B')
	a.w.String(strings.TrimPrefix(portal, "-"))
	a.w.String(strings.TrimPrefix(statement, "-"))
	addInt16s(a.w, in)
	a.values(values)
	addInt16s(a.w, out)
	a.w.End()
}

// startup sends a startup packet.
func (a *scriptActor) startup(text string) {
	version, rest, _ := strings.Cut(text, " ")
	major, minor, _ := strings.Cut(version, ".")
	var numbers [2]int
	numbers[0], _ = strconv.Atoi(major)
	numbers[1], _ = strconv.Atoi(minor)
	_, _, words := bindWords(a.t, rest)
	var params []pgwire.Param
	for _, word := range words {
		name, value, _ := strings.Cut(string(word), "=")
		params = append(params, pgwire.Param{Name: name, Value: value})
	}
	a.w.Startup(uint32(numbers[0])<<16|uint32(numbers[1]), params)
	a.owed++
}

// cancel sends a cancel request and waits until it has been taken.
func (a *scriptActor) cancel(wrong string) {
	a.t.Helper()
	a.flush()
	key := bytes.Clone(a.key)
	if wrong != "" {
		key[0]++
	}
	conn, err := net.Dial("tcp", a.addr)
	if err != nil {
		a.t.Fatal(err)
	}
	defer conn.Close()
	w := pgwire.NewWriter(conn, 512)
	w.CancelRequest(a.pid, key)
	_ = w.Flush()
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if got, err := io.ReadAll(conn); len(got) > 0 || isTimeout(err) {
		a.t.Errorf("a cancel request got %q, %v", got, err)
	}
}

// until waits until one of the servers says yes.
func (a *scriptActor) until(sql string) {
	a.t.Helper()
	a.flush()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); ; <-tick.C {
		for _, n := range pg.Nodes() {
			if got, err := n.Value(context.Background(), sql); err != nil {
				a.t.Fatal(err)
			} else if got == "t" {
				return
			}
		}
		if time.Now().After(deadline) {
			a.t.Fatalf("never true: %s", sql)
		}
	}
}

// read reads count frames, or what comes when count is negative: until nothing is owed, or it has been silent for a while.
func (a *scriptActor) read(count int) []wireMessage {
	a.t.Helper()
	if a.peer == nil {
		return nil
	}
	a.flushed()
	var got []wireMessage
	if a.single && count != 0 && !a.ended {
		a.single = false
		var b [1]byte
		_ = a.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.ReadFull(a.conn, b[:]); err != nil {
			a.t.Fatal(err)
		}
		return []wireMessage{{'b', b[:]}}
	}
	for !a.ended && (count < 0 || len(got) < count) {
		patience := time.Minute
		if count < 0 && a.owed > 0 {
			patience = 10 * time.Second
		}
		if count < 0 && (a.owed <= 0 || a.copies) {
			patience = 200 * time.Millisecond
		}
		typ, body := a.frame(patience)
		switch typ {
		case 0:
			if count >= 0 {
				return append(got, wireMessage{'0', nil})
			}
			a.owed = 0 // it was ignored
			return got
		case 'X':
			a.ended = true
		case pgwire.MsgBackendKeyData:
			a.pid, a.key = binary.BigEndian.Uint32(body), bytes.Clone(body[4:])
		case pgwire.MsgNotification:
			if binary.BigEndian.Uint32(body) == a.pid {
				body = append([]byte{0, 0, 0, 1}, body[4:]...) // its own
			} else {
				body = append([]byte{0, 0, 0, 2}, body[4:]...)
			}
		case pgwire.MsgReadyForQuery:
			a.owed--
			a.copies = false
		}
		got = append(got, wireMessage{typ, bytes.Clone(body)})
		if typ == pgwire.MsgCopyIn {
			a.copies = true
		}
		if count < 0 && typ == pgwire.MsgReadyForQuery && a.owed <= 0 && !a.copies {
			return got
		}
	}
	return got
}

// flushed sends what is collected; the other end may have gone.
func (a *scriptActor) flushed() {
	if a.w.Flush() != nil {
		a.w.Reset(a.conn)
	}
}
