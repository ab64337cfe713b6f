// Package session conducts one client from its startup packet to its goodbye: it reads a request, classifies it, asks routing for a
// backend, leases a server connection, relays the replies and gives the connection back. It is the only conductor: everything below is
// called by it and nothing calls back.
//
// One goroutine runs a session. A second one exists only while the protocol is duplex (COPY in, a request too large to be gathered,
// a held connection that may speak unasked); it is started, stopped and waited for by the session's own goroutine.
//
// Lock order: Registry.mu, then Session.mu. Neither is held over I/O.
package session

import (
	"context"
	"crypto/tls"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgsql"
	"github.com/fairwaydb/fairway/modules/pgwire"
	"github.com/fairwaydb/fairway/modules/pool"
	"github.com/fairwaydb/fairway/modules/routing"
)

// Sizes of a session's buffers and limits, in bytes.
const (
	clientReadBuffer  = 16 << 10 // a request rarely exceeds it; larger ones are streamed or take a temporary buffer
	clientWriteBuffer = 16 << 10 // replies are collected up to this before they are written: one write for most turns
	gatherLimit       = 64 << 10 // extended messages gathered until Sync or Flush; beyond it the turn is duplex
	bodyLimit         = 16 << 20 // the largest Query, Parse or Bind body held in memory; larger ones are streamed to the primary
)

// Options are the settings of one listener; a session keeps those it started with.
type Options struct {
	// Cluster serves the session. Required.
	Cluster *cluster.Cluster
	// TLS is offered to clients that ask for it; nil answers N to an SSLRequest.
	TLS *tls.Config
	// RequireTLS refuses clients that do not use TLS with 28000.
	RequireTLS bool
	// Certificate is what clients must show, and UserMap which users their certificates belong to; without TLS of ours there is none.
	Certificate CertificateRule
	UserMap     UserMap
	// Route forces where statements run: auto (default), primary or replica.
	Route routing.Target
	// PoolMode is how long a session holds a server connection. nil means what the cluster's settings say when the session begins.
	PoolMode *cluster.PoolMode
	// LoginTimeout bounds the time from accept to the first ReadyForQuery. 0 means 60 seconds.
	LoginTimeout time.Duration
	// MaxSessions bounds the sessions of this process; one more gets 53300. 0 means no limit.
	MaxSessions int
	// Logger gets one line per failure that ends a session; never SQL text. Required.
	Logger *zap.Logger
}

// Session is what is kept for one client.
type Session struct {
	id      uint64
	opts    *Options
	cluster *cluster.Cluster
	reg     *Registry
	logger  *zap.Logger
	labels  *clusterMetrics

	conn net.Conn // the client's socket, or the TLS connection over it
	raw  net.Conn // the client's socket itself
	r    *pgwire.Reader
	w    *pgwire.Writer

	below *handshakeConn // the socket below the TLS that we have made, nil without

	identity pool.Identity
	pid      uint32
	key      []byte
	version  uint32

	status      byte // the transaction status the client was last told: I, T or E
	lease       lease
	whole       bool          // pool mode session: the first lease is held until the client leaves
	pins        pgsql.Effects // what holds the lease after the transaction
	pinsBefore  pgsql.Effects // what did when the transaction began
	pinDoubt    bool          // something happened that may have ended a pin, or that may have made none
	textRan     bool          // code ran text that it had put together: settings may have changed
	bound       pgsql.Effects // what statements that are bound but not executed yet will pin
	wrote       bool          // this lease may have written
	mark        cluster.Mark  // when the last turn that may have written ended; 0 none
	begin       deferredBegin
	asyncCommit bool // a statement changed synchronous_commit: a commit may return before it is flushed
	tx          transaction
	skipping    bool    // an extended segment failed: drop messages until Sync
	segment     bool    // an extended segment is open: messages were sent that no Sync has ended
	segmentLost bool    // the segment that the current Sync ends has failed before
	sequences   bool    // currval or lastval was used
	lexical     lexical // how the server reads texts

	seen    *cluster.Settings // whose classifier classes is
	classes *pgsql.Classifier
	wishes  wishes // what the session's settings say about routing
	schema  schema // what the database adds to a statement's wording

	queue       replies
	statements  statements
	latest      latestBind
	settings    *settings         // what the client expects to be in force
	startup     *settings         // the same, as asked for at startup
	replication []pgwire.Param    // the startup packet of a client that asks for replication, user first; nil for others
	asked       []pgwire.Param    // the settings of the startup packet in their order
	began       uint64            // version of what the servers set for new sessions when this one was one
	had         map[string]string // what that was for this one; nil nothing
	base        map[string]string // first values of settings, shared with other sessions
	badOptions  *pgwire.Error     // what is wrong with the startup packet's options
	forced      bool              // a standby refused the request: the primary runs it
	refused     error             // the login a replica refused, while another backend is tried
	touched     touched           // settings changed since the server was last asked
	reported    reported          // what the client was told last
	news        uint64            // of newsTotal, up to which it was told what servers reported to others
	batch       batch
	request     request
	turn        turn
	route       routing.Request
	feed        feed       // the second direction, client to server
	ear         ear        // listens to a held server connection while the client is silent
	segMu       sync.Mutex // guards statements, portals and skipping while the turn is duplex
	failed      []reply    // scratch of segmentFailed

	waitsSince atomic.Int64 // monotonic nanoseconds since when the session waits on a server; 0 does not wait
	heldSince  atomic.Int64 // monotonic nanoseconds since when it holds a connection and waits on its client; 0 does not
	woken      atomic.Bool  // the registry interrupted the client read
	left       atomic.Int64 // monotonic nanoseconds since when the watch knows that the client has left; 0 it has not
	closing    atomic.Bool  // drain or the admin asked the session to end when idle
	killed     atomic.Bool  // the admin asked the session to end at once
	evicted    atomic.Bool  // the backend of the connection it holds has left the cluster

	since    time.Time     // when the client came
	shown    atomic.Uint64 // what List shows of the session: see show
	shownNow uint64        // the same, for the session itself

	mu struct {
		sync.Mutex
		known       bool                    // the identity is proven and does not change any more
		application string                  // the application_name of the startup packet
		backend     *cluster.Backend        // of the server connection held, for the watch
		active      pool.Lease              // the server connection held, for cancel
		shielded    bool                    // a query of ours runs: a cancel waits for its end
		later       bool                    // a cancel waits for that
		waiting     bool                    // for a server connection or a primary
		wait        context.Context         // of that wait, kept for the next one
		stopWait    context.CancelCauseFunc // ends it
	}
}

