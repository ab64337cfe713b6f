package pgwire_test

import (
	"bytes"
	"fmt"
	"net"
	"reflect"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// These tests hold our frames against an implementation of the protocol that is not ours.

// wire is a connection that keeps what is written and reads what it was given.
type wire struct {
	net.Conn
	bytes.Buffer
}

func (w *wire) Read(p []byte) (int, error)  { return w.Buffer.Read(p) }
func (w *wire) Write(p []byte) (int, error) { return w.Buffer.Write(p) }

// written returns the bytes that the writer sends.
func written(t *testing.T, write func(*pgwire.Writer)) *bytes.Buffer {
	t.Helper()
	c := &wire{}
	w := pgwire.NewWriter(c, 1024)
	write(w)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return &c.Buffer
}

func TestPgproto3ReadsWhatAServerSaysThroughOurWriter(t *testing.T) {
	for _, tc := range []struct {
		write func(*pgwire.Writer)
		want  pgproto3.BackendMessage
	}{
		{func(w *pgwire.Writer) { w.AuthenticationOK() }, &pgproto3.AuthenticationOk{}},
		{func(w *pgwire.Writer) { w.ReadyForQuery('T') }, &pgproto3.ReadyForQuery{TxStatus: 'T'}},
		{func(w *pgwire.Writer) { w.CommandComplete("INSERT 0 1") }, &pgproto3.CommandComplete{CommandTag: []byte("INSERT 0 1")}},
		{
			func(w *pgwire.Writer) { w.ParameterStatus("TimeZone", "UTC") },
			&pgproto3.ParameterStatus{Name: "TimeZone", Value: "UTC"},
		},
		{
			func(w *pgwire.Writer) { w.BackendKeyData(7, []byte("a key of more than four bytes")) },
			&pgproto3.BackendKeyData{ProcessID: 7, SecretKey: []byte("a key of more than four bytes")},
		},
		{
			func(w *pgwire.Writer) { w.NegotiateProtocolVersion(pgwire.Version32, []string{"_pq_.grease"}) },
			&pgproto3.NegotiateProtocolVersion{NewestMinorProtocol: pgwire.Version32, UnrecognizedOptions: []string{"_pq_.grease"}},
		},
		{
			func(w *pgwire.Writer) {
				w.Error(&pgwire.Error{Severity: "FATAL", Code: "57P03", Message: "no", Detail: "why", Hint: "wait", Fatal: true})
			},
			&pgproto3.ErrorResponse{
				Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "57P03", Message: "no", Detail: "why", Hint: "wait",
			},
		},
		{
			func(w *pgwire.Writer) { w.Notice(&pgwire.Error{Code: "00000", Message: "by the way"}) },
			&pgproto3.NoticeResponse{Severity: "NOTICE", SeverityUnlocalized: "NOTICE", Code: "00000", Message: "by the way"},
		},
	} {
		t.Run(fmt.Sprintf("%T", tc.want), func(t *testing.T) {
			out := written(t, tc.write)
			got, err := pgproto3.NewFrontend(out, nil).Receive()
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got %#v, want %#v", got, tc.want)
			}
			if out.Len() != 0 {
				t.Errorf("%d bytes too many", out.Len())
			}
		})
	}
}

func TestPgproto3ReadsWhatAClientSaysThroughOurWriter(t *testing.T) {
	for _, tc := range []struct {
		write func(*pgwire.Writer)
		want  pgproto3.FrontendMessage
	}{
		{func(w *pgwire.Writer) { w.Query("select 1") }, &pgproto3.Query{String: "select 1"}},
		{
			func(w *pgwire.Writer) { w.Parse("s", "select $1", []byte{0, 1, 0, 0, 0, 23}) },
			&pgproto3.Parse{Name: "s", Query: "select $1", ParameterOIDs: []uint32{23}},
		},
		{func(w *pgwire.Writer) { w.Close('S', "s") }, &pgproto3.Close{ObjectType: 'S', Name: "s"}},
		{func(w *pgwire.Writer) { w.Sync() }, &pgproto3.Sync{}},
		{func(w *pgwire.Writer) { w.Terminate() }, &pgproto3.Terminate{}},
	} {
		t.Run(fmt.Sprintf("%T", tc.want), func(t *testing.T) {
			got, err := pgproto3.NewBackend(written(t, tc.write), nil).Receive()
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got %#v, want %#v", got, tc.want)
			}
		})
	}
}

