package session

import (
	"strconv"
	"strings"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// The switches of a server process that a client may give in the startup parameter options: those with a value, and what each sets.
// See https://www.postgresql.org/docs/current/app-postgres.html and libpq's options,
// https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-OPTIONS.
const switchesWithValue = "BCcDdfhkNprStvW-"

// switchSettings are the settings that stand behind switches; the value is the switch's own where none is written here.
var switchSettings = map[byte]pgwire.Param{
	'B': {Name: "shared_buffers"}, 'h': {Name: "listen_addresses"}, 'k': {Name: "unix_socket_directories"}, 'N': {Name: "max_connections"},
	'p': {Name: "port"}, 'S': {Name: "work_mem"}, 'W': {Name: "post_auth_delay"}, 'e': {Name: "datestyle", Value: "euro"},
	'F': {Name: "fsync", Value: "false"}, 'i': {Name: "listen_addresses", Value: "*"}, 'l': {Name: "ssl", Value: "true"},
	'O': {Name: "allow_system_table_mods", Value: "true"}, 'P': {Name: "ignore_system_indexes", Value: "true"},
	's': {Name: "log_statement_stats", Value: "true"},
}

// ignoredSwitches are taken and mean nothing to a client's server process.
const ignoredSwitches = "bCDEjnrTv"

// planSwitches are what -f switches off.
var planSwitches = map[byte]string{
	's': "enable_seqscan", 'i': "enable_indexscan", 'o': "enable_indexonlyscan", 'b': "enable_bitmapscan", 't': "enable_tidscan",
	'n': "enable_nestloop", 'm': "enable_mergejoin", 'h': "enable_hashjoin",
}

// statSwitches are what -t switches on.
var statSwitches = []struct{ begins, setting string }{
	{"pa", "log_parser_stats"}, {"pl", "log_planner_stats"}, {"e", "log_executor_stats"},
}

// debugSwitches are what -d switches on from a level on.
var debugSwitches = []pgwire.Param{
	2: {Name: "log_statement", Value: "all"}, 3: {Name: "debug_print_parse", Value: "true"},
	4: {Name: "debug_print_plan", Value: "true"}, 5: {Name: "debug_print_rewritten", Value: "true"},
}

// parseOptions returns the settings of a startup packet's options in their order.
func parseOptions(options string) ([]pgwire.Param, *pgwire.Error) {
	o := optionParser{words: optionWords(options)}
	for o.at < len(o.words) {
		word := o.words[o.at]
		o.at++
		if len(word) < 2 || word[0] != '-' {
			o.rest = append(o.rest, word)
			continue
		}
		if word == "--" {
			o.rest = append(o.rest, o.words[o.at:]...)
			break
		}
		if err := o.cluster(word[1:]); err != nil {
			return nil, err
		}
	}
	if len(o.rest) > 0 {
		return nil, errBadSwitch(o.rest[0])
	}
	return o.list, nil
}

// optionParser reads switches as getopt does.
type optionParser struct {
	words []string
	at    int      // of the next word
	rest  []string // words that are no switches
	list  []pgwire.Param
}

// cluster reads the switches behind one dash.
func (o *optionParser) cluster(switches string) *pgwire.Error {
	for i := 0; i < len(switches); i++ {
		letter, value, valued := switches[i], "", strings.IndexByte(switchesWithValue, switches[i]) >= 0
		switch {
		case valued && i+1 < len(switches):
			value, i = switches[i+1:], len(switches)
		case valued && o.at < len(o.words):
			value = o.words[o.at]
			o.at++
		case valued:
			return errBadSwitch(o.words[o.at-1])
		}
		ok, err := o.take(letter, value)
		if err != nil {
			return err
		}
		if !ok {
			return errBadSwitch(o.words[o.at-1])
		}
	}
	return nil
}

// take takes one switch; it is not ok when there is none of that letter or it can not have that value.
func (o *optionParser) take(letter byte, value string) (ok bool, err *pgwire.Error) {
	switch letter {
	case 'c', '-':
		name, set, ok := strings.Cut(value, "=")
		if !ok {
			prefix := "--"
			if letter == 'c' {
				prefix = "-c "
			}
			return false, pgwire.Fatalf(pgwire.CodeSyntaxError, "%s%s requires a value", prefix, value)
		}
		o.set(strings.ReplaceAll(name, "-", "_"), set)
	case 'd':
		o.debug(value)
	case 'f':
		setting, ok := planSwitches[firstByte(value)]
		if !ok {
			return false, nil
		}
		o.set(setting, "false")
	case 't':
		for _, s := range statSwitches {
			if strings.HasPrefix(value, s.begins) {
				o.set(s.setting, "true")
				return true, nil
			}
		}
		return false, nil
	default:
		s, ok := switchSettings[letter]
		if !ok {
			return strings.IndexByte(ignoredSwitches, letter) >= 0, nil
		}
		if s.Value != "" {
			value = s.Value
		}
		o.set(s.Name, value)
	}
	return true, nil
}

func (o *optionParser) set(name, value string) {
	o.list = append(o.list, pgwire.Param{Name: name, Value: value})
}

// debug is -d.
func (o *optionParser) debug(value string) {
	level, _ := strconv.Atoi(value) // what is no number counts as 0
	if level <= 0 {
		o.set("log_min_messages", "notice")
		return
	}
	o.set("log_min_messages", "debug"+strconv.Itoa(level))
	for from, s := range debugSwitches {
		if s.Name != "" && level >= from {
			o.set(s.Name, s.Value)
		}
	}
}

func firstByte(s string) byte {
	if s == "" {
		return 0
	}
	return s[0]
}

// errBadSwitch has PostgreSQL's words, of a server process named postgres.
func errBadSwitch(word string) *pgwire.Error {
	e := pgwire.Fatalf(pgwire.CodeSyntaxError, "invalid command-line argument for server process: %s", word)
	e.Hint = `Try "postgres --help" for more information.`
	return e
}

// optionWords splits options at white space; a backslash makes the next character an ordinary one.
func optionWords(s string) []string {
	var words []string
	var b strings.Builder
	open := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			open = true
			if i++; i < len(s) {
				b.WriteByte(s[i])
			}
		case c == ' ' || c >= '\t' && c <= '\r':
			if open {
				words = append(words, b.String())
				b.Reset()
				open = false
			}
		default:
			b.WriteByte(c)
			open = true
		}
	}
	if open {
		words = append(words, b.String())
	}
	return words
}
