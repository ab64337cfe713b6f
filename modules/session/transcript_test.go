package session

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// peer is a client at the level of messages.
type peer struct {
	t    testing.TB
	conn net.Conn
	r    *pgwire.Reader
	w    *pgwire.Writer
	pid  uint32
	key  []byte
}

// dialPeer logs in at a server or a proxy.
func dialPeer(t testing.TB, addr string, params ...pgwire.Param) *peer {
	t.Helper()
	return dialVersion(t, addr, pgwire.Version30, params...)
}

// dialVersion logs in with a version of the protocol.
func dialVersion(t testing.TB, addr string, version uint32, params ...pgwire.Param) *peer {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	p := &peer{t: t, conn: conn, r: pgwire.NewReader(conn, nil, 8192), w: pgwire.NewWriter(conn, 8192)}
	all := append([]pgwire.Param{{Name: "user", Value: "postgres"}, {Name: "database", Value: "postgres"}}, params...)
	p.w.Startup(version, all)
	p.flush()
	for {
		typ, body := p.frame(20 * time.Second)
		switch typ {
		case pgwire.MsgBackendKeyData:
			p.pid, p.key = binary.BigEndian.Uint32(body), bytes.Clone(body[4:])
		case pgwire.MsgReadyForQuery:
			return p
		case pgwire.MsgError:
			t.Fatal(pgwire.ParseError(body))
		case 0:
			t.Fatal("no answer to the startup packet")
		}
	}
}

func (p *peer) flush() {
	p.t.Helper()
	if err := p.w.Flush(); err != nil {
		p.t.Fatal(err)
	}
}

// frame reads one frame; 0 when none comes in time, 'X' when the connection has ended.
func (p *peer) frame(patience time.Duration) (byte, []byte) {
	p.t.Helper()
	if err := p.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		p.t.Fatal(err)
	}
	typ, _, err := p.r.Next()
	if err == nil {
		var body []byte
		if body, err = p.r.Body(); err == nil {
			return typ, body
		}
	}
	if isTimeout(err) {
		return 0, nil
	}
	return 'X', nil
}

// say writes one line of a script; what follows the letter of the message depends on it:
//
//	Q sql   P name sql   B portal statement values…   D kind name   E portal rows   C kind name   S   H   d data   c   f why   X
//
// A hyphen stands for an empty name. The text of a Parse may begin with (23,25), types of its parameters.
func (p *peer) say(line string) {
	p.t.Helper()
	kind, rest, _ := strings.Cut(line, " ")
	name := func() string {
		var word string
		word, rest, _ = strings.Cut(rest, " ")
		return strings.TrimPrefix(word, "-")
	}
	w := p.w
	switch typ := kind[0]; typ {
	case 'Q':
		w.Query(rest)
	case 'P':
		n, types := name(), []byte{0, 0}
		if list, sql, ok := strings.Cut(rest, ") "); ok && strings.HasPrefix(list, "(") {
			rest = sql
			for _, oid := range strings.Split(list[1:], ",") {
				number, _ := strconv.Atoi(oid)
				types = binary.BigEndian.AppendUint32(types, uint32(number))
				types[1]++
			}
		}
		w.Parse(n, rest, types)
	case 'B':
		w.Begin('B')
		w.String(name())
		w.String(name())
		w.Int16(0)
		values := strings.Fields(rest)
		w.Int16(len(values))
		for _, v := range values {
			w.Int32(len(v))
			w.Bytes([]byte(v))
		}
		w.Int16(0)
		w.End()
	case 'D', 'C':
		w.Begin(typ)
		w.Byte(name()[0])
		w.String(name())
		w.End()
	case 'E':
		w.Begin('E')
		w.String(name())
		rows, _ := strconv.Atoi(rest)
		w.Int32(rows)
		w.End()
	case 'S', 'H', 'c', 'X':
		w.Frame(typ, nil)
	case 'd':
		w.Frame('d', []byte(rest+"\n"))
	case 'f':
		w.Frame('f', append([]byte(rest), 0))
	default:
		p.t.Fatalf("bad line %q", line)
	}
}

