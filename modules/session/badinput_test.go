package session

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgwire"
)

// answers sends bytes on a connection of its own and returns what comes back until it is closed.
func answers(t *testing.T, addr string, parts ...string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, p := range parts {
		if _, err := io.WriteString(conn, p); err != nil {
			break // refused already
		}
	}
	_ = conn.(*net.TCPConn).CloseWrite()
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	got, err := io.ReadAll(conn)
	if isTimeout(err) {
		t.Errorf("the connection stays open; so far %q", got)
	}
	return string(got)
}

// startup is a good startup packet.
func startup() string {
	var b bytes.Buffer
	ours, theirs := net.Pipe()
	go func() {
		w := pgwire.NewWriter(ours, 512)
		w.Startup(pgwire.Version30, []pgwire.Param{{Name: "user", Value: "postgres"}, {Name: "database", Value: "postgres"}})
		_ = w.Flush()
		_ = ours.Close()
	}()
	_, _ = io.Copy(&b, theirs)
	return b.String()
}

func TestBadClientsAreTurnedAwayAndOthersGoOn(t *testing.T) {
	p := startProxy(t, pg, func(_ *cluster.Config, o *Options) { o.LoginTimeout = 3 * time.Second })
	good := p.connect(t, "")
	exec(t, good, "begin")
	exec(t, good, "select 1")
	start := startup()
	for _, c := range []struct {
		name  string
		parts []string
		want  string // in the answer; empty: no answer, or only the greeting
	}{
		{"nothing", nil, ""},
		{"garbage", []string{strings.Repeat("\xff", 100)}, "08P01"},
		{"HTTP", []string{"GET / HTTP/1.1\r\n\r\n"}, "08P01"},
		{"protocol 2", []string{"\x00\x00\x00\x08\x00\x02\x00\x00"}, "unsupported frontend protocol 2.0"},
		{"protocol 4", []string{"\x00\x00\x00\x08\x00\x04\x00\x00"}, "0A000"},
		{"half a startup packet", []string{start[:20]}, ""},
		{"no user", []string{"\x00\x00\x00\x09\x00\x03\x00\x00\x00"}, "28000"},
		{"a length below four", []string{start, "Q\x00\x00\x00\x03"}, "08P01"},
		{"a length of two gigabytes", []string{start, "Q\x7f\xff\xff\xff"}, "08P01"},
		{"an unknown message", []string{start, "?\x00\x00\x00\x04"}, "08P01"},
		{"a query without an end", []string{start, "Q\x00\x00\x00\x08abcd"}, "08P01"},
		{"a Parse without a text", []string{start, "P\x00\x00\x00\x05\x00"}, "08P01"},
		{"a Bind without names", []string{start, "B\x00\x00\x00\x05a"}, "08P01"},
		{"a Describe of neither", []string{start, "D\x00\x00\x00\x06X\x00S\x00\x00\x00\x04"}, "08P01"},
		{"half a message", []string{start, "Q\x00\x00\x00\xffselect"}, ""},
		{"a wrong cancel key", []string{"\x00\x00\x00\x10\x04\xd2\x16\x2e\x00\x00\x00\x01\x00\x00\x00\x01"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := answers(t, p.addr, c.parts...)
			if c.want == "" && strings.Contains(got, "SFATAL") || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	silent, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	_ = silent.SetReadDeadline(time.Now().Add(10 * time.Second))
	if got, err := io.ReadAll(silent); err != nil || !bytes.Contains(got, []byte("timeout")) {
		t.Errorf("a silent client got %q, %v", got, err)
	}
	slow := dialPeer(t, p.addr)
	for _, b := range []byte("Q\x00\x00\x00\x0dselect 1\x00") {
		if _, err := slow.conn.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range "TDCZ" {
		if typ, _ := slow.frame(5 * time.Second); typ != byte(want) {
			t.Errorf("a slow client got %c, want %c", typ, want)
		}
	}
	exec(t, good, "select 1")
	exec(t, good, "commit")
}

// FuzzClientBytes feeds a session arbitrary bytes after a good startup: it ends when its client does, without a panic.
func FuzzClientBytes(f *testing.F) {
	for _, seed := range []string{
		"Q\x00\x00\x00\x0dselect 1\x00", "P\x00\x00\x00\x10\x00select 1\x00\x00\x00S\x00\x00\x00\x04",
		"B\x00\x00\x00\x0c\x00\x00\x00\x00\x00\x00\x00\x00E\x00\x00\x00\x09\x00\x00\x00\x00\x00S\x00\x00\x00\x04",
		"P\x00\x00\x00\x0d\x00begin\x00\x00\x00B\x00\x00\x00\x0c\x00\x00\x00\x00\x00\x00\x00\x00E\x00\x00\x00\x09\x00\x00\x00\x00\x00H\x00\x00\x00\x04",
		"D\x00\x00\x00\x06P\x00C\x00\x00\x00\x06S\x00d\x00\x00\x00\x05xc\x00\x00\x00\x04F\x00\x00\x00\x08abcdX\x00\x00\x00\x04",
	} {
		f.Add([]byte(seed))
	}
	p := startProxy(f, pg, nil)
	start := []byte(startup())
	f.Fuzz(func(t *testing.T, data []byte) {
		conn, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		go func() {
			_, _ = conn.Write(append(bytes.Clone(start), data...))
			_ = conn.(*net.TCPConn).CloseWrite()
		}()
		_ = conn.SetReadDeadline(time.Now().Add(15 * time.Second))
		got, err := io.ReadAll(conn)
		if isTimeout(err) {
			t.Errorf("the session does not end; so far %q", got)
		}
		if bytes.Contains(got, []byte("internal error of the load balancer")) {
			t.Error("the session panicked")
		}
	})
}
