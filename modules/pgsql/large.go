package pgsql

import "strings"

// classifyLarge returns the class of a text that is too long to be parsed: one INSERT … VALUES of nothing but literals
// or one COPY … FROM STDIN is known by its tokens, everything else is Unknown.
func classifyLarge(sql []byte) *Class {
	p := prover{lexer: lexer{src: sql}}
	p.advance()
	var class *Class
	switch {
	case p.word("insert"):
		class = p.insert()
	case p.word("copy"):
		class = p.copyIn()
	}
	if class == nil || p.backslash || p.doubt {
		return unknownClass
	}
	class.Route = leadingRoute(sql)
	return class
}

// prover reads a text token by token, with one token of look-ahead. It proves; it does not parse: what it accepts may
// still be a syntax error, which is the server's to tell.
type prover struct {
	lexer
	kind token
	text []byte
}

func (p *prover) advance() {
	if p.kind == tokBad {
		return
	}
	p.text = nil
	if p.kind = p.next(); p.kind != tokBad {
		p.text = p.src[p.start:p.end]
	}
}

// word takes the key word, given in lower case.
func (p *prover) word(w string) bool {
	if p.kind != tokWord || len(p.text) != len(w) {
		return false
	}
	for i, b := range p.text {
		if lowerByte[b] != w[i] {
			return false
		}
	}
	p.advance()
	return true
}

func (p *prover) mark(m string) bool {
	if p.kind != tokSelf || string(p.text) != m {
		return false
	}
	p.advance()
	return true
}

// name takes an identifier, folded.
func (p *prover) name() (string, bool) {
	var s string
	switch p.kind {
	case tokWord:
		b := make([]byte, len(p.text))
		for i := range b {
			b[i] = lowerByte[p.text[i]]
		}
		s = string(b)
	case tokQuoted:
		s = strings.ReplaceAll(string(p.text[1:len(p.text)-1]), `""`, `"`)
	default:
		return "", false
	}
	p.advance()
	return s, true
}

// relation takes a name with or without schema. A temporary one is refused.
func (p *prover) relation() (string, bool) {
	s, ok := p.name()
	if !ok || !p.mark(".") {
		return s, ok
	}
	table, ok := p.name()
	return s + "." + table, ok && !isTempSchema(s)
}

// columns takes a list of column names in parentheses, if there is one.
func (p *prover) columns() bool {
	if !p.mark("(") {
		return true
	}
	for {
		if _, ok := p.name(); !ok {
			return false
		}
		if !p.mark(",") {
			return p.mark(")")
		}
	}
}

// insert proves the rest of INSERT INTO t [(c, …)] VALUES (literal, …), … [ON CONFLICT DO NOTHING] [;].
func (p *prover) insert() *Class {
	if !p.word("into") {
		return nil
	}
	table, ok := p.relation()
	if !ok || !p.columns() || !p.word("values") {
		return nil
	}
	for {
		if !p.mark("(") || !p.values() {
			return nil
		}
		if !p.mark(",") {
			break
		}
	}
	if p.word("on") && (!p.word("conflict") || !p.word("do") || !p.word("nothing")) {
		return nil
	}
	if p.mark(";"); p.kind != tokEnd {
		return nil
	}
	return &Class{
		Effects: Write, Statements: 1, Kind: KindWrite, Relations: []string{table}, ConstDependent: true,
		Fingerprint: fingerprint([]byte("insert " + table)),
	}
}

// values takes literals, parameters and constants up to the closing parenthesis.
func (p *prover) values() bool {
	for {
		switch p.kind {
		case tokOperator:
			if string(p.text) != "-" && string(p.text) != "+" {
				return false
			}
			if p.advance(); p.kind != tokNumber {
				return false
			}
			p.advance()
		case tokNumber, tokString, tokEscape, tokDollar, tokBits, tokParam:
			p.advance()
		default:
			if !p.word("null") && !p.word("default") && !p.word("true") && !p.word("false") {
				return false
			}
		}
		if !p.mark(",") {
			return p.mark(")")
		}
	}
}

// copyIn proves the rest of COPY t [(c, …)] FROM STDIN with any options.
func (p *prover) copyIn() *Class {
	table, ok := p.relation()
	if !ok || !p.columns() || !p.word("from") || !p.word("stdin") {
		return nil
	}
	for p.kind != tokEnd {
		if p.kind == tokBad || p.kind == tokSelf && p.text[0] == ';' {
			return nil
		}
		p.advance()
	}
	return &Class{
		Effects: Write | CopyIn, Statements: 1, Kind: KindCopy, Relations: []string{table}, ConstDependent: true,
		Fingerprint: fingerprint([]byte("copy " + table)),
	}
}
