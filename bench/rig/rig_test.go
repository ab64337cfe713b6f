//go:build linux

package rig

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStatementsEndWithALine(t *testing.T) {
	got := splitStatements("\nSELECT ';';\nSELECT 2;")
	if len(got) != 2 || got[0] != "SELECT ';'" || got[1] != "SELECT 2;" {
		t.Errorf("got %q", got)
	}
	if n := len(splitStatements(large)); n != 5 {
		t.Errorf("%d statements fill the table, want 5", n)
	}
}

func TestAProcessIsStoppedByItsID(t *testing.T) {
	p, err := launch("sleeper", t.TempDir(), nil, os.Environ(), syscall.SIGTERM, "/bin/sleep", "60")
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(p.pid, 0); err != nil {
		t.Errorf("it does not run: %v", err)
	}
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(p.pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestAProcessThatEndsShowsItsLog(t *testing.T) {
	p, err := launch("failing", t.TempDir(), nil, os.Environ(), syscall.SIGTERM, "/bin/sh", "-c", "echo no such option; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	err = p.until(t.Context(), func(context.Context) error { return errors.New("refused") })
	for _, want := range []string{"failing", "exit status 3", "refused", "no such option"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in: %v", want, err)
		}
	}
}

func TestPortsAreGivenOnce(t *testing.T) {
	r := &Rig{}
	r.ports.taken = make(map[int]bool)
	seen := make(map[int]bool)
	for range 200 {
		port, err := r.port()
		if err != nil {
			t.Fatal(err)
		}
		if seen[port] {
			t.Fatalf("port %d was given twice", port)
		}
		seen[port] = true
	}
}

func TestFairwaysCaddyfileHasEveryBackendAndAsksAsItIsTold(t *testing.T) {
	r := &Rig{}
	text := r.caddyfile(FairwayOptions{Backends: []string{"127.0.0.1:1", "127.0.0.1:2"}, Secure: true, Pool: 4}, 3, 5)
	for _, want := range []string{"backend pg1 127.0.0.1:1\n", "backend pg2 127.0.0.1:2\n", "auth query\n", "size 4\n", "pg/127.0.0.1:3 {", "admin 127.0.0.1:5\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in:\n%s", want, text)
		}
	}
}
