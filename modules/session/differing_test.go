package session

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/fairwaydb/fairway/modules/pgtest"
	"github.com/fairwaydb/fairway/modules/pgwire"
)

// statusOf are the ParameterStatus messages among shown frames.
func statusOf(groups [][]string) (list []string) {
	for _, group := range groups {
		for _, frame := range group {
			if strings.HasPrefix(frame, "S ") {
				list = append(list, strings.ReplaceAll(strings.Trim(frame[2:], `"`), `\x00`, " "))
			}
		}
	}
	return list
}

// Servers may be configured differently. What a client is told stays as it is when its statements run here and there, whatever other
// clients of the server connections have set.
func TestAClientIsToldWhatChangesAndNotWhatDiffersBetweenServers(t *testing.T) {
	servers, err := pgtest.Start(context.WithoutCancel(t.Context()), pgtest.Options{Replicas: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := servers.Close(); err != nil {
			t.Error(err)
		}
	})
	primary, replica := servers.Primary(), servers.Replicas()[0]
	run := func(n *pgtest.Node, list ...string) {
		t.Helper()
		for _, sql := range list {
			if err := n.Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
		}
	}
	run(primary, "create table differing (a int)", "insert into differing values (1)", "alter system set timezone = 'UTC'", "select pg_reload_conf()")
	run(replica, "alter system set timezone = 'Asia/Tokyo'", "alter system set intervalstyle = 'iso_8601'", "select pg_reload_conf()")
	if err := servers.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := startProxy(t, servers, onePool)
	first := dialPeer(t, p.addr, pgwire.Param{Name: "application_name", Value: "first"})
	second := dialPeer(t, p.addr, pgwire.Param{Name: "application_name", Value: "second"})

	const read, write = "Q select pg_is_in_recovery() from differing", "Q select txid_current()"
	onReplica := 0
	for range 6 {
		for _, c := range []*peer{first, second} {
			groups := c.play(read+"\n"+write, nil)
			if list := statusOf(groups); list != nil {
				t.Fatalf("told %q", list)
			}
			if strings.Contains(strings.Join(groups[0], " "), `\x01t`) {
				onReplica++
			}
		}
	}
	if onReplica == 0 {
		t.Fatal("nothing ran on the replica")
	}

	for _, c := range []struct{ name, script, want string }{
		{"SET and RESET", "Q set timezone = 'Asia/Kolkata'\n" + read + "\n" + write + "\nQ reset timezone\n" + read + "\n" + write, "TimeZone Asia/Kolkata |TimeZone UTC "},
		{"SET LOCAL on the replica", "Q begin read only\n" + read + "\nQ set local timezone = 'Asia/Kolkata'\nQ commit\n" + write, "TimeZone Asia/Kolkata |TimeZone UTC "},
		{"what is rolled back on the replica", "Q begin read only\n" + read + "\nQ set timezone = 'Asia/Kolkata'\nQ rollback\n" + write, "TimeZone Asia/Kolkata |TimeZone UTC "},
	} {
		if got := strings.Join(statusOf(first.play(c.script, nil)), "|"); got != c.want {
			t.Errorf("%s: told %q", c.name, got)
		}
		if list := statusOf(second.play(read+"\n"+write, nil)); list != nil {
			t.Errorf("%s: another client is told %q", c.name, list)
		}
	}

	for _, n := range servers.Nodes() {
		run(n, "alter system set datestyle = 'SQL, DMY'", "select pg_reload_conf()")
	}
	for who, c := range map[string]*peer{"first": first, "second": second} {
		got := statusOf(c.play(strings.Repeat(read+"\n"+write+"\n", 4), nil))
		if !slices.Equal(got, []string{"DateStyle SQL, DMY "}) {
			t.Errorf("the %s is told %q", who, got)
		}
	}
}
