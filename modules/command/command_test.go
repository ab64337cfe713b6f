package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/goleak"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile" // the adapter
	_ "github.com/caddyserver/caddy/v2/modules/logging"
	_ "github.com/caddyserver/caddy/v2/modules/metrics"

	"github.com/fairwaydb/fairway/modules/pgtest"
	_ "github.com/fairwaydb/fairway/modules/postgres" // what is talked to
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// Caddy keeps the admin endpoint of a load that was replaced.
		goleak.IgnoreAnyFunction("github.com/caddyserver/caddy/v2.replaceLocalAdminServer.func2"),
	)
}

// run runs `caddy postgres` with arguments and returns what it writes.
func run(args ...string) (string, error) {
	var out bytes.Buffer
	cmd := &cobra.Command{Use: "postgres", SilenceErrors: true}
	configure(cmd)
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	err := cmd.Execute()
	return out.String(), err
}

// startCaddy starts a load balancer before the servers, with one cluster for each name, and returns the address of its admin API.
func startCaddy(t *testing.T, servers *pgtest.Cluster, clusters ...string) string {
	t.Helper()
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	admin := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var config strings.Builder
	fmt.Fprintf(&config, "{\n\tadmin %s\n\tpersist_config off\n\tlog {\n\t\toutput discard\n\t}\n\tpostgres {\n", admin)
	for _, name := range clusters {
		fmt.Fprintf(&config, "\t\tcluster %s {\n\t\t\tcredentials postgres\n\t\t\tauth trust\n", name)
		for _, n := range servers.Nodes() {
			fmt.Fprintf(&config, "\t\t\tbackend %s %s\n", n.Name(), n.Addr())
		}
		config.WriteString("\t\t}\n")
	}
	config.WriteString("\t}\n}\n")
	body, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(config.String()), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.Load(body, true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// One without an admin endpoint comes in between, for Stop leaves that open.
		if err := errors.Join(caddy.Load([]byte(`{"admin":{"disabled":true,"config":{"persist":false}}}`), true), caddy.Stop()); err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return admin
}

// await runs a command until what it writes has the words.
func await(t *testing.T, words string, args ...string) string {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		out, err := run(args...)
		if err == nil && strings.Contains(out, words) {
			return out
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%v does not say %q: %v\n%s", args, words, err, out)
		}
	}
}

func TestCommandsShowAndChangeARunningCluster(t *testing.T) {
	servers, err := pgtest.Start(context.WithoutCancel(t.Context()), pgtest.Options{Replicas: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := servers.Close(); err != nil {
			t.Error(err)
		}
	})
	admin := startCaddy(t, servers, "main")
	primary, replica := servers.Primary().Name(), servers.Replicas()[0].Name()
	status := []string{"--address", admin, "status", "--once", "--interval", "100ms"}
	await(t, "policy health_score", status...)
	table := await(t, replica+"      replica  HEALTHY", status...)
	for _, words := range []string{"BACKEND", "SCORE", "POOL", primary + "      primary  HEALTHY", "cluster main, policy health_score, consistency session"} {
		if !strings.Contains(table, words) {
			t.Errorf("%q is not in\n%s", words, table)
		}
	}
	for _, step := range []struct{ args, says, then string }{
		{"drain " + replica, "main: backend " + replica + " is drained\n", replica + "      replica  DRAINING"},
		{"resume " + replica, "main: backend " + replica + " is resumed\n", replica + "      replica  HEALTHY"},
		{"trip " + replica, "is out: its circuit is open\n", ""},
		{"reset " + replica, "is in: its circuit is closed\n", replica + "      replica  HEALTHY"},
		{"add pg9 127.0.0.1:1 --weight 2", "main: backend pg9 is added; it serves once it has been probed\n", "backends may be added or removed in "},
		{"remove pg9 --force", "main: backend pg9 leaves when its transactions have ended\n", ""},
	} {
		out, err := run(append([]string{"--address", admin}, strings.Fields(step.args)...)...)
		if err != nil || !strings.HasSuffix(out, step.says) {
			t.Errorf("%s: %q, %v", step.args, out, err)
		}
		if step.then != "" {
			await(t, step.then, status...)
		}
	}
	if out, err := run("--address", admin, "explain", "delete from pg_class"); err != nil || !strings.Contains(out, primary) {
		t.Errorf("explain: %q, %v", out, err)
	}
	if out, err := run("--address", admin, "--json", "explain", "--route", "primary", "select 1"); err != nil || !strings.HasPrefix(out, "{") {
		t.Errorf("explain --json: %q, %v", out, err)
	}
	if out, err := run("--address", admin, "--json", "status"); err != nil || !strings.Contains(out, `"name": "main"`) {
		t.Errorf("status --json: %q, %v", out, err)
	}
	for args, words := range map[string]string{
		"drain " + primary:          "is the primary",
		"drain pg8":                 `has no backend "pg8"`,
		"remove " + replica:         "is in the configuration",
		"add pg7 127.0.0.1:1":       "wait 30s, or force it",
		"add pg7":                   "accepts 2 arg(s), received 1",
		"status --interval 1ms":     "want 100ms or more",
		"status --cluster other":    `unknown cluster`,
		"explain":                   "accepts 1 arg(s), received 0",
		"explain --route nowhere 1": "unknown route",
	} {
		if out, err := run(append([]string{"--address", admin}, strings.Fields(args)...)...); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %q, %v; want %q", args, out, err, words)
		}
	}
}

func TestTheClusterIsNamedWhenThereAreSeveral(t *testing.T) {
	servers, err := pgtest.Start(context.WithoutCancel(t.Context()), pgtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := servers.Close(); err != nil {
			t.Error(err)
		}
	})
	admin := startCaddy(t, servers, "a", "b")
	if _, err := run("--address", admin, "status", "--json"); err == nil || !strings.Contains(err.Error(), "write --cluster and one of a, b") {
		t.Errorf("without a name: %v", err)
	}
	if out, err := run("--address", admin, "status", "--json", "--cluster", "b"); err != nil || !strings.Contains(out, `"name": "b"`) {
		t.Errorf("with one: %q, %v", out, err)
	}
}

func TestWithoutACaddyItSaysWhereItLooked(t *testing.T) {
	if _, err := run("status", "--address", "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "admin API at 127.0.0.1:1") {
		t.Errorf("got %v", err)
	}
	if out, err := run(); err != nil || !strings.Contains(out, "explain") {
		t.Errorf("the help is %q, %v", out, err)
	}
}
