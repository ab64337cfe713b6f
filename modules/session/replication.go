package session

import (
	"context"
	"errors"
	"time"

	"github.com/fairwaydb/fairway/modules/pgwire"
	"github.com/fairwaydb/fairway/modules/pool"
	"github.com/fairwaydb/fairway/modules/routing"
)

// A client that asks for replication gets a server connection of its own, outside the pools, with its own startup packet: everything
// it says goes to the primary (to a replica with route replica), and everything the server says comes back, until one of them ends it.
// See https://www.postgresql.org/docs/current/protocol-replication.html

// askReplication reads the startup parameter replication.
func (s *Session) askReplication(value string, params []pgwire.Param) error {
	on, ok := parseBool(value)
	switch {
	case !ok && value != "database":
		e := pgwire.Fatalf(pgwire.CodeInvalidParameterValue, "invalid value for parameter \"replication\": \"%s\"", value)
		e.Hint = `Valid values are: "false", 0, "true", 1, "database".`
		return e
	case ok && !on:
		return nil
	}
	s.replication = make([]pgwire.Param, 1, len(params)+1)
	for _, p := range params {
		if p.Name != "user" {
			s.replication = append(s.replication, p)
		} else {
			s.replication[0] = p
		}
	}
	return nil
}

// replicationContact opens the server connection and learns what the server reports.
func (s *Session) replicationContact(deadline time.Time) error {
	s.beginTurn()
	for {
		changed := s.cluster.Changed()
		r := s.routeRequest(anyRead)
		if r.Route == routing.TargetAuto {
			r.Route = routing.TargetPrimary // also while there is none
		}
		choice, err := routing.Pick(s.cluster, s.cluster.Topology(), r)
		if err != nil {
			if err := s.awaitChange(changed, deadline, err); err != nil {
				return err
			}
			continue
		}
		wait := s.beginWait()
		ctx, stop := context.WithDeadline(wait, deadline)
		c, err := choice.Member.Backend.DialReplication(ctx, s.identity, s.replication)
		stop()
		if canceled := s.endWait(wait, c); canceled != nil {
			err = errors.Join(canceled, err)
		}
		if err != nil {
			if c != nil {
				s.clearActive()
				c.Close()
			}
			return replicationError(err)
		}
		s.mu.Lock()
		s.mu.backend = choice.Member.Backend
		s.mu.Unlock()
		s.lease = lease{conn: c, member: choice.Member, metrics: s.labels.backend(choice.Member.Backend.Name())}
		s.report(reportedBy(c))
		s.reported.set("in_hot_standby", c.Param("in_hot_standby")) // whoever replicates wants to know
		return nil
	}
}

// reportedBy is what a server has reported on a connection.
func reportedBy(c *pool.Conn) map[string]string {
	reported := make(map[string]string, len(reportedNames))
	for _, name := range reportedNames {
		if v := c.Param(name); v != "" || name == "application_name" {
			reported[name] = v
		}
	}
	return reported
}

// replicationError is the server's own word about the login where it has said one.
func replicationError(err error) error {
	var refused *pgwire.Error
	if errors.As(err, &refused) {
		return clientError(refused)
	}
	return pgwire.Fatalf(pgwire.CodeCannotConnectNow, "no server connection: %v", err)
}

// replicate passes everything on in both directions until one side ends it.
func (s *Session) replicate() {
	c := s.lease.conn
	s.heldSince.Store(monotonic())
	err := s.feed.start(s, c, feedReplication, true)
	if err == nil {
		err = s.interrupted(s.replayAll(c))
		s.feed.stop(s, true)
	}
	s.lease.taint("replication")
	s.leave(err)
}

// replayAll passes on what the server says.
func (s *Session) replayAll(c *pool.Conn) error {
	for {
		if _, _, err := c.R.Next(); err != nil {
			return &lostError{err: err}
		}
		if err := s.forwardWhole(c); err != nil {
			return err
		}
		if c.R.Buffered() == 0 {
			if err := s.flush(); err != nil {
				return err
			}
		}
	}
}

// forwardWhole passes a message on. What ends the session in the middle of it waits for its end, for a while: the last words would be
// read as a part of it.
func (s *Session) forwardWhole(c *pool.Conn) error {
	err := s.forward(c)
	if err == nil || !isTimeout(err) || !errors.As(err, new(*lostError)) {
		return err
	}
	c.Resume()
	stop := time.AfterFunc(farewellTimeout, c.Lease().Interrupt)
	defer stop.Stop()
	if s.forward(c) == nil {
		s.turn.torn = false
	}
	return err
}

// feedReplication passes on what the client says. The drain and the removal of the backend end it between two messages.
func feedReplication(s *Session, c *pool.Conn) error {
	for {
		typ, _, err := s.r.Next()
		switch {
		case err == nil:
		case !s.readsOn(err):
			if isTimeout(err) {
				return errStopped
			}
			return clientFailure(err)
		case s.closing.Load() || s.killed.Load():
			return errShutdown()
		case s.evicted.Swap(false):
			return errEvicted()
		default:
			s.woken.Store(false)
			continue
		}
		if err := forwardToServer(s, c); err != nil {
			return err
		}
		if typ == pgwire.MsgTerminate {
			return errors.Join(errGoodbye, c.W.Flush())
		}
		if s.r.Buffered() == 0 {
			if err := c.W.Flush(); err != nil {
				return &lostError{err: err}
			}
		}
	}
}
