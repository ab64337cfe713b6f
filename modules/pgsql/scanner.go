package pgsql

import "bytes"

// token is a kind of lexical token. The rules are those of PostgreSQL's scan.l; see
// https://www.postgresql.org/docs/current/sql-syntax-lexical.html.
type token uint8

const (
	tokEnd      token = iota
	tokBad            // no token of PostgreSQL, or one that versions read differently
	tokWord           // key word or identifier, not quoted
	tokQuoted         // "identifier"
	tokUnicode        // U&'…' or U&"…"; what UESCAPE says about it is not looked at
	tokString         // '…', with backslashes meant by standard_conforming_strings
	tokEscape         // E'…'
	tokDollar         // $tag$…$tag$
	tokBits           // B'…' or X'…'
	tokNumber         // integer, decimal, 0x…
	tokParam          // $1
	tokOperator       // one or more of +-*/<>=~!@#%^&|`?
	tokSelf           // one of ,()[];.: or .. or := or ::
)

// Character classes of scan.l. Bytes from 0x80 on may be part of names in every encoding that is ASCII-safe.
const (
	charSpace     = 1 << iota // blank, tab, newline, return, form feed, vertical tab
	charNameStart             // letter, underscore, ≥ 0x80
	charName                  // as above, digit, dollar sign
	charDigit
	charOperator
	charSelf
)

var charClass = func() (t [256]uint8) {
	set := func(chars string, class uint8) {
		for i := range len(chars) {
			t[chars[i]] |= class
		}
	}
	set(" \t\n\r\f\v", charSpace)
	set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_", charNameStart|charName)
	set("0123456789", charDigit|charName)
	set("$", charName)
	set("~!@#^&|`?+-*/%<>=", charOperator)
	set(",()[];.:", charSelf)
	for b := 0x80; b <= 0xff; b++ {
		t[b] |= charNameStart | charName
	}
	return t
}()

// lexer cuts a text into tokens. The zero value of everything but src is the start of the text.
type lexer struct {
	src []byte
	// start and end delimit the token that next returned last.
	start, end int
	// nonConforming is standard_conforming_strings = off.
	nonConforming bool
	// gap: there was white space or a comment before the token.
	gap bool
	// backslash: some plain string literal so far holds a backslash.
	backslash bool
	// comment: there was a comment so far.
	comment bool
	// hint: some comment so far holds "route:".
	hint bool
	// doubt: something so far is read differently by different versions or settings, or was not worth a rule.
	doubt bool
}

// next moves to the next token. After tokEnd and tokBad there is none.
func (l *lexer) next() token {
	if !l.skipGap() {
		return tokBad
	}
	if l.start == len(l.src) {
		l.end = l.start
		return tokEnd
	}
	b := l.src[l.start]
	class := charClass[b]
	switch {
	case class&charNameStart != 0:
		return l.word(b)
	case class&charDigit != 0, b == '.' && l.is(l.start+1, charDigit):
		return l.number()
	case b == '\'':
		return l.quoted(l.start, tokString)
	case class&charSelf != 0:
		return l.self(b)
	case class&charOperator != 0:
		return l.operator()
	case b == '"':
		return l.identifier(l.start, tokQuoted)
	case b == '$':
		return l.dollar()
	}
	return tokBad
}

func (l *lexer) at(i int) byte {
	if i < len(l.src) {
		return l.src[i]
	}
	return 0
}

func (l *lexer) is(i int, class uint8) bool {
	return i < len(l.src) && charClass[l.src[i]]&class != 0
}

// skipGap moves start to the next token; false: a comment does not end.
func (l *lexer) skipGap() bool {
	src, i := l.src, l.end
	for i < len(src) {
		b := src[i]
		switch {
		case charClass[b]&charSpace != 0:
			if b == '\v' { // white space since PostgreSQL 16
				l.doubt = true
			}
			i++
		case (b == '-' || b == '/') && l.startsComment(i):
			end := commentEnd(l.src, i)
			if end < 0 {
				return false
			}
			l.comment = true
			if holdsHint(l.src[i:end]) {
				l.hint = true
			}
			i = end
		default:
			l.gap, l.start = i > l.end, i
			return true
		}
	}
	l.gap, l.start = i > l.end, i
	return true
}

func (l *lexer) startsComment(i int) bool {
	next := l.at(i + 1)
	return l.src[i] == '-' && next == '-' || l.src[i] == '/' && next == '*'
}

// commentEnd returns the offset behind the comment that starts at i, or -1 if it does not end.
func commentEnd(src []byte, i int) int {
	if src[i] == '-' {
		if n := bytes.IndexAny(src[i:], "\r\n"); n >= 0 {
			return i + n
		}
		return len(src)
	}
	depth := 0
	for i+1 < len(src) {
		switch {
		case src[i] == '/' && src[i+1] == '*':
			depth++
			i += 2
		case src[i] == '*' && src[i+1] == '/':
			depth--
			i += 2
			if depth == 0 {
				return i
			}
		default:
			i++
		}
	}
	return -1
}

