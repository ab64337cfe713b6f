package cluster

import (
	"github.com/caddyserver/caddy/v2"

	"github.com/fairwaydb/fairway/caddyfile"
)

// UnmarshalCaddyfile sets up a cluster from its block. The dispenser stands in
// front of the cluster's name:
//
//	<name> {
//		backend <name> <address> {
//			weight   <share>
//			priority <number>
//		}
//		source <module> …
//		credentials <user> [<password>] {
//			database <name>
//		}
//		auth query|trust {
//			…
//		}
//		auth user <name> <password>…
//		auth file <path>
//		server_tls [disable|allow|prefer|require|verify-ca|verify-full] {
//			ca          <file>
//			crl         <file>...
//			cert        <file>
//			key         <file>
//			server_name <name>
//			negotiation postgres|direct
//		}
//		policy <module> …
//		breaker <module> …
//		consistency session|strong|eventual
//		pool {
//			…
//		}
//		max_lag <size>|off
//		…
//	}
func (c *Config) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	if !d.Next() {
		return d.EOFErr()
	}
	return c.Options().ParseBlock(d, "cluster "+d.Val())
}

// Options is the table of a cluster's block.
func (c *Config) Options() caddyfile.Options {
	return caddyfile.Options{
		c.backendOption(),
		caddyfile.Guests("source", &c.SourcesRaw, "postgres.sources", "source", "", "finds further backends"),
		c.credentialsOption(),
		c.authOption(),
		c.serverTLSOption(),
		caddyfile.Guest("policy", &c.PolicyRaw, "postgres.policies", "policy", "health_score",
			"chooses among the replicas that may serve a read"),
		caddyfile.Guest("breaker", &c.BreakerRaw, "postgres.breakers", "breaker", "consecutive", "takes failing replicas out"),
		caddyfile.Enum("consistency", &c.Consistency, []string{"session", "strong", "eventual"}, "session",
			"what reads may miss: not the session's own writes; nothing; anything"),
		caddyfile.Nested("pool", func() caddyfile.Options { return made(&c.Pool).options() }, "limits of the server connections"),
		sizeOrOff("max_lag", &c.MaxLag, "16MiB", "lag beyond which a replica gets no reads"),
		caddyfile.Size("lag_resume", &c.LagResume, "half of max_lag", "lag at which it gets them again"),
		span("failover_wait", &c.FailoverWait, true, "10s", "how long a statement waits for a primary before it fails with 57P03"),
		span("drain_timeout", &c.DrainTimeout, true, "60s", "how long sessions may keep server connections of a removed backend"),
		span("cooldown", &c.Cooldown, true, "30s", "time between two changes of the number of backends by the admin API"),
		caddyfile.Enum("catalog", &c.Catalog, []string{"on", "off"}, "on", "read the schema of each database, to know what functions, views and operators do"),
		caddyfile.Strings("read_functions", &c.ReadFunctions, "<glob>...", "", "functions that only read, whatever the catalog says"),
		caddyfile.Strings("write_functions", &c.WriteFunctions, "<glob>...", "", "functions that write, whatever the catalog says"),
		span("keep_alive", &c.KeepAlive, true, "1m", "time without traffic after which the system probes whether a server is there"),
		caddyfile.Nested("monitor", func() caddyfile.Options { return made(&c.Monitor).options() }, "times of the monitor"),
		caddyfile.Nested("health", func() caddyfile.Options { return made(&c.Health).options() }, "numbers of the health score"),
		caddyfile.Bool("insecure_literal_passwords", &c.InsecureLiteralPasswords, "off",
			"accepts passwords written in the configuration, for tests and demos"),
	}
}

// made returns what p points to, made on first use: blocks that are not written
// stay nil.
func made[T any](p **T) *T {
	if *p == nil {
		*p = new(T)
	}
	return *p
}

func (c *Config) backendOption() caddyfile.Option {
	return caddyfile.Option{
		Name: "backend", Args: "<name> <address>", Repeat: true,
		Help:  "a server: host:port, or the path of a Unix socket; its role is found out",
		Block: func() caddyfile.Options { return new(BackendConfig).options() },
		Parse: func(d *caddyfile.Dispenser, args []string) error {
			if _, twice := c.Backends[args[0]]; twice {
				return d.Errf("backend %q is given twice: remove one of them, or choose another name", args[0])
			}
			if c.Backends == nil {
				c.Backends = make(map[string]*BackendConfig)
			}
			b := &BackendConfig{Address: args[1]}
			c.Backends[args[0]] = b
			return b.options().ParseBlock(d, "backend "+args[0])
		},
	}
}

func (b *BackendConfig) options() caddyfile.Options {
	weight := caddyfile.Float("weight", &b.Weight, "<share>", "1", "share of reads relative to the other servers")
	parse := weight.Parse
	weight.Parse = func(d *caddyfile.Dispenser, args []string) error {
		if err := parse(d, args); err != nil {
			return err
		}
		if b.Weight == 0 {
			return d.Errf("option %q: 0 would mean no reads at all: write a share above 0, or remove the backend", "weight")
		}
		return nil
	}
	return caddyfile.Options{
		weight,
		caddyfile.Int("priority", &b.Priority, 0, "<number>", "0", "order for the policy first: the lowest is taken"),
	}
}

func (c *Config) credentialsOption() caddyfile.Option {
	return caddyfile.Option{
		Name: "credentials", Args: "<user> [<password>]",
		Help:  "Fairway's own account on the servers: LOGIN and pg_monitor; the password as {env.NAME} or {file./path}",
		Block: func() caddyfile.Options { return new(CredentialsConfig).options() },
		Parse: func(d *caddyfile.Dispenser, args []string) error {
			c.Credentials = &CredentialsConfig{User: args[0]}
			if len(args) > 1 {
				c.Credentials.Password = args[1]
			}
			return c.Credentials.options().ParseBlock(d, "credentials")
		},
	}
}

