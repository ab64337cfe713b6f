package pgtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// Peer is a scripted client or server: one end of a connection and what its script has seen.
type Peer struct {
	Conn    net.Conn
	R       *pgwire.Reader
	W       *pgwire.Writer
	Startup *pgwire.Startup // what AcceptStartup has read, nil before
}

// Step is one act of a script.
type Step struct {
	name string
	act  func(*Peer) error
}

// Do is a step of one's own. The name appears in errors. Whatever it writes to p.W is flushed after it.
func Do(name string, act func(p *Peer) error) Step { return Step{name, act} }

// Failer is the part of testing.TB that Play needs.
type Failer interface {
	Helper()
	Errorf(format string, a ...any)
	Cleanup(func())
}

// Play runs a script at one end of a pipe and returns the other end, for the code under test; the test owns it. When
// the script ends its end is closed. The test fails when a step fails, or when it ends before the script: the pipe is
// then closed, and Play's goroutine never outlives the test. Play works inside a synctest bubble.
//
// A pipe has no buffer: a peer that sends waits until the other end reads, so a script must not send what the code
// under test reads only after it has written something the script does not expect yet.
func Play(t Failer, steps ...Step) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- Run(ours, steps...) }()
	t.Cleanup(func() {
		t.Helper()
		theirs.Close()
		if err := <-done; err != nil {
			t.Errorf("scripted peer: %v", err)
		}
	})
	return theirs
}

// Run runs a script on a connection that somebody else made, such as one accepted from a listener, and closes it at the
// end. It returns the first step's failure.
func Run(c net.Conn, steps ...Step) error {
	defer c.Close()
	p := &Peer{Conn: c, R: pgwire.NewReader(c, nil, 4096), W: pgwire.NewWriter(c, 4096)}
	for i, step := range steps {
		err := step.act(p)
		if err == nil {
			err = p.W.Flush()
		}
		if err != nil {
			return fmt.Errorf("step %d (%s): %w", i+1, step.name, err)
		}
	}
	return nil
}

// Send writes frames: build gets the peer's Writer and need not flush it.
func Send(build func(w *pgwire.Writer)) Step {
	return Do("send", func(p *Peer) error {
		build(p.W)
		return nil
	})
}

// SendRaw writes bytes as they are, for frames no Writer would build.
func SendRaw(raw []byte) Step {
	return Do("send raw bytes", func(p *Peer) error {
		p.W.Raw(raw)
		return nil
	})
}

// Expect reads one frame and compares its type and, when any is given, its body. Several bodies are taken together, so
// that parts can be written apart.
func Expect(typ byte, body ...[]byte) Step {
	return Do("expect "+frameName(typ), func(p *Peer) error {
		got, err := p.next(typ)
		if err != nil || len(body) == 0 {
			return err
		}
		if want := bytes.Join(body, nil); !bytes.Equal(got, want) {
			return fmt.Errorf("body is %q, want %q", got, want)
		}
		return nil
	})
}

// ExpectThat reads one frame of a type and lets check judge its body, which is borrowed until it returns.
func ExpectThat(typ byte, check func(body []byte) error) Step {
	return Do("expect "+frameName(typ), func(p *Peer) error {
		body, err := p.next(typ)
		if err != nil {
			return err
		}
		return check(body)
	})
}

// ExpectQuery reads a simple Query of exactly this text.
func ExpectQuery(sql string) Step {
	return Do("expect Query "+strconv.Quote(sql), func(p *Peer) error {
		body, err := p.next(pgwire.MsgQuery)
		if err != nil {
			return err
		}
		if got := string(bytes.TrimSuffix(body, []byte{0})); got != sql {
			return fmt.Errorf("text is %q", got)
		}
		return nil
	})
}

// ExpectTypes reads as many frames as the string has bytes and compares their types, such as "12TDDCZ".
func ExpectTypes(types string) Step {
	return Do("expect frames "+types, func(p *Peer) error {
		for i := range len(types) {
			if _, err := p.next(types[i]); err != nil {
				return fmt.Errorf("after %q: %w", types[:i], err)
			}
		}
		return nil
	})
}

// ExpectError reads an ErrorResponse with this SQLSTATE.
func ExpectError(code string) Step {
	return ExpectThat(pgwire.MsgError, func(body []byte) error {
		if e := pgwire.ParseError(body); e.Code != code {
			return fmt.Errorf("want SQLSTATE %s: %w", code, e)
		}
		return nil
	})
}

// ExpectEnd waits until the other end closes the connection. Bytes that come before are a failure.
func ExpectEnd() Step {
	return Do("expect the end", func(p *Peer) error {
		typ, _, err := p.R.Next()
		if err == nil {
			return fmt.Errorf("got %s instead", frameName(typ))
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) {
			return nil
		}
		return err
	})
}