// shown renders a frame for comparison: without what differs between two runs.
func shown(typ byte, body []byte) string {
	switch typ {
	case 0:
		return "silence"
	case 'X':
		return "end"
	case pgwire.MsgError, pgwire.MsgNotice:
		e := pgwire.ParseError(body)
		return fmt.Sprintf("%c %s %s %s", typ, e.Severity, e.Code, e.Message)
	case pgwire.MsgRowDescription:
		body = bytes.Clone(body)
		for at := 2; at < len(body); at += 18 { // behind each name: the table's number differs between two runs
			at += bytes.IndexByte(body[at:], 0) + 1
			copy(body[at:], "\x00\x00\x00\x00")
		}
	case pgwire.MsgNotification:
		return fmt.Sprintf("A %q", body[4:])
	}
	return fmt.Sprintf("%c %q", typ, body)
}

// play sends a script and returns what came after each line that asks for an answer: Q, S, H and c. A line that ends in a backslash
// is sent together with the next one. counts tells how many frames to await each time; nil reads until the protocol says that no
// more is coming, or it has been silent for a while.
func (p *peer) play(script string, counts []int) [][]string {
	p.t.Helper()
	var groups [][]string
	owed := 0
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		text, more := strings.CutSuffix(line, `\`)
		text = strings.TrimSpace(text)
		p.say(text)
		if text[0] == 'Q' || text[0] == 'S' {
			owed++
		}
		if more || !strings.ContainsRune("QSHcf", rune(text[0])) {
			continue
		}
		p.flush()
		var got []string
		if counts != nil {
			for range counts[len(groups)] {
				typ, body := p.frame(5 * time.Second)
				got = append(got, shown(typ, body))
				if typ == 0 || typ == 'X' {
					break
				}
			}
		} else {
			for {
				patience := 5 * time.Second
				if owed == 0 || text[0] != 'Q' && text[0] != 'S' {
					patience = 150 * time.Millisecond
				}
				typ, body := p.frame(patience)
				if typ == 0 {
					break
				}
				got = append(got, shown(typ, body))
				if typ == pgwire.MsgCopyIn && text[0] == 'S' {
					owed-- // a Sync before the data is ignored
				}
				if typ == 'X' || typ == pgwire.MsgCopyIn {
					break
				}
				if typ == pgwire.MsgReadyForQuery {
					if owed--; owed == 0 {
						break
					}
				}
			}
		}
		groups = append(groups, got)
	}
	return groups
}

// same plays a script at the primary and through a proxy and compares what the client sees, message by message. setup runs at the
// primary before each.
func same(t *testing.T, p *proxy, setup, script string) {
	t.Helper()
	sameAt(t, pg.Primary().Addr(), p, setup, script)
}

// sameAt does so with another server than the primary.
func sameAt(t *testing.T, server string, p *proxy, setup, script string) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	run := func(addr string, counts []int) ([][]string, *peer) {
		if setup != "" {
			if err := pg.Primary().Exec(ctx, setup); err != nil {
				t.Fatal(err)
			}
			if err := pg.WaitCaughtUp(ctx); err != nil {
				t.Fatal(err)
			}
		}
		c := dialPeer(t, addr)
		return c.play(script, counts), c
	}
	want, direct := run(server, nil)
	_ = direct.conn.Close()
	counts := make([]int, len(want))
	for i := range want {
		counts[i] = len(want[i])
	}
	got, proxied := run(p.addr, counts)
	defer proxied.conn.Close()
	if typ, body := proxied.frame(50 * time.Millisecond); typ != 0 && len(got) > 0 && !slices.Contains(got[len(got)-1], "end") {
		got[len(got)-1] = append(got[len(got)-1], "more: "+shown(typ, body))
	}
	for i := range want {
		if i >= len(got) || !slices.Equal(want[i], got[i]) {
			var have []string
			if i < len(got) {
				have = got[i]
			}
			t.Fatalf("answer %d of\n%s\n\tdirect:\n\t\t%s\n\tproxied:\n\t\t%s", i+1, script, strings.Join(want[i], "\n\t\t"), strings.Join(have, "\n\t\t"))
		}
	}
}
