package integration_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// python is the interpreter that has the drivers.
func python(t testing.TB) string {
	t.Helper()
	path := os.Getenv("FAIRWAY_PYTHON")
	if path == "" {
		var err error
		if path, err = filepath.Abs("../.build/venv/bin/python"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("no Python with the drivers of integration/drivers/requirements.txt: run `make .build/venv/ready`, "+
			"or set FAIRWAY_PYTHON to an interpreter that has them (%v)", err)
	}
	return path
}

// runProgram runs a program of the directory drivers. Each of its checks is a subtest.
func runProgram(t *testing.T, name string, args ...string) {
	t.Helper()
	var ports []string
	for _, n := range shared.servers.Replicas() {
		ports = append(ports, strconv.Itoa(n.Port()))
	}
	args = append([]string{filepath.Join("drivers", name), "--replicas=" + strings.Join(ports, ",")}, args...)
	cmd := exec.CommandContext(t.Context(), python(t), args...)
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	checks := 0
	for lines := bufio.NewScanner(&stdout); lines.Scan(); checks++ {
		var check struct {
			Name    string
			Error   *string
			Seconds float64
		}
		if err := json.Unmarshal(lines.Bytes(), &check); err != nil {
			t.Fatalf("%v: %s", err, lines.Bytes())
		}
		t.Run(check.Name, func(t *testing.T) {
			t.Logf("%v", time.Duration(check.Seconds*float64(time.Second)).Round(time.Millisecond))
			if check.Error != nil {
				t.Error(*check.Error)
			}
		})
	}
	if err != nil || checks == 0 {
		t.Errorf("%s: %d checks, %v\n%s", name, checks, err, stderr.Bytes())
	}
}

func TestPsycopg(t *testing.T) {
	runProgram(t, "psycopg_program.py", "--dsn="+shared.connString(appRole, appRole))
}

func TestAsyncpg(t *testing.T) {
	host, port, _ := net.SplitHostPort(shared.addr)
	runProgram(t, "asyncpg_program.py", "--host="+host, "--port="+port, "--user="+appRole, "--database="+appRole)
}
