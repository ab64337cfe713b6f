package session

import (
	"net"
	"time"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// refusalTimeout bounds what a client that is turned away takes to say who it is.
const refusalTimeout = 5 * time.Second

// Refuse turns a client away in the words of a server that shuts down. Arguments and ownership are those of [Serve]; the cluster may
// have ended, and [Drain] does not wait.
func Refuse(conn net.Conn, buffered []byte, o *Options) {
	s := sessions.session(conn, buffered, o)
	defer s.end()
	s.refuseEntry(true, time.Now().Add(refusalTimeout))
}

// refuseEntry turns a client away: the process ends, or it is one too many. It is heard first, as PostgreSQL does it: it may have come
// to cancel a statement, and a driver believes an error only after its question for TLS was answered.
func (s *Session) refuseEntry(draining bool, deadline time.Time) {
	result, refusal := loginTooMany, pgwire.Fatalf(pgwire.CodeTooManyConnections, "sorry, too many clients already")
	if draining {
		result, refusal = loginShutdown, pgwire.Fatalf(pgwire.CodeCannotConnectNow, "the database system is shutting down")
	}
	if limit := time.Now().Add(refusalTimeout); limit.Before(deadline) {
		deadline = limit
	}
	_ = s.conn.SetDeadline(deadline)
	packet, err := s.negotiate(deadline)
	switch {
	case err != nil:
		s.loginFailed(err)
	case packet != nil:
		s.labels.login(result).Inc()
		s.fatal(refusal)
	}
}