// Hang closes the connection without a word, in the middle of a script.
func Hang() Step { return Do("close the connection", func(p *Peer) error { return p.Conn.Close() }) }

// AcceptStartup reads a client's startup packet into Peer.Startup. Requests for encryption before it are answered 'N'.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP.
func AcceptStartup() Step { return Do("accept startup", (*Peer).acceptStartup) }

func (p *Peer) acceptStartup() error {
	for {
		s, err := p.R.Startup()
		if err != nil {
			return err
		}
		switch s.Kind {
		case pgwire.KindSSL, pgwire.KindGSSENC:
			p.W.Raw([]byte{'N'})
			if err := p.W.Flush(); err != nil {
				return err
			}
		case pgwire.KindStartup, pgwire.KindCancel:
			p.Startup = s
			return nil
		default:
			return fmt.Errorf("startup packet of kind %v", s.Kind)
		}
	}
}

// Accept is a server's whole side of a login without a password: startup, AuthenticationOk, the given parameters,
// process id 4711 with the key 1 2 3 4, ReadyForQuery.
func Accept(params ...pgwire.Param) Step {
	return Do("accept a client", func(p *Peer) error {
		if err := p.acceptStartup(); err != nil {
			return err
		}
		p.W.AuthenticationOK()
		for _, param := range params {
			p.W.ParameterStatus(param.Name, param.Value)
		}
		p.W.BackendKeyData(4711, []byte{1, 2, 3, 4})
		p.W.ReadyForQuery('I')
		return nil
	})
}

// Login is a client's whole side of a login without a password, up to ReadyForQuery.
func Login(user, database string, params ...pgwire.Param) Step {
	return Do("log in", func(p *Peer) error {
		all := append([]pgwire.Param{{Name: "user", Value: user}, {Name: "database", Value: database}}, params...)
		p.W.Startup(pgwire.Version30, all)
		if err := p.W.Flush(); err != nil {
			return err
		}
		for {
			typ, _, err := p.R.Next()
			if err != nil {
				return err
			}
			switch typ {
			case pgwire.MsgReadyForQuery:
				return nil
			case pgwire.MsgError:
				body, err := p.R.Body()
				if err != nil {
					return err
				}
				return pgwire.ParseError(body)
			}
		}
	})
}

// Answer reads a simple Query of exactly this text and sends build's frames.
func Answer(sql string, build func(w *pgwire.Writer)) Step {
	expect := ExpectQuery(sql)
	return Do(expect.name, func(p *Peer) error {
		if err := expect.act(p); err != nil {
			return err
		}
		build(p.W)
		return nil
	})
}

// Rows builds a server's whole answer to a simple Query that returns rows of text, up to ReadyForQuery 'I'.
func Rows(columns []string, rows ...[]string) func(w *pgwire.Writer) {
	return func(w *pgwire.Writer) {
		RowDescription(w, columns...)
		for _, row := range rows {
			DataRow(w, row...)
		}
		w.CommandComplete("SELECT " + strconv.Itoa(len(rows)))
		w.ReadyForQuery('I')
	}
}

// RowDescription builds the description of columns of type text.
func RowDescription(w *pgwire.Writer, columns ...string) {
	const textOID, variable = 25, -1
	w.Begin(pgwire.MsgRowDescription)
	w.Int16(len(columns))
	for _, column := range columns {
		w.String(column)
		w.Int32(0) // no table
		w.Int16(0) // no column of a table
		w.Int32(textOID)
		w.Int16(variable)
		w.Int32(-1) // no type modifier
		w.Int16(0)  // text format
	}
	w.End()
}

// DataRow builds one row of text values.
func DataRow(w *pgwire.Writer, values ...string) {
	w.Begin(pgwire.MsgDataRow)
	w.Int16(len(values))
	for _, value := range values {
		w.Int32(len(value))
		w.Bytes([]byte(value))
	}
	w.End()
}

// next reads a frame that must be of this type. The body is borrowed until the next call.
func (p *Peer) next(want byte) ([]byte, error) {
	typ, _, err := p.R.Next()
	if err != nil {
		return nil, err
	}
	body, err := p.R.Body()
	if err != nil {
		return nil, err
	}
	if typ != want {
		return nil, fmt.Errorf("got %s %s", frameName(typ), strings.TrimSpace(strconv.QuoteToASCII(string(body[:min(len(body), 200)]))))
	}
	return body, nil
}

// frameName shows a type byte as protocol tables do.
func frameName(typ byte) string { return strconv.QuoteRuneToASCII(rune(typ)) }
