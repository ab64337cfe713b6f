package main

import (
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	for _, tc := range []struct {
		name   string
		events string
		want   string
		well   bool
	}{
		{
			"what passes is one line, whatever it printed",
			`{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"noise\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Elapsed":1.5}`,
			"ok p 1.5s 1 tests\n1 passed, 0 failed\n", true,
		},
		{
			"a failing test shows its output and not that of others",
			`{"Action":"output","Package":"p","Test":"TestA","Output":"noise\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"why\n"}
{"Action":"fail","Package":"p","Test":"TestB"}
{"Action":"fail","Package":"p","Elapsed":2}`,
			"why\nFAIL p 2.0s\n1 passed, 1 failed\n", false,
		},
		{
			"a skipped test counts as failed",
			`{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"no server\n"}
{"Action":"skip","Package":"p","Test":"TestB"}
{"Action":"pass","Package":"p"}`,
			"no server\nok p 0.0s 1 tests\nskipped, which counts as failed: p TestB\n1 passed, 1 failed\n", false,
		},
		{
			"a package without tests is no skipped test",
			`{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p"}
{"Action":"skip","Package":"q"}`,
			"ok p 0.0s 1 tests\n1 passed, 0 failed\n", true,
		},
		{
			"a test in which the process died has failed",
			`{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"panic: oh\n"}
{"Action":"fail","Package":"p"}`,
			"panic: oh\nFAIL p 0.0s\n0 passed, 1 failed\n", false,
		},
		{
			"a failed build is a failure even when other tests pass",
			`{"Action":"build-output","ImportPath":"q","Output":"undefined: x\n"}
{"Action":"build-fail","ImportPath":"q"}
{"Action":"fail","Package":"q","FailedBuild":"q"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p"}`,
			"undefined: x\nFAIL q 0.0s\nok p 0.0s 1 tests\n1 passed, 1 failed\n", false,
		},
		{
			"plain text is passed on",
			"go: no such package\n",
			"go: no such package\nno test ran\n0 passed, 0 failed\n", false,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out strings.Builder
			r := newReport(&out)
			if err := r.read(strings.NewReader(tc.events)); err != nil {
				t.Fatal(err)
			}
			well := r.close()
			if got := squeeze(out.String()); got != tc.want {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
			if well != tc.well {
				t.Errorf("all is well: got %t, want %t", well, tc.well)
			}
		})
	}
}

// squeeze makes one space of several, so that the cases need not count them.
func squeeze(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "ok ") || strings.HasPrefix(line, "FAIL ") {
			lines[i] = strings.Join(strings.Fields(line), " ")
		}
	}
	return strings.Join(lines, "\n")
}
