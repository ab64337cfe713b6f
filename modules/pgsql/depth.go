package pgsql

// maxNesting bounds how deep the tree of a text may be: the parser, and the code that carries its tree over, recurse
// over it on the stack of a thread, without a limit of their own. At the bound they take less than 2 MiB of the 8 MiB
// that a thread usually has (ulimit -s).
const maxNesting = 1000

// level counts what may nest within one pair of parentheses, brackets, or CASE … END.
type level struct {
	// infix counts operators since the last comma, AND or OR: they nest to the left.
	infix int
	// prefix counts what may also nest to the right, over an AND: NOT, BETWEEN, JOIN; since the last comma.
	prefix int
	// setops counts UNION, INTERSECT and EXCEPT.
	setops int
	// isCase: CASE opened the level, END closes it.
	isCase bool
}

func (l level) depth() int { return 1 + l.infix + l.prefix + l.setops }

// tooDeep tells that the tree of the text may be deeper than maxNesting, or that the text has something in it that is
// no token. Lists, AND and OR chains do not nest; the parser keeps them flat.
func tooDeep(sql []byte) bool {
	l := lexer{src: sql}
	var n nesting
	for {
		kind := l.next()
		switch kind {
		case tokEnd:
			return false
		case tokBad:
			return true
		}
		n.token(kind, l.src[l.start:l.end])
		if n.outer+n.top.depth() > maxNesting {
			return true
		}
	}
}

// nesting is the state of tooDeep.
type nesting struct {
	// open are the levels around top; outer is the sum of their depths.
	open  []level
	outer int
	top   level
}

func (n *nesting) token(kind token, text []byte) {
	switch kind {
	case tokOperator:
		n.top.infix++
	case tokWord:
		n.word(text)
	case tokSelf:
		switch text[0] {
		case '(', '[':
			n.push(level{})
		case ')', ']':
			for n.top.isCase {
				n.pop()
			}
			n.pop()
		case ',':
			n.top.infix, n.top.prefix = 0, 0
		case ';':
			if len(n.open) == 0 {
				n.top = level{}
			}
		case ':':
			n.top.infix++
		}
	}
}

// word counts the key words of the productions of gram.y that contain themselves without parentheses.
func (n *nesting) word(text []byte) {
	var buf [10]byte
	if len(text) > len(buf) {
		return
	}
	for i, b := range text {
		buf[i] = lowerByte[b]
	}
	switch string(buf[:len(text)]) {
	case "is", "isnull", "notnull", "collate", "at", "in", "like", "ilike", "similar", "escape", "operator", "overlaps":
		n.top.infix++
	case "and", "or":
		n.top.infix = 0
	case "not", "between", "join":
		n.top.prefix++
	case "union", "intersect", "except":
		n.top.setops++
	case "case":
		n.push(level{isCase: true})
	case "when", "then", "else":
		if n.top.isCase {
			n.top.infix, n.top.prefix = 0, 0
		}
	case "end":
		if n.top.isCase {
			n.pop()
		}
	}
}

func (n *nesting) push(l level) {
	n.open = append(n.open, n.top)
	n.outer += n.top.depth()
	n.top = l
}

// pop closes a level. More closings than openings are a syntax error.
func (n *nesting) pop() {
	if len(n.open) == 0 {
		return
	}
	n.top = n.open[len(n.open)-1]
	n.open = n.open[:len(n.open)-1]
	n.outer -= n.top.depth()
}
