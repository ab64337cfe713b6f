package session

import (
	"context"
	"errors"
	"time"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgsql"
	"github.com/fairwaydb/fairway/modules/pgwire"
	"github.com/fairwaydb/fairway/modules/pool"
	"github.com/fairwaydb/fairway/modules/routing"
)

// lease is the server connection a session holds, from the first byte of a turn until ReadyForQuery says idle and nothing pins it.
type lease struct {
	conn    *pool.Conn
	member  *cluster.Member
	metrics *backendMetrics
	tainted bool
}

func (l *lease) held() bool { return l.conn != nil }

// taint makes sure that the connection is never handed on.
func (l *lease) taint(reason string) {
	if l.conn != nil && !l.tainted {
		l.tainted = true
		l.conn.Taint(reason)
	}
}

// acquire leases a server connection for a request of the class; the error is what the client gets.
func (s *Session) acquire(class *pgsql.Class) error {
	s.waitsSince.Store(s.turn.started)
	defer s.waitsSince.Store(0)
	var deadline time.Time
	s.refused = nil
	for {
		changed := s.cluster.Changed()
		choice, err := routing.Pick(s.cluster, s.cluster.Topology(), s.routeRequest(class))
		if err != nil && s.refused != nil && !errors.Is(err, routing.ErrNoPrimary) {
			return s.refused
		}
		if err != nil {
			if deadline.IsZero() {
				deadline = time.Now().Add(s.cluster.Settings().FailoverWait)
			}
			if s.refused != nil && time.Until(deadline) <= 0 {
				return s.refused // the primary has the last word, and there is none
			}
			if err := s.awaitChange(changed, deadline, err); err != nil {
				return err
			}
			s.route.Tried = s.route.Tried[:0]
			continue
		}
		done, err := s.leaseFrom(choice, class)
		if done || err != nil {
			return err
		}
		s.route.Tried = append(s.route.Tried, choice.Member.Backend)
		s.labels.retries.dial.Inc()
	}
}

// leaseFrom takes a connection of the chosen backend. It returns false without an error when another backend may be tried: nothing
// was sent.
func (s *Session) leaseFrom(choice routing.Choice, class *pgsql.Class) (bool, error) {
	b := choice.Member.Backend
	acquire := (*cluster.Backend).Acquire
	if s.repeatable(class) {
		acquire = (*cluster.Backend).AcquireRepeatable
	}
	ctx := s.beginWait()
	conn, err := acquire(b, ctx, s.identity)
	if cause := s.endWait(ctx, conn); cause != nil {
		if conn != nil {
			s.clearActive()
			conn.Release()
		}
		return false, cause
	}
	if err != nil {
		return false, s.acquireError(choice.Member, err)
	}
	s.mu.Lock()
	s.mu.backend = b
	s.mu.Unlock()
	s.lease = lease{conn: conn, member: choice.Member, metrics: s.labels.backend(b.Name())}
	s.queue.borrow(stateOf(conn).queue)
	reason := choice.Reason
	if s.forced {
		reason = routing.ReasonCorrected
	}
	s.labels.route(reason).Inc()
	return true, nil
}

// repeatable tells whether the request, which no server has seen yet, is sent again unseen when its server connection turns out to be
// dead: what afterLoss decides then.
func (s *Session) repeatable(class *pgsql.Class) bool {
	return class.MaybeRead() && len(s.route.Tried) == 0 && s.request.replayable() && !s.whole && !s.turn.continues &&
		(!s.tx.open || s.begin.pending()) && s.reads(class)
}

// acquireError is nil when the request may be tried on another backend. A replica that refuses the user or the database may not have
// heard of them yet: the primary has the last word.
func (s *Session) acquireError(m *cluster.Member, err error) error {
	var refused *pgwire.Error
	var dial *pool.DialError
	if errors.As(err, &dial) {
		if errors.As(err, &refused) && isIdentityError(refused.Code) {
			if m.Role != cluster.RolePrimary {
				s.refused, s.forced = clientError(refused), true
				return nil
			}
			if refused.Code == pgwire.CodeInvalidPassword {
				s.cluster.ForgetVerifier(s.identity.User)
			}
			return clientError(refused)
		}
		return nil
	}
	if errors.As(err, &refused) {
		return clientError(refused)
	}
	return pgwire.Errorf(pgwire.CodeCannotConnectNow, "no server connection: %v", err)
}

// isIdentityError tells the SQLSTATEs of a failed login that speak about who logs in where, not about the server.
func isIdentityError(code string) bool {
	if code == pgwire.CodeTooManyConnections {
		return true
	}
	switch code[:min(len(code), 2)] {
	case "28", "3D", "42", "22", "55": // who, where, privileges, settings, a database that takes no connections
		return true
	}
	return false
}

// awaitChange waits until the topology has changed, the deadline of failover_wait has passed, or the client cancels or leaves.
func (s *Session) awaitChange(changed <-chan struct{}, deadline time.Time, reason error) error {
	wait := time.Until(deadline)
	if wait <= 0 || !errors.Is(reason, routing.ErrNoPrimary) {
		return errNoBackend(reason)
	}
	ctx := s.beginWait()
	timer := time.NewTimer(min(wait, redialInterval))
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-ctx.Done():
	}
	return s.endWait(ctx, nil)
}

