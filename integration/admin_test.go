package integration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// reload gives Caddy the whole configuration, as `caddy reload` does.
func (h *caddyHost) reload(t testing.TB) {
	t.Helper()
	h.call(t, http.MethodPost, "/load", h.document(), nil)
}

// call asks the admin API; any status but 200 fails the test. The reply is decoded into v unless that is nil.
func (h *caddyHost) call(t testing.TB, method, path string, body []byte, v any) {
	t.Helper()
	status, reply, err := h.ask(method, path, body)
	if err != nil || status != http.StatusOK {
		t.Fatalf("%s %s: status %d, %v: %s", method, path, status, err, reply)
	}
	if v != nil {
		if err := json.Unmarshal(reply, v); err != nil {
			t.Fatalf("%s %s: %v: %s", method, path, err, reply)
		}
	}
}

// adminClient keeps no connection: each reload is a new admin server.
var adminClient = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// ask makes a request. A load ends the admin server and starts another one, and a connection that the old one has accepted
// but not looked at yet is closed without an answer: then, and only then, it is made again.
func (h *caddyHost) ask(method, path string, body []byte) (status int, reply []byte, err error) {
	for range 5 {
		status, reply, err = h.askOnce(method, path, body)
		if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			break
		}
	}
	return status, reply, err
}

func (h *caddyHost) askOnce(method, path string, body []byte) (status int, reply []byte, err error) {
	request, err := http.NewRequestWithContext(context.Background(), method, "http://"+h.admin+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := adminClient.Do(request)
	if err != nil {
		return 0, nil, err
	}
	reply, err = io.ReadAll(response.Body)
	return response.StatusCode, reply, errors.Join(err, response.Body.Close())
}

// awaitHealth waits until every cluster serves with all its backends, and knows the schema of the database that most tests use.
func (h *caddyHost) awaitHealth() error {
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		status, reply, err := h.ask(http.MethodGet, "/postgres/health", nil)
		if err == nil && status == http.StatusOK && !bytes.Contains(reply, []byte("degraded")) && h.knowsSchemas() {
			return nil
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return fmt.Errorf("GET /postgres/health: status %d, %w: %s", status, err, reply)
		}
	}
}

// knowsSchemas tells whether reads may go to replicas in every cluster: until the schema is known they go to the primary.
func (h *caddyHost) knowsSchemas() bool {
	for name := range h.sites {
		if _, ok := h.knowsSchema(name); !ok {
			return false
		}
	}
	return true
}

// knowsSchema tells that of one cluster.
func (h *caddyHost) knowsSchema(cluster string) (said string, ok bool) {
	body := fmt.Sprintf(`{"sql": "SELECT 1 FROM pg_class", "database": %q}`, appRole)
	_, reply, err := h.ask(http.MethodPost, "/postgres/clusters/"+cluster+"/explain", []byte(body))
	if err != nil {
		return err.Error(), false
	}
	return string(reply), bytes.Contains(reply, []byte(`"verdict": "reads"`))
}

// backend is a backend as the admin API shows it.
type backend struct {
	Name     string  `json:"name"`
	Role     string  `json:"role"`
	State    string  `json:"state"`
	Reason   string  `json:"reason"`
	Fit      bool    `json:"fit"`
	Circuit  string  `json:"circuit"`
	Weight   float64 `json:"weight"`
	Timeline uint32  `json:"timeline"`
	Pools    []struct {
		User string `json:"user"`
		Open int    `json:"open"`
	} `json:"pools"`
}

// view is a cluster as the admin API shows it.
type view struct {
	Primary  *string   `json:"primary"`
	Backends []backend `json:"backends"`
}

// backend returns the backend of that name, the zero value when there is none.
func (v *view) backend(name string) backend {
	for _, b := range v.Backends {
		if b.Name == name {
			return b
		}
	}
	return backend{}
}

// String is short, for failures.
func (v *view) String() string {
	primary := "none"
	if v.Primary != nil {
		primary = *v.Primary
	}
	var all strings.Builder
	for _, b := range v.Backends {
		fmt.Fprintf(&all, "; %s %s %s circuit %s fit %v weight %.2f %s", b.Name, b.Role, b.State, b.Circuit, b.Fit, b.Weight, b.Reason)
	}
	return "primary " + primary + all.String()
}

// look asks the admin API for the site's cluster.
func (s *site) look(t testing.TB) *view {
	t.Helper()
	v := new(view)
	host.call(t, http.MethodGet, "/postgres/clusters/"+s.name, nil, v)
	return v
}
