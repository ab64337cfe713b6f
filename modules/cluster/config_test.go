package cluster

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycaddyfile "github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/fairwaydb/fairway/modules/pgauth"
)

// parse reads a cluster's block; the first word is its name.
func parse(t *testing.T, text string) (*Config, error) {
	t.Helper()
	c := new(Config)
	err := c.UnmarshalCaddyfile(caddycaddyfile.NewTestDispenser(text))
	return c, err
}

// resolve makes the settings of a cluster called main.
func resolve(t *testing.T, c *Config) (*Settings, error) {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	return c.Settings(ctx, "main", nil)
}

const everything = `main {
	backend pg1 10.0.0.1
	backend pg2 [::1]:5433 {
		weight 2.5
		priority 3
	}
	backend pg3 unix//run/postgresql/.s.PGSQL.5432
	credentials fairway {env.FAIRWAY_TEST_PASSWORD} {
		database admin
	}
	auth query {
		method md5
		channel_binding disable
		insecure_server_cleartext
		query "SELECT app.verifier($1)"
		timeout 1s
		cache_ttl off
		cache_missing_ttl 2s
		cache_size 5
	}
	server_tls require
	breaker consecutive {
		threshold 7
		recovery_timeout 3s
		trial_requests 2
	}
	consistency strong
	pool {
		mode transaction
		size 3
		max_server_connections off
		max_lifetime 2h
		idle_timeout off
		connect_timeout 3s
		wait_timeout 4s
		max_waiters 6
		statement_cache 9
		max_pinned 0.5
	}
	max_lag 1MiB
	lag_resume 1KiB
	failover_wait off
	drain_timeout 5s
	read_functions app.get_* app.find_*
	read_functions lib.*
	write_functions app.put_*
	keep_alive off
	monitor {
		interval 2s
		fast_interval 50ms
		timeout 700ms
		down_after 3
		stale 1m
		poll 5ms
	}
	health {
		error_weight 1
		latency_weight 2
		circuit_weight 3
		window 10s
		half_life 2s
		latency_good 10ms
		latency_bad 1s
		degraded_at 0.3
		slow_start 0s
		slow_start_min 0.2
	}
}`

func TestEveryOptionOfTheCaddyfileReachesTheSettings(t *testing.T) {
	t.Setenv("FAIRWAY_TEST_PASSWORD", "harbour")
	c, err := parse(t, everything)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "harbour") {
		t.Error("the password shows in the JSON")
	}
	again := new(Config)
	if err := json.Unmarshal(text, again); err != nil || !reflect.DeepEqual(c, again) {
		t.Errorf("the configuration does not survive JSON: %v\n%s", err, text)
	}
	s, err := resolve(t, again)
	if err != nil {
		t.Fatal(err)
	}
	want := newSettings()
	want.Backends = []Endpoint{
		{Name: "pg1", Address: "10.0.0.1:5432"},
		{Name: "pg2", Address: "[::1]:5433", Weight: 2.5, Priority: 3},
		{Name: "pg3", Address: "/run/postgresql/.s.PGSQL.5432"},
	}
	want.login = login{user: "fairway", database: "admin", secret: pgauth.Secret{Password: "harbour"}}
	want.verify = verifySettings{sql: "SELECT app.verifier($1)", timeout: time.Second, missingTTL: 2 * time.Second, size: 5}
	want.Clients = ClientSettings{Method: MethodMD5, Binding: pgauth.BindingDisable}
	want.server.cleartext = true
	want.server.mode, want.server.keepAlive = TLSRequire, 0
	want.Breaker = &Consecutive{Threshold: 7, RecoveryTimeout: caddy.Duration(3 * time.Second), TrialRequests: 2}
	want.Consistency = ConsistencyStrong
	want.Pool.Size, want.Pool.MaxServerConnections = 3, 0
	want.Pool.MaxLifetime, want.Pool.IdleTimeout = 2*time.Hour, 0
	want.Pool.ConnectTimeout, want.Pool.WaitTimeout = 3*time.Second, 4*time.Second
	want.Pool.MaxWaiters, want.Pool.StatementCache = 6, 9
	want.MaxPinned, want.MaxLag, want.LagResume = 0.5, 1<<20, 1<<10
	want.FailoverWait, want.DrainTimeout = 0, 5*time.Second
	want.ReadFunctions, want.WriteFunctions = []string{"app.get_*", "app.find_*", "lib.*"}, []string{"app.put_*"}
	want.Monitor = MonitorSettings{
		Interval: 2 * time.Second, FastInterval: 50 * time.Millisecond, Timeout: 700 * time.Millisecond,
		DownAfter: 3, Stale: time.Minute, Poll: 5 * time.Millisecond,
	}
	want.Health = HealthSettings{
		ErrorWeight: 1, LatencyWeight: 2, CircuitWeight: 3, Window: 10 * time.Second, HalfLife: 2 * time.Second,
		LatencyGood: 10 * time.Millisecond, LatencyBad: time.Second, DegradedAt: 0.3, SlowStartMin: 0.2,
	}
	s.server.tls, want.server.tls = nil, nil
	if !reflect.DeepEqual(s, want) {
		t.Errorf("settings are\n%+v\nwant\n%+v", s, want)
	}
}