func TestPgproto3ReadsTheFirstPacketsOfOurWriter(t *testing.T) {
	for _, tc := range []struct {
		write func(*pgwire.Writer)
		want  pgproto3.FrontendMessage
	}{
		{
			func(w *pgwire.Writer) { w.Startup(pgwire.Version30, []pgwire.Param{{Name: "user", Value: "ann"}}) },
			&pgproto3.StartupMessage{ProtocolVersion: pgwire.Version30, Parameters: map[string]string{"user": "ann"}},
		},
		{func(w *pgwire.Writer) { w.SSLRequest() }, &pgproto3.SSLRequest{}},
		{
			func(w *pgwire.Writer) { w.CancelRequest(7, []byte("a longer key")) },
			&pgproto3.CancelRequest{ProcessID: 7, SecretKey: []byte("a longer key")},
		},
	} {
		t.Run(fmt.Sprintf("%T", tc.want), func(t *testing.T) {
			got, err := pgproto3.NewBackend(written(t, tc.write), nil).ReceiveStartupMessage()
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got %#v, want %#v", got, tc.want)
			}
		})
	}
}

// read returns a reader of the message as pgproto3 encodes it.
func read(t *testing.T, m pgproto3.Message) *pgwire.Reader {
	t.Helper()
	encoded, err := m.Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &wire{}
	c.Buffer.Write(encoded)
	return pgwire.NewReader(c, nil, 1024)
}

