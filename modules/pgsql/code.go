package pgsql

import (
	"bytes"
	"slices"
	"strings"
	"sync"

	pgquery "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Traces is what code may leave behind in the server connection beyond its transaction.
type Traces uint8

// The traces.
const (
	// SetsSettings changes settings of the session.
	SetsSettings Traces = 1 << iota
	// RunsText runs statements that it puts together: they may do anything.
	RunsText
	// HoldsState takes session-level advisory locks, or makes temporary objects, LISTENs, cursors WITH HOLD or statements
	// of PREPARE. A server can be asked for them.
	HoldsState
	// Loads leaves what no cleaning takes away, as LOAD and setseed do.
	Loads
	// Deallocates takes prepared statements of the server connection away, whoever made them.
	Deallocates
)

// Code is the body of a function, procedure or DO, as far as its words tell.
type Code struct {
	// Traces is what the words themselves leave behind; what the code does by calling other code is not in it.
	Traces Traces
	// Writes: a word of INSERT, UPDATE, DELETE, MERGE, COPY, TRUNCATE, or of text that is run, is among the words.
	Writes bool
	// Words are the words and operators of the body in lower case, each once, sorted; only of a DO.
	Words []string
}

// codeWords are words that leave something wherever they stand in a body. What the functions of pg_catalog leave is
// taken from their table.
var codeWords = sync.OnceValue(func() map[string]Traces {
	table := map[string]Traces{
		"execute": RunsText | HoldsState, "temp": HoldsState, "temporary": HoldsState, "listen": HoldsState,
		"hold": HoldsState, "prepare": HoldsState, "deallocate": Deallocates,
	}
	for name, b := range builtins() {
		switch {
		case b.effects&Load != 0:
			table[name] = Loads
		case b.effects&AdvisoryLock != 0:
			table[name] = HoldsState
		case b.effects&Unknown != 0:
			table[name] = RunsText | HoldsState
		}
	}
	return table
})

// Leaving returns the functions of pg_catalog that leave one of the traces behind, sorted.
func Leaving(traces Traces) []string {
	return namesOf(func(b builtin) bool {
		return traces&SetsSettings != 0 && b.sets || traces&Loads != 0 && b.effects&Load != 0 ||
			traces&HoldsState != 0 && b.effects&AdvisoryLock != 0 || traces&RunsText != 0 && b.effects&Unknown != 0
	})
}

// ReadCode reads a body in SQL or PL/pgSQL; word is called with each word and operator of it, in lower case and valid
// until the call ends. Strings and comments are read like the rest: a body may run the first, and nobody minds the second.
// It changes the letters of body to lower case.
func ReadCode(body []byte, word func(word []byte)) Code {
	r := codeReader{body: lowerASCII(body), words: codeWords(), start: true}
	for r.at < len(r.body) {
		switch c := r.body[r.at]; {
		case isWordByte(c):
			from := r.at
			for r.at < len(r.body) && isWordByte(r.body[r.at]) {
				r.at++
			}
			w := r.body[from:r.at]
			r.word(w)
			word(w)
		case isOperatorByte(c) && !r.comment():
			from := r.at
			for r.at < len(r.body) && isOperatorByte(r.body[r.at]) && (r.at == from || !r.atComment()) {
				r.at++
			}
			op := r.body[from:r.at]
			word(op)
			if short := bytes.TrimRight(op, "+-"); len(short) < len(op) && len(short) > 0 {
				word(short)
			}
			r.start = false
		default:
			r.other(c)
			r.at++
		}
	}
	return r.code
}

// codeReader reads one body.
type codeReader struct {
	body  []byte
	words map[string]Traces
	at    int
	start bool // a statement may begin here
	line  bool // one might where the comment of this line began
	block bool // one might where the comment between /* and */ began
	code  Code
}

// atComment tells whether the mark that begins or ends a comment comes next.
func (r *codeReader) atComment() bool {
	if r.at+1 >= len(r.body) {
		return false
	}
	switch string(r.body[r.at : r.at+2]) {
	case "--", "/*", "*/":
		return true
	}
	return false
}

// comment steps onto the end of the mark that begins or ends a comment, if there is one. What follows a comment may begin
// a statement if what it interrupts did.
func (r *codeReader) comment() bool {
	if !r.atComment() {
		return false
	}
	switch {
	case r.body[r.at] == '-':
		r.line = r.line || r.start
	case r.body[r.at] == '/':
		r.block = r.block || r.start
	default:
		r.start, r.block = r.start || r.block, false
	}
	r.at++
	return true
}

// other looks at a character that is part of no word and no operator.
func (r *codeReader) other(c byte) {
	switch c {
	case ';', '\'', '$':
		r.start = true
	case '\n':
		r.start, r.line = r.start || r.line, false
	case ' ', '\t', '\r', '-', '*', '/': // the last three ended the mark of a comment
	default:
		r.start = false
	}
}

// word looks at a word of which the reader stands at the end.
func (r *codeReader) word(w []byte) {
	start := r.start
	r.start = false
	r.code.Traces |= r.words[string(w)]
	switch string(w) {
	case "begin", "then", "else", "loop":
		r.start = true
	case "insert", "update", "delete", "merge", "copy", "truncate", "execute", "refresh":
		r.code.Writes = true
		r.start = w[0] == 'e' // EXECUTE may have its text in any quotes
	case "set_config":
		if !r.localConfig() {
			r.code.Traces |= SetsSettings
		}
	case "set":
		if start && !r.localSet() {
			r.code.Traces |= SetsSettings
		}
	case "reset":
		if start {
			r.code.Traces |= SetsSettings
		}
	case "load":
		if start {
			r.code.Traces |= Loads
		}
	default:
		if bytes.HasPrefix(w, []byte("pg_temp")) {
			r.code.Traces |= HoldsState
		}
	}
}

// localSet tells whether the SET that the reader has passed is for the transaction only.
func (r *codeReader) localSet() bool {
	rest := bytes.TrimLeft(r.body[r.at:], " \t\r\n")
	n := 0
	for n < len(rest) && isWordByte(rest[n]) {
		n++
	}
	switch string(rest[:n]) {
	case "local", "transaction", "constraints":
		return true
	}
	return false
}

// localConfig tells whether the set_config that the reader has passed is a call for the transaction only.
func (r *codeReader) localConfig() bool {
	rest := bytes.TrimLeft(r.body[r.at:], " \t\r\n\"")
	if len(rest) == 0 || rest[0] != '(' {
		return false
	}
	depth, quoted, args, from := 0, false, 1, 0
	for i, c := range rest {
		switch {
		case c == '\'':
			quoted = !quoted
		case quoted:
		case c == '(' || c == '[':
			depth++
		case (c == ')' || c == ']') && depth > 1:
			depth--
		case c == ')':
			return args == 3 && isTrue(rest[from:i])
		case c == ',' && depth == 1:
			args, from = args+1, i+1
		}
	}
	return false
}

// isTrue tells that the last argument of a set_config is the literal true.
func isTrue(arg []byte) bool {
	arg = bytes.TrimSpace(arg)
	for _, name := range []string{"is_local", ":=", "=>"} {
		arg = bytes.TrimSpace(bytes.TrimPrefix(arg, []byte(name)))
	}
	return string(arg) == "true" || string(arg) == "'t'" || string(arg) == "'true'"
}

func isWordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_' || c >= 0x80 || c >= 'A' && c <= 'Z'
}

