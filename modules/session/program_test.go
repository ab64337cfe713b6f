package session

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// A program is what one client does, as a list of steps: a step is the smallest piece that can be left out. Its lines are messages; a
// line that ends in a backslash is sent together with the next one, and after any other line everything is awaited that the server
// owes by then.
//
//	new a=b …     a new session with these startup parameters; one that is open is left as it is, without a word
//	Q sql         Query
//	P name sql    Parse; the text may begin with (23,25), types of its parameters
//	B portal statement values…     Bind; NULL is NULL
//	D kind name   E portal rows   C kind name   S   H     Describe, Execute, Close, Sync, Flush
//	d data        c        f why   CopyData with a line break, CopyDone, CopyFail
//	X             Terminate, and the end of the session
//	gone          the end of the connection without a word, awaiting nothing
//
// A hyphen stands for an empty name.
type (
	program []step
	step    []string
)

func (p program) String() string {
	var b strings.Builder
	for _, s := range p {
		for _, line := range s {
			b.WriteString(line)
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// heard is what came after a line that asks for an answer.
type heard struct {
	line   string
	frames []string
}

// actor is a client that plays programs and writes down what it is told.
type actor struct {
	addr, database string
	patience       time.Duration

	conn    net.Conn
	r       *pgwire.Reader
	w       *pgwire.Writer
	owed    int    // ReadyForQuery to come
	pending []byte // messages of the open segment that were not answered yet
	failed  bool   // the open segment has failed: nothing comes until its Sync
	fed     int    // ends of COPY data sent before the server has asked for any
	answers []heard
}

// play plays a program to its end, or to the first answer that is none.
func (a *actor) play(p program) []heard {
	defer a.close()
	for _, s := range p {
		for _, line := range s {
			if !a.do(line) {
				return a.answers
			}
		}
	}
	return a.answers
}

func (a *actor) close() {
	if a.conn != nil {
		_ = a.conn.Close()
		a.conn = nil
	}
}

// do does what one line says; false ends the program.
func (a *actor) do(line string) bool {
	text, more := strings.CutSuffix(line, `\`)
	text = strings.TrimSpace(text)
	kind, rest, _ := strings.Cut(text, " ")
	if kind == "new" {
		a.close()
		return a.note(line, a.login(rest))
	}
	if a.conn == nil {
		return a.note(line, []string{"not connected"})
	}
	switch kind {
	case "gone":
		_ = a.w.Flush()
		a.close()
		return true
	case "X":
		a.w.Terminate()
		_ = a.w.Flush()
		a.close()
		return true
	}
	a.say(kind[0], rest)
	if more || !strings.Contains("QSHcf", kind) {
		return true
	}
	if err := a.w.Flush(); err != nil {
		return a.note(line, []string{"end"})
	}
	return a.note(line, a.await())
}

func (a *actor) note(line string, frames []string) bool {
	a.answers = append(a.answers, heard{line, frames})
	last := ""
	if len(frames) > 0 {
		last = frames[len(frames)-1]
	}
	return last != "silence" && last != "end" && last != "not connected"
}

// login begins a session. What the server reports of itself is sorted: its order means nothing.
func (a *actor) login(settings string) []string {
	conn, err := net.Dial("tcp", a.addr)
	if err != nil {
		return []string{"end"}
	}
	*a = actor{addr: a.addr, database: a.database, patience: a.patience, answers: a.answers, conn: conn}
	a.r, a.w = pgwire.NewReader(conn, nil, 8192), pgwire.NewWriter(conn, 8192)
	params := []pgwire.Param{{Name: "user", Value: "postgres"}, {Name: "database", Value: a.database}}
	for _, s := range strings.Fields(settings) {
		name, value, _ := strings.Cut(s, "=")
		params = append(params, pgwire.Param{Name: name, Value: value})
	}
	a.w.Startup(pgwire.Version30, params)
	if a.w.Flush() != nil {
		return []string{"end"}
	}
	a.owed = 1
	frames := slices.DeleteFunc(a.await(), func(f string) bool { return f[0] == 'R' || f[0] == 'K' })
	slices.Sort(frames)
	return frames
}

// say writes one message.
func (a *actor) say(kind byte, rest string) {
	name := func() (word string) {
		word, rest, _ = strings.Cut(rest, " ")
		return strings.TrimPrefix(word, "-")
	}
	w := a.w
	switch kind {
	case 'Q':
		w.Query(rest)
		a.owed++
	case 'P':
		n, types := name(), []byte{0, 0}
		if list, sql, ok := strings.Cut(rest, ") "); ok && strings.HasPrefix(list, "(") {
			rest = sql
			for oid := range strings.SplitSeq(list[1:], ",") {
				number, _ := strconv.Atoi(oid)
				types = binary.BigEndian.AppendUint32(types, uint32(number))
				types[1]++
			}
		}
		w.Parse(n, rest, types)
		a.pending = append(a.pending, pgwire.MsgParseComplete)
	case 'B':
		w.Begin('B')
		w.String(name())
		w.String(name())
		w.Int16(0)
		values := strings.Fields(rest)
		w.Int16(len(values))
		for _, v := range values {
			if v == "NULL" {
				w.Int32(-1)
				continue
			}
			w.Int32(len(v))
			w.Bytes([]byte(v))
		}
		w.Int16(0)
		w.End()
		a.pending = append(a.pending, pgwire.MsgBindComplete)
	case 'D', 'C':
		w.Begin(kind)
		w.Byte(name()[0])
		w.String(name())
		w.End()
		a.pending = append(a.pending, map[byte]byte{'D': pgwire.MsgRowDescription, 'C': pgwire.MsgCloseComplete}[kind])
	case 'E':
		w.Begin('E')
		w.String(name())
		rows, _ := strconv.Atoi(rest)
		w.Int32(rows)
		w.End()
		a.pending = append(a.pending, pgwire.MsgCommandComplete)
	case 'S':
		w.Sync()
		a.owed, a.pending, a.failed = a.owed+1, nil, false
	case 'd':
		w.Frame('d', []byte(rest+"\n"))
	case 'f':
		a.fed++
		w.Frame('f', append([]byte(rest), 0))
	case 'c':
		a.fed++
		w.Frame('c', nil)
	default:
		w.Frame(kind, nil)
	}
}

// await reads everything that the server owes: a ReadyForQuery for each Query and Sync, and an answer to each message before a Flush.
// A server that asks for data which were not sent yet has said all.
func (a *actor) await() (frames []string) {
	defer func() { a.fed = 0 }()
	for a.owed > 0 || len(a.pending) > 0 && !a.failed {
		if err := a.conn.SetReadDeadline(time.Now().Add(a.patience)); err != nil {
			return append(frames, "end")
		}
		typ, _, err := a.r.Next()
		var body []byte
		if err == nil {
			body, err = a.r.Body()
		}
		if isTimeout(err) {
			return append(frames, "silence")
		}
		if err != nil {
			return append(frames, "end")
		}
		frames = append(frames, told(typ, body))
		switch {
		case typ == pgwire.MsgReadyForQuery:
			a.owed--
			sortReports(frames)
		case typ == pgwire.MsgCopyIn && a.fed == 0:
			return frames
		case typ == pgwire.MsgCopyIn:
			a.fed--
		case typ == pgwire.MsgError && a.owed == 0:
			a.failed = true
		case a.owed == 0 && len(a.pending) > 0 && sameReply(a.pending[0], typ):
			a.pending = a.pending[1:]
		}
	}
	return frames
}

// sortReports sorts the reports of settings before the ReadyForQuery at the end: their order means nothing.
func sortReports(frames []string) {
	from := len(frames) - 1
	for from > 0 && strings.HasPrefix(frames[from-1], "S ") {
		from--
	}
	slices.Sort(frames[from : len(frames)-1])
}

// sameReply tells whether a message of the server ends what a message of the client asked for.
func sameReply(want, typ byte) bool {
	switch want {
	case pgwire.MsgRowDescription:
		return typ == want || typ == pgwire.MsgNoData
	case pgwire.MsgCommandComplete:
		return typ == want || typ == pgwire.MsgPortalSuspended || typ == pgwire.MsgEmptyQuery
	}
	return typ == want
}

// firstUserOID is the first number of what users make: it differs between two databases.
const firstUserOID = 16384

// told writes a message of the server down, without what differs between two runs: numbers of tables and types that users made, of
// processes, and the place in PostgreSQL's source that an error comes from.
func told(typ byte, body []byte) string {
	body = bytes.Clone(body)
	mask := func(at int) {
		if at+4 <= len(body) && binary.BigEndian.Uint32(body[at:]) >= firstUserOID {
			copy(body[at:], "\x00\x00\x00\x00")
		}
	}
	switch typ {
	case pgwire.MsgError, pgwire.MsgNotice:
		var b strings.Builder
		for field := range bytes.SplitSeq(bytes.TrimRight(body, "\x00"), []byte{0}) {
			if len(field) > 0 && !strings.ContainsRune("VFLR", rune(field[0])) {
				fmt.Fprintf(&b, " %c:%s", field[0], field[1:])
			}
		}
		return string(typ) + b.String()
	case pgwire.MsgRowDescription:
		for at := 2; at < len(body); at += 18 { // behind each name
			at += bytes.IndexByte(body[at:], 0) + 1
			mask(at)
			mask(at + 6)
		}
	case pgwire.MsgParameterDescription:
		for at := 2; at < len(body); at += 4 {
			mask(at)
		}
	case pgwire.MsgNotification:
		return fmt.Sprintf("A %q", body[4:])
	case pgwire.MsgParameterStatus, pgwire.MsgReadyForQuery, pgwire.MsgCommandComplete:
		return fmt.Sprintf("%c %s", typ, bytes.ReplaceAll(bytes.TrimRight(body, "\x00"), []byte{0}, []byte("=")))
	case pgwire.MsgDataRow:
		if values, ok := rowValues(body); ok {
			text := "D"
			for _, v := range values {
				text += " " + cmp.Or(deref(v), "NULL")
			}
			return text
		}
	}
	return fmt.Sprintf("%c %q", typ, body)
}

func deref(v *string) string {
	if v == nil {
		return ""
	}
	return strconv.Quote(*v)
}

// mismatch is the first answer in which two runs of one client's program differ.
type mismatch struct {
	who         int
	line        string
	alone, here []string
}

func (m *mismatch) String() string {
	return fmt.Sprintf("client %d after %s\n\talone:\n\t\t%s\n\tthrough Fairway:\n\t\t%s", m.who, m.line,
		strings.Join(m.alone, "\n\t\t"), strings.Join(m.here, "\n\t\t"))
}

// compare returns the first difference, nil for none.
func compare(who int, alone, here []heard) *mismatch {
	for i := range max(len(alone), len(here)) {
		var x, y heard
		if i < len(alone) {
			x = alone[i]
		}
		if i < len(here) {
			y = here[i]
		}
		if !slices.Equal(x.frames, y.frames) {
			return &mismatch{who, cmp.Or(x.line, y.line), x.frames, y.frames}
		}
	}
	return nil
}