// body returns the body of the message, which must have the type.
func body(t *testing.T, m pgproto3.Message, typ byte) []byte {
	t.Helper()
	r := read(t, m)
	got, _, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	if got != typ {
		t.Fatalf("type %q, want %q", got, typ)
	}
	b, err := r.Body()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOurDecodersReadWhatPgproto3Says(t *testing.T) {
	t.Run("Parse", func(t *testing.T) {
		m := &pgproto3.Parse{Name: "s", Query: "select $1", ParameterOIDs: []uint32{23}}
		name, sql, types, err := pgwire.DecodeParse(body(t, m, pgwire.MsgParse))
		if err != nil || string(name) != "s" || string(sql) != "select $1" || !bytes.Equal(types, []byte{0, 1, 0, 0, 0, 23}) {
			t.Errorf("got %q %q %v, %v", name, sql, types, err)
		}
	})
	t.Run("Bind", func(t *testing.T) {
		m := &pgproto3.Bind{DestinationPortal: "p", PreparedStatement: "s", Parameters: [][]byte{[]byte("1")}}
		portal, statement, rest, err := pgwire.DecodeBind(body(t, m, pgwire.MsgBind))
		if err != nil || string(portal) != "p" || string(statement) != "s" || rest != 4 {
			t.Errorf("got %q %q %d, %v", portal, statement, rest, err)
		}
	})
	t.Run("Describe", func(t *testing.T) {
		kind, name, err := pgwire.DecodeTarget(body(t, &pgproto3.Describe{ObjectType: 'P', Name: "p"}, pgwire.MsgDescribe))
		if err != nil || kind != 'P' || string(name) != "p" {
			t.Errorf("got %q %q, %v", kind, name, err)
		}
	})
	t.Run("ParameterStatus", func(t *testing.T) {
		m := &pgproto3.ParameterStatus{Name: "TimeZone", Value: "UTC"}
		name, value, err := pgwire.DecodeParameterStatus(body(t, m, pgwire.MsgParameterStatus))
		if err != nil || string(name) != "TimeZone" || string(value) != "UTC" {
			t.Errorf("got %q %q, %v", name, value, err)
		}
	})
	t.Run("BackendKeyData", func(t *testing.T) {
		m := &pgproto3.BackendKeyData{ProcessID: 7, SecretKey: []byte("a longer key")}
		pid, key, err := pgwire.DecodeBackendKeyData(body(t, m, pgwire.MsgBackendKeyData))
		if err != nil || pid != 7 || string(key) != "a longer key" {
			t.Errorf("got %d %q, %v", pid, key, err)
		}
	})
	t.Run("ErrorResponse", func(t *testing.T) {
		m := &pgproto3.ErrorResponse{Severity: "FEHLER", SeverityUnlocalized: "FATAL", Code: "57P01", Message: "m", Hint: "h", Position: 3}
		e := pgwire.ParseError(body(t, m, pgwire.MsgError))
		if e.Severity != "FATAL" || !e.Fatal || e.Code != "57P01" || e.Message != "m" || e.Hint != "h" {
			t.Errorf("got %#v", e)
		}
	})
}

func TestOurStartupReadsWhatPgproto3Says(t *testing.T) {
	for _, tc := range []struct {
		say  pgproto3.Message
		want pgwire.Startup
	}{
		{
			&pgproto3.StartupMessage{ProtocolVersion: pgwire.Version32, Parameters: map[string]string{"user": "ann"}},
			pgwire.Startup{Kind: pgwire.KindStartup, Version: pgwire.Version32, Params: []pgwire.Param{{Name: "user", Value: "ann"}}},
		},
		{&pgproto3.SSLRequest{}, pgwire.Startup{Kind: pgwire.KindSSL}},
		{&pgproto3.GSSEncRequest{}, pgwire.Startup{Kind: pgwire.KindGSSENC}},
		{
			&pgproto3.CancelRequest{ProcessID: 7, SecretKey: []byte("a longer key")},
			pgwire.Startup{Kind: pgwire.KindCancel, PID: 7, Key: []byte("a longer key")},
		},
	} {
		t.Run(fmt.Sprintf("%T", tc.say), func(t *testing.T) {
			got, err := read(t, tc.say).Startup()
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(*got, tc.want) {
				t.Errorf("got %#v, want %#v", *got, tc.want)
			}
		})
	}
}

// plain hides that a connection is a socket, so that it is used by its own methods.
type plain struct{ net.Conn }

func TestPgproto3TalksToUsOverASocket(t *testing.T) {
	for name, wrap := range map[string]func(net.Conn) net.Conn{
		"raw":      func(c net.Conn) net.Conn { return c },
		"ordinary": func(c net.Conn) net.Conn { return plain{c} },
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			theirs, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer theirs.Close()
			socket, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer socket.Close()
			ours := wrap(socket)
			r, w := pgwire.NewReader(ours, nil, 256), pgwire.NewWriter(ours, 256)
			f := pgproto3.NewFrontend(theirs, theirs)
			for _, n := range []int{0, 3, 250, 260, 5000} {
				text := strings.Repeat("x", n)
				f.SendQuery(&pgproto3.Query{String: text})
				if err := f.Flush(); err != nil {
					t.Fatal(err)
				}
				if typ, _, err := r.Next(); err != nil || typ != pgwire.MsgQuery {
					t.Fatalf("Next() = %q, %v", typ, err)
				}
				if body, err := r.Body(); err != nil || string(body) != text+"\x00" {
					t.Fatalf("Body() = %d bytes, %v; want %d", len(body), err, n+1)
				}
				w.CommandComplete(text)
				w.ReadyForQuery('I')
				if err := w.Flush(); err != nil {
					t.Fatal(err)
				}
				for _, want := range []pgproto3.BackendMessage{&pgproto3.CommandComplete{CommandTag: []byte(text)}, &pgproto3.ReadyForQuery{TxStatus: 'I'}} {
					got, err := f.Receive()
					if err != nil {
						t.Fatal(err)
					}
					if _, ok := got.(*pgproto3.ReadyForQuery); !ok && n == 0 {
						continue // an empty tag is no different from none
					}
					if !reflect.DeepEqual(got, want) {
						t.Errorf("got %#v, want %#v", got, want)
					}
				}
			}
		})
	}
}