// Serve runs one client until it is gone. buffered are bytes already read from conn. Serve owns conn and closes it; it returns when
// the session has ended and everything it held is released. A panic ends only this session.
func Serve(conn net.Conn, buffered []byte, o *Options) {
	sessions.serve(conn, buffered, o)
}

func (reg *Registry) serve(conn net.Conn, buffered []byte, o *Options) {
	s := reg.session(conn, buffered, o)
	s.whole = o.poolMode() == cluster.PoolSession
	defer s.end()
	defer func() {
		if v := recover(); v != nil {
			panics.Inc()
			s.logger.Error("session panicked", zap.Uint64("session_id", s.id), zap.Any("panic", v), zap.ByteString("stack", debug.Stack()))
			s.lease.taint("panic")
			s.fatal(pgwire.Fatalf(pgwire.CodeInternalError, "internal error of the load balancer; the connection is closed"))
		}
	}()
	if !s.start() {
		return
	}
	if s.replication != nil {
		s.replicate()
		return
	}
	s.loop()
}

// session makes one that has not begun.
func (reg *Registry) session(conn net.Conn, buffered []byte, o *Options) *Session {
	s := &Session{
		opts: o, cluster: o.Cluster, reg: reg, logger: o.Logger, labels: metricsFor(o.Cluster.Name()),
		conn: conn, raw: conn, status: 'I',
		r: pgwire.NewReader(conn, buffered, clientReadBuffer),
		w: pgwire.NewWriter(conn, clientWriteBuffer),
	}
	s.r.BodyLimit = bodyLimit
	return s
}

// poolMode is the mode of a session that begins now.
func (o *Options) poolMode() cluster.PoolMode {
	if o.PoolMode != nil {
		return *o.PoolMode
	}
	if set := o.Cluster.Settings(); set != nil {
		return set.PoolMode
	}
	return cluster.PoolTransaction
}

// end releases what the session held. It is the last thing a session does.
func (s *Session) end() {
	s.reg.remove(s)
	s.dropLease("client gone")
	s.schema.close()
	s.r.Rest()
	_ = s.conn.Close()
	if s.raw != s.conn {
		_ = s.raw.Close()
	}
}

// fatal tells the client why its connection ends. Errors of the write do not matter any more.
func (s *Session) fatal(e *pgwire.Error) {
	_ = s.conn.SetWriteDeadline(time.Now().Add(farewellTimeout))
	if s.version != 0 && s.version < pgwire.Version30 {
		s.w.Raw([]byte("E" + e.Severity + ":  " + e.Message + "\n\x00")) // as protocol 2 had it
	} else {
		s.w.Error(e)
	}
	_ = s.w.Flush()
}

// farewellTimeout bounds the write of a last message to a client that may not read.
const farewellTimeout = 2 * time.Second

// loop serves requests until the client leaves or the session must end.
func (s *Session) loop() {
	for {
		typ, n, err := s.nextFrame()
		if err != nil {
			s.leave(err)
			return
		}
		if err := s.dispatch(typ, n); err != nil {
			s.leave(err)
			return
		}
	}
}

// smallMessage is the largest body of messages that have no reason to be large, in bytes; a server refuses longer ones too.
const smallMessage = 10000

func isSmall(typ byte) bool {
	switch typ {
	case pgwire.MsgSync, pgwire.MsgFlush, pgwire.MsgDescribe, pgwire.MsgClose, pgwire.MsgExecute, pgwire.MsgCopyDone, pgwire.MsgTerminate:
		return true
	}
	return false
}

// dispatch handles one client message at a message boundary.
func (s *Session) dispatch(typ byte, n int) error {
	if n > smallMessage && isSmall(typ) {
		return pgwire.Fatalf(pgwire.CodeProtocolViolation, "invalid message length")
	}
	if s.skipping && typ != pgwire.MsgSync && typ != pgwire.MsgTerminate {
		return s.discard()
	}
	switch typ {
	case pgwire.MsgQuery:
		return s.query(n)
	case pgwire.MsgParse, pgwire.MsgBind, pgwire.MsgDescribe, pgwire.MsgExecute, pgwire.MsgClose, pgwire.MsgSync, pgwire.MsgFlush:
		return s.extended(typ, n)
	case pgwire.MsgCopyData, pgwire.MsgCopyDone, pgwire.MsgCopyFail:
		if s.batch.executes {
			return s.copyAhead(typ, n)
		}
		// Left over from a COPY the server has already ended: ignored, as the server does.
		return s.discard()
	case pgwire.MsgTerminate:
		return errGoodbye
	case pgwire.MsgFunctionCall:
		return s.functionCall(n)
	default:
		return pgwire.Fatalf(pgwire.CodeProtocolViolation, "invalid frontend message type %d", typ)
	}
}
