package pool

import "time"

// Defaults of [Limits].
const (
	defaultSize           = 20
	defaultBudget         = 80
	defaultMaxLifetime    = time.Hour
	defaultIdleTimeout    = 10 * time.Minute
	defaultConnectTimeout = 5 * time.Second
	defaultWaitTimeout    = 30 * time.Second
	defaultMaxWaiters     = 10_000
	defaultStatementCache = 256
)

// lifetimeJitter spreads MaxLifetime by up to this fraction both ways, so that connections opened together are not
// all closed together.
const lifetimeJitter = 0.1

// Limits bound what a [Set] holds and how long it waits. They may be changed at any time with [Set.SetLimits].
type Limits struct {
	// Size is the largest number of server connections per identity. Default 20, also when zero or less.
	Size int
	// MaxServerConnections is the budget of the backend: the largest number of server connections open or being
	// opened, over all identities. DefaultLimits has 80; zero or less: no limit but Size.
	MaxServerConnections int
	// MaxLifetime is the age at which a connection is closed when it is idle or released, give or take 10 % chosen
	// per connection. DefaultLimits has 1h; zero or less: no limit.
	MaxLifetime time.Duration
	// IdleTimeout is how long a connection may stay idle. DefaultLimits has 10m; zero or less: no limit.
	IdleTimeout time.Duration
	// ConnectTimeout bounds one dial including the login, and one CancelRequest. Default 5s, also when zero or less.
	ConnectTimeout time.Duration
	// WaitTimeout is how long Acquire waits for a connection. Default 30s, also when zero or less.
	WaitTimeout time.Duration
	// MaxWaiters is the largest number of Acquire calls that wait, over all identities. Default 10000, also when zero
	// or less.
	MaxWaiters int
	// StatementCache is the number of prepared statements remembered per server connection. Default 256, also when
	// zero or less.
	StatementCache int
}

// DefaultLimits returns the limits in force when nothing is configured.
func DefaultLimits() Limits {
	return Limits{
		MaxServerConnections: defaultBudget,
		MaxLifetime:          defaultMaxLifetime,
		IdleTimeout:          defaultIdleTimeout,
	}.complete()
}

// complete puts defaults in the place of values that cannot work.
func (l Limits) complete() Limits {
	for _, n := range []struct {
		value    *int
		fallback int
	}{{&l.Size, defaultSize}, {&l.MaxWaiters, defaultMaxWaiters}, {&l.StatementCache, defaultStatementCache}} {
		if *n.value <= 0 {
			*n.value = n.fallback
		}
	}
	if l.ConnectTimeout <= 0 {
		l.ConnectTimeout = defaultConnectTimeout
	}
	if l.WaitTimeout <= 0 {
		l.WaitTimeout = defaultWaitTimeout
	}
	return l
}

// full tells whether the budget leaves no room for one more of total connections.
func (l *Limits) full(total int) bool {
	return l.MaxServerConnections > 0 && total >= l.MaxServerConnections
}

// share is the number of connections each of n pools may claim when the budget is short.
func (l *Limits) share(n int) int {
	return max(1, l.MaxServerConnections/max(1, n))
}

// expired tells whether a connection of this age and jitter (-1 … 1) is too old.
func (l *Limits) expired(age time.Duration, jitter float64) bool {
	return l.MaxLifetime > 0 && age >= l.MaxLifetime+time.Duration(lifetimeJitter*jitter*float64(l.MaxLifetime))
}
