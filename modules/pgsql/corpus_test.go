package pgsql

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// statementCase is one line of testdata/corpus.txt.
type statementCase struct {
	plain, kind, effects, sql string
}

func corpus(t testing.TB) []statementCase {
	t.Helper()
	text, err := os.ReadFile("testdata/corpus.txt")
	if err != nil {
		t.Fatal(err)
	}
	var cases []statementCase
	for line := range strings.Lines(string(text)) {
		head, sql, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " | ")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Fields(head)
		if len(fields) != 3 {
			t.Fatalf("line has %d columns: %q", len(fields), line)
		}
		cases = append(cases, statementCase{fields[0], fields[1], fields[2], sql})
	}
	return cases
}

func TestEachStatementOfTheCorpusHasItsClass(t *testing.T) {
	cases := corpus(t)
	if len(cases) < 300 {
		t.Fatalf("only %d statements", len(cases))
	}
	c := New(Options{})
	for _, want := range cases {
		class := c.ClassifyExact([]byte(want.sql))
		plain := "primary"
		if class.PlainRead() {
			plain = "plain"
		}
		got := statementCase{plain, class.Kind.String(), class.Effects.String(), want.sql}
		if got != want {
			t.Errorf("%s\n got %s %s %s\nwant %s %s %s", want.sql, got.plain, got.kind, got.effects,
				want.plain, want.kind, want.effects)
		}
	}
}

func TestTheClassDoesNotDependOnHowItIsLookedUp(t *testing.T) {
	exact, shared := New(Options{}), New(Options{})
	for range 2 {
		for _, s := range corpus(t) {
			want, got := exact.ClassifyExact([]byte(s.sql)), shared.Classify([]byte(s.sql))
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s\nby key  %+v\nby text %+v", s.sql, got, want)
			}
			if strings.Contains(s.sql, "U&'") { // refused when standard_conforming_strings is off
				continue
			}
			if got := shared.ClassifyNonConforming([]byte(s.sql)); got.Effects != want.Effects {
				t.Errorf("%s: %s when standard_conforming_strings is off", s.sql, got.Effects)
			}
		}
	}
}

func TestNothingThatMayWriteIsAPlainRead(t *testing.T) {
	c := New(Options{})
	for _, s := range corpus(t) {
		class := c.Classify([]byte(s.sql))
		if class.PlainRead() && (class.MayWrite() || class.Pins() != 0 || !class.MaybeRead()) {
			t.Errorf("%s: plain read, but writes %t, pins %s", s.sql, class.MayWrite(), class.Pins())
		}
	}
}