// redialInterval is the time after which a primary that could not be reached is tried again although nothing is known to have changed.
const redialInterval = 200 * time.Millisecond

// routeRequest fills the session's routing request; it is reused so that a turn allocates nothing.
func (s *Session) routeRequest(class *pgsql.Class) *routing.Request {
	r := &s.route
	r.Class, r.Facts = class, s.facts()
	r.Route = s.opts.Route
	if s.schema.keeper != nil && s.schema.keeper.Refused(class.Fingerprint) {
		s.forced = true
	}
	if r.Route == routing.TargetAuto && (s.forced || s.whole || !s.reported.greeted() && s.cluster.Topology().Primary != nil) {
		r.Route = routing.TargetPrimary // of a login too: what is reported must not depend on chance
	}
	r.Strict = s.whole && s.reported.greeted() // a login asks for one statement's sake only
	r.Hint = s.hintFor(class)
	r.Mark = s.mark
	r.ExactFlush = s.exactFlush()
	r.Consistency, r.MinLSN = s.consistency(), s.minLSN(class)
	if s.request.prepare {
		r.ExplicitTx, r.ReadOnlyTx = false, false
		return r
	}
	r.ExplicitTx = s.tx.open || class.Effects&pgsql.TxBegin != 0
	r.ReadOnlyTx = s.readOnlyTx(class)
	if !r.ExplicitTx && r.Route == routing.TargetAuto && s.defaultSerializable() {
		r.Route = routing.TargetPrimary // each statement by itself is such a transaction
	}
	return r
}

// readOnlyTx tells whether the transaction that the request opens or continues may run on a replica.
func (s *Session) readOnlyTx(class *pgsql.Class) bool {
	begins := !s.tx.open && class.Effects&pgsql.TxBegin != 0
	if !s.tx.open && !begins || s.tx.serializable || class.Serializable || class.Effects&needsPrimary != 0 {
		return false
	}
	for i := range class.Settings {
		if class.Settings[i].Name == "transaction_snapshot" {
			return false // exported on the primary
		}
	}
	if begins && class.Isolation == "" && s.defaultSerializable() {
		return false
	}
	return s.tx.readOnly || class.Effects&pgsql.TxReadOnly != 0 || begins && !class.TxReadWrite && s.defaultReadOnly()
}

// needsPrimary are the effects that keep even a READ ONLY transaction off the replicas.
const needsPrimary = pgsql.Write | pgsql.RowLock | pgsql.DDL | pgsql.Temp | pgsql.Listen | pgsql.Notify | pgsql.AdvisoryLock |
	pgsql.HoldCursor | pgsql.SQLPrepare | pgsql.CopyIn | pgsql.Sequence | pgsql.Load | pgsql.Discard | pgsql.ServerState | pgsql.Unknown

// transaction is what is known of the client's explicit transaction.
type transaction struct {
	open         bool // between BEGIN and its end, also while the BEGIN is deferred
	readOnly     bool
	serializable bool
	hint         routing.Target // of the comment that led its BEGIN
	savepoints   bool           // one of its savepoints may have been gone back to
	shifted      bool           // search_path, role, a table or the like may be others than the session's until it ends
	failed       bool           // in state E without a server: only its end is accepted
	lost         *lostError     // why it failed, as long as the client has not been told
}

// beginWait says that the session waits for a server connection or a primary, so that a cancel ends the wait.
func (s *Session) beginWait() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.wait == nil || s.mu.wait.Err() != nil {
		s.mu.wait, s.mu.stopWait = context.WithCancelCause(context.Background()) // a client outlives the config: no context of Caddy's
	}
	s.mu.waiting = true
	return s.mu.wait
}

// endWait ends the wait and makes conn the one a cancel goes to. It returns the error for the client when the wait was canceled.
func (s *Session) endWait(ctx context.Context, conn *pool.Conn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.waiting = false
	if conn != nil {
		s.mu.active = conn.Lease()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

func (s *Session) clearActive() {
	s.mu.Lock()
	s.mu.active = pool.Lease{}
	s.mu.backend = nil
	s.mu.shielded, s.mu.later = false, false
	s.mu.Unlock()
}

// release gives the server connection back. The pool decides by its state whether it is kept.
func (s *Session) release() {
	c := s.lease.conn
	if c == nil {
		return
	}
	if s.pins&^wholeSession != 0 {
		s.lease.taint("pinned") // whatever let go of it: nobody else gets what this session left there
	}
	s.clearActive()
	s.unpin()
	s.lease, s.bound = lease{}, 0
	s.heldSince.Store(0)
	stateOf(c).queue = s.queue.giveUp()
	c.Release()
}

// dropLease gives up a server connection whose state is not known or not wanted: it is closed.
func (s *Session) dropLease(reason string) {
	if !s.lease.held() {
		return
	}
	if s.whole && s.recycle() {
		return
	}
	if s.pins != 0 || !s.touched.none() || s.lease.conn.Status() != 'I' || !s.queue.empty() {
		s.lease.taint(reason)
	}
	s.undoPending(nil)
	s.release()
}
