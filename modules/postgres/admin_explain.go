package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/fairwaydb/fairway/modules/catalog"
	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/routing"
	"github.com/fairwaydb/fairway/modules/session"
)

// explainRequest is the body of POST …/explain.
type explainRequest struct {
	SQL      string `json:"sql"`
	Database string `json:"database"` // whose schema counts; default: that of the credentials
	Route    string `json:"route"`    // as fairway.route
}

// explainView is the reply.
type explainView struct {
	Backend     *string         `json:"backend"` // null: none can run it now
	Role        string          `json:"role,omitempty"`
	Reason      string          `json:"reason,omitempty"`
	Error       string          `json:"error,omitempty"`
	Kind        string          `json:"kind"`
	Effects     []string        `json:"effects"`
	Statements  int             `json:"statements"`
	Functions   []string        `json:"functions"`
	Relations   []string        `json:"relations"`
	Schema      schemaView      `json:"schema"`
	Hint        string          `json:"hint,omitempty"`
	Pins        []string        `json:"pins"`
	Fingerprint string          `json:"fingerprint"`
	Candidates  []candidateView `json:"candidates"`
	Lines       []string        `json:"text"`
}

// schemaView is what the schema of the database adds.
type schemaView struct {
	Verdict string `json:"verdict"`
	Name    string `json:"name,omitempty"`
}

// candidateView is a backend as it stands for the statement.
type candidateView struct {
	Name           string  `json:"name"`
	Role           string  `json:"role"`
	State          string  `json:"state"`
	Eligible       bool    `json:"eligible"`
	Why            string  `json:"why,omitempty"`
	Score          float64 `json:"score"`
	Weight         float64 `json:"weight"`
	LatencySeconds float64 `json:"latency_seconds"`
	InFlight       int64   `json:"in_flight"`
	Value          float64 `json:"value"`
}

// maxBody bounds what is read of a request.
const maxBody = 1 << 20

// explain says where a statement would run, and why. Nothing runs.
func explain(w http.ResponseWriter, r *http.Request) error {
	c, err := find(r.PathValue("cluster"))
	if err != nil {
		return err
	}
	var q explainRequest
	if err := decode(w, r, &q); err != nil {
		return err
	}
	route, ok := routing.ParseTarget(orDefault(q.Route, routing.TargetAuto.String()))
	switch {
	case q.SQL == "":
		return apiError(http.StatusBadRequest, `no statement: write {"sql": "SELECT …"}`)
	case !ok:
		return apiError(http.StatusBadRequest, "unknown route %q: write auto, primary or replica", q.Route)
	}
	facts := factsOf(r.Context(), c, orDefault(q.Database, c.Settings().OwnDatabase()))
	return reply(w, http.StatusOK, viewExplanation(session.Explain(c, facts, q.SQL, route)))
}

// decode reads the JSON body of a request.
func decode(w http.ResponseWriter, r *http.Request, into any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return apiError(http.StatusBadRequest, "the body is no JSON object of the fields expected: %w", err)
	}
	return nil
}

// factsTimeout is how long an explanation waits for the schema of a database that nobody uses.
const factsTimeout = 5 * time.Second

// factsOf returns what is known of a database's schema; nil when it cannot be read in time.
func factsOf(ctx context.Context, c *cluster.Cluster, database string) *catalog.Facts {
	if !c.Settings().Catalog {
		return catalog.Wording
	}
	keeper := catalog.Open(c, database)
	defer keeper.Close()
	ctx, cancel := context.WithTimeout(ctx, factsTimeout)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if f := keeper.Facts(); f != nil {
			return f
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func viewExplanation(e *session.Explanation) explainView {
	class := e.Class
	v := explainView{
		Kind: class.Kind.String(), Effects: list(class.Effects.Names()), Statements: class.Statements,
		Functions: list(class.Functions), Relations: list(class.Relations), Hint: class.Route, Pins: list(class.Pins().Names()),
		Schema: schemaView{Verdict: e.Verdict.String(), Name: e.Name}, Fingerprint: fmt.Sprintf("%016x", class.Fingerprint), Lines: e.Lines(),
		Candidates: make([]candidateView, 0, len(e.Candidates)),
	}
	if e.Err != nil {
		v.Error = e.Err.Error()
	} else {
		name := e.Choice.Member.Backend.Name()
		v.Backend, v.Role, v.Reason = &name, e.Choice.Member.Role.String(), e.Choice.Reason.String()
	}
	for _, c := range e.Candidates {
		m := c.Member
		v.Candidates = append(v.Candidates, candidateView{
			Name: m.Backend.Name(), Role: m.Role.String(), State: m.State.String(), Eligible: c.Eligible, Why: c.Why, Score: m.Score,
			Weight: m.Weight, LatencySeconds: m.Latency.Seconds(), InFlight: m.Backend.InFlight(), Value: c.Value,
		})
	}
	return v
}

// list shows no names as an empty list.
func list(names []string) []string {
	if names == nil {
		return []string{}
	}
	return names
}
