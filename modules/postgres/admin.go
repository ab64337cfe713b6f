package postgres

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/fairwaydb/fairway/modules/cluster"
)

func init() { caddy.RegisterModule(new(Admin)) }

// Admin serves /postgres/… on Caddy's admin endpoint. It keeps nothing: it reads
// the clusters of the process, so that it tells the truth also after a load that
// failed.
type Admin struct{}

// CaddyModule returns the Caddy module information.
func (*Admin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.postgres", New: func() caddy.Module { return new(Admin) }}
}

// Provision registers the metrics: after a failed load the app of the
// configuration in force is not in the registry that the endpoint shows.
func (*Admin) Provision(ctx caddy.Context) error { return register(ctx.GetMetricsRegistry()) }

// Routes returns the endpoints.
func (*Admin) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "/postgres/clusters", Handler: reading(listClusters)},
		{Pattern: "/postgres/clusters/{cluster}", Handler: reading(showCluster)},
		{Pattern: "/postgres/clusters/{cluster}/backends", Handler: byMethod(map[string]caddy.AdminHandlerFunc{
			http.MethodGet: listBackends, http.MethodPost: addBackend,
		}, "GET, POST")},
		{Pattern: "/postgres/clusters/{cluster}/backends/{backend}", Handler: byMethod(map[string]caddy.AdminHandlerFunc{
			http.MethodGet: showBackend, http.MethodDelete: removeBackend,
		}, "GET, DELETE")},
		{Pattern: "/postgres/clusters/{cluster}/backends/{backend}/{action}", Handler: only(http.MethodPost, operateBackend)},
		{Pattern: "/postgres/clusters/{cluster}/policy", Handler: byMethod(map[string]caddy.AdminHandlerFunc{
			http.MethodGet: showPolicy, http.MethodPost: setPolicy, http.MethodDelete: resetPolicy,
		}, "GET, POST, DELETE")},
		{Pattern: "/postgres/clusters/{cluster}/explain", Handler: only(http.MethodPost, explain)},
		{Pattern: "/postgres/sessions", Handler: reading(listSessions)},
		{Pattern: "/postgres/sessions/{session}", Handler: only(http.MethodDelete, endSession)},
		{Pattern: "/postgres/health", Handler: reading(showHealth)},
	}
}

// reading makes a handler of one that only reads: other methods get 405.
func reading(h func(w http.ResponseWriter, r *http.Request) error) caddy.AdminHandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			return apiError(http.StatusMethodNotAllowed, "method %s is not allowed: use GET", r.Method)
		}
		return h(w, r)
	}
}

// only makes a handler of one that changes something, or needs a body: other methods get 405.
func only(method string, h func(w http.ResponseWriter, r *http.Request) error) caddy.AdminHandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		if r.Method != method {
			w.Header().Set("Allow", method)
			return apiError(http.StatusMethodNotAllowed, "method %s is not allowed: use %s", r.Method, method)
		}
		return h(w, r)
	}
}

func listClusters(w http.ResponseWriter, _ *http.Request) error {
	all := make([]clusterView, 0)
	for _, c := range inForce() {
		all = append(all, viewCluster(c))
	}
	return reply(w, http.StatusOK, all)
}

func showCluster(w http.ResponseWriter, r *http.Request) error {
	c, err := find(r.PathValue("cluster"))
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, viewCluster(c))
}

// inForce returns the clusters with settings in force, by name.
func inForce() []*cluster.Cluster {
	var all []*cluster.Cluster
	for _, c := range registry.Clusters() {
		if running.has(c.Name()) {
			all = append(all, c)
		}
	}
	return all
}

func find(name string) (*cluster.Cluster, error) {
	if c := registry.Lookup(name); c != nil && running.has(name) {
		return c, nil
	}
	var known []string
	for _, c := range inForce() {
		known = append(known, c.Name())
	}
	if len(known) == 0 {
		return nil, apiError(http.StatusNotFound, "unknown cluster %q: there are none", name)
	}
	return nil, apiError(http.StatusNotFound, "unknown cluster %q: known are %s", name, strings.Join(known, ", "))
}

// apiError makes the error that Caddy's admin endpoint turns into JSON. It must
// reach it unwrapped.
func apiError(status int, format string, args ...any) error {
	return caddy.APIError{HTTPStatus: status, Err: fmt.Errorf(format, args...)}
}

// reply writes v as JSON.
func reply(w http.ResponseWriter, status int, v any) error {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return apiError(http.StatusInternalServerError, "encode reply: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client is gone if it fails
	return nil
}

// Interface guards.
var (
	_ caddy.AdminRouter = (*Admin)(nil)
	_ caddy.Provisioner = (*Admin)(nil)
)
