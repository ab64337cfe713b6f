package pgsql

import (
	"reflect"
	"strings"
	"testing"
)

// literals are what stands for each placeholder of a key in turn.
var literals = map[byte][]string{
	keyNumber: {"0", "1", "42", "2147483648", "1.5", ".5", "1e9"},
	keyString: {"'x'", "''", "'it''s'", "'pg_temp'", "'on'", "$$b$$", "$q$ route: primary $q$", `E'\''`},
	keyBits:   {"B'1'", "X'f'", "b''"},
}

// glued are the literals that do not become part of a name before them.
var glued = map[byte]string{keyNumber: ".5", keyString: "'x'"}

// render writes a text whose key is the given one: other literals, letter case, white space and comments.
func render(key []byte, variant int) string {
	var out strings.Builder
	var quoted bool
	for i, b := range key {
		if b == '"' {
			quoted = !quoted
		}
		switch choices := literals[b]; {
		case choices != nil && !quoted && i > 0 && charClass[key[i-1]]&charName != 0:
			out.WriteString(glued[b])
		case b == keyString && !quoted && i > 0 && key[i-1] == '&': // U&'…' is something else
			out.WriteString("$$b$$")
		case choices != nil && !quoted:
			out.WriteString(choices[(variant+i)%len(choices)])
			if variant%2 == 1 && i > 0 && key[i-1] == '(' && i+1 < len(key) && key[i+1] == ')' { // a list of any length
				out.WriteString(" , " + choices[0])
			}
		case b == ' ' && !quoted:
			out.WriteString([]string{" ", "\n\t", " /* c */ ", " -- c\n"}[(variant+i)%4])
		case b >= 'a' && b <= 'z' && !quoted && (variant+i)%3 == 0:
			out.WriteByte(b - 'a' + 'A')
		default:
			out.WriteByte(b)
		}
	}
	return out.String()
}

// FuzzScannerKey checks that our scanner cuts a text as PostgreSQL's does, and that texts with one key do the same.
func FuzzScannerKey(f *testing.F) {
	for _, s := range corpus(f) {
		f.Add(s.sql)
	}
	c := New(Options{})
	f.Fuzz(func(t *testing.T, sql string) {
		if len(sql) > 4096 || strings.IndexByte(sql, 0) >= 0 {
			return
		}
		got := lexed(sql)
		if want, err := theirs(sql); err == nil && got != want && !strings.HasSuffix(got, "!") {
			t.Fatalf("%q\n got %q\nwant %q", sql, got, want)
		}
		key, _, use := appendKey(nil, []byte(sql))
		if len(key) > len(sql) {
			t.Fatalf("the key of %q is longer than the text", sql)
		}
		if use != keyShare {
			return
		}
		class := protect(func() *Class { return c.parse([]byte(sql)) })
		for variant := range 4 {
			text := render(key, variant)
			again, _, use := appendKey(nil, []byte(text))
			if string(again) != string(key) || use != keyShare {
				t.Fatalf("%q has the key %q, but %q has %q (%d)", sql, key, text, again, use)
			}
			other := protect(func() *Class { return c.parse([]byte(text)) })
			if class.Effects&Unknown != 0 || other.Effects&Unknown != 0 {
				continue // a syntax error in one of them: nothing is remembered by key
			}
			if class.ConstDependent && other.ConstDependent {
				continue
			}
			if !reflect.DeepEqual(class, other) {
				t.Fatalf("one key %q\n%q\n%+v\n%q\n%+v", key, sql, class, text, other)
			}
		}
	})
}

// FuzzClassify checks that no text makes the classifier panic or contradict itself.
func FuzzClassify(f *testing.F) {
	for _, s := range corpus(f) {
		f.Add([]byte(s.sql))
	}
	f.Add([]byte("INSERT INTO t VALUES (1, 'a\\')"))
	small := New(Options{ParseLimit: 16})
	f.Fuzz(func(t *testing.T, sql []byte) {
		c := New(Options{CacheBytes: 1})
		for _, class := range []*Class{
			c.Classify(sql), c.ClassifyExact(sql), c.ClassifyNonConforming(sql), small.Classify(sql),
		} {
			if class.PlainRead() && (class.MayWrite() || class.Pins() != 0) {
				t.Fatalf("%q: plain read, but writes %t, pins %s", sql, class.MayWrite(), class.Pins())
			}
			if class.TxOnly && (class.Statements != 1 || class.Effects&TxBegin == 0) || class.Kind.String() == "" {
				t.Fatalf("%q: %+v", sql, class)
			}
			_ = class.Effects.String()
		}
		if len(sql) > 16 {
			if class := small.Classify(sql); class.Effects != Unknown && class.Effects&^(Write|CopyIn) != 0 {
				t.Fatalf("%q is proven to be %s", sql, class.Effects)
			} else if real := c.ClassifyExact(sql); class.Effects != Unknown && real.Effects != Unknown &&
				real.Effects&^Read != class.Effects {
				t.Fatalf("%q is proven to be %s but is %s", sql, class.Effects, real.Effects)
			}
		}
	})
}
