package cluster

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairwaydb/fairway/modules/pgtest"
	"github.com/fairwaydb/fairway/modules/pgwire"
)

const null = "\x00"

// probed is a server that answers each statement of the monitor with the next row.
type probed struct {
	mu       sync.Mutex
	rows     [][]string // nil: hang up instead
	parsed   int        // statements sent with their text
	logins   int
	startups []pgwire.Param
}

func (s *probed) serve(c net.Conn) {
	_ = pgtest.Run(c, pgtest.Accept(), pgtest.Do("answer", func(p *pgtest.Peer) error {
		s.mu.Lock()
		s.logins++
		s.startups = p.Startup.Params
		s.mu.Unlock()
		for {
			typ, _, err := p.R.Next()
			if err != nil {
				return err
			}
			switch typ {
			case pgwire.MsgParse:
				s.mu.Lock()
				s.parsed++
				s.mu.Unlock()
				p.W.Frame(pgwire.MsgParseComplete, nil)
			case pgwire.MsgBind:
				p.W.Frame(pgwire.MsgBindComplete, nil)
			case pgwire.MsgTerminate:
				return io.EOF
			case pgwire.MsgSync:
				if !s.answer(p.W) {
					return io.EOF
				}
				if err := p.W.Flush(); err != nil {
					return err
				}
			}
		}
	}))
}

// seen returns what the server has seen so far.
func (s *probed) seen() (logins, parsed int, startup []pgwire.Param) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logins, s.parsed, s.startups
}

func (s *probed) answer(w *pgwire.Writer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.rows) == 0 || s.rows[0] == nil {
		s.rows = s.rows[min(1, len(s.rows)):]
		return false
	}
	row := s.rows[0]
	s.rows = s.rows[1:]
	w.Begin(pgwire.MsgDataRow)
	w.Int16(len(row))
	for _, v := range row {
		if v == null {
			w.Int32(-1)
			continue
		}
		w.Int32(len(v))
		w.Bytes([]byte(v))
	}
	w.End()
	w.CommandComplete("SELECT 1")
	w.ReadyForQuery('I')
	return true
}

var (
	primaryRow = []string{
		"f", null, null, "0/3000000", "0/3002018", "1700000000000001", "7000000000000000001", null, "0000000A", null, "8192", "16777216", null,
	}
	replicaRow = []string{
		"t", "0/2FFFFF0", "10", null, null, "1700000000000002", "7000000000000000001", "9", null, "1500000", "8192", "16777216", null,
	}
)

func with(row []string, i int, v string) []string {
	row = slices.Clone(row)
	row[i] = v
	return row
}

func TestWhatAProbeReads(t *testing.T) {
	s := &probed{rows: [][]string{primaryRow, replicaRow, with(replicaRow, 2, null), with(with(replicaRow, 2, null), 9, null)}}
	b := backendAt(t, serve(t, "tcp", s.serve), func(s *Settings) { s.login.user, s.login.database = "fairway", "admin" })
	p := &serverProber{b: b}
	defer p.close()
	for i, want := range []facts{
		{
			incarnation: "1700000000000001", systemID: 7000000000000000001, timeline: 10, replayAge: -1,
			at: position{flush: 0x3000000, insert: 0x3002000}, // settled: behind an empty page
		},
		{
			incarnation: "1700000000000002", systemID: 7000000000000000001, timeline: 10, replayAge: 1500 * time.Millisecond,
			at: position{recovery: true, replay: 0x2FFFFF0, timeline: 10},
		},
		{ // nothing is received: the timeline that recovery has reached
			incarnation: "1700000000000002", systemID: 7000000000000000001, timeline: 9, replayAge: 1500 * time.Millisecond,
			at: position{recovery: true, replay: 0x2FFFFF0},
		},
		{ // and no transaction was replayed yet
			incarnation: "1700000000000002", systemID: 7000000000000000001, timeline: 9, replayAge: -1,
			at: position{recovery: true, replay: 0x2FFFFF0},
		},
	} {
		before := Now()
		got, took, err := p.probe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got.at.sentAt < before || took <= 0 {
			t.Errorf("row %d: sent at %d, took %v", i, got.at.sentAt, took)
		}
		got.at.sentAt = 0
		want.wal = walSizes{page: 8 << 10, segment: 16 << 20}
		if got != want {
			t.Errorf("row %d: %+v, want %+v", i, got, want)
		}
	}
	logins, parsed, startup := s.seen()
	if logins != 1 || parsed != 1 {
		t.Errorf("%d logins, %d statements parsed", logins, parsed)
	}
	for _, want := range []pgwire.Param{
		{Name: "user", Value: "fairway"},
		{Name: "database", Value: "admin"},
		{Name: "application_name", Value: "fairway"},
		{Name: "search_path", Value: "pg_catalog"},
	} {
		if !slices.Contains(startup, want) {
			t.Errorf("startup lacks %v: %v", want, startup)
		}
	}
}

func TestTheEnvironmentMeansNothingToTheMonitor(t *testing.T) {
	for _, name := range []string{
		"PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGPASSWORD", "PGSERVICE", "PGSSLMODE", "PGSSLROOTCERT", "PGOPTIONS", "PGTARGETSESSIONATTRS",
	} {
		t.Setenv(name, "nonsense")
	}
	s := &probed{rows: [][]string{primaryRow}}
	p := &serverProber{b: backendAt(t, serve(t, "tcp", s.serve), func(s *Settings) { s.login.user = "fairway" })}
	defer p.close()
	if _, _, err := p.probe(t.Context()); err != nil {
		t.Error(err)
	}
	_, _, startup := s.seen()
	for _, param := range startup {
		if param.Value == "nonsense" {
			t.Errorf("startup has %v", param)
		}
	}
}

