package fairway

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// sqlstates returns the SQLSTATE constants of package pgwire by name.
func sqlstates(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "modules/pgwire/codes.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	codes := make(map[string]string)
	ast.Inspect(file, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		for i, name := range v.Names {
			if i < len(v.Values) {
				codes[name.Name], _ = strconv.Unquote(v.Values[i].(*ast.BasicLit).Value)
			}
		}
		return true
	})
	return codes
}

// files calls f with each file below dir whose name ends so.
func files(t *testing.T, dir, suffix string, f func(path string)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != dir {
			return filepath.SkipDir
		}
		if !d.IsDir() && strings.HasSuffix(path, suffix) {
			f(path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// madeIn returns the names of the codes for which the file makes errors, with the place of one.
func madeIn(t *testing.T, path string) map[string]string {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]string)
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		made, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || made.Sel.Name != "Errorf" && made.Sel.Name != "Fatalf" {
			return true
		}
		code, ok := call.Args[0].(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if pkg, ok := code.X.(*ast.Ident); ok && pkg.Name == "pgwire" {
			found[code.Sel.Name] = fmt.Sprint(set.Position(call.Pos()))
		}
		return true
	})
	return found
}

func TestDocsListTheSQLSTATEOfEveryErrorOfOurs(t *testing.T) {
	page, err := os.ReadFile("docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	codes := sqlstates(t)
	files(t, "modules", ".go", func(path string) {
		if strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "modules/pgtest/") {
			return
		}
		for name, place := range madeIn(t, path) {
			if code := codes[name]; code == "" || !strings.Contains(string(page), "\n| "+code+" ") {
				t.Errorf("%s makes an error %s (%s), which docs/errors.md does not have", place, name, code)
			}
		}
	})
}

// link matches the target of a link in Markdown.
var link = regexp.MustCompile(`\]\(([^)#]+)[^)]*\)`)

func TestDocsLinkToFilesThatExist(t *testing.T) {
	files(t, ".", ".md", func(path string) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", path, m[1], err)
			}
		}
	})
}

func TestReadmeShowsTheSmallestExample(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("caddyfile/examples/minimal.Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), "```\n"+string(example)+"```\n") {
		t.Error("README.md does not show caddyfile/examples/minimal.Caddyfile")
	}
}
