//go:build linux

package proc

import (
	"os"
	"testing"
	"time"
)

func TestStatIsReadBehindTheLastParenthesis(t *testing.T) {
	line := "4711 (a (strange) name) S 12 4711 4711 0 -1 4194560 1 2 3 4 150 50 20 5 20 0 1 0 100 1000 10"
	got, err := parseStat([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	want := stat{pid: 4711, parent: 12, own: 2 * time.Second, ended: 250 * time.Millisecond}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestStatThatIsCutShortIsAnError(t *testing.T) {
	for _, line := range []string{"", "12", "12 (a", "x (a) S 1", "1 (a) S 1 2 3", "1 (a) S 12 4711 4711 0 -1 4194560 1 2 3 4 x 50 20 5"} {
		if got, err := parseStat([]byte(line)); err == nil {
			t.Errorf("%q: got %+v, want an error", line, got)
		}
	}
}

func TestATreeIsEverythingBelow(t *testing.T) {
	processes := map[int]stat{1: {pid: 1}, 5: {pid: 5, parent: 1}, 6: {pid: 6, parent: 5}, 7: {pid: 7, parent: 6}, 8: {pid: 8, parent: 1}}
	if got := tree(processes, 5); len(got) != 3 {
		t.Errorf("got %+v, want 5, 6 and 7", got)
	}
}

func TestRollupIsReadInBytes(t *testing.T) {
	text := "55e0-7ffd ---p 00000000 00:00 0 [rollup]\nRss:    2048 kB\nPss:     512 kB\nPss_Anon:   1 kB\nShared_Clean: 3 kB\n"
	got, err := parseRollup([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if want := (Memory{RSS: 2 << 20, PSS: 512 << 10}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if _, err := parseRollup([]byte("Rss: 1 kB\n")); err == nil {
		t.Error("a text without Pss is no error")
	}
}

func TestThisProcessHasTimeAndMemory(t *testing.T) {
	if _, err := CPU(os.Getpid()); err != nil {
		t.Error(err)
	}
	m, err := MemoryOf(os.Getpid())
	if err != nil || m.RSS == 0 || m.PSS == 0 || m.PSS > m.RSS {
		t.Errorf("got %+v, %v", m, err)
	}
	if _, err := CPU(-1); err == nil {
		t.Error("a process that does not exist has time")
	}
}
