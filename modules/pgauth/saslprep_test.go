package pgauth

import (
	"testing"
)

// passwords covers each rule of SASLprep and each way out of it. The test against a real server shows that PostgreSQL
// makes the same verifiers of them.
var passwords = map[string]struct{ in, want string }{
	"ASCII stays": {"correct horse", "correct horse"},
	"ASCII control characters stay without others": {"a\tb\x7f", "a\tb\x7f"},
	"ASCII compatibility is not looked for":        {"~`!@#$%^&*()", "~`!@#$%^&*()"},
	"composed stays composed":                      {"p\u00e4ssw\u00f6rd", "p\u00e4ssw\u00f6rd"},
	"decomposed becomes composed":                  {"pa\u0308sswo\u0308rd", "p\u00e4ssw\u00f6rd"},
	"compatibility characters are folded":          {"\u2168\ufb01\u00aa", "IXfia"},
	"full width becomes plain":                     {"\uff41\uff42\uff43", "abc"},
	"a no-break space becomes a space":             {"a\u00a0b", "a b"},
	"an ideographic space becomes a space":         {"a\u3000b", "a b"},
	"a zero-width space becomes a space":           {"a\u200bb", "a b"},
	"a soft hyphen vanishes":                       {"I\u00adX", "IX"},
	"a zero-width joiner vanishes":                 {"a\u200db", "ab"},
	"a variation selector vanishes":                {"a\ufe0fb", "ab"},
	"only soft hyphens: as it is":                  {"\u00ad\u00ad", "\u00ad\u00ad"},
	"a control character beside others: as it is":  {"\u00aa\x07", "\u00aa\x07"},
	"DEL beside others: as it is":                  {"\u00aa\x7f", "\u00aa\x7f"},
	"private use: as it is":                        {"\u00aa\ue000", "\u00aa\ue000"},
	"a non-character: as it is":                    {"\u00aa\ufdd0", "\u00aa\ufdd0"},
	"a tag: as it is":                              {"\u00aa\U000e0041", "\u00aa\U000e0041"},
	"a mark of direction: as it is":                {"\u00aa\u202e", "\u00aa\u202e"},
	"a replacement character: as it is":            {"\u00aa\ufffd", "\u00aa\ufffd"},
	"newer than Unicode 3.2: as it is":             {"\u00aa\U0001f600", "\u00aa\U0001f600"},
	"Hebrew is fine":                               {"\u05d0\u05d1\u05d2", "\u05d0\u05d1\u05d2"},
	"Arabic presentation forms are folded":         {"\ufeb1\u0621\ufeb1", "\u0633\u0621\u0633"},
	"Hebrew with digits inside is fine":            {"\u05d01\u05d1", "\u05d01\u05d1"},
	"Hebrew ending in a digit: as it is":           {"\u05d0\u00bd1", "\u05d0\u00bd1"},
	"Hebrew beginning with a digit: as it is":      {"1\u05d0", "1\u05d0"},
	"Hebrew with Latin: as it is":                  {"\u05d0a\ufb01\u05d0", "\u05d0a\ufb01\u05d0"},
	"not UTF-8: as it is":                          {"p\xe4ss\u00aa", "p\xe4ss\u00aa"},
	"a surrogate: as it is":                        {"\xed\xa0\x80\u00aa", "\xed\xa0\x80\u00aa"},
	"forbidden only after folding passes as in PG": {"\u2100\u33c2", "a/ca.m."},
	"Latin only after folding passes as in PG":     {"\u05d0\u2460\u05d0", "\u05d01\u05d0"},
	"Hangul is composed":                           {"\u1112\u1161\u11ab", "\ud55c"},
	"marks are put in order":                       {"a\u0327\u0301\u0323", "\u1ea1\u0327\u0301"},
	"the Kelvin sign becomes K":                    {"\u212a", "K"},
	"nothing stays nothing":                        {"", ""},
}

func TestPasswordsAreNormalisedAsPostgreSQLDoes(t *testing.T) {
	for name, c := range passwords {
		t.Run(name, func(t *testing.T) {
			if got := prepare(c.in); got != c.want {
				t.Errorf("prepare(%+q) = %+q, want %+q", c.in, got, c.want)
			}
		})
	}
}

func TestTablesAreSorted(t *testing.T) {
	for name, table := range map[string][]rune{
		"nonASCIISpaces": nonASCIISpaces, "mappedToNothing": mappedToNothing, "prohibited": prohibited,
		"unassigned": unassigned, "rightToLeft": rightToLeft, "leftToRight": leftToRight,
	} {
		if len(table)%2 != 0 {
			t.Errorf("%s has a range without an end", name)
		}
		for i := 1; i < len(table); i++ {
			if table[i] < table[i-1] || i%2 == 0 && table[i] == table[i-1] {
				t.Errorf("%s is out of order at %#x", name, table[i])
			}
		}
	}
}

func TestWithinKnowsBothEndsOfARange(t *testing.T) {
	table := []rune{10, 12, 20, 20}
	for r, want := range map[rune]bool{9: false, 10: true, 11: true, 12: true, 13: false, 19: false, 20: true, 21: false} {
		if within(table, r) != want {
			t.Errorf("within(%d) = %v", r, !want)
		}
	}
}
