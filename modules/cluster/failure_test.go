package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/fairwaydb/fairway/modules/pgwire"
	"github.com/fairwaydb/fairway/modules/pool"
)

// sent is an error as a server sent it.
func sent(code string) error {
	return pgwire.ParseError([]byte("SERROR\x00VERROR\x00C" + code + "\x00Mtext\x00\x00"))
}

func dialled(err error) error { return &pool.DialError{Err: err} }

func TestWhatCountsAsAFailure(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	reset := &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}
	for _, test := range []struct {
		name string
		err  error
		want bool
	}{
		{"nothing", nil, false},
		{"dial refused", dialled(refused), true},
		{"dial timed out", dialled(fmt.Errorf("log in: %w", context.DeadlineExceeded)), true},
		{"dial unreachable", dialled(&net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH}), true},
		{"dial given up", dialled(context.Canceled), false},
		{"certificate refused", dialled(errors.New("x509: unknown authority")), true},
		{"login refused", dialled(sent("28P01")), false},
		{"no such database", dialled(sent("3D000")), false},
		{"server full", dialled(sent("53300")), false},
		{"server starting", dialled(sent("57P03")), true},
		{"backend leaving", dialled(errLeaving), false},
		{"pools closed", dialled(pool.ErrClosed), false},
		{"reset in a turn", fmt.Errorf("turn: %w", reset), true},
		{"end in a turn", io.EOF, true},
		{"end inside a frame", &pgwire.ReadError{Err: io.ErrUnexpectedEOF}, true},
		{"broken pipe", &pgwire.WriteError{Err: syscall.EPIPE}, true},
		{"protocol broken", fmt.Errorf("%w: message 'x'", ErrProtocol), true},
		{"frames unreadable", pgwire.Fatalf(pgwire.CodeProtocolViolation, "invalid message length"), true},
		{"protocol error of the server", sent("08P01"), false},
		{"woken by a deadline of ours", fmt.Errorf("read: %w", os.ErrDeadlineExceeded), false},
		{"connection closed by us", net.ErrClosed, false},
		{"cancelled", context.Canceled, false},
		{"pool full", pool.ErrWaitTimeout, false},
		{"queue full", pool.ErrTooManyWaiters, false},
		{"connection ended by an administrator", sent("57P01"), false},
		{"crash", sent("57P02"), true},
		{"cannot connect now", sent("57P03"), true},
		{"system error", sent("58000"), true},
		{"input and output", sent("58030"), true},
		{"disk full", sent("53100"), true},
		{"data corrupted", sent("XX001"), true},
		{"index corrupted", sent("XX002"), true},
		{"internal error", sent("XX000"), false},
		{"no such file", sent("58P01"), false},
		{"out of memory", sent("53200"), false},
		{"query cancelled", sent("57014"), false},
		{"serialization", sent("40001"), false},
		{"syntax", sent("42601"), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := IsFailure(test.err); got != test.want {
				t.Errorf("%v is a failure: %v, want %v", test.err, got, test.want)
			}
		})
	}
}

func TestWhatATurnTeachesTheCircuit(t *testing.T) {
	for _, test := range []struct {
		name   string
		err    error
		counts bool
	}{
		{"an answer", nil, false},
		{"an error of the statement", sent("42601"), false},
		{"a reset", syscall.ECONNRESET, true},
		{"a dial that the pool has reported already", dialled(syscall.ECONNREFUSED), false},
		{"our own full pool", pool.ErrWaitTimeout, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := NewBackend("pg1", "db")
			for range 100 {
				turn, ok := b.BeginTurn()
				if !ok {
					break
				}
				b.EndTurn(turn, time.Millisecond, test.err)
			}
			if got := b.Circuit() == CircuitOpen; got != test.counts {
				t.Errorf("circuit is %v", b.Circuit())
			}
			if n := b.InFlight(); n != 0 {
				t.Errorf("%d in flight", n)
			}
		})
	}
}

func TestReportedDialsCount(t *testing.T) {
	b := NewBackend("pg1", "db")
	for range 100 {
		b.Report(sent("28P01"))
	}
	if b.Circuit() != CircuitClosed {
		t.Error("a refused login opened the circuit")
	}
	for range defaultThreshold {
		b.Report(syscall.ECONNREFUSED)
	}
	if b.Circuit() != CircuitOpen {
		t.Error("refused dials did not open the circuit")
	}
	turn, ok := b.BeginTurn()
	if ok {
		t.Error("an open circuit lets a turn through")
	}
	b.EndTurn(turn, 0, nil) // of a session that could not go elsewhere
	if n := b.InFlight(); n != 0 {
		t.Errorf("%d in flight", n)
	}
}
