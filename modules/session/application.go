package session

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// cleanName makes the application's name what a server of that version would: other characters than printable ASCII are escaped, or
// question marks before version 16. A server connection with another encoding could not take them from a statement.
// See https://www.postgresql.org/docs/current/runtime-config-logging.html#GUC-APPLICATION-NAME
func (s *Session) cleanName(version string) {
	const name = "application_name"
	raw := s.startup.value(name)
	clean := cleanASCII(raw, major(version) >= 16)
	if clean == raw {
		return
	}
	for i := range s.asked {
		if strings.EqualFold(s.asked[i].Name, name) {
			s.asked[i].Value = clean
		}
	}
	s.startup = s.startup.with(map[string]*string{name: &clean})
	s.settings = s.startup
}

// maxName is the length of names, in bytes: NAMEDATALEN - 1.
const maxName = 63

// cleanASCII shortens a name as the server does and replaces what is not printable ASCII in it.
func cleanASCII(name string, escape bool) string {
	if len(name) > maxName {
		end := maxName
		for end > maxName-utf8.UTFMax && !utf8.RuneStart(name[end]) {
			end--
		}
		name = name[:end]
	}
	var b strings.Builder
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 0x20 && c <= 0x7e:
			b.WriteByte(c)
		case escape:
			fmt.Fprintf(&b, "\\x%02x", c)
		default:
			b.WriteByte('?')
		}
	}
	return b.String()
}

// major is the major version in what a server calls its version; 0 when there is none.
func major(version string) (n int) {
	for _, c := range []byte(version) {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int(c-'0')
	}
	return n
}
