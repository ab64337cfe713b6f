package postgres

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/fairwaydb/fairway/modules/cluster"
)

// The states of a cluster as a load balancer's or an orchestrator's probe sees
// it.
const (
	healthOK       = "ok"
	healthDegraded = "degraded" // it serves, but not with all backends
	healthFailed   = "failed"   // it does not serve
)

// healthView is the reply of /postgres/health.
type healthView struct {
	Status   string              `json:"status"`
	Error    string              `json:"error,omitempty"`
	Clusters []clusterHealthView `json:"clusters"`
}

// clusterHealthView is the health of one cluster.
type clusterHealthView struct {
	Name        string   `json:"name"`
	Status      string   `json:"status"`
	Reasons     []string `json:"reasons,omitempty"`
	Primary     string   `json:"primary,omitempty"`
	Replicas    int      `json:"replicas"`     // configured or found, the primary not among them
	FitReplicas int      `json:"fit_replicas"` // those that serve reads now
}

// showHealth answers 503 when a cluster has no primary, 200 otherwise. The
// parameter cluster limits it to one; require=replica demands a replica that
// serves reads, too.
func showHealth(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	require := q.Get("require")
	if require != "" && require != "replica" {
		return apiError(http.StatusBadRequest, "unknown require=%s: write require=replica, or leave it out", require)
	}
	clusters := inForce()
	if name := q.Get("cluster"); name != "" {
		c, err := find(name)
		if err != nil {
			return err
		}
		clusters = []*cluster.Cluster{c}
	}
	v, status := healthView{Status: healthOK, Clusters: make([]clusterHealthView, 0, len(clusters))}, http.StatusOK
	for _, c := range clusters {
		h := healthOf(c.Name(), c.Topology(), require == "replica")
		v.Clusters = append(v.Clusters, h)
		switch {
		case h.Status == healthFailed:
			if status == http.StatusOK {
				v.Error = "cluster " + h.Name + ": " + strings.Join(h.Reasons, "; ")
			}
			v.Status, status = healthFailed, http.StatusServiceUnavailable
		case h.Status == healthDegraded && v.Status == healthOK:
			v.Status = healthDegraded
		}
	}
	return reply(w, status, v)
}

// healthOf judges a topology.
func healthOf(name string, t *cluster.Topology, needReplica bool) clusterHealthView {
	h := clusterHealthView{Name: name, Status: healthOK}
	for _, m := range t.Members {
		switch {
		case m == t.Primary:
			h.Primary = m.Backend.Name()
			continue
		case m.Fit:
			h.FitReplicas++
		case m.State == cluster.StateDraining: // it was removed: nobody misses it
			continue
		default:
			h.Status = healthDegraded
			h.Reasons = append(h.Reasons, unfit(m))
		}
		h.Replicas++
	}
	if needReplica && h.FitReplicas == 0 {
		h.Status = healthFailed
		h.Reasons = append([]string{"no replica serves reads"}, h.Reasons...)
	}
	if t.Primary == nil {
		h.Status = healthFailed
		h.Reasons = append([]string{"there is no primary"}, h.Reasons...)
	}
	return h
}

// unfit says in words why a member serves no reads.
func unfit(m *cluster.Member) string {
	if m.Reason == "" {
		return fmt.Sprintf("backend %s is %s", m.Backend.Name(), m.State)
	}
	return fmt.Sprintf("backend %s is %s: %s", m.Backend.Name(), m.State, m.Reason)
}
