package pgtls

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// UserMap tells which database users a certificate belongs to, by the rules of pg_ident.conf. See
// https://www.postgresql.org/docs/current/auth-username-maps.html. It may be used by many goroutines.
type UserMap struct {
	wholeName bool
	lines     []mapLine
}

// mapLine is a line of the map.
type mapLine struct {
	name, user string
	pattern    *regexp.Regexp // nil: the name itself
}

// Mapping is a line of a map: the name in the certificate, or a regular expression after a slash, and the user. \1 in the user stands
// for what the first parentheses of the expression have matched.
type Mapping struct{ Name, User string }

// NewUserMap makes a map. Without lines the name in the certificate must be the user's. The name is the common name of the subject, or
// all of the subject as RFC 2253 writes it (CN=anna,OU=sales,O=Example) when wholeName is set.
func NewUserMap(wholeName bool, lines ...Mapping) (*UserMap, error) {
	m := &UserMap{wholeName: wholeName}
	for _, line := range lines {
		l := mapLine{name: line.Name, user: line.User}
		if line.Name == "" || line.User == "" {
			return nil, errors.New("a name or a user is empty: write the name in the certificate and the user")
		}
		if expression, ok := strings.CutPrefix(line.Name, "/"); ok {
			pattern, err := regexp.Compile(expression)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", line.Name, err)
			}
			if strings.Contains(line.User, `\1`) && pattern.NumSubexp() == 0 {
				return nil, fmt.Errorf("regular expression %q has no subexpressions as requested by backreference in %q: write parentheses",
					expression, line.User)
			}
			l.pattern = pattern
		}
		m.lines = append(m.lines, l)
	}
	return m, nil
}

// Maps tells whether the certificate belongs to the user.
func (m *UserMap) Maps(certificate *x509.Certificate, user string) bool {
	name, ok := m.nameIn(certificate)
	if !ok {
		return false
	}
	if len(m.lines) == 0 {
		return name == user
	}
	for _, l := range m.lines {
		if l.maps(name, user) {
			return true
		}
	}
	return false
}

func (l *mapLine) maps(name, user string) bool {
	if l.pattern == nil {
		return l.name == name && l.user == user
	}
	found := l.pattern.FindStringSubmatch(name)
	if found == nil {
		return false
	}
	expected := l.user
	if len(found) > 1 {
		expected = strings.Replace(expected, `\1`, found[1], 1)
	}
	return expected == user
}

var oidCommonName = asn1.ObjectIdentifier{2, 5, 4, 3}

// nameIn returns the name a certificate bears. One with a zero byte, which others may read as the end, is none.
func (m *UserMap) nameIn(certificate *x509.Certificate) (string, bool) {
	var subject pkix.RDNSequence
	if rest, err := asn1.Unmarshal(certificate.RawSubject, &subject); err != nil || len(rest) > 0 {
		return "", false
	}
	if m.wholeName {
		name := subject.String()
		return name, name != "" && !strings.ContainsRune(name, 0)
	}
	for _, set := range subject { // the first, as PostgreSQL takes it
		for _, attribute := range set {
			if attribute.Type.Equal(oidCommonName) {
				name, ok := attribute.Value.(string)
				return name, ok && name != "" && !strings.ContainsRune(name, 0)
			}
		}
	}
	return "", false
}
