package postgres

import (
	"strconv"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pool"
)

// clusterView is a cluster in the replies of the admin API. Times are seconds,
// sizes bytes.
type clusterView struct {
	Name        string        `json:"name"`
	Primary     *string       `json:"primary"` // null: none
	Consistency string        `json:"consistency"`
	Policy      policyView    `json:"policy"`
	Cooldown    float64       `json:"cooldown_seconds"` // until the number of backends may be changed again
	Backends    []backendView `json:"backends"`
}

// backendView is a backend.
type backendView struct {
	Name           string     `json:"name"`
	Address        string     `json:"address"`
	Origin         string     `json:"origin"`
	Role           string     `json:"role"`
	State          string     `json:"state"`
	Reason         string     `json:"reason,omitempty"`
	Up             bool       `json:"up"`
	Fit            bool       `json:"fit"`
	Circuit        string     `json:"circuit"`
	Score          float64    `json:"score"`
	ScoreParts     scoreView  `json:"score_parts"`
	LatencySeconds float64    `json:"latency_seconds"`
	LagBytes       int64      `json:"lag_bytes"`
	LagSeconds     float64    `json:"lag_seconds"`
	Weight         float64    `json:"weight"`
	Priority       int        `json:"priority"`
	Timeline       uint32     `json:"timeline"`
	SystemID       string     `json:"system_identifier"` // 64 bits: more than a JSON number holds
	StartedAt      string     `json:"started_at"`
	InFlight       int64      `json:"in_flight"`
	Pools          []poolView `json:"pools"`
}

type scoreView struct {
	Errors  float64 `json:"errors"`
	Latency float64 `json:"latency"`
	Circuit float64 `json:"circuit"`
}

// poolView is the pool of one user and database.
type poolView struct {
	User     string `json:"user"`
	Database string `json:"database"`
	Open     int    `json:"open"`
	Idle     int    `json:"idle"`
	InUse    int    `json:"in_use"`
	Waiting  int    `json:"waiting"`
	Opening  int    `json:"opening"`
}

func viewCluster(c *cluster.Cluster) clusterView {
	t, s := c.Topology(), c.Settings()
	v := clusterView{
		Name: c.Name(), Consistency: s.Consistency.String(), Policy: viewPolicy(c), Cooldown: c.Cooldown().Seconds(),
		Backends: make([]backendView, 0, len(t.Members)),
	}
	if t.Primary != nil {
		name := t.Primary.Backend.Name()
		v.Primary = &name
	}
	for _, m := range t.Members {
		v.Backends = append(v.Backends, viewBackend(m))
	}
	return v
}

func viewBackend(m *cluster.Member) backendView {
	b := m.Backend
	v := backendView{
		Name: b.Name(), Address: b.Address(), Origin: m.Origin.String(), Role: m.Role.String(), State: m.State.String(), Reason: m.Reason,
		Up: m.Up, Fit: m.Fit, Circuit: b.Circuit().String(), Score: m.Score,
		ScoreParts:     scoreView{Errors: m.Parts.Errors, Latency: m.Parts.Latency, Circuit: m.Parts.Circuit},
		LatencySeconds: m.Latency.Seconds(), LagBytes: m.LagBytes, LagSeconds: m.LagTime.Seconds(),
		Weight: m.Weight, Priority: m.Priority, Timeline: m.Timeline, StartedAt: m.Incarnation,
		SystemID: strconv.FormatUint(m.SystemID, 10), InFlight: b.InFlight(), Pools: make([]poolView, 0),
	}
	for _, s := range b.Pools() {
		v.Pools = append(v.Pools, viewPool(s))
	}
	return v
}

func viewPool(s pool.Stats) poolView {
	return poolView{
		User: s.Identity.User, Database: s.Identity.Database,
		Open: s.Open, Idle: s.Idle, InUse: s.InUse, Waiting: s.Waiting, Opening: s.Opening,
	}
}
