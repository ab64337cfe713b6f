// Command testreport reads the output of `go test -json` from standard input
// and writes what a person wants to see of it: a line per package, everything a
// failing test or build printed, and the closing line "N passed, N failed".
//
// It fails when a test failed, when one was skipped (a test that does not run
// proves nothing) and when none ran.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// event is one line of `go test -json`; see `go doc test2json` and, for the
// build's own events, `go help buildjson`.
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Elapsed     float64
	Output      string
	FailedBuild string
}

// report adds up events.
type report struct {
	out             io.Writer
	output          map[string]*strings.Builder // by package and test, until it has passed
	passedIn        map[string]int              // by package
	failedIn        map[string]int              // by package
	skipped         []string
	passed, failed  int
	running, builds map[string]bool // tests begun and not ended; builds that failed
}

func main() {
	r := newReport(os.Stdout)
	if err := r.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(2) //nolint:forbidigo // main ends the process
	}
	if !r.close() {
		os.Exit(1) //nolint:forbidigo // main ends the process
	}
}

func newReport(out io.Writer) *report {
	return &report{
		out:      out,
		output:   map[string]*strings.Builder{},
		passedIn: map[string]int{},
		failedIn: map[string]int{},
		running:  map[string]bool{},
		builds:   map[string]bool{},
	}
}

// read takes all events of in. A line that is no event is passed on: the go
// command prints some errors as plain text.
func (r *report) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if line[0] != '{' || json.Unmarshal(line, &e) != nil {
				fmt.Fprintf(r.out, "%s", line)
			} else {
				r.take(e)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read events: %w", err)
		}
	}
}

// take adds one event.
func (r *report) take(e event) {
	switch e.Action {
	case "output", "build-output":
		if e.Action == "build-output" {
			e.Package = e.ImportPath
		}
		r.keep(e)
	case "build-fail":
		r.builds[e.ImportPath] = true
		r.print(e.ImportPath)
	case "run":
		r.running[key(e)] = true
	case "pass", "fail", "skip":
		delete(r.running, key(e))
		if e.Test == "" {
			r.endPackage(e)
		} else {
			r.endTest(e)
		}
	}
}

func key(e event) string {
	if e.Test == "" {
		return e.Package
	}
	return e.Package + " " + e.Test
}

func (r *report) keep(e event) {
	b := r.output[key(e)]
	if b == nil {
		b = &strings.Builder{}
		r.output[key(e)] = b
	}
	b.WriteString(e.Output)
}

// print writes what was kept under the key, and forgets it.
func (r *report) print(k string) {
	if b := r.output[k]; b != nil {
		fmt.Fprintf(r.out, "%s", b)
		delete(r.output, k)
	}
}

func (r *report) endTest(e event) {
	switch e.Action {
	case "pass":
		r.passed++
		r.passedIn[e.Package]++
		delete(r.output, key(e))
	case "skip":
		r.skipped = append(r.skipped, key(e))
		r.print(key(e))
	case "fail":
		r.fail(e.Package)
		r.print(key(e))
	}
}

func (r *report) fail(pkg string) {
	r.failed++
	r.failedIn[pkg]++
}

func (r *report) endPackage(e event) {
	switch {
	case e.Action == "fail":
		// Tests that never ended: the process died in them.
		for _, k := range slices.Sorted(maps.Keys(r.running)) {
			if strings.HasPrefix(k, e.Package+" ") {
				r.fail(e.Package)
				delete(r.running, k)
				r.print(k)
			}
		}
		if r.failedIn[e.Package] == 0 {
			r.fail(e.Package) // its build or its TestMain
		}
		r.print(e.Package)
		fmt.Fprintf(r.out, "FAIL %-60s %8.1fs\n", e.Package, e.Elapsed)
	case r.passedIn[e.Package] > 0:
		fmt.Fprintf(r.out, "ok   %-60s %8.1fs  %d tests\n", e.Package, e.Elapsed, r.passedIn[e.Package])
	}
	delete(r.output, e.Package)
}

// close writes the closing lines and reports whether all is well.
func (r *report) close() bool {
	for _, k := range r.skipped {
		fmt.Fprintf(r.out, "skipped, which counts as failed: %s\n", k)
	}
	failed := r.failed + len(r.skipped)
	if r.passed+failed == 0 {
		fmt.Fprintln(r.out, "no test ran")
	}
	fmt.Fprintf(r.out, "%d passed, %d failed\n", r.passed, failed)
	return failed == 0 && len(r.builds) == 0 && r.passed > 0
}
