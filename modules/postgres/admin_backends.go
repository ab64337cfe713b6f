package postgres

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"net/url"
	"strconv"

	"github.com/caddyserver/caddy/v2"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/routing"
)

// byMethod makes a handler of one for each method: others get 405. GET answers HEAD too.
func byMethod(handlers map[string]caddy.AdminHandlerFunc, allow string) caddy.AdminHandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		if h := handlers[method]; h != nil {
			return h(w, r)
		}
		w.Header().Set("Allow", allow)
		return apiError(http.StatusMethodNotAllowed, "method %s is not allowed: use %s", r.Method, allow)
	}
}

// backendRequest is the body of POST …/backends.
type backendRequest struct {
	Name     string  `json:"name"`
	Address  string  `json:"address"`
	Weight   float64 `json:"weight"`
	Priority int     `json:"priority"`
}

// acceptedView is the reply to a change that takes a while.
type acceptedView struct {
	Cluster string `json:"cluster"`
	Backend string `json:"backend"`
	Status  string `json:"status"` // the path to poll
}

func listBackends(w http.ResponseWriter, r *http.Request) error {
	c, err := find(r.PathValue("cluster"))
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, viewCluster(c).Backends)
}

// addBackend makes a server a backend at run time. It serves once it has been probed.
func addBackend(w http.ResponseWriter, r *http.Request) error {
	c, err := find(r.PathValue("cluster"))
	if err != nil {
		return err
	}
	force, err := forced(r)
	if err != nil {
		return err
	}
	var b backendRequest
	if err := decode(w, r, &b); err != nil {
		return err
	}
	e := cluster.Endpoint{Name: b.Name, Address: b.Address, Weight: b.Weight, Priority: b.Priority}
	if err := c.AddBackend(e, force); err != nil {
		return operationError(w, err)
	}
	return acceptChange(w, c, b.Name)
}

func showBackend(w http.ResponseWriter, r *http.Request) error {
	c, err := find(r.PathValue("cluster"))
	if err != nil {
		return err
	}
	name := r.PathValue("backend")
	m := c.Topology().Member(name)
	if m == nil {
		return apiError(http.StatusNotFound, "cluster %s has no backend %q", c.Name(), name)
	}
	return reply(w, http.StatusOK, viewBackend(m))
}

// removeBackend takes a backend away that addBackend has made. It is gone once its transactions have ended.
func removeBackend(w http.ResponseWriter, r *http.Request) error {
	c, err := find(r.PathValue("cluster"))
	if err != nil {
		return err
	}
	force, err := forced(r)
	if err != nil {
		return err
	}
	if err := c.RemoveBackend(r.PathValue("backend"), force); err != nil {
		return operationError(w, err)
	}
	return acceptChange(w, c, r.PathValue("backend"))
}

// operateBackend drains, resumes, trips or resets a backend.
func operateBackend(w http.ResponseWriter, r *http.Request) error {
	c, err := find(r.PathValue("cluster"))
	if err != nil {
		return err
	}
	name, action := r.PathValue("backend"), r.PathValue("action")
	m := c.Topology().Member(name)
	if (m == nil || m.Leaving) && action != "resume" { // a drain may wait for one that comes back
		return apiError(http.StatusNotFound, "cluster %s has no backend %q", c.Name(), name)
	}
	switch action {
	case "drain":
		err = c.SetDrained(name, true)
	case "resume":
		err = c.SetDrained(name, false)
	case "trip":
		m.Backend.Trip()
	case "reset":
		m.Backend.Reset()
	default:
		return apiError(http.StatusNotFound, "unknown operation %q: known are drain, resume, trip and reset", action)
	}
	if err != nil {
		return operationError(w, err)
	}
	return acceptChange(w, c, name)
}

// policyRequest is the body of POST …/policy: a module of namespace postgres.policies, or its name.
type policyRequest struct {
	Policy json.RawMessage `json:"policy" caddy:"namespace=postgres.policies inline_key=policy"`
}

// policyView is the reply.
type policyView struct {
	Policy string `json:"policy"`
	Origin string `json:"origin"`
}

