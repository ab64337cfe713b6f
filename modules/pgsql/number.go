package pgsql

// number reads what starts with a digit, or with a dot before a digit.
func (l *lexer) number() token {
	i := l.start
	if radix := l.at(i+1) | 0x20; l.src[i] == '0' && (radix == 'x' || radix == 'o' || radix == 'b') {
		return l.radix(i+2, radix)
	}
	i = l.digits(i)
	if l.at(i) == '.' {
		if l.at(i+1) == '.' {
			return tokBad
		}
		i = l.digits(i + 1)
	}
	if l.at(i)|0x20 == 'e' {
		i++
		if l.at(i) == '+' || l.at(i) == '-' {
			i++
		}
		if !l.is(i, charDigit) {
			return tokBad
		}
		i = l.digits(i)
	}
	l.end = i
	if l.is(i, charNameStart) {
		return tokBad
	}
	if l.at(i) == '.' {
		l.doubt = true
	}
	return tokNumber
}

// digits returns the offset behind decimal digits with single underscores between them.
func (l *lexer) digits(i int) int {
	for {
		switch {
		case l.is(i, charDigit):
		case l.at(i) == '_' && i > l.start && l.is(i-1, charDigit) && l.is(i+1, charDigit):
			l.doubt = true // before PostgreSQL 16: an alias
		default:
			return i
		}
		i++
	}
}

// radix reads the digits behind 0x, 0o or 0b; see digits.
func (l *lexer) radix(i int, radix byte) token {
	l.doubt = true // before PostgreSQL 16: zero and an alias
	first := i
	for {
		if l.at(i) == '_' {
			i++
		}
		if !radixDigit(l.at(i), radix) {
			break
		}
		i++
	}
	l.end = i
	if i == first || l.is(i, charName) || l.at(i-1) == '_' {
		return tokBad
	}
	return tokNumber
}

func radixDigit(b, radix byte) bool {
	switch radix {
	case 'o':
		return b >= '0' && b <= '7'
	case 'b':
		return b == '0' || b == '1'
	}
	return b >= '0' && b <= '9' || b|0x20 >= 'a' && b|0x20 <= 'f'
}
