package postgres

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/metrics"
)

// childVariable makes the test binary a Caddy: see TestTheEndOfTheProcess.
const childVariable = "FAIRWAY_TEST_CADDY"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		caddycmd.Main()
		return
	}
	goleak.VerifyTestMain(m,
		// Caddy keeps the admin endpoint of a load that failed.
		goleak.IgnoreAnyFunction("github.com/caddyserver/caddy/v2.replaceLocalAdminServer.func2"),
		// Locks in a storage of files are looked after for some seconds after their end.
		goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"),
	)
}

// proxy is a Caddy inside the test.
type proxy struct {
	admin string // address of the admin endpoint
	pg    string // address of the listener
}

// freeAddress returns an address that nobody uses.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// newProxy chooses the addresses; Caddy is stopped with the test.
func newProxy(t testing.TB) *proxy {
	t.Helper()
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	t.Cleanup(func() {
		// One without an admin endpoint comes in between, for Stop leaves that open.
		if err := errors.Join(caddy.Load([]byte(`{"admin":{"disabled":true,"config":{"persist":false}}}`), true), caddy.Stop()); err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return &proxy{admin: freeAddress(t), pg: freeAddress(t)}
}

// config makes a Caddyfile of the lines of a cluster main and of its handler.
func (p *proxy) config(cluster, handler string) string {
	return fmt.Sprintf(`{
	admin %s
	persist_config off
	log {
		output discard
	}
	postgres {
		cluster main {
			credentials postgres
			auth trust
			%s
		}
	}
	layer4 {
		pg/%s {
			route {
				postgres main {
					%s
				}
			}
		}
	}
}
`, p.admin, cluster, p.pg, handler)
}

// empty makes a Caddyfile of nothing but the admin endpoint.
func (p *proxy) empty() string {
	return fmt.Sprintf("{\n\tadmin %s\n\tpersist_config off\n\tlog {\n\t\toutput discard\n\t}\n}\n", p.admin)
}

// adapt turns a Caddyfile into JSON.
func adapt(caddyfile string) ([]byte, error) {
	body, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	return body, err
}

// load puts a Caddyfile in force.
func (p *proxy) load(t testing.TB, caddyfile string) {
	t.Helper()
	if err := p.tryLoad(caddyfile); err != nil {
		t.Fatal(err)
	}
}

func (p *proxy) tryLoad(caddyfile string) error {
	body, err := adapt(caddyfile)
	if err != nil {
		return err
	}
	return caddy.Load(body, true)
}

// get asks the admin endpoint.
func (p *proxy) get(t testing.TB, path string) (status int, body string) {
	t.Helper()
	return p.request(t, http.MethodGet, path)
}

func (p *proxy) request(t testing.TB, method, path string) (status int, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+p.admin+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	var reply *http.Response
	for range 20 { // Caddy's own endpoint resets connections when it is replaced
		r.Close = true
		if reply, err = http.DefaultClient.Do(r); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	b, err := io.ReadAll(reply.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply.StatusCode, string(b)
}

// counters returns our counters as the admin endpoint shows them.
func (p *proxy) counters(t testing.TB) map[string]float64 {
	t.Helper()
	status, body := p.get(t, "/metrics")
	if status != http.StatusOK {
		t.Fatalf("/metrics answers %d: %s", status, body)
	}
	counters, monotonic := make(map[string]float64), false
	for line := range strings.Lines(body) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			monotonic = strings.HasPrefix(rest, "caddy_postgres_") &&
				(strings.HasSuffix(rest, " counter") || strings.HasSuffix(rest, " histogram"))
			continue
		}
		if i := strings.LastIndexByte(line, ' '); monotonic && i > 0 && line[0] != '#' {
			v, err := strconv.ParseFloat(line[i+1:], 64)
			if err != nil {
				t.Fatalf("/metrics: %q: %v", line, err)
			}
			counters[line[:i]] = v
		}
	}
	return counters
}

// eventually polls until ok says yes.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("never: %s", what)
		}
	}
}

// sslRequest is the packet that asks for TLS.
var sslRequest = []byte{0, 0, 0, 8, 4, 210, 22, 47}

// knock asks for TLS and returns the answer: S or N.
func knock(address string) (byte, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if _, err := conn.Write(sslRequest); err != nil {
		return 0, err
	}
	var answer [1]byte
	_, err = io.ReadFull(conn, answer[:])
	return answer[0], err
}

// nobody is the address of a server that does not exist.
const nobody = "backend pg1 127.0.0.1:1"

// same compares JSON.
func same(t testing.TB, got, want string) bool {
	t.Helper()
	var a, b bytes.Buffer
	if json.Compact(&a, []byte(got)) != nil || json.Compact(&b, []byte(want)) != nil {
		t.Fatalf("not JSON: %s or %s", got, want)
	}
	return a.String() == b.String()
}
