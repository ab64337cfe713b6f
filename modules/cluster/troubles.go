package cluster

import (
	"time"

	"go.uber.org/zap"
)

// tellAfter is the time between two lines about failing auth queries: anybody who can connect can provoke a query, and
// perhaps one that fails.
const tellAfter = 10 * time.Second

// troubles are what the operator hears of failing auth queries.
type troubles struct {
	failed int  // queries since the last line about failures
	told   Mark // when that was; zero: never
	open   bool // nothing has worked since
}

// failure counts a failed query. It returns of how many failures, this one included, the operator is to be told now; 0 is
// of none.
func (t *troubles) failure(now Mark) (tell int) {
	t.failed++
	if t.told != 0 && now.Sub(t.told) < tellAfter {
		return 0
	}
	tell = t.failed
	t.failed, t.told, t.open = 0, now, true
	return tell
}

// success tells whether the operator is to hear that queries work again: as often as that they do not.
func (t *troubles) success() (tell bool) {
	tell = t.open
	t.open = false
	return tell
}

// authWorks tells the operator when auth queries begin to fail, when they go on failing, and when that is over.
func (c *Cluster) authWorks(works bool, reason error) {
	v := &c.verifiers
	failures, recovered := 0, false
	v.mu.Lock()
	if works {
		recovered = v.mu.success()
	} else {
		failures = v.mu.failure(Now())
	}
	v.mu.Unlock()
	switch {
	case recovered:
		c.logger().Info("auth query works again", zap.String("cluster", c.name))
	case failures > 0:
		c.logger().Error("auth query failed: no client can log in until one works", zap.String("cluster", c.name),
			zap.Int("failures", failures), zap.Error(reason))
	}
}
