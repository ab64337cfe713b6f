package cluster

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairwaydb/fairway/modules/pgauth"
	"github.com/fairwaydb/fairway/modules/pgtest"
	"github.com/fairwaydb/fairway/modules/pgwire"
)

// directory is a server that answers auth queries.
type directory struct {
	mu      sync.Mutex
	users   map[string]string // user to rolpassword
	refuse  *pgwire.Error     // of each query
	logins  int
	queries int
	hold    chan struct{} // each query waits for it
	conns   []net.Conn
}

func (d *directory) serve(c net.Conn) {
	d.mu.Lock()
	d.logins++
	d.conns = append(d.conns, c)
	d.mu.Unlock()
	_ = pgtest.Run(c, pgtest.Accept(), pgtest.Do("answer queries", func(p *pgtest.Peer) error {
		for {
			if err := d.answer(p); err != nil {
				return err
			}
		}
	}))
}

// answer plays one query: Parse, Bind, Execute, Sync.
func (d *directory) answer(p *pgtest.Peer) error {
	var user string
	for {
		typ, _, err := p.R.Next()
		if err != nil {
			return err
		}
		body, err := p.R.Body()
		if err != nil {
			return err
		}
		switch typ {
		case pgwire.MsgBind:
			_, _, rest, err := pgwire.DecodeBind(body)
			if err != nil {
				return err
			}
			user = string(body[rest+8 : len(body)-2]) // no formats, one parameter, no result formats
		case pgwire.MsgSync:
			d.reply(p.W, user)
			return p.W.Flush()
		case pgwire.MsgTerminate:
			return errors.New("goodbye")
		}
	}
}

func (d *directory) reply(w *pgwire.Writer, user string) {
	d.mu.Lock()
	d.queries++
	password, found := d.users[user]
	refuse, hold := d.refuse, d.hold
	d.mu.Unlock()
	if hold != nil {
		<-hold
	}
	w.Frame(pgwire.MsgParseComplete, nil)
	w.Frame(pgwire.MsgBindComplete, nil)
	switch {
	case refuse != nil:
		w.Error(refuse)
	case found:
		pgtest.DataRow(w, password)
		w.CommandComplete("SELECT 1")
	default:
		w.CommandComplete("SELECT 0")
	}
	w.ReadyForQuery('I')
}

func (d *directory) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

func (d *directory) count() (logins, queries int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.logins, d.queries
}

// drop closes the connections there are.
func (d *directory) drop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.conns {
		_ = c.Close()
	}
	d.conns = nil
}

var aliceVerifier = pgauth.NewVerifier("wonderland", nil, 0).String()

// withDirectories makes a claimed cluster whose first directory is the primary.
func withDirectories(t *testing.T, change func(*Settings), all ...*directory) *bed {
	t.Helper()
	servers := map[string]*server{"pg1": primaryAt(1, 1)}
	if len(all) > 1 {
		servers["pg2"] = replicaAt(1, 1)
	}
	b := newBed(t, servers)
	b.claim(t, func(s *Settings) {
		for i, d := range all {
			s.Backends[i] = Endpoint{Name: []string{"pg1", "pg2"}[i], Address: serve(t, "tcp", d.serve)}
		}
		s.server.mode = TLSDisable
		s.login.user = "fairway"
		change(s)
	})
	await(t, b.Cluster, "primary", func(top *Topology) bool {
		return top.Primary != nil && (len(all) == 1 || top.Member("pg2").Fit)
	})
	return b
}

// Verifier is the SCRAM verifier of a credential.
func (b *bed) Verifier(ctx context.Context, user string) (*pgauth.Verifier, error) {
	known, err := b.Credential(ctx, user)
	return known.Stored.SCRAM, err
}

// cached keeps what was found for a while.
func cached(s *Settings) { s.verify.ttl, s.verify.missingTTL = time.Minute, 5*time.Second }

func TestLoginsAtTheSameTimeShareAQuery(t *testing.T) {
	d := &directory{users: map[string]string{"alice": aliceVerifier}, hold: make(chan struct{})}
	b := withDirectories(t, cached, d)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if v, err := b.Verifier(t.Context(), "alice"); err != nil || v.String() != aliceVerifier {
				t.Errorf("verifier %v, error %v", v, err)
			}
		})
	}
	close(d.hold)
	all.Wait()
	if v, err := b.Verifier(t.Context(), "nobody"); v != nil || err != nil {
		t.Errorf("verifier of nobody: %v, error %v", v, err)
	}
	_, _ = b.Verifier(t.Context(), "nobody")
	// Those who came while the first query was on its way have shared a second one.
	if logins, queries := d.count(); logins != 1 || queries > 3 {
		t.Errorf("%d logins, %d queries", logins, queries)
	}
}

