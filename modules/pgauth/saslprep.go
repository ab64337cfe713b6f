package pgauth

import (
	"sort"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// prepare normalises a password as PostgreSQL does: SASLprep (RFC 4013), and the bytes as they are where that fails,
// because passwords in other encodings than UTF-8 must work too.
func prepare(password string) string {
	prepared, ok := saslprep(password)
	if !ok {
		return password
	}
	return prepared
}

// saslprep follows PostgreSQL's reading of RFC 4013, not the RFC's: a string of ASCII only is never looked into, and
// the forbidden characters and the direction are looked up before the normalisation, not after it. Verifiers that
// PostgreSQL made depend on both. ok is false for what may not be normalised.
func saslprep(password string) (prepared string, ok bool) {
	if isASCII(password) {
		return password, true
	}
	if !utf8.ValidString(password) {
		return "", false
	}
	mapped := strings.Map(func(r rune) rune {
		switch {
		case within(nonASCIISpaces, r):
			return ' '
		case within(mappedToNothing, r):
			return -1
		}
		return r
	}, password)
	if mapped == "" || hasForbidden(mapped) || !directionAllowed(mapped) {
		return "", false
	}
	return norm.NFKC.String(mapped), true
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func hasForbidden(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return within(prohibited, r) || within(unassigned, r) })
}

// directionAllowed applies RFC 3454, part 6: a string with right-to-left characters begins and ends with one and has
// no left-to-right ones.
func directionAllowed(s string) bool {
	if !strings.ContainsFunc(s, func(r rune) bool { return within(rightToLeft, r) }) {
		return true
	}
	if strings.ContainsFunc(s, func(r rune) bool { return within(leftToRight, r) }) {
		return false
	}
	first, _ := utf8.DecodeRuneInString(s)
	last, _ := utf8.DecodeLastRuneInString(s)
	return within(rightToLeft, first) && within(rightToLeft, last)
}

// within looks a code point up in a sorted list of pairs, first and last of each range.
func within(table []rune, r rune) bool {
	i := sort.Search(len(table)/2, func(i int) bool { return table[2*i+1] >= r })
	return 2*i < len(table) && table[2*i] <= r
}
