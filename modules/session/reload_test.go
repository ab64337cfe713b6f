package session

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairwaydb/fairway/modules/pgtest"
)

// A server takes its changed configuration in when it hears from the client, and not before: an idle client hears of nothing, and
// the next turn tells.
func TestAnOpenSessionHearsOfAChangedConfigurationAsOnAServer(t *testing.T) {
	newer, err := pgtest.Start(context.WithoutCancel(t.Context()), pgtest.Options{Version: "18.1.0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := newer.Close(); err != nil {
			t.Error(err)
		}
	})
	for name, servers := range map[string]*pgtest.Cluster{"the machine's version": pg, "18": newer} {
		t.Run(name, func(t *testing.T) {
			primary := servers.Primary()
			run := func(ctx context.Context, sql string) {
				t.Helper()
				for _, s := range []string{sql, "SELECT pg_reload_conf()"} {
					if err := primary.Exec(ctx, s); err != nil {
						t.Fatal(err)
					}
				}
			}
			p := startProxy(t, servers, toPrimary)
			// Two share the only server connection: what it tells the one must reach the other as well.
			direct, first, second := dialPeer(t, primary.Addr()), dialPeer(t, p.addr), dialPeer(t, p.addr)
			for _, c := range []*peer{direct, first, second} {
				c.play("Q select 1", nil)
			}
			t.Cleanup(func() { run(context.Background(), "ALTER SYSTEM RESET DateStyle") })
			run(t.Context(), "ALTER SYSTEM SET DateStyle = 'SQL, DMY'")
			for who, c := range map[string]*peer{"directly": direct, "first": first, "second": second} {
				if typ, body := c.frame(500 * time.Millisecond); typ != 0 {
					t.Errorf("%s, while idle: %s", who, shown(typ, body))
				}
			}
			const script = "Q select 1\nQ show datestyle\nP - select 2\nB - -\nE - 0\nS"
			want := direct.play(script, nil)
			for _, c := range []*peer{first, second} {
				if got := c.play(script, nil); !slices.EqualFunc(want, got, slices.Equal) {
					t.Errorf("proxied %q\ndirect  %q", got, want)
				}
			}
			if !strings.Contains(strings.Join(want[0], " "), "DateStyle") {
				t.Errorf("the server says nothing: %q", want)
			}
		})
	}
}
