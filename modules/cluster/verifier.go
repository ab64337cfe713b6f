package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/fairwaydb/fairway/modules/pgauth"
	"github.com/fairwaydb/fairway/modules/pgwire"
)

// defaultAuthSQL reads what the server keeps of one user's password, as the server
// itself would: nothing when it has expired. Whether the user may log in at all stands
// before it: the server says so after the proof. See
// https://www.postgresql.org/docs/current/catalog-pg-authid.html.
const defaultAuthSQL = `SELECT rolcanlogin, rolpassword FROM pg_catalog.pg_authid
 WHERE rolname OPERATOR(pg_catalog.=) $1
 AND (rolvaliduntil IS NULL OR rolvaliduntil OPERATOR(pg_catalog.>) pg_catalog.now())`

// authIdle is how long the connection for auth queries is kept without use.
const authIdle = 30 * time.Second

// staleAfter is how old an answer may be that is used because nobody can be asked: a password that was changed since
// must not work for longer.
const staleAfter = time.Minute

// verifiers caches what auth queries have found. There is one query at a time, on a
// connection that is kept for a while. Who comes while a user's query is on its way
// waits for the next one, together with everybody else who does: what was asked before
// a login began may be older than its password.
type verifiers struct {
	turn chan struct{} // holds one token: who has it may use the connection
	link *link
	on   *Backend
	made *Settings
	used Mark

	mu struct {
		sync.Mutex
		byUser  map[string]*verified
		flights map[string]*flight // the latest, which others may join until it has started
		usual   Usual
		troubles
		reset uint64 // counts the resets: a flight begun before one stores nothing
	}
}

// verified is what was found of a user.
type verified struct {
	answer
	at      Mark
	doubted bool // a client's proof did not match it
}

// answer is what a query says of a user; the zero value is nobody.
type answer struct {
	stored pgauth.Stored
	locked bool
	// unusable says why the user has a password that no client can log in with.
	unusable string
}

// doubtAfter is the age from which a doubted verifier is asked for again: failed
// logins, which anybody can provoke, cause no more queries than that.
const doubtAfter = 5 * time.Second

// flight is a query under way, or about to be.
type flight struct {
	done    chan struct{}
	started bool // guarded by verifiers.mu
	answer  answer
	err     error
}

// askCredential is [Cluster.Credential] of AuthQuery.
func (c *Cluster) askCredential(ctx context.Context, s *Settings, user string) (Credential, error) {
	v := &c.verifiers
	v.mu.Lock()
	found := v.mu.byUser[user]
	if found != nil && found.fresh(s) {
		usual := v.mu.usual
		v.mu.Unlock()
		return found.credential(usual), nil
	}
	f := v.mu.flights[user]
	if f == nil || f.started {
		f = &flight{done: make(chan struct{})}
		v.mu.flights[user] = f
		if !c.fly(f, user, s, v.mu.reset) {
			delete(v.mu.flights, user)
			v.mu.Unlock()
			return Credential{}, errNoServer()
		}
	}
	v.mu.Unlock()
	select {
	case <-f.done:
	case <-ctx.Done():
		return Credential{}, fmt.Errorf("read verifier: %w", context.Cause(ctx))
	}
	v.mu.Lock()
	usual := v.mu.usual
	v.mu.Unlock()
	switch {
	case f.err == nil:
		return f.answer.credential(usual), nil
	case found != nil && !found.stored.IsZero() && found.at.Since() < max(s.verify.ttl, staleAfter):
		return found.credential(usual), nil // nobody can be asked: better an old answer than none
	}
	return Credential{}, f.err
}

// credential is what a login gets of it.
func (a *answer) credential(usual Usual) Credential {
	return Credential{Stored: a.stored, Locked: a.locked, Usual: usual}
}

// fresh tells whether what was found still holds.
func (f *verified) fresh(s *Settings) bool {
	if f.doubted && f.at.Since() >= doubtAfter {
		return false
	}
	if f.stored.IsZero() {
		return f.at.Since() < s.verify.missingTTL
	}
	return f.at.Since() < s.verify.ttl
}

// fly asks the servers in a goroutine that the cluster's run owns: it serves
// everybody who waits, whether or not the first one gives up. verifiers.mu is
// held. It returns false when no claim is in force.
func (c *Cluster) fly(f *flight, user string, s *Settings, reset uint64) bool {
	return c.do(func(ctx context.Context) {
		v := &c.verifiers
		f.answer, f.err = c.queryVerifier(ctx, user, s, func() {
			v.mu.Lock()
			f.started = true
			v.mu.Unlock()
		})
		v.mu.Lock()
		if v.mu.flights[user] == f {
			delete(v.mu.flights, user)
		}
		news := f.err == nil && v.mu.reset == reset && c.store(user, f.answer, s)
		v.mu.Unlock()
		close(f.done)
		if news {
			c.logger().Warn("user cannot log in: set the password again with password_encryption = scram-sha-256, or allow md5 (auth { method md5 })",
				zap.String("cluster", c.name), zap.String("user", user), zap.String("reason", f.answer.unusable))
		}
	})
}

