package session

import (
	"fmt"
	"strings"

	"go.uber.org/zap"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgsql"
	"github.com/fairwaydb/fairway/modules/pgwire"
	"github.com/fairwaydb/fairway/modules/routing"
)

// ownPrefix begins the names of the settings that are for us. Servers keep them as they keep any setting of that form, so that they
// follow transactions, savepoints, RESET and SHOW as others do.
// See https://www.postgresql.org/docs/current/runtime-config-custom.html
const ownPrefix = "fairway."

const (
	settingRoute       = ownPrefix + "route"
	settingConsistency = ownPrefix + "consistency"
)

// wishes are what the settings of a session say about routing.
type wishes struct {
	of          *settings // whose values these are
	route       routing.Target
	consistency cluster.Consistency
	consistent  bool // consistency is set
}

// wish returns what the settings in force say. Values nobody understands say nothing; SET refuses them.
func (s *Session) wish() *wishes {
	w := &s.wishes
	if w.of == s.settings {
		return w
	}
	*w = wishes{of: s.settings}
	w.route, _ = routing.ParseTarget(strings.ToLower(s.settings.value(settingRoute)))
	w.consistency, w.consistent = cluster.ParseConsistency(strings.ToLower(s.settings.value(settingConsistency)))
	return w
}

// hint is where the client wants the statement to run: a comment that leads it counts more than fairway.route.
func (s *Session) hint(class *pgsql.Class) routing.Target {
	return hintOf(class, s.standing())
}

// hintOf is where the comment that leads a statement wants it to run, and standing without one.
func hintOf(class *pgsql.Class, standing routing.Target) routing.Target {
	switch class.Route {
	case pgsql.RoutePrimary:
		return routing.TargetPrimary
	case pgsql.RouteReplica:
		return routing.TargetReplica
	}
	return standing
}

// standing is where the transaction and the settings want statements to run.
func (s *Session) standing() routing.Target {
	if s.tx.open && s.tx.hint != routing.TargetAuto {
		return s.tx.hint
	}
	return s.wish().route
}

// consistency is what reads of the session may miss.
func (s *Session) consistency() cluster.Consistency {
	if w := s.wish(); w.consistent {
		return w.consistency
	}
	return s.cluster.Settings().Consistency
}

// refusalClass is the class of a statement that only fails.
var refusalClass = &pgsql.Class{Effects: pgsql.ServerState, Statements: 1, Kind: pgsql.KindSet, ConstDependent: true}

// refuseSetting returns a statement that fails as a server's SET of a bad value does, when the class is that of a SET of a setting of
// ours to a value that means nothing, and "" else. The server must raise the error: a transaction fails with it.
func refuseSetting(class *pgsql.Class) string {
	if class.Statements != 1 || len(class.Settings) == 0 || class.Effects&^(pgsql.Settings|pgsql.Read) != 0 {
		return ""
	}
	for i := range class.Settings {
		set := &class.Settings[i]
		if !set.Known || !strings.HasPrefix(set.Name, ownPrefix) {
			continue
		}
		words := ""
		switch value := strings.ToLower(set.Value); set.Name {
		case settingRoute:
			if _, ok := routing.ParseTarget(value); !ok {
				words = "auto, primary, replica"
			}
		case settingConsistency:
			if _, ok := cluster.ParseConsistency(value); !ok {
				words = "session, strong, eventual"
			}
		}
		if words != "" {
			return raise(pgwire.CodeInvalidParameterValue,
				fmt.Sprintf("invalid value for parameter %q: %q", set.Name, set.Value), "Available values: "+words+".")
		}
	}
	return ""
}

// raise is a statement that raises an error.
func raise(code, message, hint string) string {
	return "DO LANGUAGE plpgsql " + quoteLiteral(fmt.Sprintf("BEGIN RAISE EXCEPTION USING ERRCODE = %s, MESSAGE = %s, HINT = %s; END",
		quoteLiteral(code), quoteLiteral(message), quoteLiteral(hint)))
}

// correct follows a standby's refusal: the primary runs the request, and next time it does so at once.
func (s *Session) correct(req *request, e *pgwire.Error) {
	s.labels.retries.correction.Inc()
	s.forced = true
	if req.prepare || s.schema.keeper == nil || !s.schema.keeper.Refuse(req.class.Fingerprint) {
		return
	}
	s.logger.Info("a statement taken for a read was refused by a replica and ran on the primary, as it will from now on",
		zap.String("cluster", s.cluster.Name()), zap.String("database", s.identity.Database),
		zap.String("fingerprint", fmt.Sprintf("%016x", req.class.Fingerprint)), zap.String("sqlstate", e.Code))
}