func TestTheSmallestConfigurationGetsTheDefaults(t *testing.T) {
	c, err := parse(t, "main {\n backend pg1 db:5432\n credentials fairway\n}")
	if err != nil {
		t.Fatal(err)
	}
	s, err := resolve(t, c)
	if err != nil {
		t.Fatal(err)
	}
	want := newSettings()
	want.Backends = []Endpoint{{Name: "pg1", Address: "db:5432"}}
	want.login.user = "fairway"
	s.server.tls, want.server.tls = nil, nil
	if !reflect.DeepEqual(s, want) {
		t.Errorf("settings are\n%+v\nwant\n%+v", s, want)
	}
	if r := s.Breaker.Recovery(); r != (Recovery{Timeout: 30 * time.Second, Trials: 3}) {
		t.Errorf("recovery is %+v", r)
	}
}

func TestWrongCaddyfilesAreRefusedWithTheRemedy(t *testing.T) {
	for text, want := range map[string]string{
		"backnd a b":                         `unknown option "backnd" in cluster main; did you mean "backend"?`,
		"backend pg1":                        `option "backend" has too few arguments`,
		"backend a b\nbackend a c":           `backend "a" is given twice`,
		"backend a b {\nweight 0\n}":         "write a share above 0",
		"backend a b {\nweigth 1\n}":         `unknown option "weigth" in backend a; did you mean "weight"?`,
		"auth maybe":                         "write query, user, file or trust",
		"auth file":                          "the file has one path",
		"auth file a b":                      "the file has one path",
		"auth query {\n method gss\n}":       "gss",
		"auth trust x y":                     `"x" is superfluous`,
		"auth user":                          "a user or a password is missing",
		"auth user a":                        "a user or a password is missing",
		"auth user a b\nauth user a c":       `auth user "a" is given twice`,
		"auth query\nauth query":             "only auth user may be repeated",
		"auth query\nauth user a b":          "only auth user may be repeated",
		"server_tls always":                  "write disable, allow, prefer",
		"consistency some":                   `unknown value "some"`,
		"breaker wild":                       `unknown module "wild"`,
		"breaker consecutive {\nlimit 1\n}":  `unknown option "limit"`,
		"pool {\nmode phrase\n}":             `unknown value "phrase"`,
		"pool {\nmode statement\n}":          "pool mode statement is not built",
		"pool {\nsize 0\n}":                  "too small",
		"max_lag -1":                         "size",
		"monitor {\ninterval 0s\n}":          "0 is not possible",
		"failover_wait 10":                   "has no unit",
		"failover_wait 1s\nfailover_wait 2s": "given twice",
	} {
		t.Run(text, func(t *testing.T) {
			_, err := parse(t, "main {\n"+text+"\n}")
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error is %v, want one with %q", err, want)
			}
		})
	}
}

