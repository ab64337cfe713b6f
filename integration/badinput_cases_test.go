package integration_test

import (
	"crypto/rand"
	"encoding/binary"
	"strings"
)

// frame builds a message of the protocol.
func frame(typ byte, parts ...string) string {
	body := strings.Join(parts, "")
	return string(typ) + length(4+len(body)) + body
}

// packet builds a startup packet, which has no type.
func packet(version int, parts ...string) string {
	body := strings.Join(parts, "")
	return length(8+len(body)) + length(version) + body
}

func length(n int) string { return string(binary.BigEndian.AppendUint32(nil, uint32(n))) }

// Codes of startup packets, see protocol-message-formats.
const (
	version30     = 3 << 16
	sslRequest    = 1234<<16 | 5679
	gssencRequest = 1234<<16 | 5680
	cancelRequest = 1234<<16 | 5678
)

// appStartup logs the ordinary program in.
var appStartup = packet(version30, "user\x00"+appRole+"\x00database\x00"+appRole+"\x00\x00")

// beforeLogin are visits that end before there is a session.
var beforeLogin = map[string]string{
	"HTTP":                                "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
	"a TLS handshake":                     "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\x00", 500),
	"noise":                               noise(4096),
	"length 0":                            length(0),
	"length 3":                            length(3) + "abc",
	"length 4":                            length(4),
	"length 7":                            length(7) + "abc",
	"a negative length":                   "\xff\xff\xff\xff" + length(version30),
	"two gigabytes":                       "\x7f\xff\xff\xff" + length(version30) + "user\x00",
	"ten thousand and one bytes":          length(10_001) + length(version30) + strings.Repeat("x", 10_000-7),
	"half a length":                       "\x00\x00",
	"half a packet":                       appStartup[:len(appStartup)/2],
	"protocol 1.0":                        packet(1<<16, "user\x00app\x00\x00"),
	"protocol 2.0":                        packet(2<<16, strings.Repeat("\x00", 288)),
	"protocol 4.0":                        packet(4<<16, "user\x00app\x00\x00"),
	"no user":                             packet(version30, "database\x00app\x00\x00"),
	"no terminator":                       packet(version30, "user\x00app\x00"),
	"a name without a value":              packet(version30, "user\x00app\x00database\x00"),
	"no terminators at all":               packet(version30, "user"),
	"an empty user":                       packet(version30, "user\x00\x00\x00"),
	"a cancel without a key":              packet(cancelRequest),
	"a cancel with half a key":            packet(cancelRequest, "\x00\x00\x00\x01\x00"),
	"a cancel of nobody":                  packet(cancelRequest, "\x00\x00\x00\x01", "\x00\x00\x00\x02"),
	"a cancel with a long key":            packet(cancelRequest, "\x00\x00\x00\x01", strings.Repeat("k", 300)),
	"TLS asked for, then noise":           packet(sslRequest) + noise(100),
	"TLS asked for a hundred times":       strings.Repeat(packet(sslRequest), 100),
	"GSS and TLS in turns":                strings.Repeat(packet(gssencRequest)+packet(sslRequest), 50),
	"TLS asked for with more in it":       packet(sslRequest, "more"),
	"a query without a login":             frame('Q', "select 1\x00"),
	"a goodbye without a hello":           frame('X'),
	"an unknown setting":                  packet(version30, "user\x00app\x00nosuchsetting\x001\x00\x00"),
	"an unknown database":                 packet(version30, "user\x00app\x00database\x00nowhere\x00\x00"),
	"replication":                         packet(version30, "user\x00app\x00replication\x00maybe\x00\x00"),
	"a database name of eight thousand x": packet(version30, "user\x00app\x00database\x00"+strings.Repeat("x", 8000)+"\x00\x00"),
	"nothing":                             "",
}

// noise is random bytes, the same in every run of a test's subtests.
func noise(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	b[0] |= 0x80 // never a startup packet of an acceptable length
	return string(b)
}

