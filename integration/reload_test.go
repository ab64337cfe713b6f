package integration_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// reloads is how often the configuration is replaced.
const reloads = 200

// TestReloadsUnderLoad replaces the configuration again and again, in three ways, under reads, writes, and clients that come
// and go: nobody sees an error, counters never fall, and sessions stay what they are.
func TestReloadsUnderLoad(t *testing.T) {
	shared.initBench(t)
	shared.table(t, "reloaded", "n int")
	loads := []*pgbench{
		shared.startReads(t, "-c", "8", "-M", "prepared"),
		shared.startBench(t, "-c", "4"),
		shared.startBench(t, "-S", "-C", "-c", "2"), // a new session for each transaction
	}
	transaction, temporary, listener := shared.connect(t, ""), shared.connect(t, ""), shared.connect(t, "")
	do(t, transaction, "begin")
	do(t, transaction, "insert into reloaded values (1)")
	do(t, temporary, "create temp table reloaded_temp as select 1 as n")
	do(t, listener, "listen reloaded")
	settings := shared.connect(t, "")
	do(t, settings, "set application_name = 'stays'")
	if _, err := settings.Prepare(t.Context(), "kept", "select n from reloaded where n = $1"); err != nil {
		t.Fatal(err)
	}
	pids := make(map[*pgx.Conn]int)
	for _, c := range []*pgx.Conn{transaction, temporary, listener} {
		pids[c] = value[int](t, c, "select pg_backend_pid()")
	}

	first := scrape(t)
	before := first
	for i := range reloads {
		reload(t, i)
		if i%10 == 0 {
			now := scrape(t)
			if fallen := now.falls(before); len(fallen) > 0 {
				t.Fatalf("after reload %d these are lower than before:\n%s", i, strings.Join(fallen, "\n"))
			}
			before = now
			do(t, shared.connect(t, ""), "insert into reloaded values (2)")
			for _, load := range loads {
				load.running(t)
			}
		}
	}
	// Nothing was dropped and opened anew: the pools are the same, but for connections that a session tainted.
	grown := scrape(t).since(first)
	for _, reason := range []string{"retired", "shutdown", "broken"} {
		if n := grown.sum("caddy_postgres_pool_closed_total", "cluster="+shared.name, "reason="+reason); n != 0 {
			t.Errorf("%v server connections were closed: %s", n, reason)
		}
	}
	for c, pid := range pids {
		if now := value[int](t, c, "select pg_backend_pid()"); now != pid {
			t.Errorf("a session moved from %d to %d", pid, now)
		}
	}
	do(t, transaction, "insert into reloaded values (1)")
	do(t, transaction, "commit")
	shared.awaitCaughtUp(t) // the sessions below have no writes of their own
	if n := value[int](t, transaction, "select count(*) from reloaded where n = 1"); n != 2 {
		t.Errorf("%d rows of the long transaction", n)
	}
	if n := value[int](t, temporary, "select n from reloaded_temp"); n != 1 {
		t.Errorf("the temporary table has %d", n)
	}
	do(t, transaction, "notify reloaded, 'heard'")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if n, err := listener.WaitForNotification(ctx); err != nil || n.Payload != "heard" {
		t.Errorf("%v, %v", n, err)
	}
	if v := value[string](t, settings, "show application_name"); v != "stays" {
		t.Errorf("application_name is %q", v)
	}
	if n := value[int](t, settings, "kept", 1); n != 1 {
		t.Errorf("the prepared statement gave %d", n)
	}
	for _, load := range loads {
		load.stop(t)
	}
}

// reload replaces the configuration: as a whole, one value of it, or by a load that fails and changes nothing.
func reload(t *testing.T, i int) {
	t.Helper()
	switch i % 4 {
	case 0, 2:
		host.grace += time.Millisecond // Caddy does nothing when nothing has changed
		host.reload(t)
	case 1:
		host.call(t, http.MethodPatch, "/config/apps/postgres/grace_period", fmt.Appendf(nil, `"%dms"`, 3000+i), nil)
	case 3:
		bad := strings.Replace(string(host.document()), `"handler":"postgres"`, `"handler":"postgres","route":"nowhere"`, 1)
		if status, reply, err := host.ask(http.MethodPost, "/load", []byte(bad)); err != nil || status != http.StatusBadRequest || !strings.Contains(string(reply), "nowhere") {
			t.Fatalf("a load that must fail: %d, %v: %s", status, err, reply)
		}
	}
}

// TestSettingsOfAClusterChangeAtOnce changes the pool's size under load, down and up again.
func TestSettingsOfAClusterChangeAtOnce(t *testing.T) {
	shared.initBench(t)
	path := "/config/apps/postgres/clusters/" + shared.name + "/pool"
	load := shared.startReads(t, "-c", "30")
	host.call(t, http.MethodPost, path, []byte(`{"size": 3}`), nil)
	open := func() (most int) {
		for _, b := range shared.look(t).Backends {
			for _, p := range b.Pools {
				if p.User == benchRole {
					most = max(most, p.Open)
				}
			}
		}
		return most
	}
	await(t, 5*time.Second, "the pool shrinks to 3", func() (string, bool) {
		load.running(t)
		n := open()
		return fmt.Sprint(n), n <= 3
	})
	watch := shared.watchActivity(t, benchRole)
	if _, reads := shared.measure(t, 500*time.Millisecond); reads < 100 {
		t.Errorf("%v reads with a pool of 3", reads)
	}
	for server, most := range watch.highest(t) {
		if most > 3 {
			t.Errorf("%s had %d server connections, the pool has 3", server, most)
		}
	}
	host.call(t, http.MethodDelete, path, nil, nil)
	await(t, 5*time.Second, "the pool grows again", func() (string, bool) {
		load.running(t)
		n := open()
		return fmt.Sprint(n), n > 3
	})
	load.stop(t)
}

// TestACaddyfileSaysTheSame loads the shared site as a Caddyfile, under load, and goes back to JSON: nobody notices.
func TestACaddyfileSaysTheSame(t *testing.T) {
	shared.initBench(t)
	load := shared.startReads(t, "-c", "8")
	c := shared.connect(t, "")
	do(t, c, "create temp table from_json as select 1 as n")
	var backends strings.Builder
	for _, n := range shared.servers.Nodes() {
		fmt.Fprintf(&backends, "\t\t\tbackend %s %s\n", n.Name(), n.Addr())
	}
	text := fmt.Sprintf(`{
	admin %s
	persist_config off
	storage file_system %s/caddy
	log default {
		output file %s
	}
	postgres {
		cluster %s {
%s			credentials %s
			auth trust
			pool {
				size 20
			}
		}
	}
	layer4 {
		pg/%s {
			route {
				postgres %s
			}
		}
	}
}
`, host.admin, host.dir, host.logFile(), shared.name, backends.String(), monitorRole, shared.addr, shared.name)
	adapted, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	if err != nil || len(warnings) > 0 {
		t.Fatalf("%v, %v", err, warnings)
	}
	t.Cleanup(func() { host.reload(t) })
	host.call(t, http.MethodPost, "/load", adapted, nil)
	shared.awaitReady(t, 2)
	load.running(t)
	if n := value[int](t, c, "select n from from_json"); n != 1 {
		t.Errorf("the temporary table has %d", n)
	}
	do(t, shared.connect(t, ""), "select 1")
	host.reload(t)
	load.running(t)
	if n := value[int](t, c, "select n from from_json"); n != 1 {
		t.Errorf("the temporary table has %d", n)
	}
	load.stop(t)
}