func TestUsersMayBeGivenOnSeveralLines(t *testing.T) {
	c, err := parse(t, "main {\n auth user a {env.A} b {env.B}\n auth user c {env.C}\n}")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"a": "{env.A}", "b": "{env.B}", "c": "{env.C}"}
	if !reflect.DeepEqual(c.Auth.Users, want) {
		t.Errorf("users are %v", c.Auth.Users)
	}
}

func TestWrongConfigurationsAreRefusedWithTheRemedy(t *testing.T) {
	t.Setenv("FAIRWAY_TEST_PASSWORD", "harbour")
	t.Setenv("FAIRWAY_TEST_MD5", pgauth.HashMD5("alice", "harbour"))
	t.Setenv("FAIRWAY_TEST_BROKEN", "SCRAM-SHA-256$4096:harbour")
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change func(c *Config)
		want   string
	}{
		"no backends":         {func(c *Config) { c.Backends = nil }, "write backend NAME HOST:PORT"},
		"a null backend":      {func(c *Config) { c.Backends["x"] = nil }, "backend x: no address"},
		"a name with slash":   {func(c *Config) { c.Backends["a/b"] = &BackendConfig{Address: "h"} }, "must not be empty or contain"},
		"an address of ports": {func(c *Config) { c.Backends["x"] = &BackendConfig{Address: "a:b:c"} }, "write HOST:PORT"},
		"an address of nobody": {
			func(c *Config) { c.Backends["x"] = &BackendConfig{Address: ":5432"} }, "has no host",
		},
		"a negative weight":   {func(c *Config) { c.Backends["pg1"].Weight = -1 }, "backend pg1: weight -1 is negative"},
		"no credentials":      {func(c *Config) { c.Credentials = nil }, "write credentials USER {env.PASSWORD}"},
		"a literal password":  {func(c *Config) { c.Credentials.Password = "harbour" }, "credentials: password: a literal password is not accepted"},
		"an unset variable":   {func(c *Config) { c.Credentials.Password = "{env.FAIRWAY_TEST_UNSET}" }, "credentials: password: replace placeholder"},
		"an unknown mode":     {func(c *Config) { c.Auth = &AuthConfig{Mode: "ask"} }, "write query, user, file or trust"},
		"users without any":   {func(c *Config) { c.Auth = &AuthConfig{Mode: "user"} }, "write auth user NAME"},
		"users nobody asks":   {func(c *Config) { c.Auth = &AuthConfig{Users: map[string]string{"a": "{env.A}"}} }, "auth query takes no users"},
		"a query nobody asks": {func(c *Config) { c.Auth = &AuthConfig{Mode: "trust", Query: "x"} }, "auth trust takes no query"},
		"a literal user password": {
			func(c *Config) { c.Auth = &AuthConfig{Mode: "user", Users: map[string]string{"a": "b"}} }, "auth user a: a literal password",
		},
		"an unknown method":                 {func(c *Config) { c.Auth = &AuthConfig{Method: "gss"} }, "write scram-sha-256, md5, password"},
		"an unknown binding":                {func(c *Config) { c.Auth = &AuthConfig{ChannelBinding: "maybe"} }, "write prefer, require or disable"},
		"a method that cannot be bound":     {func(c *Config) { c.Auth = &AuthConfig{Method: "md5", ChannelBinding: "require"} }, "method md5 cannot be bound"},
		"a method nobody asks by":           {func(c *Config) { c.Auth = &AuthConfig{Mode: "trust", Method: "md5"} }, "auth trust asks for nothing"},
		"cleartext that is never sent":      {func(c *Config) { c.Auth = &AuthConfig{InsecureClientCleartext: true} }, "method scram-sha-256 sends no password"},
		"a file that is not named":          {func(c *Config) { c.Auth = &AuthConfig{Mode: "file"} }, "write auth file PATH"},
		"a file nobody reads":               {func(c *Config) { c.Auth = &AuthConfig{File: "x"} }, "auth query takes no file"},
		"a file of users that is away":      {func(c *Config) { c.Auth = &AuthConfig{Mode: "file", File: file + "x"} }, "auth file: "},
		"a file of users that is a folder":  {func(c *Config) { c.Auth = &AuthConfig{Mode: "file", File: filepath.Dir(file)} }, "is no file"},
		"a file of users without any":       {func(c *Config) { c.Auth = &AuthConfig{Mode: "file", File: file} }, "line 1"},
		"a server binding without TLS":      {func(c *Config) { c.ServerTLS = &ServerTLSConfig{ChannelBinding: "require"} }, "a server that has TLS for sure"},
		"an unknown server binding":         {func(c *Config) { c.ServerTLS = &ServerTLSConfig{ChannelBinding: "yes"} }, "write prefer, require or disable"},
		"an md5 hash, clients do SCRAM":     {func(c *Config) { c.Auth = usersOf("{env.FAIRWAY_TEST_MD5}", "") }, "auth user alice: an md5 hash"},
		"an md5 hash in the configuration":  {func(c *Config) { c.Auth = usersOf(pgauth.HashMD5("alice", "x"), "md5") }, "auth user alice: a literal password"},
		"a SCRAM verifier with a part lost": {func(c *Config) { c.Auth = usersOf("{env.FAIRWAY_TEST_BROKEN}", "") }, "auth user alice: parse verifier"},
		"an unknown TLS mode":               {func(c *Config) { c.ServerTLS = &ServerTLSConfig{Mode: "tls"} }, "write disable, allow, prefer"},
		"a CA nobody checks":                {func(c *Config) { c.ServerTLS = &ServerTLSConfig{Mode: "prefer", CA: file} }, "write verify-full, or remove ca"},
		"a CA that is none":                 {func(c *Config) { c.ServerTLS = &ServerTLSConfig{CA: file} }, "no certificate in PEM form"},
		"a CA that is away":                 {func(c *Config) { c.ServerTLS = &ServerTLSConfig{CA: file + "x"} }, "server_tls: ca"},
		"a consistency":                     {func(c *Config) { c.Consistency = "some" }, "write session, strong or eventual"},
		"a pool mode":                       {func(c *Config) { c.Pool = &PoolConfig{Mode: "statement"} }, "pool: mode: pool mode statement is not built"},
		"a negative pool":                   {func(c *Config) { c.Pool = &PoolConfig{Size: -1} }, "pool: size is negative"},
		"a part above 1":                    {func(c *Config) { c.Pool = &PoolConfig{MaxPinned: 2} }, "pool: max_pinned is 2"},
		"a negative time":                   {func(c *Config) { c.Monitor = &MonitorConfig{Interval: -5} }, "monitor: interval is negative"},
		"resume above lag":                  {func(c *Config) { c.MaxLag, c.LagResume = 10, 20 }, "lag_resume is 20"},
		"a negative weight of the score": {
			func(c *Config) { c.Health = &HealthConfig{ErrorWeight: -1} }, "health: a weight is negative",
		},
		"a long window":     {func(c *Config) { c.Health = &HealthConfig{Window: caddy.Duration(time.Hour)} }, "health: window is 1h0m0s"},
		"latencies twisted": {func(c *Config) { c.Health = &HealthConfig{LatencyBad: 1} }, "must be above latency_good"},
		"a wrong breaker":   {func(c *Config) { c.BreakerRaw = json.RawMessage(`{"breaker":"consecutive","limit":1}`) }, "load breaker"},
		"an invalid breaker": {
			func(c *Config) { c.BreakerRaw = json.RawMessage(`{"breaker":"consecutive","threshold":-1}`) }, "threshold is negative",
		},
		"an unknown source": {func(c *Config) { c.SourcesRaw = []json.RawMessage{[]byte(`{"source":"none"}`)} }, "load source"},
	} {
		t.Run(name, func(t *testing.T) {
			c := &Config{
				Backends:    map[string]*BackendConfig{"pg1": {Address: "db"}},
				Credentials: &CredentialsConfig{User: "fairway", Password: "{env.FAIRWAY_TEST_PASSWORD}"},
			}
			test.change(c)
			_, err := resolve(t, c)
			if err == nil || !strings.HasPrefix(err.Error(), "cluster main: ") || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want one with %q", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "harbour") {
				t.Errorf("the error shows the password: %v", err)
			}
		})
	}
}