// setPolicy puts a policy in force, until the next one or DELETE.
func setPolicy(w http.ResponseWriter, r *http.Request) error {
	c, err := find(r.PathValue("cluster"))
	if err != nil {
		return err
	}
	var q policyRequest
	if err := decode(w, r, &q); err != nil {
		return err
	}
	var name string
	if json.Unmarshal(q.Policy, &name) == nil {
		q.Policy, _ = json.Marshal(map[string]string{"policy": name}) // strings never fail
	}
	var named struct {
		Policy string `json:"policy"`
	}
	if err := json.Unmarshal(q.Policy, &named); err != nil || named.Policy == "" {
		return apiError(http.StatusBadRequest, `no policy: write {"policy": "least_conn"}, or {"policy": {"policy": "first", …}} with its options`)
	}
	ctx, release := caddy.NewContext(caddy.ActiveContext()) // it outlives the configuration that it takes its logger from
	guest, err := ctx.LoadModule(&q, "Policy")
	if err == nil {
		if _, ok := guest.(routing.Policy); !ok {
			err = errors.New("it is no policy")
		}
	}
	if err != nil {
		release()
		return apiError(http.StatusBadRequest, "policy %q: %w", named.Policy, err)
	}
	if err := c.OverridePolicy(named.Policy, guest, release); err != nil {
		release()
		return operationError(w, err)
	}
	return reply(w, http.StatusOK, viewPolicy(c))
}

// resetPolicy puts the policy of the configuration in force again.
func resetPolicy(w http.ResponseWriter, r *http.Request) error {
	c, err := find(r.PathValue("cluster"))
	if err != nil {
		return err
	}
	if err := c.OverridePolicy("", nil, nil); err != nil {
		return operationError(w, err)
	}
	return reply(w, http.StatusOK, viewPolicy(c))
}

func showPolicy(w http.ResponseWriter, r *http.Request) error {
	c, err := find(r.PathValue("cluster"))
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, viewPolicy(c))
}

func viewPolicy(c *cluster.Cluster) policyView {
	if name := c.OverriddenPolicy(); name != "" {
		return policyView{Policy: name, Origin: cluster.OriginAdmin.String()}
	}
	name := "health_score"
	if m, ok := c.Policy().(caddy.Module); ok {
		name = m.CaddyModule().ID.Name()
	}
	return policyView{Policy: name, Origin: cluster.OriginConfig.String()}
}

// forced reads ?force, which needs no value.
func forced(r *http.Request) (bool, error) {
	query := r.URL.Query()
	for name := range query {
		if name != "force" {
			return false, apiError(http.StatusBadRequest, "unknown query parameter %q: known is force", name)
		}
	}
	value := query.Get("force")
	if !query.Has("force") || value == "" {
		return query.Has("force"), nil
	}
	force, err := strconv.ParseBool(value)
	if err != nil {
		return false, apiError(http.StatusBadRequest, "force is %q: write true or false", value)
	}
	return force, nil
}

// acceptChange answers a change that goes on.
func acceptChange(w http.ResponseWriter, c *cluster.Cluster, backend string) error {
	status := "/postgres/clusters/" + url.PathEscape(c.Name()) + "/backends/" + url.PathEscape(backend)
	w.Header().Set("Location", status)
	return reply(w, http.StatusAccepted, acceptedView{Cluster: c.Name(), Backend: backend, Status: status})
}

// operationError gives an error of an operation the status that fits.
func operationError(w http.ResponseWriter, err error) error {
	var cooldown *cluster.CooldownError
	switch {
	case errors.As(err, &cooldown):
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(cooldown.Wait.Seconds()))))
		return apiError(http.StatusTooManyRequests, "%w", err)
	case errors.Is(err, cluster.ErrInvalid):
		return apiError(http.StatusBadRequest, "%w", err)
	case errors.Is(err, cluster.ErrNoBackend):
		return apiError(http.StatusNotFound, "%w", err)
	case errors.Is(err, cluster.ErrConflict):
		return apiError(http.StatusConflict, "%w", err)
	}
	return apiError(http.StatusInternalServerError, "%w", err)
}
