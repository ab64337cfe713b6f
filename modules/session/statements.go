package session

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/fairwaydb/fairway/modules/pgsql"
	"github.com/fairwaydb/fairway/modules/pgwire"
)

// sharedPrefix begins the names under which server connections know statements. A client's own unknown name that begins so is
// never sent on as it is.
const sharedPrefix = "fairway_"

// statement is a prepared statement of one session: a text, the parameter types declared at Parse and what it does.
type statement struct {
	name    string // the client's name; "" is the unnamed statement
	shared  string // the name server connections know it by; "" for the unnamed statement
	text    string
	types   []byte // int16 count and int32 OIDs, as in Parse
	class   *pgsql.Class
	asks    string        // what the client has written when text stands for that, else ""
	refusal *pgwire.Error // what its Parse must fail with
	shape   uint64        // of the rows the client was told of by Describe, see rowShape; 0 it was not told
	id      uint64        // distinguishes unnamed statements on a server connection
}

// maxStatements bounds the prepared statements of one session: their texts are kept here.
const maxStatements = 50000

// names are what the client's names stand for.
type names map[string]*statement

// statements are the prepared statements of one session, by the client's names.
type statements struct {
	named   names
	unnamed *statement
	next    uint64 // counts the unnamed statements, for their ids
}

// lookup borrows name.
func (st *statements) lookup(name []byte) *statement {
	if len(name) == 0 {
		return st.unnamed
	}
	return st.named[string(name)]
}

// set makes name stand for stmt; nil removes it. It returns what name stood for before.
func (st *statements) set(name string, stmt *statement) (prev *statement) {
	if name == "" {
		prev, st.unnamed = st.unnamed, stmt
		return prev
	}
	prev = st.named[name]
	if stmt == nil {
		delete(st.named, name)
		return prev
	}
	if st.named == nil {
		st.named = make(names)
	}
	st.named[name] = stmt
	return prev
}

func (st *statements) clear() {
	clear(st.named)
	st.unnamed = nil
}

// matches tells whether stmt is the same text with the same declared types, so that a Parse of it changes nothing.
func (stmt *statement) matches(text, types []byte) bool {
	return stmt != nil && stmt.text == string(text) && string(stmt.types) == string(types)
}

// sharedName is the name of a statement on every server connection: equal for equal text, declared types and the settings that
// decide what names and strings in it mean when it is parsed.
func sharedName(text, types []byte, set *settings) string {
	h := sha256.New()
	h.Write(text)
	h.Write([]byte{0})
	h.Write(types)
	for _, name := range parseSettings {
		h.Write([]byte{0})
		h.Write([]byte(set.value(name)))
	}
	var sum [sha256.Size]byte
	return sharedPrefix + hex.EncodeToString(h.Sum(sum[:0])[:16])
}

// ownName is a name for a statement that was parsed under settings which only its transaction has: no other session shares it.
func ownName(session, number uint64) string {
	return sharedPrefix + strconv.FormatUint(session, 36) + "_" + strconv.FormatUint(number, 36)
}

// parseSettings decide the meaning of a text at Parse.
var parseSettings = [...]string{
	"search_path", "role", "session_authorization", "standard_conforming_strings", "client_encoding", "datestyle", "intervalstyle", "timezone",
	"timezone_abbreviations", "lc_monetary", "backslash_quote", "array_nulls", "transform_null_equals", "xmloption",
}

// foreignPrefix makes a name one that no statement of ours has.
const foreignPrefix = "unknown "

// foreignName makes a client's unknown name safe to send: it can not be one that other sessions share.
func foreignName(name string) string {
	if strings.HasPrefix(name, sharedPrefix) {
		return foreignPrefix + name
	}
	return name
}