func TestALoginNeverGoesByAnAnswerThatIsOlderThanItself(t *testing.T) {
	hold := make(chan struct{})
	d := &directory{users: map[string]string{"alice": aliceVerifier}, hold: hold}
	b := withDirectories(t, func(*Settings) {}, d)
	first, second := make(chan string, 1), make(chan string, 1)
	ask := func(answer chan<- string) {
		v, _ := b.Verifier(t.Context(), "alice")
		answer <- v.String()
	}
	go ask(first)
	for { // the query has read the old password, and its answer is held back
		if _, queries := d.count(); queries == 1 {
			break
		}
		<-time.After(time.Millisecond)
	}
	changed := pgauth.NewVerifier("looking glass", nil, 0).String()
	d.set(func() { d.users["alice"], d.hold = changed, nil })
	go ask(second)
	close(hold)
	if <-first != aliceVerifier || <-second != changed {
		t.Error("a login was told another password than the one of its time")
	}
	if v, _ := b.Verifier(t.Context(), "alice"); v.String() != changed {
		t.Error("the old answer stays")
	}
}

func TestAFailedLoginMakesTheServersBeAskedAgain(t *testing.T) {
	d := &directory{users: map[string]string{"alice": aliceVerifier}}
	b := withDirectories(t, cached, d)
	_, _ = b.Verifier(t.Context(), "alice")
	b.SetSecret("alice", pgauth.Secret{ClientKey: []byte("key")})
	changed := pgauth.NewVerifier("looking glass", nil, 0).String()
	d.set(func() { d.users["alice"] = changed })
	if v, _ := b.Verifier(t.Context(), "alice"); v.String() != aliceVerifier {
		t.Error("the verifier is not kept")
	}
	b.ForgetVerifier("alice")
	if v, _ := b.Verifier(t.Context(), "alice"); v.String() != changed {
		t.Error("the old verifier is still in use")
	}
	if b.Secret("alice").IsZero() {
		t.Error("the key of the old password is gone although a replica may still want it")
	}
}

func TestWrongPasswordsNeitherCutOffWhoHasTheRightOneNorFloodTheServers(t *testing.T) {
	d := &directory{users: map[string]string{"alice": aliceVerifier}}
	b := withDirectories(t, cached, d)
	_, _ = b.Verifier(t.Context(), "alice")
	b.SetSecret("alice", pgauth.Secret{ClientKey: []byte("key")})
	for range 10 {
		b.DoubtVerifier("alice")
		b.DoubtVerifier("nobody")
		if v, err := b.Verifier(t.Context(), "alice"); v == nil || err != nil {
			t.Errorf("verifier %v, error %v", v, err)
		}
	}
	if _, queries := d.count(); queries != 1 {
		t.Errorf("%d queries", queries)
	}
	if b.Secret("alice").IsZero() {
		t.Error("the key is gone although the password is the same")
	}
}

func TestADoubtedVerifierIsAskedForAgainAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSettings()
		cached(s)
		somebody := answer{stored: pgauth.Stored{SCRAM: new(pgauth.Verifier)}}
		known, missing := &verified{answer: somebody, at: Now()}, &verified{at: Now()}
		doubted := &verified{answer: somebody, at: Now(), doubted: true}
		for _, step := range []struct {
			after                   time.Duration
			known, missing, doubted bool
		}{{0, true, true, true}, {4900 * time.Millisecond, true, true, true}, {time.Second, true, false, false}, {time.Minute, false, false, false}} {
			<-time.After(step.after)
			if known.fresh(s) != step.known || missing.fresh(s) != step.missing || doubted.fresh(s) != step.doubted {
				t.Errorf("%v later: known %v, missing %v, doubted %v", step.after, known.fresh(s), missing.fresh(s), doubted.fresh(s))
			}
		}
	})
}

func TestAnOldVerifierIsReplacedAndItsKeyForgotten(t *testing.T) {
	d := &directory{users: map[string]string{"alice": aliceVerifier, "bob": aliceVerifier}}
	b := withDirectories(t, func(s *Settings) { s.verify.ttl = 0 }, d)
	for _, user := range []string{"alice", "bob"} {
		_, _ = b.Verifier(t.Context(), user)
		b.SetSecret(user, pgauth.Secret{ClientKey: []byte("key")})
	}
	d.set(func() { delete(d.users, "alice") })
	for user, stays := range map[string]bool{"alice": false, "bob": true} {
		v, err := b.Verifier(t.Context(), user)
		if (v != nil) != stays || err != nil || b.Secret(user).IsZero() == stays {
			t.Errorf("%s: verifier %v, error %v, has a key: %v", user, v, err, !b.Secret(user).IsZero())
		}
	}
}

