package session

import (
	"maps"
	"slices"

	"github.com/fairwaydb/fairway/modules/cluster"
)

// baseNames are the settings whose first values are remembered: those that any server connection can be given.
var baseNames = slices.Sorted(maps.Keys(builtinSettings))

// baseOf pairs them with the values that a server has answered.
func baseOf(values []*string) map[string]string {
	base := make(map[string]string, len(values))
	for i, v := range values {
		if v != nil && i < len(baseNames) {
			base[baseNames[i]] = *v
		}
	}
	return base
}

// keepDefaults follows a change of what the servers set for new sessions: this one keeps what it began with, as if its startup packet
// had asked for it. Settings that not everybody may change are left alone.
func (s *Session) keepDefaults(now *cluster.Defaults) {
	had, has, known := s.had, now.For(s.identity), s.began != 0
	s.began, s.had = now.Version(), has
	if s.whole || !known {
		return // its own server connection has not changed
	}
	kept, inForce := make(map[string]*string), make(map[string]*string)
	keep := func(name, value string) {
		if s.startup.has(name) || !isBuiltin(name) {
			return
		}
		kept[name] = &value
		if !s.settings.has(name) {
			inForce[name] = &value
		}
	}
	for name, value := range had {
		if v, ok := has[name]; !ok || v != value {
			keep(name, value)
		}
	}
	for name := range has {
		if _, ok := had[name]; ok || s.settings.has(name) {
			continue
		}
		if value, ok := s.base[name]; ok {
			keep(name, value)
		}
	}
	if len(kept) > 0 {
		s.startup, s.settings = s.startup.with(kept), s.settings.with(inForce)
	}
}
