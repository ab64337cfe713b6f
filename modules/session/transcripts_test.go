package session

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

var update = flag.Bool("update", false, "write the transcripts anew, from the server itself")

// fewest is how many exchanges there are at least.
const fewest = 150

// TestGoldenTranscripts plays each exchange at the primary and through Fairway. What comes must be what the file says, from each side,
// and the same to the byte where the file tells no difference.
func TestGoldenTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/transcripts/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	p := startProxy(t, pg, nil)
	admin, err := pg.Primary().Connect(t.Context(), pg.Superuser(), "", "postgres")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Close(t.Context()) })
	var all []*transcriptFile
	count := 0
	for _, path := range files {
		f := readTheme(t, path)
		all, count = append(all, f), count+len(f.exchanges)
		execAll(t, admin, f.setup)
	}
	if err := pg.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.waitCatalog(t)
	for _, f := range all {
		t.Run(strings.TrimSuffix(filepath.Base(f.path), ".txt"), func(t *testing.T) { f.check(t, admin, p) })
		if *update {
			f.write(t)
		}
	}
	if count < fewest {
		t.Errorf("%d exchanges, fewer than %d", count, fewest)
	}
	t.Logf("%d exchanges", count)
}

// execAll runs statements, each in a transaction of its own.
func execAll(t *testing.T, admin *pgconn.PgConn, statements []string) {
	t.Helper()
	for _, sql := range statements {
		if _, err := admin.Exec(t.Context(), sql).ReadAll(); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// check plays the exchanges of a file.
func (f *transcriptFile) check(t *testing.T, admin *pgconn.PgConn, p *proxy) {
	for _, e := range f.exchanges {
		t.Run(e.name, func(t *testing.T) {
			execAll(t, admin, f.reset)
			direct := e.play(t, pg.Primary().Addr(), 'd')
			execAll(t, admin, f.reset)
			if len(f.reset) > 0 {
				if err := pg.WaitCaughtUp(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			e.compare(t, direct, e.play(t, p.addr, 'f'))
		})
	}
}

// play plays an exchange at one address. At the server itself, with -update, it records what comes.
func (e *exchange) play(t *testing.T, addr string, side byte) [][]wireMessage {
	t.Helper()
	actors := map[string]*scriptActor{}
	masked := &wireMasks{}
	all := make([][]wireMessage, len(e.lines))
	read := func(a *scriptActor, count int) []wireMessage {
		got := a.read(count)
		for i := range got {
			got[i] = masked.mask(got[i])
		}
		return got
	}
	for i, l := range e.lines {
		if l.kept != "" {
			continue
		}
		a := actors[l.conn]
		if a == nil {
			a = &scriptActor{t: t, addr: addr}
			actors[l.conn] = a
		}
		awaits := a.act(inWords(l.text)) && !l.more
		switch {
		case *update && side == 'd' && awaits:
			all[i] = read(a, -1)
			var got []string
			for _, f := range all[i] {
				got = append(got, f.String())
			}
			l.record(got)
		case awaits:
			all[i] = read(a, len(l.of(side)))
		}
	}
	for name, a := range actors { // nothing else comes
		if a.ended || a.peer == nil || a.key == nil {
			continue // it has ended, or it was never logged in
		}
		a.act("Terminate")
		a.flushed()
		_ = a.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		for {
			typ, body := a.frame(10 * time.Second)
			if typ == 'X' {
				break
			}
			t.Errorf("%c: connection %q: more than the transcript has: %s", side, name, wireMessage{typ, body})
			if typ == 0 {
				break
			}
		}
	}
	return all
}

// compare tells where the two sides are not what the file says, or not the same.
func (e *exchange) compare(t *testing.T, direct, through [][]wireMessage) {
	t.Helper()
	for i, l := range e.lines {
		if l.kept != "" {
			continue
		}
		for side, got := range map[byte][]wireMessage{'d': direct[i], 'f': through[i]} {
			var shown []string
			for _, f := range got {
				shown = append(shown, f.String())
			}
			if want := l.of(side); !slices.Equal(shown, want) {
				t.Fatalf("%s> %s\n\t%s:\n\t\t%s\n\tthe file has:\n\t\t%s", l.conn, l.text, map[byte]string{'d': "direct", 'f': "through Fairway"}[side],
					strings.Join(shown, "\n\t\t"), strings.Join(want, "\n\t\t"))
			}
		}
		if l.differs() {
			if len(e.differs) == 0 {
				t.Errorf("%s> %s: a difference without a name", l.conn, l.text)
			}
			continue
		}
		for j, f := range direct[i] {
			if !bytes.Equal(f.body, through[i][j].body) {
				t.Errorf("%s> %s\n\tdirect:\n\t\t%q\n\tthrough Fairway:\n\t\t%q", l.conn, l.text, f.body, through[i][j].body)
			}
		}
	}
}

// TestTheDifferencesOfTranscriptsAreDocumented: each has its row, with its reason, and none is named that is not there.
func TestTheDifferencesOfTranscriptsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("testdata/transcripts/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		for _, e := range readTheme(t, path).exchanges {
			for _, name := range e.differs {
				if name == "" || !bytes.Contains(page, []byte("\n| "+name)) {
					t.Errorf("%s, %s: no row of docs/compatibility.md begins with %q", path, e.name, name)
				}
			}
			if len(e.differs) > 0 && !slices.ContainsFunc(e.lines, (*scriptLine).differs) {
				t.Errorf("%s, %s: names a difference and shows none", path, e.name)
			}
		}
	}
}
