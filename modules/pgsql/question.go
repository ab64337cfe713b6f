package pgsql

import "bytes"

// RouteQuestion tells whether a text is EXPLAIN (ROUTE) and a statement, which asks where that statement would run, and
// returns the statement. It looks at the words only.
func RouteQuestion(sql []byte) (statement []byte, ok bool) {
	rest, ok := word(sql, "explain")
	if !ok {
		return nil, false
	}
	if rest = trimSpace(rest); len(rest) == 0 || rest[0] != '(' {
		return nil, false
	}
	if rest, ok = word(rest[1:], "route"); !ok {
		return nil, false
	}
	if rest = trimSpace(rest); len(rest) == 0 || rest[0] != ')' {
		return nil, false
	}
	return trimSpace(rest[1:]), true
}

// word cuts a keyword, given in lower case, off the head of a text.
func word(sql []byte, keyword string) (rest []byte, ok bool) {
	sql = trimSpace(sql)
	if len(sql) < len(keyword) || !bytes.EqualFold(sql[:len(keyword)], []byte(keyword)) {
		return nil, false
	}
	rest = sql[len(keyword):]
	if len(rest) > 0 && identPart(rest[0]) {
		return nil, false
	}
	return rest, true
}

// identPart tells whether a byte goes on with a word.
func identPart(b byte) bool {
	return b == '_' || b == '$' || b >= 0x80 || b >= '0' && b <= '9' || b|0x20 >= 'a' && b|0x20 <= 'z'
}

// trimSpace cuts white space off the head of a text.
func trimSpace(sql []byte) []byte {
	for len(sql) > 0 && (sql[0] == ' ' || sql[0] >= '\t' && sql[0] <= '\r') {
		sql = sql[1:]
	}
	return sql
}
