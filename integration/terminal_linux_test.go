package integration_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// terminal is psql at a terminal, and somebody who types.
type terminal struct {
	t    testing.TB
	keys *os.File // the end of the person
	out  lockedBuffer
	seen int // what was looked at already
	cmd  *exec.Cmd
}

// openTerminal makes a pseudo-terminal, see pty(7).
func openTerminal() (keys, screen *os.File, err error) {
	if keys, err = os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0); err != nil {
		return nil, nil, err
	}
	var number, locked int32
	for request, arg := range map[uintptr]*int32{syscall.TIOCGPTN: &number, syscall.TIOCSPTLCK: &locked} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, keys.Fd(), request, uintptr(unsafe.Pointer(arg))); errno != 0 {
			return nil, nil, errno
		}
	}
	screen, err = os.OpenFile("/dev/pts/"+strconv.Itoa(int(number)), os.O_RDWR|syscall.O_NOCTTY, 0)
	return keys, screen, err
}

// psqlAtTerminal starts psql through the shared site and waits for its prompt.
func psqlAtTerminal(t testing.TB) *terminal {
	t.Helper()
	keys, screen, err := openTerminal()
	if err != nil {
		t.Fatal(err)
	}
	ip, port, _ := net.SplitHostPort(shared.addr)
	x := &terminal{t: t, keys: keys}
	x.cmd = program(context.WithoutCancel(t.Context()), t, "psql", "-X", "-n", "-A", "-t", "-h", ip, "-p", port, "-U", appRole, "-d", appRole,
		"-v", "PROMPT1=ready%x> ", "-v", "VERBOSITY=verbose")
	x.cmd.Stdin, x.cmd.Stdout, x.cmd.Stderr = screen, screen, screen
	x.cmd.Env = append(x.cmd.Env, "TERM=dumb")
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := x.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = screen.Close()
	var reading sync.WaitGroup
	reading.Go(func() {
		var buffer [4096]byte
		for {
			n, err := keys.Read(buffer[:])
			_, _ = x.out.Write(buffer[:n])
			if err != nil { // EIO when the last process has left the terminal
				return
			}
		}
	})
	t.Cleanup(func() {
		_ = x.cmd.Process.Kill()
		_ = x.cmd.Wait()
		reading.Wait()
		_ = keys.Close()
	})
	x.expect("ready> ")
	return x
}

// press types without a new line.
func (x *terminal) press(keys string) {
	x.t.Helper()
	if _, err := x.keys.WriteString(keys); err != nil {
		x.t.Fatal(err)
	}
}

// expect waits until the screen shows the pattern, after what was expected before, and returns it.
func (x *terminal) expect(pattern string) string {
	x.t.Helper()
	re := regexp.MustCompile(pattern)
	var found string
	await(x.t, 15*time.Second, fmt.Sprintf("psql shows %q", pattern), func() (string, bool) {
		screen := x.out.String()[x.seen:]
		at := re.FindStringIndex(screen)
		if at == nil {
			return screen, false
		}
		found = screen[at[0]:at[1]]
		x.seen += at[1]
		return "", true
	})
	return found
}

const ctrlC = "\x03"

func TestPsqlWatchesUntilCtrlC(t *testing.T) {
	shared.table(t, "watched", "n int")
	x := psqlAtTerminal(t)
	x.press("select 'rows', count(*) from watched \\watch 0.1\n")
	x.expect(`rows\|0`)
	// What somebody else writes shows.
	do(t, shared.connect(t, ""), "insert into watched values (1), (2)")
	x.expect(`rows\|2`)
	x.expect(`rows\|2`)
	x.press(ctrlC)
	x.expect(`ready> `)
	x.press("select 'still', 'here';\n")
	x.expect(`still\|here`)
	x.press("\\q\n")
	if err := x.cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestCtrlCInPsqlEndsTheStatementAlone(t *testing.T) {
	x, other := psqlAtTerminal(t), shared.connect(t, "")
	for _, c := range []struct{ begin, prompt string }{{"", `ready> `}, {"begin;\n", `ready!> `}} {
		x.press(c.begin + "select pg_sleep(30) as nap;\n")
		await(t, 10*time.Second, "the statement runs", func() (string, bool) {
			n := 0
			for _, node := range shared.servers.Nodes() {
				text, err := node.Value(t.Context(), "select count(*) from pg_stat_activity where state = 'active' and query = 'select pg_sleep(30) as nap;'")
				if err != nil {
					t.Fatal(err)
				}
				running, _ := strconv.Atoi(text)
				n += running
			}
			return "", n == 1
		})
		began := time.Now()
		x.press(ctrlC)
		x.expect(`57014: canceling statement due to user request`)
		x.expect(c.prompt)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("the cancel took %v", took)
		}
		x.press("rollback;\nselect 'goes', 'on';\n")
		x.expect(`goes\|on`)
	}
	if value[int](t, other, "select 1") != 1 {
		t.Error("another session was hit")
	}
	if strings.Contains(x.out.String(), "reset") {
		t.Errorf("psql lost its connection:\n%s", x.out.String())
	}
}