// word reads an identifier or key word, or the literal that its first letter announces.
func (l *lexer) word(b byte) token {
	switch quote := l.at(l.start + 1); {
	case quote == '\'':
		switch b {
		case 'e', 'E':
			return l.quoted(l.start+1, tokEscape)
		case 'b', 'B', 'x', 'X':
			return l.quoted(l.start+1, tokBits)
		case 'n', 'N': // the key word NCHAR and a plain literal
			l.doubt = true
			l.end = l.start + 1
			return tokWord
		}
	case quote == '&' && (b == 'u' || b == 'U'):
		switch l.at(l.start + 2) {
		case '\'':
			return l.quoted(l.start+2, tokUnicode)
		case '"':
			return l.identifier(l.start+2, tokUnicode)
		}
	}
	src, i := l.src, l.start+1
	for i < len(src) && charClass[src[i]]&charName != 0 {
		i++
	}
	l.end = i
	return tokWord
}

// identifier reads from the double quote at i to the closing one.
func (l *lexer) identifier(i int, kind token) token {
	for i++; i < len(l.src); i++ {
		if l.src[i] != '"' {
			continue
		}
		if l.at(i+1) != '"' {
			l.end = i + 1
			return kind
		}
		i++
	}
	return tokBad
}

// quoted reads from the quote at i to the closing one, and over the continuations on following lines.
func (l *lexer) quoted(i int, kind token) token {
	escapes := kind == tokEscape || kind == tokString && l.nonConforming
	for {
		i = l.closingQuote(i, kind, escapes)
		if i < 0 {
			return tokBad
		}
		next := continuation(l.src, i)
		if next < 0 {
			l.end = i
			return kind
		}
		l.doubt = true
		i = next
	}
}

// closingQuote returns the offset behind the quote that closes the one at i, or -1.
func (l *lexer) closingQuote(i int, kind token, escapes bool) int {
	for i++; i < len(l.src); i++ {
		switch l.src[i] {
		case '\\':
			if kind == tokString {
				l.backslash = true
			}
			if escapes {
				i++
			}
		case '\'':
			if l.at(i+1) != '\'' || kind == tokBits {
				return i + 1
			}
			i++
		}
	}
	return -1
}

// continuation returns the offset of the quote that goes on with the literal that ended before i, or -1: a quote after
// white space and -- comments with a newline among them.
func continuation(src []byte, i int) int {
	newline := false
	for i < len(src) {
		switch b := src[i]; {
		case b == '\n' || b == '\r':
			newline = true
			i++
		case charClass[b]&charSpace != 0:
			i++
		case b == '-' && i+1 < len(src) && src[i+1] == '-':
			i = commentEnd(src, i)
		case b == '\'' && newline:
			return i
		default:
			return -1
		}
	}
	return -1
}

// dollar reads a parameter or a dollar-quoted literal.
func (l *lexer) dollar() token {
	i := l.start + 1
	if l.is(i, charDigit) {
		for l.is(i, charDigit) {
			i++
		}
		l.end = i
		if l.is(i, charNameStart) {
			return tokBad
		}
		return tokParam
	}
	if l.is(i, charNameStart) {
		for l.is(i, charNameStart|charDigit) {
			i++
		}
	}
	if l.at(i) != '$' {
		return tokBad
	}
	i++
	tag := l.src[l.start:i]
	n := bytes.Index(l.src[i:], tag)
	if n < 0 {
		return tokBad
	}
	l.end = i + n + len(tag)
	return tokDollar
}

// self reads a punctuation mark.
func (l *lexer) self(b byte) token {
	l.end = l.start + 1
	switch next := l.at(l.end); {
	case b == '.' && next == '.', b == ':' && (next == ':' || next == '='):
		l.end++
	}
	return tokSelf
}

// operator reads an operator: it ends where a comment starts, and a trailing + or - belongs to it only if it holds a
// character that no operator of standard SQL has.
func (l *lexer) operator() token {
	i := l.start
	special := false
	for l.is(i, charOperator) {
		b, next := l.src[i], l.at(i+1)
		if b == '-' && next == '-' || b == '/' && next == '*' {
			break
		}
		switch b {
		case '~', '!', '@', '#', '^', '&', '|', '`', '?', '%':
			special = true
		}
		i++
	}
	for !special && i > l.start+1 && (l.src[i-1] == '+' || l.src[i-1] == '-') {
		i--
	}
	l.end = i
	return tokOperator
}
