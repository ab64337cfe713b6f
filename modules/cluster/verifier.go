package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/fairwaydb/fairway/modules/pgauth"
	"github.com/fairwaydb/fairway/modules/pgwire"
)

// defaultAuthSQL reads the verifier of one user, as the server itself would: not
// of one that may not log in or whose password has expired. See
// https://www.postgresql.org/docs/current/catalog-pg-authid.html.
const defaultAuthSQL = `SELECT rolpassword FROM pg_catalog.pg_authid
 WHERE rolname OPERATOR(pg_catalog.=) $1 AND rolcanlogin
 AND (rolvaliduntil IS NULL OR rolvaliduntil OPERATOR(pg_catalog.>) pg_catalog.now())`

// authIdle is how long the connection for auth queries is kept without use.
const authIdle = 30 * time.Second

// verifiers caches what auth queries have found. There is one query at a time,
// on a connection that is kept for a while, and never two for the same user.
type verifiers struct {
	turn chan struct{} // holds one token: who has it may use the connection
	link *link
	on   *Backend
	made *Settings
	used Mark

	mu struct {
		sync.Mutex
		byUser  map[string]*verified
		flights map[string]*flight
		reset   uint64 // counts the resets: a flight begun before one stores nothing
	}
}

// verified is what was found of a user.
type verified struct {
	verifier *pgauth.Verifier // nil: there is no such user, or none with a SCRAM verifier
	at       Mark
	doubted  bool // a client's proof did not match it
}

// doubtAfter is the age from which a doubted verifier is asked for again: failed
// logins, which anybody can provoke, cause no more queries than that.
const doubtAfter = 5 * time.Second

// flight is a query under way.
type flight struct {
	done     chan struct{}
	verifier *pgauth.Verifier
	err      error
}

// Verifier returns what to check the user's password with; nil when there is no
// such user (the exchange is then played to its end all the same). With AuthUser
// it comes from the configuration; with AuthQuery from the servers, the primary
// first, and is kept for cache_ttl. An error means that nobody could be asked.
func (c *Cluster) Verifier(ctx context.Context, user string) (*pgauth.Verifier, error) {
	s := c.Settings()
	if s.Auth != AuthQuery {
		return s.users[user].verifier, nil
	}
	v := &c.verifiers
	v.mu.Lock()
	found := v.mu.byUser[user]
	if found != nil && found.fresh(s) {
		v.mu.Unlock()
		return found.verifier, nil
	}
	f := v.mu.flights[user]
	if f == nil {
		f = &flight{done: make(chan struct{})}
		v.mu.flights[user] = f
		if !c.fly(f, user, s, v.mu.reset) {
			delete(v.mu.flights, user)
			v.mu.Unlock()
			return nil, errNoServer()
		}
	}
	v.mu.Unlock()
	select {
	case <-f.done:
	case <-ctx.Done():
		return nil, fmt.Errorf("read verifier: %w", context.Cause(ctx))
	}
	if f.err != nil && found != nil && found.verifier != nil {
		return found.verifier, nil // nobody can be asked: better an old answer than none
	}
	return f.verifier, f.err
}

// fresh tells whether what was found still holds.
func (f *verified) fresh(s *Settings) bool {
	if f.doubted && f.at.Since() >= doubtAfter {
		return false
	}
	if f.verifier == nil {
		return f.at.Since() < s.verify.missingTTL
	}
	return f.at.Since() < s.verify.ttl
}

// fly asks the servers in a goroutine that the cluster's run owns: it serves
// everybody who waits, whether or not the first one gives up. verifiers.mu is
// held. It returns false when no claim is in force.
func (c *Cluster) fly(f *flight, user string, s *Settings, reset uint64) bool {
	return c.do(func(ctx context.Context) {
		f.verifier, f.err = c.queryVerifier(ctx, user, s)
		v := &c.verifiers
		v.mu.Lock()
		if v.mu.flights[user] == f {
			delete(v.mu.flights, user)
		}
		if f.err == nil && v.mu.reset == reset {
			c.store(user, f.verifier, s)
		}
		v.mu.Unlock()
		close(f.done)
	})
}

// store caches an answer; verifiers.mu is held. A verifier that has changed makes
// the keys that went with the old one useless.
func (c *Cluster) store(user string, verifier *pgauth.Verifier, s *Settings) {
	v := &c.verifiers
	if old := v.mu.byUser[user]; old != nil && !sameVerifier(old.verifier, verifier) {
		c.secrets.forget(user)
	}
	for other := range v.mu.byUser { // any will do: it is only asked for again
		if len(v.mu.byUser) < s.verify.size {
			break
		}
		delete(v.mu.byUser, other)
	}
	v.mu.byUser[user] = &verified{verifier: verifier, at: Now()}
}

func sameVerifier(a, b *pgauth.Verifier) bool {
	return a != nil && b != nil && bytes.Equal(a.StoredKey, b.StoredKey)
}

