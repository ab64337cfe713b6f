package postgres

import (
	"net/http"
	"strings"
	"testing"

	"github.com/fairwaydb/fairway/modules/cluster"
)

func TestAdminEndpoints(t *testing.T) {
	p := newProxy(t)
	p.load(t, p.config(nobody, ""))
	for _, test := range []struct {
		name, method, path string
		status             int
		says               []string
	}{
		{"all clusters", "GET", "/postgres/clusters", 200, []string{`"name": "main"`, `"address": "127.0.0.1:1"`}},
		{"one cluster", "GET", "/postgres/clusters/main", 200, []string{`"primary": null`, `"consistency": "session"`, `"name": "pg1"`}},
		{"an unknown cluster", "GET", "/postgres/clusters/other", 404, []string{`{"error":"unknown cluster \"other\": known are main"}`}},
		{"a wrong method", "POST", "/postgres/clusters", 405, []string{`{"error":"method POST is not allowed: use GET"}`}},
		{"a wrong method of one cluster", "DELETE", "/postgres/clusters/main", 405, []string{`method DELETE`}},
		{"a wrong method of health", "PUT", "/postgres/health", 405, []string{`method PUT`}},
		{"health without a primary", "GET", "/postgres/health", 503, []string{`"status": "failed"`, `"error": "cluster main: there is no primary`}},
		{"health of one cluster", "GET", "/postgres/health?cluster=main", 503, []string{`there is no primary`}},
		{"health of an unknown cluster", "GET", "/postgres/health?cluster=other", 404, []string{`unknown cluster`}},
		{"nobody is connected", "GET", "/postgres/sessions", 200, []string{"[]"}},
		{"those of a user", "GET", "/postgres/sessions?user=anna&pinned=true", 200, []string{"[]"}},
		{"sessions by what they have not", "GET", "/postgres/sessions?color=red", 400, []string{`unknown query parameter \"color\": known are cluster`}},
		{"sessions pinned perhaps", "GET", "/postgres/sessions?pinned=perhaps", 400, []string{`write true or false`}},
		{"a wrong method of sessions", "DELETE", "/postgres/sessions", 405, []string{`use GET`}},
		{"the end of a session that is not there", "DELETE", "/postgres/sessions/7", 404, []string{`there is no session 7`}},
		{"the end of no session", "DELETE", "/postgres/sessions/anna", 400, []string{`is no session`}},
		{"a wrong method of a session", "GET", "/postgres/sessions/7", 405, []string{`use DELETE`}},
		{"an explanation of nothing", "POST", "/postgres/clusters/main/explain", 400, []string{`no JSON object`}},
		{"an explanation by GET", "GET", "/postgres/clusters/main/explain", 405, []string{`use POST`}},
		{"an explanation in an unknown cluster", "POST", "/postgres/clusters/other/explain", 404, []string{`unknown cluster`}},
		{"a backend of nothing", "POST", "/postgres/clusters/main/backends", 400, []string{`no JSON object`}},
		{"a backend of an unknown cluster", "POST", "/postgres/clusters/other/backends", 404, []string{`unknown cluster`}},
		{"backends by PUT", "PUT", "/postgres/clusters/main/backends", 405, []string{`use GET, POST`}},
		{"all backends", "GET", "/postgres/clusters/main/backends", 200, []string{`"name": "pg1"`, `"origin": "config"`}},
		{"an unknown backend", "GET", "/postgres/clusters/main/backends/pg9", 404, []string{`has no backend \"pg9\"`}},
		{"the removal of nobody", "DELETE", "/postgres/clusters/main/backends/pg9", 404, []string{`no such backend pg9`}},
		{"a removal, perhaps by force", "DELETE", "/postgres/clusters/main/backends/pg9?force=perhaps", 400, []string{`write true or false`}},
		{"a removal in anger", "DELETE", "/postgres/clusters/main/backends/pg9?anger", 400, []string{`unknown query parameter \"anger\"`}},
		{"an operation nobody knows", "POST", "/postgres/clusters/main/backends/pg1/dance", 404, []string{`known are drain, resume, trip and reset`}},
		{"an operation on nobody", "POST", "/postgres/clusters/main/backends/pg9/drain", 404, []string{`has no backend`}},
		{"an operation by GET", "GET", "/postgres/clusters/main/backends/pg1/drain", 405, []string{`use POST`}},
		{"a policy of nothing", "POST", "/postgres/clusters/main/policy", 400, []string{`no JSON object`}},
		{"the policy", "GET", "/postgres/clusters/main/policy", 200, []string{`"policy": "health_score"`, `"origin": "config"`}},
		{"the policy by PUT", "PUT", "/postgres/clusters/main/policy", 405, []string{`use GET, POST, DELETE`}},
		{"health with a demand nobody knows", "GET", "/postgres/health?require=sugar", 400, []string{`write require=replica`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, body := p.request(t, test.method, test.path)
			if status != test.status {
				t.Errorf("the status is %d, want %d", status, test.status)
			}
			for _, s := range test.says {
				if !strings.Contains(body, s) {
					t.Errorf("%q is not in %s", s, body)
				}
			}
		})
	}
	if status, body := p.request(t, http.MethodHead, "/postgres/health"); status != 503 || body != "" {
		t.Errorf("HEAD gets %d %q", status, body)
	}
}