func isOperatorByte(c byte) bool { return strings.IndexByte("+-*/<>=~!@#%^&|`?", c) >= 0 }

// lowerASCII lowers the letters of ASCII in place.
func lowerASCII(b []byte) []byte {
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c | 0x20
		}
	}
	return b
}

// code looks at statements that run code.
func (w *walker) code(m protoreflect.Message) {
	switch n := m.Interface().(type) {
	case *pgquery.CallStmt:
		w.class.Call = true
	case *pgquery.DoStmt:
		w.doBody(n)
	}
}

// doBody reads the body of a DO.
func (w *walker) doBody(n *pgquery.DoStmt) {
	language, body := "plpgsql", ""
	for _, arg := range n.GetArgs() {
		switch def := arg.GetDefElem(); def.GetDefname() {
		case "language":
			language = def.GetArg().GetString_().GetSval()
		case "as":
			body = def.GetArg().GetString_().GetSval()
		}
	}
	w.class.ConstDependent = true
	if language != "plpgsql" {
		return
	}
	words := make(map[string]struct{})
	code := ReadCode([]byte(body), func(word []byte) { words[string(word)] = struct{}{} })
	for word := range words {
		code.Words = append(code.Words, word)
	}
	slices.Sort(code.Words)
	w.class.Do, w.class.Code = true, code
}
