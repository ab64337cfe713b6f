package demo

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/fairwaydb/fairway/modules/pgtest"
)

// await waits until a condition holds or the test's patience ends.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("not within 60 s: %s", what)
		case <-tick.C:
		}
	}
}

func TestKeeperReplacesADeadPrimaryAndBringsServersBackWhileTheLoadGoesOn(t *testing.T) {
	c, err := pgtest.Start(t.Context(), pgtest.Options{Replicas: 2, Log: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	k := newKeeper(c)
	k.restart, k.promote = time.Second, 200*time.Millisecond
	old := c.Primary()
	if err := prepare(ctx, old); err != nil {
		t.Fatal(err)
	}
	l := newLoad(old.Addr(), 2) // here the proxy is left out
	l.start(ctx)
	k.start(ctx)
	defer func() {
		cancel()
		l.wait()
		k.wait()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	await(t, "statements without an error", func() bool {
		s := l.summary(time.Now())
		return s.total > 20 && s.failed == 0
	})

	replica := c.Node("pg3")
	if err := replica.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	await(t, "the replica is back", func() bool { return told(k, "pg3 is back") })

	if err := old.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	await(t, "another primary", func() bool { return c.Primary() != old })
	await(t, "the old primary is back", func() bool { return told(k, "pg1 is back") })
	if err := c.WaitStreaming(ctx); err != nil {
		t.Fatal(err)
	}
	if rows, err := c.Primary().QueryIn(ctx, demoDatabase, "SELECT count(*) FROM items"); err != nil || rows[0][0] != "1000" {
		t.Fatalf("the table on the new primary: %v, %v", rows, err)
	}
	if s := l.summary(time.Now()); s.failed == 0 || s.lastFail == "" {
		t.Errorf("the load has not noticed: %v", s)
	}
}

// told reports whether an event contains a text.
func told(k *keeper, text string) bool { return strings.Contains(strings.Join(k.events(), "\n"), text) }
