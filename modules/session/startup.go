package session

import (
	"errors"
	"io"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/fairwaydb/fairway/modules/pgauth"
	"github.com/fairwaydb/fairway/modules/pgsql"
	"github.com/fairwaydb/fairway/modules/pgwire"
	"github.com/fairwaydb/fairway/modules/pool"
)

// defaultLoginTimeout is PostgreSQL's authentication_timeout.
const defaultLoginTimeout = 60 * time.Second

// start takes a client from its first byte to ReadyForQuery. It returns false when the session is over, after telling the client.
func (s *Session) start() bool {
	timeout := s.opts.LoginTimeout
	if timeout <= 0 {
		timeout = defaultLoginTimeout
	}
	deadline := time.Now().Add(timeout)
	if err := s.conn.SetDeadline(deadline); err != nil {
		return false
	}
	if draining, ok := s.reg.enter(s); !ok {
		s.refuseEntry(draining, deadline)
		return false
	}
	packet, err := s.negotiate(deadline)
	if err == nil && packet == nil {
		return false // a cancel request, or a probe that left
	}
	if err == nil {
		err = s.login(packet, deadline)
	}
	if err != nil {
		s.loginFailed(err)
		return false
	}
	_ = s.conn.SetDeadline(time.Time{})
	return true
}

// loginFailed tells the client and counts; clients that leave before they log in are probes and leave no line in the log.
func (s *Session) loginFailed(err error) {
	var e *pgwire.Error
	switch {
	case errors.As(err, &e):
		s.labels.login(loginResult(e.Code)).Inc()
		fatal := *e
		fatal.Severity, fatal.Fatal, fatal.Raw = pgwire.SeverityFatal, true, nil
		s.logger.Debug("login failed", zap.Uint64("session_id", s.id), zap.String("sqlstate", e.Code))
		s.fatal(&fatal)
	case errors.As(err, new(*handshakeError)):
		s.labels.login(loginTLS).Inc()
		s.logger.Debug("login failed", zap.Uint64("session_id", s.id), zap.Error(err))
	case errors.Is(err, pgauth.ErrOversized):
		s.labels.login(loginProtocol).Inc() // without a word, as PostgreSQL
	case isTimeout(err):
		s.labels.login(loginTimeout).Inc()
		s.fatal(pgwire.Fatalf(pgwire.CodeProtocolViolation, "canceling authentication due to timeout"))
	default:
		s.labels.login(loginGone).Inc()
	}
}

// negotiate answers the packets that may come before the startup message, and returns that; nil when there is nothing more to do.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP
func (s *Session) negotiate(deadline time.Time) (*pgwire.Startup, error) {
	seenSSL, seenGSS := false, false
	_, err := s.directTLS(deadline)
	for {
		var packet *pgwire.Startup
		if err == nil {
			packet, err = s.r.Startup()
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				s.labels.login(loginProbe).Inc()
				return nil, nil
			}
			return nil, err
		}
		switch packet.Kind {
		case pgwire.KindSSL:
			if seenSSL {
				return nil, errUnexpectedRequest("SSLRequest")
			}
			seenSSL = true
			if err := s.answerSSL(deadline); err != nil {
				return nil, err
			}
		case pgwire.KindGSSENC:
			if seenGSS {
				return nil, errUnexpectedRequest("GSSENCRequest")
			}
			seenGSS = true
			s.w.Raw([]byte{'N'})
			if err := s.w.Flush(); err != nil {
				return nil, err
			}
		case pgwire.KindCancel:
			s.labels.cancel(s.reg.cancel(packet.PID, packet.Key)).Inc()
			return nil, nil
		case pgwire.KindStartup:
			return packet, nil
		}
	}
}

func errUnexpectedRequest(what string) error {
	return pgwire.Fatalf(pgwire.CodeProtocolViolation, "unexpected second %s", what)
}

// login authenticates the client and greets it.
func (s *Session) login(packet *pgwire.Startup, deadline time.Time) error {
	if err := s.adoptStartup(packet); err != nil {
		return err
	}
	if err := s.authenticate(); err != nil {
		return err
	}
	s.w.AuthenticationOK() // whatever comes now, as a server does
	contact := s.firstContact
	if s.replication != nil {
		contact = s.replicationContact
	}
	if err := contact(deadline); err != nil {
		return err
	}
	s.schema.open(s)
	s.asked = nil // it has served its purpose
	s.greet()
	s.introduced()
	s.labels.login(loginOK).Inc()
	return s.w.Flush()
}