func (k *CredentialsConfig) options() caddyfile.Options {
	return caddyfile.Options{
		caddyfile.String("database", &k.Database, "<name>", "postgres", "database to connect to"),
	}
}

func (p *PoolConfig) options() caddyfile.Options {
	return caddyfile.Options{
		PoolModeOption("mode", &p.Mode, "transaction", "how long a session holds a server connection: until its transaction ends, or until the client leaves"),
		caddyfile.Int("size", &p.Size, 1, "<number>", "20", "server connections for one user and database on one backend"),
		intOrOff("max_server_connections", &p.MaxServerConnections, "80", "server connections to one backend, over all pools"),
		span("max_lifetime", &p.MaxLifetime, true, "1h", "age at which a server connection is closed, give or take 10 %"),
		span("idle_timeout", &p.IdleTimeout, true, "10m", "how long a server connection may be idle"),
		span("connect_timeout", &p.ConnectTimeout, false, "5s", "bound of a dial, login included"),
		span("wait_timeout", &p.WaitTimeout, false, "30s", "how long a session waits for a server connection before it gets 53300"),
		caddyfile.Int("max_waiters", &p.MaxWaiters, 1, "<number>", "10000", "sessions that may wait at one backend"),
		caddyfile.Int("statement_cache", &p.StatementCache, 1, "<number>", "256", "prepared statements kept on a server connection"),
		caddyfile.Float("max_pinned", &p.MaxPinned, "<part>", "0.75", "part of a pool that sessions may hold outside transactions"),
	}
}

func (m *MonitorConfig) options() caddyfile.Options {
	return caddyfile.Options{
		span("interval", &m.Interval, false, "1s", "time between probes"),
		span("fast_interval", &m.FastInterval, false, "100ms", "the same while there is no primary and after a failure"),
		span("timeout", &m.Timeout, false, "2s", "bound of a probe, connecting included"),
		caddyfile.Int("down_after", &m.DownAfter, 1, "<number>", "2", "probes in a row without an answer after which the primary is gone"),
		span("stale", &m.Stale, false, "30s", "how long an answer is trusted while the server cannot be asked"),
		span("poll", &m.Poll, false, "20ms", "time between looks at replay positions while sessions wait for their writes"),
	}
}

func (h *HealthConfig) options() caddyfile.Options {
	return caddyfile.Options{
		caddyfile.Float("error_weight", &h.ErrorWeight, "<weight>", "0.4", "weight of the error rate"),
		caddyfile.Float("latency_weight", &h.LatencyWeight, "<weight>", "0.4", "weight of the latency"),
		caddyfile.Float("circuit_weight", &h.CircuitWeight, "<weight>", "0.2", "weight of the circuit"),
		span("window", &h.Window, false, "30s", "time errors are counted over, up to 60s"),
		span("half_life", &h.HalfLife, false, "5s", "half-life of the moving average of latency"),
		span("latency_good", &h.LatencyGood, false, "100ms", "latency up to which its part is 1"),
		span("latency_bad", &h.LatencyBad, false, "2s", "latency from which on its part is 0"),
		caddyfile.Float("degraded_at", &h.DegradedAt, "<part>", "0.5", "error rate from which on a backend is DEGRADED"),
		span("slow_start", &h.SlowStart, true, "10s", "time a backend that is taken in needs to reach its weight"),
		caddyfile.Float("slow_start_min", &h.SlowStartMin, "<part>", "0.1", "part of its weight that it begins with"),
	}
}

// off is the value of the fields for which 0 is the default.
const off = -1

// PoolModeOption is an option whose value is a pool mode.
func PoolModeOption(name string, dst *string, def, help string) caddyfile.Option {
	o := caddyfile.Enum(name, dst, []string{PoolTransaction.String(), PoolSession.String()}, def, help)
	parse := o.Parse
	o.Parse = func(d *caddyfile.Dispenser, args []string) error {
		if len(args) == 1 && args[0] == "statement" {
			_, err := ParsePoolMode(args[0])
			return d.Errf("option %q: %w", name, err)
		}
		return parse(d, args)
	}
	return o
}

// span is an option whose value is a time. Where it can be switched off, off and
// 0s do so; elsewhere 0s is refused.
func span(name string, dst *caddy.Duration, canBeOff bool, def, help string) caddyfile.Option {
	if canBeOff {
		return orOff(caddyfile.Duration(name, dst, def, help), dst)
	}
	return caddyfile.PositiveDuration(name, dst, def, help)
}

// sizeOrOff is an option whose value is a size, or off.
func sizeOrOff(name string, dst *int64, def, help string) caddyfile.Option {
	return orOff(caddyfile.Size(name, dst, def, help), dst)
}

// intOrOff is an option whose value is a number, or off.
func intOrOff(name string, dst *int, def, help string) caddyfile.Option {
	return orOff(caddyfile.Int(name, dst, 0, "<number>", def, help), dst)
}

// orOff lets an option be switched off, by the word or by 0.
func orOff[T caddyfile.Integer](o caddyfile.Option, dst *T) caddyfile.Option {
	parse := o.Parse
	o.Args += "|off"
	o.Parse = func(d *caddyfile.Dispenser, args []string) error {
		if args[0] != "off" {
			if err := parse(d, args); err != nil || *dst != 0 {
				return err
			}
		}
		*dst = off
		return nil
	}
	return o
}

// Interface guard.
var _ caddyfile.Unmarshaler = (*Config)(nil)
