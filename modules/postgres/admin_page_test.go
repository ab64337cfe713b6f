package postgres

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fairwaydb/fairway/modules/pgtest"
)

// example is a request of docs/admin-api.md with its answer.
type example struct {
	method, path, body string
	status             int
	answer             string
}

// examples reads the page.
func examples(t *testing.T) []example {
	t.Helper()
	page, err := os.ReadFile("../../docs/admin-api.md")
	if err != nil {
		t.Fatal(err)
	}
	var all []example
	for i, block := range strings.Split(string(page), "```http\n") {
		if i == 0 {
			continue
		}
		block, _, _ = strings.Cut(block, "```")
		request, answer, _ := strings.Cut(block, "\n\n")
		first, body, _ := strings.Cut(request, "\n")
		method, path, _ := strings.Cut(first, " ")
		status, answer, _ := strings.Cut(answer, "\n")
		code, err := strconv.Atoi(status)
		if err != nil || path == "" || answer == "" {
			t.Fatalf("no example: %q", block)
		}
		all = append(all, example{method, path, body, code, answer})
	}
	return all
}

// exact are the fields whose values the page promises; of the others it promises the kind.
var exact = map[string]bool{
	"error": true, "cluster": true, "backend": true, "status": true, "policy": true, "origin": true, "role": true,
	"state": true, "name": true, "fit": true, "verdict": true, "weight": true, "functions": true, "statements": true,
}

// alike compares what the page says with what was answered.
func alike(t *testing.T, path string, page, got any) {
	t.Helper()
	if reflect.TypeOf(page) != reflect.TypeOf(got) {
		t.Errorf("%s is %v, the page says %v", path, got, page)
		return
	}
	switch page := page.(type) {
	case map[string]any:
		got := got.(map[string]any)
		for k := range got {
			if _, ok := page[k]; !ok {
				t.Errorf("%s.%s is not on the page", path, k)
			}
		}
		for k, v := range page {
			if _, ok := got[k]; !ok {
				t.Errorf("%s.%s is not in the answer", path, k)
				continue
			}
			_, nested := v.(map[string]any)
			if alike(t, path+"."+k, v, got[k]); exact[k] && !nested && !reflect.DeepEqual(v, got[k]) {
				t.Errorf("%s.%s is %v, the page says %v", path, k, got[k], v)
			}
		}
	case []any:
		if got := got.([]any); len(page) > 0 && len(got) > 0 {
			alike(t, path+"[0]", page[0], got[0])
		}
	}
}

// TestTheAdminAPIAnswersAsItsPageSays runs the examples in their order.
func TestTheAdminAPIAnswersAsItsPageSays(t *testing.T) {
	servers, err := pgtest.Start(context.WithoutCancel(t.Context()), pgtest.Options{Replicas: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := servers.Close(); err != nil {
			t.Error(err)
		}
	})
	p := newProxy(t)
	p.load(t, p.config("backend pg1 "+servers.Primary().Addr()+"\n\t\t\tbackend pg2 "+servers.Replicas()[0].Addr()+"\n\t\t\thealth {\n\t\t\t\tslow_start off\n\t\t\t}", ""))
	p.awaitState(t, "pg2", "healthy")
	stands := strings.NewReplacer("10.0.0.3:5432", servers.Replicas()[1].Addr())
	for _, e := range examples(t) {
		if e.method == http.MethodGet && strings.HasSuffix(e.path, "/pg3") {
			p.awaitState(t, "pg3", "healthy")
		}
		r, err := http.NewRequestWithContext(t.Context(), e.method, "http://"+p.admin+e.path, strings.NewReader(stands.Replace(e.body)))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		reply, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(reply.Body)
		_ = reply.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if reply.StatusCode != e.status {
			t.Errorf("%s %s: %d %s, the page says %d", e.method, e.path, reply.StatusCode, body, e.status)
			continue
		}
		if wait := reply.Header.Get("Retry-After"); (e.status == http.StatusTooManyRequests) != (wait != "") {
			t.Errorf("%s %s: Retry-After is %q", e.method, e.path, wait)
		}
		var page, got any
		if err := json.Unmarshal([]byte(stands.Replace(e.answer)), &page); err != nil {
			t.Fatalf("%s %s: the page's answer: %v", e.method, e.path, err)
		}
		if err := json.Unmarshal(body, &got); err != nil {
			t.Fatalf("%s %s: %v", e.method, e.path, err)
		}
		alike(t, e.method+" "+e.path, page, got)
	}
}

// awaitState waits until a backend has a state.
func (p *proxy) awaitState(t *testing.T, backend, state string) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		status, body := p.get(t, "/postgres/clusters/main/backends/"+backend)
		if strings.Contains(body, `"state": "`+state+`"`) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%s does not become %s: %d %s", backend, state, status, body)
		}
	}
}