func TestHealthWithoutClusters(t *testing.T) {
	p := newProxy(t)
	p.load(t, p.empty())
	if status, body := p.get(t, "/postgres/health"); status != 200 || !same(t, body, `{"status":"ok","clusters":[]}`) {
		t.Errorf("got %d %s", status, body)
	}
	if status, body := p.get(t, "/postgres/clusters"); status != 200 || !same(t, body, `[]`) {
		t.Errorf("got %d %s", status, body)
	}
	if status, body := p.get(t, "/postgres/clusters/main"); status != 404 || !strings.Contains(body, "there are none") {
		t.Errorf("got %d %s", status, body)
	}
}

func TestHealthOfATopology(t *testing.T) {
	member := func(name string, role cluster.Role, state cluster.State, fit bool) *cluster.Member {
		return &cluster.Member{Backend: cluster.NewBackend(name, name), Role: role, State: state, Fit: fit}
	}
	primary := member("p", cluster.RolePrimary, cluster.StateHealthy, false)
	fit := member("r", cluster.RoleReplica, cluster.StateHealthy, true)
	lagging := member("l", cluster.RoleReplica, cluster.StateLagging, false)
	lagging.Reason = "20 MiB behind"
	draining := member("d", cluster.RoleReplica, cluster.StateDraining, false)
	for _, test := range []struct {
		name     string
		topology cluster.Topology
		require  bool
		status   string
		reasons  string
	}{
		{"a lone primary is all there is", cluster.Topology{Primary: primary, Members: []*cluster.Member{primary}}, false, healthOK, ""},
		{"a replica is demanded and there is none", cluster.Topology{Primary: primary, Members: []*cluster.Member{primary}}, true, healthFailed, "no replica serves reads"},
		{"all is well", cluster.Topology{Primary: primary, Members: []*cluster.Member{primary, fit}}, true, healthOK, ""},
		{"a replica lags", cluster.Topology{Primary: primary, Members: []*cluster.Member{primary, fit, lagging}}, true, healthDegraded, "backend l is lagging: 20 MiB behind"},
		{"nobody misses a draining one", cluster.Topology{Primary: primary, Members: []*cluster.Member{primary, draining, fit}}, true, healthOK, ""},
		{"no primary", cluster.Topology{Members: []*cluster.Member{fit}}, false, healthFailed, "there is no primary"},
		{"nothing at all", cluster.Topology{}, true, healthFailed, "there is no primary|no replica serves reads"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := healthOf("main", &test.topology, test.require)
			if got := strings.Join(h.Reasons, "|"); h.Status != test.status || got != test.reasons {
				t.Errorf("it is %s because of %q, want %s, %q", h.Status, got, test.status, test.reasons)
			}
		})
	}
}
