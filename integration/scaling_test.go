package integration_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/fairwaydb/fairway/modules/pgtest"
)

// TestBackendsAreAddedAtRunTimeUnderLoad adds a replica by the admin API while pgbench runs, keeps it over reloads, drains and resumes
// it, changes the policy, and removes it: no client sees an error and no counter falls.
func TestBackendsAreAddedAtRunTimeUnderLoad(t *testing.T) {
	s := startSite(t, pgtest.Options{Replicas: 2}, quickToForget)
	s.initBench(t)
	loads := []*pgbench{s.startReads(t, "-c", "8"), s.startBench(t, "-c", "2")}
	running := func() {
		for _, load := range loads {
			load.running(t)
		}
	}
	if _, err := s.servers.AddReplica(t.Context(), "pg4"); err != nil {
		t.Fatal(err)
	}
	before := scrape(t)
	path := "/postgres/clusters/" + s.name
	s.operate(t, http.MethodPost, path+"/backends", fmt.Sprintf(`{"name": "pg4", "address": %q}`, s.servers.Node("pg4").Addr()), http.StatusAccepted)
	s.operate(t, http.MethodDelete, path+"/backends/pg4", "", http.StatusTooManyRequests)
	s.config.Backends["pg4"] = s.config.Backends["pg3"] // so that the shares have it
	defer delete(s.config.Backends, "pg4")

	// awaitShare waits until it has, or has not, reads to run.
	awaitShare := func(what string, some bool) {
		await(t, 20*time.Second, what, func() (string, bool) {
			running()
			shares, reads := s.measure(t, 300*time.Millisecond)
			return fmt.Sprint(shares), reads > 50 && (shares["pg4"] > .1) == some && (some || shares["pg4"] == 0)
		})
	}
	awaitShare("pg4 has a share", true)
	delete(s.config.Backends, "pg4") // a reload does not name it
	for range 5 {
		host.reload(t)
	}
	s.config.Backends["pg4"] = s.config.Backends["pg3"]
	awaitShare("pg4 has a share after reloads", true)

	s.operate(t, http.MethodPost, path+"/backends/pg4/drain", "", http.StatusAccepted)
	awaitShare("pg4 is drained", false)
	if b := s.look(t).backend("pg4"); b.State != "draining" {
		t.Errorf("pg4 is %+v", b)
	}
	s.operate(t, http.MethodPost, path+"/backends/pg4/resume", "", http.StatusAccepted)
	awaitShare("pg4 is resumed", true)

	s.operate(t, http.MethodPost, path+"/backends/pg4/trip", "", http.StatusAccepted)
	s.operate(t, http.MethodPost, path+"/backends/pg4/reset", "", http.StatusAccepted)
	for _, policy := range []string{"least_conn", "round_robin", "random", "first"} {
		s.operate(t, http.MethodPost, path+"/policy", fmt.Sprintf(`{"policy": %q}`, policy), http.StatusOK)
	}
	awaitShare("the policy first reads elsewhere", false)
	s.operate(t, http.MethodDelete, path+"/policy", "", http.StatusOK)
	awaitShare("pg4 has a share by the configured policy", true)

	s.operate(t, http.MethodDelete, path+"/backends/pg4?force", "", http.StatusAccepted)
	await(t, 20*time.Second, "pg4 is gone", func() (string, bool) {
		running()
		status, reply, err := host.ask(http.MethodGet, path+"/backends/pg4", nil)
		return fmt.Sprintf("%d %s %v", status, reply, err), status == http.StatusNotFound
	})
	awaitShare("pg4 has no share any more", false)
	if fallen := scrape(t).falls(before); len(fallen) > 0 {
		t.Errorf("these are lower than before: %v", fallen)
	}
	for _, load := range loads {
		load.stop(t)
	}
}

// operate asks the admin API for a change and expects a status.
func (s *site) operate(t *testing.T, method, path, body string, want int) {
	t.Helper()
	status, reply, err := host.ask(method, path, []byte(body))
	if err != nil || status != want {
		t.Fatalf("%s %s: status %d, want %d, %v: %s", method, path, status, want, err, reply)
	}
}