// store caches an answer; verifiers.mu is held. The keys of a user that has no password
// any more are erased; those of an old password stay until the next proof, for servers
// that have not heard of the change. It returns true when the operator should hear of a
// password that cannot be used.
func (c *Cluster) store(user string, a answer, s *Settings) (news bool) {
	v := &c.verifiers
	old := v.mu.byUser[user]
	if a.stored.IsZero() || a.locked {
		c.secrets.forget(user)
	}
	news = a.unusable != "" && (old == nil || old.unusable != a.unusable)
	v.mu.usual = usualOf(a.stored, v.mu.usual)
	for other := range v.mu.byUser { // any will do: it is only asked for again
		if len(v.mu.byUser) < s.verify.size {
			break
		}
		delete(v.mu.byUser, other)
	}
	v.mu.byUser[user] = &verified{answer: a, at: Now()}
	return news
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

// ForgetVerifier drops what is known of the user's password, after the primary has
// refused what a proof revealed: it may have been changed. The next login asks the
// servers again. The keys stay: they are not sent where they do not fit.
func (c *Cluster) ForgetVerifier(user string) {
	v := &c.verifiers
	v.mu.Lock()
	delete(v.mu.byUser, user)
	v.mu.Unlock()
}

// queryVerifier asks the primary, else any server that answers the probe. started is
// called when it is its turn.
func (c *Cluster) queryVerifier(ctx context.Context, user string, s *Settings, started func()) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, s.verify.timeout)
	defer cancel()
	v := &c.verifiers
	select {
	case v.turn <- struct{}{}:
		defer func() { <-v.turn }()
	case <-ctx.Done():
		authQueries(c.name, ctx.Err()).Inc()
		return answer{}, errNoServer()
	}
	started()
	failed := errNoBackend
	for _, b := range askable(c.Topology()) {
		row, err := v.ask(ctx, b, s, user)
		if err == nil {
			authQueries(c.name, nil).Inc()
			c.authWorks(true, nil)
			return s.judge(row), nil
		}
		failed = err
		if ctx.Err() != nil {
			break
		}
	}
	authQueries(c.name, failed).Inc()
	c.authWorks(false, failed)
	return answer{}, errNoServer()
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
// time if it is that backend's.
func (v *verifiers) ask(ctx context.Context, b *Backend, s *Settings, user string) (row authRow, err error) {
	kept := v.link != nil && v.on == b && v.made.sameLogin(s)
	if !kept {
		v.hangUp()
	}
	for {
		if v.link == nil {
			if v.link, err = b.connectOwn(ctx, s); err != nil {
				return authRow{}, err
			}
			v.on, v.made = b, s
		}
		v.used = Now()
		row = authRow{}
		err = v.link.query(ctx, "", s.verify.sql, []string{user}, func(values [][]byte) error {
			if len(values) == 0 {
				return errors.New("no column")
			}
			row.password = string(values[len(values)-1])
			row.locked = s.verify.sql == defaultAuthSQL && string(values[0]) == "f"
			return nil
		})
		var pg *pgwire.Error
		if err == nil || errors.As(err, &pg) && pg.Code == pgwire.CodeCharacterNotInRepertoire {
			return row, nil // a name that is no text there is nobody's
		}
		broken := v.link.broken
		if broken {
			v.hangUp()
		}
		if !broken || !kept || ctx.Err() != nil {
			return authRow{}, fmt.Errorf("auth query at backend %s: %w", b.name, err)
		}
		kept = false // the kept connection had died: once more on a new one
	}
}

// authRow is the row of an auth query; no row and NULL have no password.
type authRow struct {
	password string
	locked   bool
}

// judge reads the row. A user whose password cannot be used is like none at all to the
// client.
func (s *Settings) judge(row authRow) answer {
	if row.password == "" {
		return answer{}
	}
	stored, err := pgauth.ParseStored(row.password)
	switch {
	case err != nil:
		return answer{unusable: err.Error()}
	case stored.MD5 != "" && s.Clients.Method == MethodSCRAM:
		return answer{unusable: "the password is kept as an md5 hash, and clients are asked for SCRAM"}
	case stored.MD5 != "" && !pgauth.MD5Allowed():
		return answer{unusable: "the password is kept as an md5 hash, and md5 is not allowed in FIPS-only mode"}
	}
	return answer{stored: stored, locked: row.locked}
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
