package session

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// transcriptFile is a file of exchanges: what clients send, and what they get.
//
//	# A line that begins with # is a comment.
//	setup: SQL that runs once, at the primary
//	reset: SQL that runs before each exchange
//
//	=== the name of an exchange
//	differs: the beginning of a row of docs/compatibility.md
//	> Query select 1
//	< DataRow "1"
//	d< what comes from the server itself
//	f< what comes through Fairway instead
//	2> Sync
//
// A number in front of > and < is another connection. A line of a client that ends in a backslash is sent together with the next one.
type transcriptFile struct {
	path         string
	head         []string
	setup, reset []string
	exchanges    []*exchange
}

// exchange is one script with its transcript.
type exchange struct {
	name    string
	differs []string
	lines   []*scriptLine
}

// scriptLine is one message of a client and what comes then, or a line that is kept as it is.
type scriptLine struct {
	kept    string // a comment, a header or an empty line
	conn    string // "" is the first connection
	text    string
	more    bool // sent together with the next one
	answers []answerLine
}

// answerLine is one line of a transcript. from is 0 when it comes both directly and through Fairway, else 'd' or 'f'.
type answerLine struct {
	from byte
	text string
}

// of returns what comes from one side.
func (l *scriptLine) of(side byte) []string {
	var out []string
	for _, a := range l.answers {
		if a.from == 0 || a.from == side {
			out = append(out, a.text)
		}
	}
	return out
}

// differs tells whether the two sides are written apart.
func (l *scriptLine) differs() bool {
	return slices.ContainsFunc(l.answers, func(a answerLine) bool { return a.from != 0 })
}

// record puts down what came directly. What is known to come through Fairway instead stays.
func (l *scriptLine) record(direct []string) {
	through := direct
	if l.differs() {
		through = l.of('f')
	}
	l.merge(direct, through)
}

// merge puts down what comes from the two sides.
func (l *scriptLine) merge(direct, through []string) {
	l.answers = nil
	for len(direct) > 0 || len(through) > 0 {
		d, f := len(direct), 0 // the next lines that both have: all of direct before d, all of through before f
	search:
		for both := range len(direct) + len(through) + 1 {
			for i := range both + 1 {
				if i < len(direct) && both-i < len(through) && direct[i] == through[both-i] {
					d, f = i, both-i
					break search
				}
			}
			d, f = len(direct), len(through)
		}
		for _, text := range direct[:d] {
			l.answers = append(l.answers, answerLine{'d', text})
		}
		for _, text := range through[:f] {
			l.answers = append(l.answers, answerLine{'f', text})
		}
		if direct, through = direct[d:], through[f:]; len(direct) > 0 {
			l.answers = append(l.answers, answerLine{0, direct[0]})
			direct, through = direct[1:], through[1:]
		}
	}
}

// readTheme reads a file of exchanges.
func readTheme(t testing.TB, path string) *transcriptFile {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f := &transcriptFile{path: path}
	var e *exchange
	var last *scriptLine
	for number, line := range strings.Split(strings.TrimSuffix(string(content), "\n"), "\n") {
		if name, ok := strings.CutPrefix(line, "=== "); ok {
			e, last = &exchange{name: name}, nil
			f.exchanges = append(f.exchanges, e)
			continue
		}
		if e == nil {
			f.head = append(f.head, line)
			if sql, ok := strings.CutPrefix(line, "setup: "); ok {
				f.setup = append(f.setup, sql)
			}
			if sql, ok := strings.CutPrefix(line, "reset: "); ok {
				f.reset = append(f.reset, sql)
			}
			continue
		}
		mark, text, ok := strings.Cut(line, " ")
		conn := strings.TrimRight(mark, "df<>")
		switch kind := mark[len(conn):]; {
		case ok && kind == ">":
			text, more := strings.CutSuffix(text, ` \`)
			last = &scriptLine{conn: conn, text: text, more: more}
			e.lines = append(e.lines, last)
		case ok && (kind == "<" || kind == "d<" || kind == "f<"):
			if last == nil || last.conn != conn {
				t.Fatalf("%s:%d: an answer to nothing", path, number+1)
			}
			from := strings.TrimSuffix(kind, "<") + "\x00"
			last.answers = append(last.answers, answerLine{from[0], text})
		case line == "", line[0] == '#', mark == "differs:":
			if mark == "differs:" {
				e.differs = append(e.differs, text)
			}
			e.lines = append(e.lines, &scriptLine{kept: line + "\n"})
		default:
			t.Fatalf("%s:%d: bad line %q", path, number+1, line)
		}
	}
	return f
}

// write puts the file down again, with what was recorded.
func (f *transcriptFile) write(t testing.TB) {
	t.Helper()
	var b strings.Builder
	for _, line := range f.head {
		b.WriteString(line + "\n")
	}
	for _, e := range f.exchanges {
		fmt.Fprintf(&b, "=== %s\n", e.name)
		for _, l := range e.lines {
			if l.kept != "" {
				b.WriteString(l.kept)
				continue
			}
			more := ""
			if l.more {
				more = ` \`
			}
			fmt.Fprintf(&b, "%s> %s%s\n", l.conn, inWords(l.text), more)
			for _, a := range l.answers {
				fmt.Fprintf(&b, "%s%s< %s\n", l.conn, strings.Trim(string(rune(a.from)), "\x00"), a.text)
			}
		}
	}
	if err := os.WriteFile(f.path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}