func TestAWrongAnswerToTheProbeIsABrokenProtocol(t *testing.T) {
	for name, row := range map[string][]string{
		"too few columns":           primaryRow[:7],
		"a position that is none":   with(primaryRow, 3, "here"),
		"a system that is none":     with(primaryRow, 6, "-1"),
		"a timeline that is none":   with(primaryRow, 8, "0000000G"),
		"an age that is none":       with(replicaRow, 9, "old"),
		"a received timeline alike": with(replicaRow, 2, "x"),
	} {
		t.Run(name, func(t *testing.T) {
			s := &probed{rows: [][]string{row}}
			p := &serverProber{b: backendAt(t, serve(t, "tcp", s.serve))}
			defer p.close()
			if _, _, err := p.probe(t.Context()); !errors.Is(err, ErrProtocol) {
				t.Errorf("error is %v", err)
			}
		})
	}
}

func TestALostConnectionOfTheMonitorIsMadeAnewOnce(t *testing.T) {
	s := &probed{rows: [][]string{primaryRow, nil, primaryRow, nil, nil}}
	p := &serverProber{b: backendAt(t, serve(t, "tcp", s.serve))}
	defer p.close()
	for i, want := range []bool{true, true, false} {
		if _, _, err := p.probe(t.Context()); (err == nil) != want {
			t.Errorf("probe %d: %v", i+1, err)
		}
	}
	if logins, _, _ := s.seen(); logins != 3 {
		t.Errorf("%d logins", logins)
	}
}

func TestALookNeedsTheConnectionOfAProbe(t *testing.T) {
	s := &probed{rows: [][]string{replicaRow, replicaRow[:5], nil}}
	p := &serverProber{b: backendAt(t, serve(t, "tcp", s.serve))}
	defer p.close()
	if _, err := p.position(t.Context()); !errors.Is(err, errNoLink) {
		t.Errorf("before the first probe: %v", err)
	}
	if _, _, err := p.probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if at, err := p.position(t.Context()); err != nil || at.replay != 0x2FFFFF0 || at.timeline != 10 || !at.recovery {
		t.Errorf("position %+v, error %v", at, err)
	}
	if _, err := p.position(t.Context()); err == nil {
		t.Error("a lost connection has a position")
	}
	if _, err := p.position(t.Context()); !errors.Is(err, errNoLink) {
		t.Errorf("once it is lost: %v", err)
	}
}

func TestAChangeOfTheAccountConnectsAnew(t *testing.T) {
	s := &probed{rows: [][]string{primaryRow, primaryRow, primaryRow}}
	b := backendAt(t, serve(t, "tcp", s.serve))
	p := &serverProber{b: b}
	defer p.close()
	for i, user := range []string{"", "", "other"} {
		next := newSettings() // a reload
		next.login.user = user
		b.c.settings.Store(next)
		if _, _, err := p.probe(t.Context()); err != nil {
			t.Fatalf("probe %d: %v", i+1, err)
		}
	}
	if logins, _, _ := s.seen(); logins != 2 {
		t.Errorf("%d logins", logins)
	}
}

func TestAnErrorOfTheServerLeavesTheConnectionUsable(t *testing.T) {
	conn := pgtest.Play(t, pgtest.ExpectTypes("PBES"), pgtest.Send(func(w *pgwire.Writer) {
		w.Error(pgwire.Errorf("42501", "permission denied"))
		w.ReadyForQuery('I')
	}), pgtest.ExpectTypes("PBES"), pgtest.Send(func(w *pgwire.Writer) {
		w.Frame(pgwire.MsgParseComplete, nil)
		w.Frame(pgwire.MsgBindComplete, nil)
		pgtest.DataRow(w, "1")
		pgtest.DataRow(w, "2")
		w.CommandComplete("SELECT 2")
		w.ReadyForQuery('I')
	}), pgtest.ExpectTypes("X"))
	l := &link{conn: conn, r: pgwire.NewReader(conn, nil, 1024), w: pgwire.NewWriter(conn, 1024)}
	defer l.close()
	var rows []string
	collect := func(v [][]byte) error {
		rows = append(rows, string(v[0]))
		return nil
	}
	err := l.query(t.Context(), "", "SELECT secret", nil, collect)
	if err == nil || !strings.Contains(err.Error(), "permission denied") || l.broken {
		t.Errorf("error is %v, broken %v", err, l.broken)
	}
	if err := l.query(t.Context(), "", "SELECT 1", []string{"a"}, collect); err != nil || len(rows) != 2 {
		t.Errorf("rows %v, error %v", rows, err)
	}
}

func FuzzDecodeRow(f *testing.F) {
	f.Add([]byte{0, 2, 0, 0, 0, 1, 'a', 255, 255, 255, 255})
	f.Add([]byte{0, 1, 0, 0, 0, 9})
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, body []byte) {
		values, err := decodeRow(nil, body)
		if err != nil {
			return
		}
		if n := int(binary.BigEndian.Uint16(body)); len(values) != n {
			t.Errorf("%d values of %d", len(values), n)
		}
		size := 2
		for _, v := range values {
			size += 4 + len(v)
		}
		if size > len(body) {
			t.Errorf("values of %d bytes in a body of %d", size, len(body))
		}
	})
}