// adoptStartup takes what the startup message says. Minor versions after 3.2 and protocol options are negotiated down; 3.1 was never
// released and is like 3.0.
// See https://www.postgresql.org/docs/current/protocol-changes.html and protocol-flow.html#PROTOCOL-FLOW-START-UP.
func (s *Session) adoptStartup(packet *pgwire.Startup) error {
	s.version = packet.Version
	if packet.Version>>16 != 3 {
		return pgwire.Fatalf(pgwire.CodeFeatureNotSupported, "unsupported frontend protocol %d.%d: server supports 3.0 to 3.2",
			packet.Version>>16, packet.Version&0xffff)
	}
	s.version = min(packet.Version, pgwire.Version32)
	if s.version != packet.Version || len(packet.Unsupported) > 0 {
		s.w.NegotiateProtocolVersion(s.version, packet.Unsupported)
	}
	if s.opts.RequireTLS && !s.secure() {
		return errNeedsTLS()
	}
	for _, p := range packet.Params {
		switch p.Name {
		case "user":
			s.identity.User = p.Value
		case "database":
			s.identity.Database = p.Value
		case "replication":
			if err := s.askReplication(p.Value, packet.Params); err != nil {
				return err
			}
		}
	}
	if s.identity.User == "" {
		return pgwire.Fatalf(pgwire.CodeInvalidAuthorization, "no PostgreSQL user name specified in startup packet")
	}
	if s.identity.Database == "" {
		s.identity.Database = s.identity.User
	}
	s.identity.User, s.identity.Database = truncated(s.identity.User), truncated(s.identity.Database)
	s.asked, s.badOptions = startupSettings(packet.Params)
	if s.badOptions == nil {
		s.badOptions = checkStartup(s.asked)
	}
	s.startup = settingsOf(s.asked)
	s.settings = s.startup
	return nil
}

// parseBool reads a boolean as PostgreSQL does: a word, or as much of it as is needed to know it.
func parseBool(v string) (on, ok bool) {
	v = strings.ToLower(v)
	for _, word := range [...]struct {
		text  string
		least int
		on    bool
	}{{"true", 1, true}, {"yes", 1, true}, {"on", 2, true}, {"1", 1, true}, {"false", 1, false}, {"no", 1, false}, {"off", 2, false}, {"0", 1, false}} {
		if len(v) >= word.least && strings.HasPrefix(word.text, v) {
			return word.on, true
		}
	}
	return false, false
}

// firstContact has a server check the database and the settings of the startup packet, and learns what it reports.
func (s *Session) firstContact(deadline time.Time) error {
	if s.badOptions != nil {
		return s.badOptions
	}
	s.beginTurn()
	defer s.forgetFacts()
	since := s.cluster.Beginnings()
	d := s.cluster.Defaults()
	s.began, s.had = d.Version(), d.For(s.identity)
	if g, ok := known.get(s.greetingKey(), since); ok {
		s.cleanName(g.reported["server_version"])
		s.base, s.news = g.base, g.news
		s.report(g.reported)
		return nil
	}
	timer := time.AfterFunc(time.Until(deadline), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.mu.waiting {
			s.mu.stopWait(errLoginWait())
		}
	})
	defer timer.Stop()
	s.request = request{class: anyRead, simple: true}
	for attempt := 1; ; attempt++ {
		if err := s.acquire(anyRead); err != nil {
			return err
		}
		err := s.introduce(s.lease.conn, since)
		var lost *lostError
		if errors.As(err, &lost) && attempt < maxAttempts {
			s.undoPending(nil)
			s.route.Tried = append(s.route.Tried, s.lease.member.Backend)
			s.lease.conn.Close()
			s.release()
			continue
		}
		if err == nil || s.lease.conn.Status() == 'I' {
			s.release()
		}
		return err
	}
}

// anyRead is the class of the first contact: any backend will do.
var anyRead = &pgsql.Class{Effects: pgsql.Read, Statements: 1, Kind: pgsql.KindRead}

func errLoginWait() error {
	return pgwire.Fatalf(pgwire.CodeCannotConnectNow, "no server was available before the login timed out")
}

// introduce brings the session's settings to the server connection and notes everything the server reports. Even when there is
// nothing to set the server is asked: it takes a changed configuration in when it hears something.
func (s *Session) introduce(c *pool.Conn, since uint64) error {
	s.news = newsTotal.Load()
	s.cleanName(c.Param("server_version"))
	s.cleanFunctions(c) // what another session's functions left is not what the server says
	sql, _ := difference(appliedSettings(c), noSettings)
	s.ownQuery(c, sql+askSQL(s.asked), ownSettings)
	s.ownQuery(c, probeSQL(baseNames), ownProbe)
	setApplied(c, s.settings)
	if err := s.await(c); err != nil {
		return err
	}
	reported := reportedBy(c)
	s.base = baseOf(s.turn.probed)
	known.put(s.greetingKey(), greeting{reported: reported, base: s.base, news: s.news, since: since})
	s.report(reported)
	return nil
}

// reportedNames are the settings PostgreSQL reports, in its order.
// See https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-ASYNC
var reportedNames = []string{
	"application_name", "client_encoding", "DateStyle", "default_transaction_read_only", "in_hot_standby", "integer_datetimes",
	"IntervalStyle", "is_superuser", "scram_iterations", "search_path", "server_encoding", "server_version", "session_authorization",
	"standard_conforming_strings", "TimeZone",
}

// greet ends the startup: the client is in.
func (s *Session) greet() {
	size := 4
	if s.version >= pgwire.Version32 {
		size = 32
	}
	s.reg.keys(s, size)
	for _, name := range reportedNames {
		if v, ok := s.reported.value(name); ok {
			s.w.ParameterStatus(name, v)
		}
	}
	s.w.BackendKeyData(s.pid, s.key)
	s.w.ReadyForQuery('I')
}
