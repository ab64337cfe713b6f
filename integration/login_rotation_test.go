package integration_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgtest"
)

// rotation is a role whose password changes while clients log in with it.
type rotation struct {
	s        *site
	mu       sync.RWMutex // held for reading during a login, for writing during a change
	password string
}

// change gives the role another password; the server connections of the time before end.
func (r *rotation) change(t *testing.T, i int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.password = fmt.Sprintf("password number %d", i)
	if err := r.s.servers.Primary().Exec(t.Context(), "ALTER ROLE alice PASSWORD '"+r.password+"'"); err != nil {
		t.Fatal(err)
	}
	r.s.cutOff(t, "alice")
}

// cutOff ends a role's server connections.
func (s *site) cutOff(t *testing.T, role string) {
	t.Helper()
	for _, n := range s.servers.Nodes() {
		if _, err := n.Query(t.Context(), "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = '"+role+"'"); err != nil {
			t.Fatal(err)
		}
	}
}

// visit logs in with the password of now, reads, and writes.
func (r *rotation) visit(ctx context.Context) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	config, err := pgx.ParseConfig(r.s.connString("alice", "postgres"))
	if err != nil {
		return err
	}
	config.Password = r.password
	c, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("with %q: %w", r.password, err)
	}
	var n int
	err = c.QueryRow(ctx, "select count(*) from seen").Scan(&n)
	if err == nil {
		_, err = c.Exec(ctx, "update seen set n = n")
	}
	return errors.Join(err, c.Close(ctx))
}

// TestPasswordsChangeWithoutAFailedLogin changes a password again and again while clients log in, also while a replica
// does not hear of it.
func TestPasswordsChangeWithoutAFailedLogin(t *testing.T) {
	s := startSite(t, pgtest.Options{Replicas: 2, Auth: pgtest.AuthSCRAM}, func(s *site) {
		s.config.Auth = nil // auth query is the default
		s.config.Credentials = &cluster.CredentialsConfig{User: s.servers.Superuser(), Password: s.servers.Password()}
	})
	if err := s.servers.Primary().Exec(t.Context(), `CREATE ROLE alice LOGIN PASSWORD 'first';
		CREATE TABLE seen (n int); INSERT INTO seen VALUES (1); GRANT ALL ON seen TO public;`); err != nil {
		t.Fatal(err)
	}
	s.awaitCaughtUp(t)
	r := &rotation{s: s, password: "first"}
	open := s.mustLogin(t, "alice", "first", "")

	ctx, stop := context.WithCancel(t.Context())
	var loops sync.WaitGroup
	counts := make([]int, 6)
	for i := range counts {
		loops.Go(func() {
			for ctx.Err() == nil {
				if err := r.visit(t.Context()); err != nil {
					t.Errorf("a login with the password of its time: %v", err)
					return
				}
				counts[i]++
			}
		})
	}
	replica := s.servers.Replicas()[0]
	tick := time.NewTicker(150 * time.Millisecond)
	defer tick.Stop()
	for i := range 16 {
		if i == 5 { // from now on one replica knows the fifth password only
			if _, err := replica.Query(t.Context(), "SELECT pg_wal_replay_pause()"); err != nil {
				t.Fatal(err)
			}
		}
		if i == 12 {
			if _, err := replica.Query(t.Context(), "SELECT pg_wal_replay_resume()"); err != nil {
				t.Fatal(err)
			}
		}
		r.change(t, i)
		<-tick.C
		if err := r.visit(t.Context()); err != nil {
			t.Errorf("right after change %d: %v", i, err)
		}
		if n := value[int](t, open, "select count(*) from seen"); n != 1 {
			t.Errorf("the open session reads %d rows", n)
		}
		do(t, open, "update seen set n = n")
	}
	stop()
	loops.Wait()
	for i, n := range counts {
		if n < 16 {
			t.Errorf("client %d has logged in %d times", i, n)
		}
	}
	t.Run("the old password is refused", func(t *testing.T) {
		_, err := s.login(t, "alice", "first", "")
		wantCode(t, "the first password", err, "28P01")
	})
	t.Run("an open session waits for its user", func(t *testing.T) { r.openSession(t, open) })
}

// openSession needs a server connection for a session whose user has not logged in with the new password yet.
func (r *rotation) openSession(t *testing.T, open *pgx.Conn) {
	r.change(t, 100)
	r.s.awaitCaughtUp(t)
	var n int
	err := open.QueryRow(t.Context(), "select count(*) from seen").Scan(&n)
	wantCode(t, "a new server connection with the old key", err, "28P01")
	if err := r.visit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if open.IsClosed() {
		t.Fatal("the open session was closed")
	}
	if n := value[int](t, open, "select count(*) from seen"); n != 1 {
		t.Errorf("the open session reads %d rows", n)
	}
	do(t, open, "update seen set n = n")
}
