package integration_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// corpusStatement is one statement of a file of the corpus.
type corpusStatement struct {
	line    int    // of the file, where its text begins
	text    string // as it stands in the file: comments before it, the semicolon, and the rows of a COPY
	sql     string // what is sent by the extended protocol: without the semicolon and the rows
	rows    string // of COPY … FROM STDIN, without the line that ends them
	differs string // the row of docs/compatibility.md that says why the answer is another one; "" when it must be the same
}

var (
	copyIn      = regexp.MustCompile(`(?is)^copy\s.*\sfrom\s+stdin\b`)
	beginAtomic = regexp.MustCompile(`(?i)\bbegin\s+atomic\b`)
	differsMark = regexp.MustCompile(`(?m)^-- differs: (.*)$`)
	dollarQuote = regexp.MustCompile(`^\$([A-Za-z_][A-Za-z_0-9]*)?\$`)
)

// noRows follows a COPY … FROM STDIN that fails before its rows are asked for: psql would take them for statements.
const noRows = " -- no rows"

// splitCorpus cuts a file into statements, as psql does: at semicolons outside of quotes, comments, parentheses and bodies of BEGIN ATOMIC.
func splitCorpus(file string) []corpusStatement {
	var all []corpusStatement
	for at := 0; at < len(file); {
		from, end := statementBounds(file, at)
		if end < 0 {
			break
		}
		s := corpusStatement{sql: strings.TrimSpace(file[from : end-1])}
		if mark := differsMark.FindStringSubmatch(file[at:from]); mark != nil {
			s.differs = mark[1]
		}
		if copyIn.MatchString(s.sql) && !strings.HasPrefix(file[end:], noRows) {
			begin := end + strings.IndexByte(file[end:], '\n') + 1
			s.rows, _, _ = strings.Cut(file[begin:], "\\.\n")
			end = begin + len(s.rows) + len("\\.\n")
		}
		s.line = 1 + strings.Count(file[:from], "\n")
		s.text = strings.Trim(file[at:end], "\n")
		all, at = append(all, s), end
	}
	return all
}

// statementBounds finds where the next statement begins, behind the comments before it, and the end of its semicolon; -1 when only comments
// are left.
func statementBounds(file string, at int) (from, end int) {
	from, depth := -1, 0
	for i := at; i < len(file); {
		rest := file[i:]
		next := skipQuoted(rest, i == 0 || !isWordByte(file[i-1]))
		switch {
		case strings.HasPrefix(rest, "--"), strings.HasPrefix(rest, "/*"):
		case strings.ContainsRune(" \t\r\n", rune(rest[0])):
		case rest[0] == ';' && depth == 0 && !openAtomic(file[max(from, at):i]):
			if from < 0 {
				from = i
			}
			return from, i + 1
		default:
			if from < 0 {
				from = i
			}
			depth += strings.Count(rest[:1], "(") - strings.Count(rest[:1], ")")
		}
		i += next
	}
	return 0, -1
}

// skipQuoted is the length of the comment or quoted text at the head of s, 1 when there is none. A dollar or an E begins one only where
// no word goes on.
func skipQuoted(s string, fresh bool) int {
	until := func(from int, mark string) int {
		if i := strings.Index(s[from:], mark); i >= 0 {
			return from + i + len(mark)
		}
		return len(s)
	}
	switch {
	case strings.HasPrefix(s, "--"):
		return until(2, "\n")
	case strings.HasPrefix(s, "/*"):
		return until(2, "*/")
	case s[0] == '"', s[0] == '\'':
		return until(1, s[:1])
	case fresh && (strings.HasPrefix(s, "E'") || strings.HasPrefix(s, "e'")):
		for i := 2; i < len(s); i++ {
			switch s[i] {
			case '\\':
				i++
			case '\'':
				return i + 1
			}
		}
	case fresh && s[0] == '$':
		if tag := dollarQuote.FindString(s); tag != "" {
			return until(len(tag), tag)
		}
	}
	return 1
}

func isWordByte(b byte) bool {
	return b == '_' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
}

// openAtomic tells whether a text is inside a body of BEGIN ATOMIC. The corpus has no CASE in such bodies.
func openAtomic(sql string) bool {
	place := beginAtomic.FindStringIndex(sql)
	return place != nil && !strings.HasSuffix(strings.ToLower(strings.TrimSpace(sql)), "end")
}

func TestCorpusIsCutWherePsqlCutsIt(t *testing.T) {
	const file = `-- a comment; with a semicolon
select ';', E'\';', "a;b", $$;$$, $x$ $$; $x$, f$1(';') /* ; */;

-- differs: the row
create rule r as on insert to t do (select 1; select 2);
copy t from stdin;
1;2
\.
copy nowhere from stdin; -- no rows
create function f() returns int begin atomic select 1; select 2; end;
select 3;
-- the end;
`
	var got []string
	for _, s := range splitCorpus(file) {
		got = append(got, s.sql, s.rows, s.differs)
	}
	want := []string{
		`select ';', E'\';', "a;b", $$;$$, $x$ $$; $x$, f$1(';') /* ; */`, "", "",
		`create rule r as on insert to t do (select 1; select 2)`, "", "the row",
		`copy t from stdin`, "1;2\n", "",
		`copy nowhere from stdin`, "", "",
		`create function f() returns int begin atomic select 1; select 2; end`, "", "",
		`select 3`, "", "",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