// afterLogin are last words in a session, of every kind of frame. A server's own reaction to the same bytes is what is
// expected.
var afterLogin = map[string][]string{
	"an unknown type":                           {frame('z', "x")},
	"type 0":                                    {frame(0)},
	"type 255":                                  {frame(255, "x")},
	"a server's message":                        {frame('T', "\x00\x00")},
	"length 0":                                  {"Q" + length(0)},
	"length 3":                                  {"Q" + length(3) + "x"},
	"a negative length":                         {"Q\xff\xff\xff\xff"},
	"two gigabytes":                             {"Q\x7f\xff\xff\xffselect 1\x00"},
	"a large Sync":                              {"S" + length(1_000_000)},
	"a large goodbye":                           {"X" + length(2_000_000_000)},
	"a query without an end":                    {frame('Q', "select 1")},
	"a query with two ends":                     {frame('Q', "select 1\x00\x00")},
	"an empty message":                          {frame('Q')},
	"a query that is no UTF-8":                  {frame('Q', "select '\xff\xfe'\x00")},
	"Parse without anything":                    {frame('P')},
	"Parse without an end":                      {frame('P', "s\x00select 1")},
	"Parse without types":                       {frame('P', "s\x00select 1\x00")},
	"Parse with too few types":                  {frame('P', "s\x00select 1\x00\x00\x05\x00\x00\x00\x17")},
	"Parse with minus one types":                {frame('P', "s\x00select 1\x00\xff\xff")},
	"Parse with more in it":                     {frame('P', "s\x00select 1\x00\x00\x00more")},
	"Bind without anything":                     {frame('P', "\x00select $1::int\x00\x00\x00") + frame('B')},
	"Bind of no statement":                      {frame('B', "\x00nothing\x00\x00\x00\x00\x00\x00\x00")},
	"Bind with a missing value":                 {frame('P', "\x00select $1::int\x00\x00\x00") + frame('B', "\x00\x00\x00\x00\x00\x01")},
	"Bind with a value that is too long":        {frame('P', "\x00select $1::text\x00\x00\x00") + frame('B', "\x00\x00\x00\x00\x00\x01\x7f\xff\xff\xffx\x00\x00")},
	"Bind with a value of length minus two":     {frame('P', "\x00select $1::text\x00\x00\x00") + frame('B', "\x00\x00\x00\x00\x00\x01\xff\xff\xff\xfe\x00\x00")},
	"Bind with too many formats":                {frame('P', "\x00select $1::int\x00\x00\x00") + frame('B', "\x00\x00\x00\x02\x00\x01\x00\x01\x00\x01\x00\x00\x00\x04\x00\x00\x00\x01\x00\x00")},
	"Bind with format 7":                        {frame('P', "\x00select $1::int\x00\x00\x00") + frame('B', "\x00\x00\x00\x01\x00\x07\x00\x01\x00\x00\x00\x04\x00\x00\x00\x01\x00\x00")},
	"Describe of a kind there is not":           {frame('D', "Xs\x00")},
	"Describe without anything":                 {frame('D')},
	"Close of a kind there is not":              {frame('C', "Xs\x00")},
	"Close without an end":                      {frame('C', "Ss")},
	"Execute of no portal":                      {frame('E', "nothing\x00\x00\x00\x00\x00")},
	"Execute without a limit":                   {frame('E', "\x00")},
	"Flush with more in it":                     {frame('H', "more")},
	"Sync with more in it":                      {frame('S', "more")},
	"a function call without anything":          {frame('F')},
	"a password":                                {frame('p', "secret\x00")},
	"CopyData where nobody copies":              {frame('d', "data")},
	"CopyDone and CopyFail where nobody copies": {frame('c') + frame('f', "no\x00")},
	"an unknown type in a transaction":          {frame('Q', "begin\x00"), frame('Q', "insert into bad_input values (1)\x00"), frame('z')},
	"an unknown type in a batch":                {frame('P', "\x00insert into bad_input values (1)\x00\x00\x00") + frame('B', "\x00\x00\x00\x00\x00\x00\x00\x00") + frame('E', "\x00\x00\x00\x00\x00") + frame('z')},
	"an unknown type in COPY":                   {frame('Q', "copy bad_input from stdin\x00"), frame('d', "1\n") + frame('z')},
	"a query in COPY":                           {frame('Q', "copy bad_input from stdin\x00"), frame('d', "1\n") + frame('Q', "select 1\x00")},
	"length 3 in COPY":                          {frame('Q', "copy bad_input from stdin\x00"), frame('d', "1\n") + "d" + length(3)},
	"two gigabytes in COPY":                     {frame('Q', "copy bad_input from stdin\x00"), frame('d', "1\n") + "d\x7f\xff\xff\xff"},
}

// ourWay is where we are not as strict as a server.
var ourWay = map[string]visit{
	"Flush with more in it": {alive: true},
	"Sync with more in it":  {alive: true},
}

// hangUps are visits that end in the middle of something: nothing of it stays.
var hangUps = map[string][]string{
	"in a length":      {"Q\x00\x00"},
	"in a query":       {"Q" + length(100) + "insert into bad_input values (1)"},
	"in a large query": {"Q" + length(900<<20) + "insert into bad_input values (1)" + strings.Repeat(" ", 1<<20)},
	"in a batch":       {frame('P', "\x00insert into bad_input values (1)\x00\x00\x00") + frame('B', "\x00\x00\x00\x00\x00\x00\x00\x00") + frame('E', "\x00\x00\x00\x00\x00")},
	"in a flushed batch": {frame('P', "\x00insert into bad_input values (1)\x00\x00\x00") + frame('B', "\x00\x00\x00\x00\x00\x00\x00\x00") +
		frame('E', "\x00\x00\x00\x00\x00") + frame('H')},
	"in a transaction":     {frame('Q', "begin; insert into bad_input values (1); lock table bad_input\x00"), "S\x00"},
	"in a COPY":            {frame('Q', "copy bad_input from stdin\x00"), frame('d', "1\n2\n")},
	"in a message of COPY": {frame('Q', "copy bad_input from stdin\x00"), "d" + length(1<<20) + "1\n2\n"},
	"in a long result":     {frame('Q', "select repeat('x', 1000) from generate_series(1, 100000)\x00")},
	"in COPY out":          {frame('Q', "copy (select repeat('x', 1000) from generate_series(1, 100000)) to stdout\x00")},
	"in a long statement":  {frame('Q', "select pg_sleep(60) as hung_up\x00")},
}