// DoubtVerifier says that a client's proof did not match the user's verifier: the
// password may have been changed, so that the next login asks the servers again,
// at most every few seconds. The keys of sessions that are in stay: a failed proof
// is nobody's word against them.
func (c *Cluster) DoubtVerifier(user string) {
	v := &c.verifiers
	v.mu.Lock()
	defer v.mu.Unlock()
	if found := v.mu.byUser[user]; found != nil {
		found.doubted = true
	}
}

// ForgetVerifier drops what is known of the user, verifier and keys, after a server
// has refused the keys. The next login asks the servers again.
func (c *Cluster) ForgetVerifier(user string) {
	v := &c.verifiers
	v.mu.Lock()
	delete(v.mu.byUser, user)
	v.mu.Unlock()
	c.secrets.forget(user)
}

// queryVerifier asks the primary, else any server that answers the probe.
func (c *Cluster) queryVerifier(ctx context.Context, user string, s *Settings) (*pgauth.Verifier, error) {
	ctx, cancel := context.WithTimeout(ctx, s.verify.timeout)
	defer cancel()
	v := &c.verifiers
	select {
	case v.turn <- struct{}{}:
		defer func() { <-v.turn }()
	case <-ctx.Done():
		return nil, errNoServer()
	}
	failed := errNoBackend
	for _, b := range askable(c.Topology()) {
		password, err := v.ask(ctx, b, s, user)
		if err == nil {
			authQueries(c.name, err).Inc()
			return c.parseVerifier(user, password), nil
		}
		failed = err
		if ctx.Err() != nil {
			break
		}
	}
	authQueries(c.name, failed).Inc()
	c.logger().Error("auth query failed", zap.String("cluster", c.name), zap.Error(failed))
	return nil, errNoServer()
}

// askable returns the backends to ask, the primary first.
func askable(t *Topology) []*Backend {
	var all []*Backend
	if t.Primary != nil {
		all = append(all, t.Primary.Backend)
	}
	for _, m := range t.Members {
		if m != t.Primary && m.Up && (m.Role == RoleReplica || m.Role == RoleUnknown) {
			all = append(all, m.Backend)
		}
	}
	return all
}

// ask runs the auth query at one backend, on the connection kept from the last
// time if it is that backend's. It returns "" for no row and for NULL.
func (v *verifiers) ask(ctx context.Context, b *Backend, s *Settings, user string) (password string, err error) {
	kept := v.link != nil && v.on == b && v.made.sameLogin(s)
	if !kept {
		v.hangUp()
	}
	for {
		if v.link == nil {
			if v.link, err = b.connectOwn(ctx, s); err != nil {
				return "", err
			}
			v.on, v.made = b, s
		}
		v.used = Now()
		password = ""
		err = v.link.query(ctx, "", s.verify.sql, []string{user}, func(values [][]byte) error {
			if len(values) == 0 {
				return errors.New("no column")
			}
			password = string(values[len(values)-1])
			return nil
		})
		if err == nil {
			return password, nil
		}
		broken := v.link.broken
		if broken {
			v.hangUp()
		}
		if !broken || !kept || ctx.Err() != nil {
			return "", fmt.Errorf("auth query at backend %s: %w", b.name, err)
		}
		kept = false // the kept connection had died: once more on a new one
	}
}

// parseVerifier reads the answer of an auth query. A user whose password cannot
// be used is like none at all to the client; the operator is told.
func (c *Cluster) parseVerifier(user, password string) *pgauth.Verifier {
	if password == "" {
		return nil
	}
	verifier, err := pgauth.ParseVerifier(password)
	if err != nil {
		c.logger().Warn("user cannot log in: set the password again with password_encryption = scram-sha-256",
			zap.String("cluster", c.name), zap.String("user", user), zap.Error(err))
		return nil
	}
	return verifier
}

// upkeep closes a connection that has not been used for a while.
func (v *verifiers) upkeep(now Mark) {
	select {
	case v.turn <- struct{}{}:
	default:
		return // it is in use
	}
	if v.link != nil && now.Sub(v.used) > authIdle {
		v.hangUp()
	}
	<-v.turn
}

// hangUp closes the connection; the caller has the token.
func (v *verifiers) hangUp() {
	if v.link != nil {
		v.link.close()
		v.link, v.on, v.made = nil, nil, nil
	}
}

// reset forgets what was found under other settings.
func (v *verifiers) reset() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.mu.byUser, v.mu.flights = make(map[string]*verified), make(map[string]*flight)
	v.mu.reset++
}

// erase forgets everything and hangs up. No query runs any more.
func (v *verifiers) erase() {
	v.reset()
	v.turn <- struct{}{}
	v.hangUp()
	<-v.turn
}

var errNoBackend = errors.New("no backend answers")

// errNoServer is what a client gets when its password cannot be checked: 57P03,
// because it may succeed later. The cause is for the log only.
func errNoServer() *pgwire.Error {
	e := pgwire.Fatalf(pgwire.CodeCannotConnectNow, "no server could be asked for the password of the user")
	e.Hint = "The log of the load balancer says why."
	return e
}
