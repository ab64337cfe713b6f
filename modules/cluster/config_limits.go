package cluster

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// duration is an option of the kind and where its value goes. Zero leaves the
// default; a negative value switches off what can be.
type duration struct {
	option   string
	value    caddy.Duration
	canBeOff bool
	to       *time.Duration
}

// durations takes over what is written.
func durations(all ...duration) error {
	for _, d := range all {
		if d.value < 0 && !d.canBeOff {
			return fmt.Errorf("%s is negative: write a duration such as 500ms or 30s", d.option)
		}
		*d.to = max(orDefault(time.Duration(d.value), *d.to), 0)
	}
	return nil
}

// count is an option that counts, and where its value goes.
type count struct {
	option string
	value  int
	to     *int
}

// counts takes over what is written; none may be negative.
func counts(all ...count) error {
	for _, n := range all {
		if n.value < 0 {
			return fmt.Errorf("%s is negative: write a number above 0", n.option)
		}
		*n.to = orDefault(n.value, *n.to)
	}
	return nil
}

// fraction is an option between 0 and 1, and where its value goes.
type fraction struct {
	option string
	value  float64
	to     *float64
}

// fractions takes over what is written.
func fractions(all ...fraction) error {
	for _, f := range all {
		if f.value < 0 || f.value > 1 || math.IsNaN(f.value) {
			return fmt.Errorf("%s is %v: write a number between 0 and 1", f.option, f.value)
		}
		*f.to = orDefault(f.value, *f.to)
	}
	return nil
}

func (c *Config) resolvePool(s *Settings) error {
	p := c.Pool
	if p == nil {
		return nil
	}
	mode, err := ParsePoolMode(p.Mode)
	if err != nil {
		return fmt.Errorf("pool: mode: %w", err)
	}
	s.PoolMode = mode
	s.Pool.MaxServerConnections = max(orDefault(p.MaxServerConnections, s.Pool.MaxServerConnections), 0)
	return errors.Join(
		counts(
			count{"pool: size", p.Size, &s.Pool.Size},
			count{"pool: max_waiters", p.MaxWaiters, &s.Pool.MaxWaiters},
			count{"pool: statement_cache", p.StatementCache, &s.Pool.StatementCache},
		),
		durations(
			duration{"pool: max_lifetime", p.MaxLifetime, true, &s.Pool.MaxLifetime},
			duration{"pool: idle_timeout", p.IdleTimeout, true, &s.Pool.IdleTimeout},
			duration{"pool: connect_timeout", p.ConnectTimeout, false, &s.Pool.ConnectTimeout},
			duration{"pool: wait_timeout", p.WaitTimeout, false, &s.Pool.WaitTimeout},
		),
		fractions(fraction{"pool: max_pinned", p.MaxPinned, &s.MaxPinned}),
	)
}

func (c *Config) resolveLimits(s *Settings) error {
	if c.Consistency != "" {
		consistency, ok := ParseConsistency(c.Consistency)
		if !ok {
			return fmt.Errorf("unknown consistency %q: write session, strong or eventual", c.Consistency)
		}
		s.Consistency = consistency
	}
	if c.MaxLag != 0 {
		s.MaxLag = max(c.MaxLag, 0)
		s.LagResume = s.MaxLag / 2
	}
	if c.LagResume != 0 {
		s.LagResume = c.LagResume
	}
	if s.MaxLag > 0 && (s.LagResume < 0 || s.LagResume > s.MaxLag) {
		return fmt.Errorf("lag_resume is %d: write a number of bytes up to max_lag (%d)", s.LagResume, s.MaxLag)
	}
	switch c.Catalog {
	case "", "on":
	case "off":
		s.Catalog = false
	default:
		return fmt.Errorf("unknown catalog %q: write on or off", c.Catalog)
	}
	s.ReadFunctions, s.WriteFunctions = c.ReadFunctions, c.WriteFunctions
	return durations(
		duration{"failover_wait", c.FailoverWait, true, &s.FailoverWait},
		duration{"drain_timeout", c.DrainTimeout, true, &s.DrainTimeout},
		duration{"cooldown", c.Cooldown, true, &s.Cooldown},
	)
}

func (c *Config) resolveMonitor(s *Settings) error {
	m := c.Monitor
	if m == nil {
		return nil
	}
	return errors.Join(
		durations(
			duration{"monitor: interval", m.Interval, false, &s.Monitor.Interval},
			duration{"monitor: fast_interval", m.FastInterval, false, &s.Monitor.FastInterval},
			duration{"monitor: timeout", m.Timeout, false, &s.Monitor.Timeout},
			duration{"monitor: stale", m.Stale, false, &s.Monitor.Stale},
			duration{"monitor: poll", m.Poll, false, &s.Monitor.Poll},
		),
		counts(count{"monitor: down_after", m.DownAfter, &s.Monitor.DownAfter}),
	)
}

func (c *Config) resolveHealth(s *Settings) error {
	h := c.Health
	if h == nil {
		return nil
	}
	to := &s.Health
	if h.ErrorWeight != 0 || h.LatencyWeight != 0 || h.CircuitWeight != 0 {
		to.ErrorWeight, to.LatencyWeight, to.CircuitWeight = h.ErrorWeight, h.LatencyWeight, h.CircuitWeight
	}
	if min(to.ErrorWeight, to.LatencyWeight, to.CircuitWeight) < 0 {
		return errors.New("health: a weight is negative: write a number of 0 or more")
	}
	err := errors.Join(
		durations(
			duration{"health: slow_start", h.SlowStart, true, &to.SlowStart},
			duration{"health: window", h.Window, false, &to.Window},
			duration{"health: half_life", h.HalfLife, false, &to.HalfLife},
			duration{"health: latency_good", h.LatencyGood, false, &to.LatencyGood},
			duration{"health: latency_bad", h.LatencyBad, false, &to.LatencyBad},
		),
		fractions(
			fraction{"health: degraded_at", h.DegradedAt, &to.DegradedAt},
			fraction{"health: slow_start_min", h.SlowStartMin, &to.SlowStartMin},
		),
	)
	switch {
	case err != nil:
		return err
	case to.Window < time.Second || to.Window > maxWindow:
		return fmt.Errorf("health: window is %v: write a duration between 1s and %v", to.Window, maxWindow)
	case to.LatencyBad <= to.LatencyGood:
		return fmt.Errorf("health: latency_bad (%v) must be above latency_good (%v)", to.LatencyBad, to.LatencyGood)
	}
	return nil
}

// loadGuests loads the modules of the cluster.
func (c *Config) loadGuests(ctx caddy.Context, s *Settings) error {
	if c.BreakerRaw != nil {
		guest, err := ctx.LoadModule(c, "BreakerRaw")
		if err != nil {
			return fmt.Errorf("load breaker: %w", err)
		}
		breaker, ok := guest.(Breaker)
		if !ok {
			return fmt.Errorf("load breaker: %T is no breaker", guest)
		}
		s.Breaker = breaker
	}
	if c.SourcesRaw == nil {
		return nil
	}
	guests, err := ctx.LoadModule(c, "SourcesRaw")
	if err != nil {
		return fmt.Errorf("load source: %w", err)
	}
	all, _ := guests.([]any)
	for _, guest := range all {
		source, ok := guest.(Source)
		if !ok {
			return fmt.Errorf("load source: %T is no source", guest)
		}
		s.Sources = append(s.Sources, source)
	}
	return nil
}
