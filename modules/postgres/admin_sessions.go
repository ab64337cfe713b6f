package postgres

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/fairwaydb/fairway/modules/session"
)

// sessionView is a session in the replies of the admin API.
type sessionView struct {
	ID          uint64   `json:"id"`
	PID         uint32   `json:"pid,omitempty"` // what the client's pg_cancel_backend would name
	Cluster     string   `json:"cluster,omitempty"`
	User        string   `json:"user,omitempty"`
	Database    string   `json:"database,omitempty"`
	Application string   `json:"application_name,omitempty"`
	Client      string   `json:"client"`
	ConnectedAt string   `json:"connected_at"`
	State       string   `json:"state"`
	Backend     string   `json:"backend,omitempty"`
	Pins        []string `json:"pins"`
	TLS         bool     `json:"tls"`
}

func viewSession(i *session.Info) sessionView {
	v := sessionView{
		ID: i.ID, PID: i.PID, Cluster: i.Cluster, User: i.User, Database: i.Database, Application: i.Application, Client: i.Client,
		ConnectedAt: i.Since.UTC().Format(time.RFC3339Nano), State: i.State, Backend: i.Backend, Pins: i.Pins, TLS: i.TLS,
	}
	if v.Pins == nil {
		v.Pins = []string{}
	}
	return v
}

// listSessions shows who is connected: all, or those that the query names: cluster, user, database, state, backend,
// pinned=true.
func listSessions(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	for name := range query {
		switch name {
		case "cluster", "user", "database", "state", "backend", "pinned":
		default:
			return apiError(http.StatusBadRequest, "unknown query parameter %q: known are cluster, user, database, state, backend, pinned", name)
		}
	}
	pinned, err := strconv.ParseBool(orDefault(query.Get("pinned"), "false"))
	if err != nil {
		return apiError(http.StatusBadRequest, "pinned is %q: write true or false", query.Get("pinned"))
	}
	all := make([]sessionView, 0)
	for _, i := range session.List() {
		v := viewSession(&i)
		if matchesAll(query, map[string]string{"cluster": v.Cluster, "user": v.User, "database": v.Database, "state": v.State, "backend": v.Backend}) &&
			(!pinned || len(v.Pins) > 0) {
			all = append(all, v)
		}
	}
	return reply(w, http.StatusOK, all)
}

// matchesAll tells whether each value that the query names is the one it names.
func matchesAll(query map[string][]string, values map[string]string) bool {
	for name, value := range values {
		if want, ok := query[name]; ok && want[0] != value {
			return false
		}
	}
	return true
}

// terminateTimeout is how long a session that is to end may take before its socket is closed.
const terminateTimeout = 5 * time.Second

// endSession ends one session as pg_terminate_backend does.
func endSession(w http.ResponseWriter, r *http.Request) error {
	id, err := strconv.ParseUint(r.PathValue("session"), 10, 64)
	if err != nil {
		return apiError(http.StatusBadRequest, "%q is no session: write an id of GET /postgres/sessions", r.PathValue("session"))
	}
	ctx, cancel := context.WithTimeout(r.Context(), terminateTimeout)
	defer cancel()
	if !session.Terminate(ctx, id) {
		return apiError(http.StatusNotFound, "there is no session %d", id)
	}
	return reply(w, http.StatusOK, map[string]any{"id": id, "terminated": true})
}
