package pgsql

import "bytes"

// Placeholders in a key. They stand for themselves only: no text that PostgreSQL accepts has them outside of literals
// and comments, so the lexer calls them bad.
const (
	keyNumber = '\x01'
	keyString = '\x02'
	keyBits   = '\x03'
)

// keyUse tells what a key is good for.
type keyUse uint8

const (
	// keyNone: the text is not understood; there is no key.
	keyNone keyUse = iota
	// keyPrint: good for the fingerprint, but texts with this key may do different things.
	keyPrint
	// keyShare: texts with this key do the same, unless their class is ConstDependent.
	keyShare
)

// lowerByte folds ASCII letters as PostgreSQL folds names.
var lowerByte = func() (t [256]byte) {
	for i := range t {
		t[i] = byte(i)
		if i >= 'A' && i <= 'Z' {
			t[i] = byte(i) + 'a' - 'A'
		}
	}
	return t
}()

// appendKey appends the text without what does not matter to dst: literals become placeholders, a list of nothing but
// literals one placeholder, comments and white space one blank or nothing, names are folded. same: there was no
// literal and no comment. In doubt the key is not to be shared.
func appendKey(dst, sql []byte) (key []byte, same bool, use keyUse) {
	k := keyWriter{lexer: lexer{src: sql}, dst: dst, list: -1}
	for {
		kind := k.next()
		switch kind {
		case tokEnd:
			if k.backslash || k.hint || k.doubt {
				return k.dst, false, keyPrint
			}
			return k.dst, k.literals == 0 && !k.comment, keyShare
		case tokBad:
			return k.dst, false, keyNone
		}
		k.write(kind)
		k.last = kind
	}
}

// keyWriter is the state of appendKey.
type keyWriter struct {
	lexer
	dst      []byte
	literals int
	last     token
	// list is the offset in dst of the parenthesis that opened a list of nothing but literals so far, or -1.
	list int
	// row and rowEnd delimit the last such list in dst; rowEnd 0: none.
	row, rowEnd int
}

func (k *keyWriter) write(kind token) {
	text := k.src[k.start:k.end]
	switch kind {
	case tokString, tokEscape, tokDollar:
		k.literal(keyString)
	case tokNumber:
		k.literal(keyNumber)
	case tokBits:
		k.literal(keyBits)
	case tokWord:
		k.blank()
		k.list = -1
		n := len(k.dst)
		k.dst = append(k.dst, text...)
		folded := k.dst[n:]
		for i, b := range folded {
			folded[i] = lowerByte[b]
		}
	case tokSelf:
		k.punctuation(text)
	case tokOperator:
		if k.sign(text) {
			return
		}
		k.plain(text)
	case tokUnicode:
		k.doubt = true
		k.plain(text)
	default:
		k.plain(text)
	}
}

// blank writes the white space before a token that is not punctuation.
func (k *keyWriter) blank() {
	if k.gap && len(k.dst) != 0 && !k.afterOpening() {
		k.dst = append(k.dst, ' ')
	}
}

// afterOpening tells that the next token is the first of its list or follows a comma.
func (k *keyWriter) afterOpening() bool {
	last := k.dst[len(k.dst)-1]
	return last == '(' || last == ','
}

func (k *keyWriter) plain(text []byte) {
	k.blank()
	k.list = -1
	k.dst = append(k.dst, text...)
}

// sign tells that the operator is the sign of a number in a list of literals, to be left out.
func (k *keyWriter) sign(text []byte) bool {
	if k.list < 0 || len(text) != 1 || text[0] != '-' && text[0] != '+' || !k.afterOpening() {
		return false
	}
	at := k.end
	if at < len(k.src) && k.src[at] == '.' {
		at++
	}
	return k.is(at, charDigit)
}