// usersOf is a list of alice alone.
func usersOf(password, method string) *AuthConfig {
	return &AuthConfig{Mode: "user", Method: method, Users: map[string]string{"alice": password}}
}

func TestUsersHavePasswordsOrVerifiers(t *testing.T) {
	t.Setenv("FAIRWAY_TEST_ALICE", "wonderland")
	verifier := pgauth.NewVerifier("builder", nil, 0).String()
	s, err := resolve(t, &Config{
		Backends:    map[string]*BackendConfig{"pg1": {Address: "db"}},
		Credentials: &CredentialsConfig{User: "fairway"},
		Auth: &AuthConfig{Mode: "user", Users: map[string]string{
			"alice": "{env.FAIRWAY_TEST_ALICE}", "bob": verifier,
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	b := newBed(t, map[string]*server{"pg1": primaryAt(1, 1)})
	b.Claim(s).Release()
	if s := b.Secret("alice"); s.Password != "wonderland" {
		t.Error("the password of alice does not log her in")
	}
	if !b.Secret("bob").IsZero() {
		t.Error("bob has a secret before he has logged in")
	}
	for user, want := range map[string]bool{"alice": true, "bob": true, "eve": false} {
		if v, err := b.Verifier(t.Context(), user); (v != nil) != want || err != nil {
			t.Errorf("verifier of %s: %v, error %v", user, v, err)
		}
	}
	if v, _ := b.Verifier(t.Context(), "bob"); v.String() != verifier {
		t.Error("bob has another verifier than the configured one")
	}
}

func TestLiteralPasswordsAreAcceptedOnRequest(t *testing.T) {
	s, err := resolve(t, &Config{
		Backends:                 map[string]*BackendConfig{"pg1": {Address: "db"}},
		Credentials:              &CredentialsConfig{User: "fairway", Password: "harbour"},
		InsecureLiteralPasswords: true,
	})
	if err != nil || s.login.secret.Password != "harbour" {
		t.Errorf("error is %v", err)
	}
}

func TestEveryFieldOfTheConfigurationIsDocumentedWithItsDefault(t *testing.T) {
	source, err := os.ReadFile("config.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{
		Config{}, BackendConfig{}, CredentialsConfig{}, AuthConfig{}, ServerTLSConfig{}, PoolConfig{}, MonitorConfig{}, HealthConfig{},
	} {
		typ := reflect.TypeOf(v)
		for i := range typ.NumField() {
			f := typ.Field(i)
			_, after, _ := strings.Cut(string(source), "type "+typ.Name()+" struct {")
			before, _, _ := strings.Cut(after, "\n\t"+f.Name+" ")
			doc := before[strings.LastIndex(before, "\n\n")+1:]
			if !strings.Contains(doc, "// "+f.Name+" ") {
				t.Errorf("%s.%s has no comment that begins with its name", typ.Name(), f.Name)
			}
			switch f.Name {
			case "Backends", "SourcesRaw", "Credentials", "Pool", "Monitor", "Health", "User":
			default:
				if !strings.Contains(doc, "Default") {
					t.Errorf("%s.%s does not tell its default", typ.Name(), f.Name)
				}
			}
		}
	}
}

func TestTheOptionTableDocumentsItself(t *testing.T) {
	text := new(Config).Options().Markdown("cluster")
	for _, want := range []string{"`max_lag <size>\\|off`", "`16MiB`", "backend", "`threshold <number>`", "`slow_start <duration>\\|off`"} {
		if !strings.Contains(text, want) {
			t.Errorf("the table lacks %q:\n%s", want, text)
		}
	}
}
