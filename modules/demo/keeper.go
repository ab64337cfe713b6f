package demo

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/fairwaydb/fairway/modules/pgtest"
)

const (
	// promoteAfter is how long a primary is dead before a replica is promoted: what a failover manager needs to be sure.
	promoteAfter = 3 * time.Second
	// restartAfter is how long a killed server stays dead.
	restartAfter = 15 * time.Second
	// keptEvents is how many events are shown.
	keptEvents = 5
)

// keeper brings dead servers back and replaces a dead primary, as the failover manager of a real installation does: it
// stands beside the load balancer and is no part of it.
type keeper struct {
	cluster *pgtest.Cluster
	restart time.Duration
	promote time.Duration
	wg      sync.WaitGroup

	mu struct {
		sync.Mutex
		events []string
	}
}

// newKeeper watches over a cluster's servers with the usual delays.
func newKeeper(c *pgtest.Cluster) *keeper {
	return &keeper{cluster: c, restart: restartAfter, promote: promoteAfter}
}

// start begins to watch every server; it ends with ctx, and wait waits for that.
func (k *keeper) start(ctx context.Context) {
	for _, n := range k.cluster.Nodes() {
		k.wg.Go(func() { k.watch(ctx, n) })
	}
}

func (k *keeper) wait() { k.wg.Wait() }

// watch waits for the end of a server and brings it back, again and again.
func (k *keeper) watch(ctx context.Context, n *pgtest.Node) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.Gone():
		}
		if ctx.Err() != nil {
			return
		}
		died, wasPrimary := time.Now(), n == k.cluster.Primary()
		if wasPrimary {
			k.failOver(ctx, n)
		} else {
			k.tell("%s is dead; it comes back in %s", n.Name(), k.restart)
		}
		if !pause(ctx, k.restart-time.Since(died)) {
			return
		}
		if err := k.revive(ctx, n, wasPrimary); err != nil {
			if ctx.Err() != nil {
				return
			}
			k.tell("%s does not come back: %v", n.Name(), err)
			if !pause(ctx, k.restart) {
				return
			}
			continue
		}
		k.tell("%s is back", n.Name())
	}
}

// failOver promotes the replica that has received most and makes the others follow it.
func (k *keeper) failOver(ctx context.Context, dead *pgtest.Node) {
	k.tell("%s, the primary, is dead; a replica is promoted in %s", dead.Name(), k.promote)
	if !pause(ctx, k.promote) {
		return
	}
	best := k.mostAdvanced(ctx)
	if best == nil {
		k.tell("no replica is left to promote; %s comes back in %s", dead.Name(), k.restart-k.promote)
		return
	}
	if err := best.Promote(ctx); err != nil {
		k.tell("%s cannot be promoted: %v", best.Name(), err)
		return
	}
	k.tell("%s is the primary now; %s comes back as a replica", best.Name(), dead.Name())
	for _, n := range k.cluster.Replicas() {
		if !n.Running() {
			continue
		}
		if err := n.Follow(ctx); err != nil && ctx.Err() == nil {
			k.tell("%s does not follow %s: %v", n.Name(), best.Name(), err)
		}
	}
}

// mostAdvanced returns the running replica with the highest position received, nil when none answers.
func (k *keeper) mostAdvanced(ctx context.Context) *pgtest.Node {
	type candidate struct {
		node     *pgtest.Node
		position int64
	}
	var candidates []candidate
	for _, n := range k.cluster.Replicas() {
		if !n.Running() {
			continue
		}
		text, err := n.Value(ctx, "SELECT (greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0')::bigint")
		if err != nil {
			continue
		}
		if position, err := strconv.ParseInt(text, 10, 64); err == nil {
			candidates = append(candidates, candidate{n, position})
		}
	}
	if len(candidates) == 0 {
		return nil
	}
	return slices.MaxFunc(candidates, func(a, b candidate) int { return cmp.Compare(a.position, b.position) }).node
}

// revive starts a dead server again as what it was. One that was the primary and is not any more is built anew as a
// replica, and so is a replica that cannot follow the present primary.
func (k *keeper) revive(ctx context.Context, n *pgtest.Node, wasPrimary bool) error {
	isPrimary := n == k.cluster.Primary()
	if wasPrimary && !isPrimary {
		return n.Rejoin(ctx)
	}
	if !n.Running() {
		if err := n.Start(ctx); err != nil {
			return err
		}
	}
	if isPrimary {
		return nil
	}
	if err := n.Follow(ctx); err != nil {
		return n.Rejoin(ctx)
	}
	return nil
}

// tell keeps a line for the view.
func (k *keeper) tell(format string, a ...any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mu.events = append(k.mu.events, time.Now().Format(time.TimeOnly)+" "+fmt.Sprintf(format, a...))
	k.mu.events = k.mu.events[max(0, len(k.mu.events)-keptEvents):]
}

// events returns the last lines, the newest last.
func (k *keeper) events() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.mu.events)
}

// pause waits; false means that ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(max(d, 0))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