// literal writes a placeholder, but leaves out those that repeat the only one of the list so far.
func (k *keyWriter) literal(placeholder byte) {
	switch k.last {
	case tokString, tokEscape, tokDollar, tokNumber, tokBits, tokUnicode:
		k.doubt = true // two literals side by side are nothing to reason about
	}
	k.literals++
	k.blank()
	if k.list >= 0 && !k.afterOpening() {
		k.list = -1
	}
	if k.list >= 0 && len(k.dst) == k.list+3 && k.dst[k.list+1] == placeholder {
		k.dst = k.dst[:k.list+2]
		return
	}
	k.dst = append(k.dst, placeholder)
}

// punctuation writes a mark of tokSelf, without the white space around it where that cannot matter.
func (k *keyWriter) punctuation(text []byte) {
	switch text[0] {
	case '(':
		k.blank()
		k.list = len(k.dst)
		k.dst = append(k.dst, '(')
	case ',':
		if k.list >= 0 && k.afterOpening() {
			k.list = -1
		}
		k.dst = append(k.dst, ',')
	case ')':
		if k.list >= 0 && k.afterOpening() {
			k.list = -1
		}
		k.dst = append(k.dst, ')')
		k.closeList()
	case ';':
		k.dst = append(k.dst, ';')
		k.list = -1
	default:
		k.plain(text)
	}
}

// closeList ends a list of literals. One that repeats the list before it (rows of VALUES) is left out.
func (k *keyWriter) closeList() {
	list := k.list
	k.list = -1
	if list < 0 {
		return
	}
	if k.rowEnd > 0 && list == k.rowEnd+1 && k.dst[k.rowEnd] == ',' && bytes.Equal(k.dst[k.row:k.rowEnd], k.dst[list:]) {
		k.dst = k.dst[:k.rowEnd]
		return
	}
	k.row, k.rowEnd = list, len(k.dst)
}

// holdsHint tells that a comment may hold a route hint.
func holdsHint(comment []byte) bool {
	for {
		i := bytes.IndexByte(comment, ':')
		if i < 0 {
			return false
		}
		if i >= 5 && bytes.EqualFold(comment[i-5:i], []byte("route")) {
			return true
		}
		comment = comment[i+1:]
	}
}

// leadingRoute returns what the first comment of the form /* route: primary */ or /* route: replica */ (or the same
// behind --) among those that the text starts with asks for; empty: nothing.
func leadingRoute(sql []byte) string {
	for {
		sql = bytes.TrimLeft(sql, " \t\r\n\f\v")
		if !bytes.HasPrefix(sql, []byte("--")) && !bytes.HasPrefix(sql, []byte("/*")) {
			return ""
		}
		end := commentEnd(sql, 0)
		if end < 0 {
			return ""
		}
		text := bytes.TrimSpace(bytes.TrimSuffix(sql[2:end], []byte("*/")))
		if name, value, ok := bytes.Cut(text, []byte(":")); ok && bytes.EqualFold(name, []byte("route")) {
			for _, route := range []string{RoutePrimary, RouteReplica} {
				if bytes.EqualFold(bytes.TrimSpace(value), []byte(route)) {
					return route
				}
			}
		}
		sql = sql[end:]
	}
}

// fingerprint is FNV-1a, 64 bits: simple, and the same in every process.
func fingerprint(key []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, b := range key {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return h
}

// conform rewrites a text for standard_conforming_strings = on: plain literals that hold a backslash become E'…'.
// false: it has something in it that is no token.
func conform(sql []byte) ([]byte, bool) {
	l := lexer{src: sql, nonConforming: true}
	var out []byte
	done, national := 0, false
	for {
		kind := l.next()
		switch kind {
		case tokEnd:
			return append(out, sql[done:]...), true
		case tokBad:
			return nil, false
		case tokUnicode: // refused by the server, for safety
			return nil, false
		case tokString:
			if bytes.IndexByte(sql[l.start:l.end], '\\') < 0 {
				break
			}
			out = append(out, sql[done:l.start]...)
			if national && !l.gap { // N'…' is NCHAR '…'; N E'…' would be a type n
				out = append(out, "char"...)
			}
			out = append(out, " E"...)
			done = l.start
		}
		national = kind == tokWord && l.end == l.start+1 && sql[l.start]|0x20 == 'n'
	}
}