func TestAuthQueriesSurviveLostConnectionsAndLostServers(t *testing.T) {
	first := &directory{users: map[string]string{"alice": aliceVerifier}}
	second := &directory{users: map[string]string{"alice": aliceVerifier}}
	b := withDirectories(t, func(s *Settings) { s.verify.ttl = 0 }, first, second)
	ask := func(what string) {
		t.Helper()
		if v, err := b.Verifier(t.Context(), "alice"); v == nil || err != nil {
			t.Errorf("%s: verifier %v, error %v", what, v, err)
		}
	}
	ask("at first")
	first.drop()
	ask("once the connection is lost")
	if logins, _ := first.count(); logins != 2 {
		t.Errorf("%d logins at the primary", logins)
	}
	first.set(func() { first.refuse = pgwire.Errorf("42501", "permission denied for table pg_authid") })
	ask("once the primary refuses")
	if _, queries := second.count(); queries != 1 {
		t.Errorf("%d queries at the replica", queries)
	}
	second.set(func() { second.refuse = first.refuse })
	ask("with the old answer while nobody answers")
	b.verifiers.mu.Lock()
	for _, found := range b.verifiers.mu.byUser {
		found.at = found.at.Add(-staleAfter)
	}
	b.verifiers.mu.Unlock()
	if v, err := b.Verifier(t.Context(), "alice"); v != nil || err == nil {
		t.Errorf("with an answer that is too old: verifier %v, error %v", v, err)
	}
	_, err := b.Verifier(t.Context(), "bob")
	var pg *pgwire.Error
	if !errors.As(err, &pg) || pg.Code != pgwire.CodeCannotConnectNow || strings.Contains(pg.Message, "pg_authid") {
		t.Errorf("error is %v", err)
	}
	for range 10 {
		_, _ = b.Verifier(t.Context(), "bob")
	}
	if n := b.logs.FilterMessageSnippet("auth query failed").Len(); n != 1 {
		t.Errorf("the operator is told %d times why", n)
	}
	first.set(func() { first.refuse = nil })
	ask("once the primary answers")
	if b.logs.FilterMessage("auth query works again").Len() != 1 {
		t.Error("the operator is not told that it is over")
	}
}

func TestPasswordsThatAreNoVerifiersAreLikeNoUser(t *testing.T) {
	d := &directory{users: map[string]string{"old": "md5abcdef", "null": ""}}
	b := withDirectories(t, func(*Settings) {}, d)
	for _, user := range []string{"old", "null"} {
		if v, err := b.Verifier(t.Context(), user); v != nil || err != nil {
			t.Errorf("%s: verifier %v, error %v", user, v, err)
		}
	}
	for range 10 { // the operator is told once
		_, _ = b.Verifier(t.Context(), "old")
	}
	if n := b.logs.FilterMessageSnippet("user cannot log in").Len(); n != 1 {
		t.Errorf("%d warnings", n)
	}
}

func TestTheCacheOfVerifiersIsBounded(t *testing.T) {
	d := &directory{}
	b := withDirectories(t, func(s *Settings) { s.verify.size = 3 }, d)
	for _, user := range []string{"a", "b", "c", "d", "e"} {
		_, _ = b.Verifier(t.Context(), user)
	}
	if n := len(b.verifiers.mu.byUser); n != 3 {
		t.Errorf("%d users are kept", n)
	}
}

func TestTheEndOfTheClusterEndsAQuery(t *testing.T) {
	d := &directory{hold: make(chan struct{})}
	defer close(d.hold)
	b := newBed(t, map[string]*server{"pg1": primaryAt(1, 1)})
	claim := b.Claim(b.settingsOf(func(s *Settings) {
		s.Backends[0].Address = serve(t, "tcp", d.serve)
		s.server.mode = TLSDisable
	}))
	await(t, b.Cluster, "primary", func(top *Topology) bool { return top.Primary != nil })
	failed := make(chan error)
	go func() {
		_, err := b.Verifier(t.Context(), "alice")
		failed <- err
	}()
	for {
		if _, queries := d.count(); queries > 0 {
			break
		}
		<-time.After(time.Millisecond)
	}
	claim.Release()
	if err := <-failed; err == nil {
		t.Error("the query ended well")
	}
}

func TestUsersThatDoNotExistLookLikeTheOthers(t *testing.T) {
	d := &directory{users: map[string]string{"alice": pgauth.NewVerifier("wonderland", nil, 12345).String(), "old": pgauth.HashMD5("old", "x")}}
	b := withDirectories(t, func(s *Settings) { s.Clients.Method = MethodMD5 }, d)
	usual := func(user string) Usual {
		known, err := b.Credential(t.Context(), user)
		if err != nil {
			t.Fatal(err)
		}
		return known.Usual
	}
	if got := usual("nobody"); got != (Usual{}) {
		t.Errorf("before anybody is known: %+v", got)
	}
	if usual("old"); usual("nobody") != (Usual{MD5: true}) {
		t.Errorf("where only md5 hashes are known: %+v", usual("nobody"))
	}
	usual("alice")
	usual("old")
	if got := usual("nobody"); got != (Usual{Iterations: 12345}) {
		t.Errorf("where verifiers are known: %+v", got)
	}
}
