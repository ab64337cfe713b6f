package session

import (
	"strings"
	"sync"
	"time"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgsql"
)

// greetings remembers what servers reported to a login, so that the next one of the same user, database and settings needs no server.
// It is bounded and short-lived, and forgotten when the cluster's monitors see that new sessions begin otherwise: what a server has
// refused since is refused at the first statement.
type greetings struct {
	mu   sync.Mutex
	list map[greetingKey]greeting
}

type greetingKey struct{ cluster, user, database, settings string }

type greeting struct {
	reported map[string]string // never changed
	base     map[string]string // first values of other settings, never changed
	news     uint64            // of newsTotal, when the server was asked
	since    uint64            // of the cluster's Beginnings, when the server was asked
	until    time.Time
}

const (
	greetingFor  = 30 * time.Second
	maxGreetings = 4096
)

var known greetings

func (g *greetings) get(k greetingKey, since uint64) (greeting, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e, ok := g.list[k]
	if !ok || e.since != since || time.Now().After(e.until) {
		return greeting{}, false
	}
	return e, true
}

func (g *greetings) put(k greetingKey, e greeting) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.list == nil || len(g.list) >= maxGreetings {
		g.list = make(map[greetingKey]greeting)
	}
	e.until = time.Now().Add(greetingFor)
	g.list[k] = e
}

// greetingKey leaves out the value of application_name, which every server takes: clients put all sorts of things there.
func (s *Session) greetingKey() greetingKey {
	var b strings.Builder
	for _, p := range s.asked {
		name := strings.ToLower(p.Name)
		b.WriteString(name)
		b.WriteByte(0)
		if name != "application_name" {
			b.WriteString(p.Value)
			b.WriteByte(0)
		}
	}
	return greetingKey{s.cluster.Name(), s.identity.User, s.identity.Database, b.String()}
}

// classifiers are shared by all sessions whose clusters name the same functions.
var classifiers struct {
	mu      sync.Mutex
	byNames map[string]*pgsql.Classifier
	retired pgsql.Stats // hits and misses of those that were dropped: counters never fall
}

const maxClassifiers = 16

// classifier follows the cluster's settings: a reload applies to everybody at once.
func (s *Session) classifier() *pgsql.Classifier {
	set := s.cluster.Settings()
	if set != s.seen || s.classes == nil {
		s.seen, s.classes = set, classifierFor(set)
	}
	return s.classes
}

func classifierFor(set *cluster.Settings) *pgsql.Classifier {
	key := strings.Join(set.ReadFunctions, ",") + ";" + strings.Join(set.WriteFunctions, ",")
	classifiers.mu.Lock()
	defer classifiers.mu.Unlock()
	if c := classifiers.byNames[key]; c != nil {
		return c
	}
	if classifiers.byNames == nil || len(classifiers.byNames) >= maxClassifiers {
		for _, c := range classifiers.byNames {
			classifiers.retired.Hits += c.Stats().Hits
			classifiers.retired.Misses += c.Stats().Misses
		}
		classifiers.byNames = make(map[string]*pgsql.Classifier) // left over from earlier configurations; sessions keep theirs
	}
	c := pgsql.New(pgsql.Options{ReadFunctions: set.ReadFunctions, WriteFunctions: set.WriteFunctions})
	classifiers.byNames[key] = c
	return c
}
