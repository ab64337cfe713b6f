// Package pgwire reads and writes the frames of PostgreSQL's protocol, version 3.
//
// It owns the bytes between a socket and the code that understands them: a Reader cuts the stream into
// frames and hands their bodies out borrowed, or forwards them to a Writer without holding more than a
// buffer of them; a Writer collects frames and gives them to the socket in few writes. It also knows the
// startup packets, the errors with their SQLSTATEs and the few bodies a load balancer must look into.
//
// It never opens or closes a connection, starts no goroutine, keeps no clock and does not judge the order
// of messages: that is its callers' work (pgauth, pool, cluster, session).
//
// The format is described in https://www.postgresql.org/docs/current/protocol-message-formats.html.
package pgwire

// Message types a client sends.
// See https://www.postgresql.org/docs/current/protocol-message-formats.html.
const (
	MsgQuery        byte = 'Q'
	MsgParse        byte = 'P'
	MsgBind         byte = 'B'
	MsgDescribe     byte = 'D'
	MsgExecute      byte = 'E'
	MsgClose        byte = 'C'
	MsgSync         byte = 'S'
	MsgFlush        byte = 'H'
	MsgTerminate    byte = 'X'
	MsgCopyFail     byte = 'f'
	MsgPassword     byte = 'p' // also SASLInitialResponse, SASLResponse and GSSResponse
	MsgFunctionCall byte = 'F'
)

// Message types both sides send, while a COPY runs.
const (
	MsgCopyData byte = 'd'
	MsgCopyDone byte = 'c'
)

// Message types a server sends.
const (
	MsgAuthentication           byte = 'R'
	MsgBackendKeyData           byte = 'K'
	MsgParameterStatus          byte = 'S'
	MsgReadyForQuery            byte = 'Z'
	MsgRowDescription           byte = 'T'
	MsgDataRow                  byte = 'D'
	MsgCommandComplete          byte = 'C'
	MsgEmptyQuery               byte = 'I'
	MsgError                    byte = 'E'
	MsgNotice                   byte = 'N'
	MsgNotification             byte = 'A'
	MsgParseComplete            byte = '1'
	MsgBindComplete             byte = '2'
	MsgCloseComplete            byte = '3'
	MsgNoData                   byte = 'n'
	MsgPortalSuspended          byte = 's'
	MsgParameterDescription     byte = 't'
	MsgCopyIn                   byte = 'G'
	MsgCopyOut                  byte = 'H'
	MsgCopyBoth                 byte = 'W'
	MsgFunctionResult           byte = 'V'
	MsgNegotiateProtocolVersion byte = 'v'
)

// Protocol versions, major<<16 | minor.
const (
	Version30 uint32 = 3 << 16
	Version32 uint32 = 3<<16 | 2 // cancel keys of 4 to 256 bytes, PostgreSQL 18 and later
)

// Limits on what the wire may announce.
const (
	// DefaultMaxFrame is the largest length word accepted: PostgreSQL's MaxAllocSize (1 GiB - 1). No server
	// sends and no server takes more.
	DefaultMaxFrame = 0x3fffffff
	// DefaultBodyLimit is the largest body Reader.Body holds in memory (64 MiB).
	DefaultBodyLimit = 64 << 20
	// MaxStartup is the largest startup packet without its length word: PostgreSQL's MAX_STARTUP_PACKET_LENGTH.
	MaxStartup = 10000
	// MaxCancelKey is the longest cancel key of protocol 3.2, in bytes.
	MaxCancelKey = 256
)

const (
	headerLen   = 5 // type and length word
	minBuffer   = 16
	defaultSize = 16 << 10
)
