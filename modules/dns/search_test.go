package dns

import (
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestANameThatCannotBeAskedForIsNotAnsweredByASearchDomain(t *testing.T) {
	const name, corp = "db.example.test.", "db.example.test.corp."
	server := newServer(t, nil)
	for _, step := range []struct {
		name      string
		names     []string
		records   map[string][]string
		addresses int
		fails     bool
	}{
		{"it fails, the search domain does not know", []string{name, corp}, map[string][]string{name + " AAAA": {"SERVFAIL"}}, 0, true},
		{
			"it fails, the search domain has a wildcard",
			[]string{name, corp},
			map[string][]string{name + " AAAA": {"SERVFAIL"}, corp + " AAAA": {corp + " 9 AAAA fd00::9"}},
			0, true,
		},
		{"the search domain fails", []string{corp, name}, map[string][]string{corp + " AAAA": {"SERVFAIL"}}, 0, true},
		{
			"the search domain fails, and the name is there",
			[]string{corp, name},
			map[string][]string{corp + " AAAA": {"SERVFAIL"}, name + " AAAA": {name + " 9 AAAA fd00::1"}},
			1, false,
		},
		{"nobody knows", []string{name, corp}, nil, 0, false},
	} {
		server.mu.Lock()
		server.records = step.records
		server.mu.Unlock()
		r := &resolver{name: "db.example.test", timeout: 5 * time.Second}
		got, _, err := r.search(t.Context(), []string{server.addr}, step.names, dns.TypeAAAA)
		if len(got) != step.addresses || (err != nil) != step.fails {
			t.Errorf("%s: %v, %v", step.name, got, err)
		}
	}
}
