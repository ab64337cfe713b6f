package session

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// generator makes a random program whose answers depend on nothing but the client that plays it.
type generator struct {
	rng       *rand.Rand
	who       int
	steps     program
	sessions  int  // begun so far
	startup   bool // the session's startup packet has settings
	sequences bool // the session has asked for lastval at its beginning
}

// generate makes the program of one client. The same seed and number make the same program.
func generate(seed, number uint64, who, steps int) program {
	g := &generator{rng: rand.New(rand.NewPCG(seed, number)), who: who}
	g.begin()
	for len(g.steps) < steps {
		g.step()
	}
	return g.steps
}

func (g *generator) schema() string { return fmt.Sprintf("c%d", g.who) }

// chance is true so many times of a hundred.
func (g *generator) chance(percent int) bool { return g.rng.IntN(100) < percent }

// add adds a step; each line is filled.
func (g *generator) add(lines ...string) {
	s := make(step, 0, len(lines))
	for _, line := range lines {
		text, more := strings.CutSuffix(line, `\`)
		if text = g.fill(text); more {
			text += ` \`
		}
		s = append(s, text)
	}
	g.steps = append(g.steps, s)
}

var startups = []string{
	"application_name=prog", "work_mem=333kB", "timezone=Europe/Berlin", "datestyle=German", "search_path=prop_other", "options=-cwork_mem=777kB",
	"client_encoding=LATIN1", "extra_float_digits=0", "app.x=start", "bytea_output=escape",
}

// begin begins a session. It writes first: only then a replica has surely what the client's last session wrote, see "what another
// session committed a moment ago" in docs/compatibility.md. A session that will ask for currval or lastval does so now: "the first currval or
// lastval of a session outside the transaction that drew the value gives 55000".
func (g *generator) begin() {
	g.sessions++
	g.startup, g.sequences = g.chance(30), g.chance(30)
	line := "new"
	if g.startup {
		for _, at := range g.rng.Perm(len(startups))[:1+g.rng.IntN(3)] {
			line += " " + startups[at]
		}
	}
	lines := []string{line, "Q insert into prop_rows values ({who}, 0)"}
	if g.sequences {
		lines = append(lines, "Q select lastval()")
	}
	g.add(lines...)
}

// one is a statement that may stand beside others.
func (g *generator) one() string {
	switch {
	case g.sequences && g.chance(12):
		return draw(g.rng, sequences)
	case !g.startup && g.chance(5):
		return draw(g.rng, resetting)
	}
	return draw(g.rng, anywhere)
}

// steady is a statement that may be prepared under a name.
func (g *generator) steady() string {
	for {
		if text := g.one(); steady(text) {
			return text
		}
	}
}

// step adds one step, now and then with what usually follows.
func (g *generator) step() {
	switch at := g.rng.IntN(100); {
	case at < 40:
		g.add("Q " + g.one())
	case at < 47:
		var list []string
		for range 2 + g.rng.IntN(3) {
			list = append(list, g.one())
		}
		g.add("Q " + strings.Join(list, "; "))
	case at < 51:
		g.add("Q " + draw(g.rng, resetting))
	case at < 52:
		g.add("Q " + draw(g.rng, alone))
	case at < 63:
		g.add(g.extended("-", g.one(), "")...)
	case at < 69:
		g.named()
	case at < 76:
		b := bound[g.rng.IntN(len(bound))]
		g.add(g.extended("-", b.text, b.values)...)
	case at < 84:
		g.pipeline()
	case at < 87:
		g.flushed()
	case at < 91:
		g.add(portals[g.rng.IntN(len(portals))]...)
	case at < 94:
		g.add(copies[g.rng.IntN(len(copies))]...)
	case at < 95:
		g.add(reshape...)
	case at < 96:
		g.add("Q select setseed(0.{9})", "Q select random(), random()", "Q select random()")
	case at < 97:
		g.readOnly()
	case at < 98:
		g.block()
	default:
		g.leave()
	}
}

// extended are the messages that run a statement once.
func (g *generator) extended(name, text, values string) []string {
	lines := []string{fmt.Sprintf(`P %s %s\`, name, text)}
	if g.chance(30) {
		lines = append(lines, fmt.Sprintf(`D S %s\`, name))
	}
	lines = append(lines, fmt.Sprintf(`B - %s %s\`, name, values))
	if g.chance(40) {
		lines = append(lines, `D P -\`)
	}
	return append(lines, `E - 0\`, "S")
}

// named prepares, executes or closes a statement that has a name.
func (g *generator) named() {
	name := fmt.Sprintf("s%d", 1+g.rng.IntN(3))
	switch at := g.rng.IntN(10); {
	case at < 4:
		g.add(g.extended(name, g.steady(), "")...)
	case at < 7:
		g.add(fmt.Sprintf(`B - %s\`, name), `E - 0\`, "S")
	case at < 8:
		g.add("Q rollback", fmt.Sprintf(`D S %s\`, name), "S") // "a Describe of a prepared statement in a failed transaction …"
	case at < 9:
		g.add(fmt.Sprintf(`C S %s\`, name), "S")
	default:
		g.add(`P - select {9}, count(*) from {c}.t\`, "S")
		g.add(`B - -\`, `E - 0\`, "S")
	}
}

// pipeline sends several segments, and now and then a Query between them, at once.
func (g *generator) pipeline() {
	var lines []string
	for range 2 + g.rng.IntN(4) {
		switch at := g.rng.IntN(10); {
		case at < 1 && len(lines) > 0:
			lines = append(lines, `S\`, fmt.Sprintf(`Q %s\`, g.one()))
		case at < 3:
			b := bound[g.rng.IntN(len(bound))]
			lines = append(lines, fmt.Sprintf(`P - %s\`, b.text), fmt.Sprintf(`B - - %s\`, b.values), `E - 0\`)
		case at < 4:
			name := fmt.Sprintf("s%d", 1+g.rng.IntN(3))
			lines = append(lines, fmt.Sprintf(`B - %s\`, name), `D P -\`, `E - 0\`)
		case at < 5:
			name := fmt.Sprintf("s%d", 1+g.rng.IntN(3))
			lines = append(lines, fmt.Sprintf(`C S %s\`, name), fmt.Sprintf(`P %s %s\`, name, g.steady()), fmt.Sprintf(`B - %s\`, name), `E - 0\`)
		default:
			lines = append(lines, fmt.Sprintf(`P - %s\`, g.one()), `B - -\`, `E - 0\`)
		}
		if g.chance(35) {
			lines = append(lines, `S\`)
		}
	}
	g.add(append(lines, "S")...)
}

// flushed asks for answers before the segment ends.
func (g *generator) flushed() {
	lines := []string{fmt.Sprintf(`P - %s\`, g.one())}
	if g.chance(50) {
		lines = append([]string{"Q rollback"}, append(lines, `D S -\`, "H")...) // "ROLLBACK TO in a transaction that has failed …"
	}
	lines = append(lines, `B - -\`, `E - 0\`, "H")
	if g.chance(50) {
		lines = append(lines, fmt.Sprintf(`P - %s\`, g.one()), `B - -\`, `E - 0\`)
	}
	g.add(append(lines, "S")...)
}

// readOnly is a READ ONLY transaction.
func (g *generator) readOnly() {
	lines := []string{"Q rollback", "Q [begin read only|start transaction read only|begin isolation level repeatable read read only|begin; set transaction read only]"}
	if g.chance(25) {
		lines = []string{"Q rollback", "Q set default_transaction_read_only to on", "Q begin"}
	}
	for range 1 + g.rng.IntN(4) {
		if text := draw(g.rng, reading); g.chance(50) {
			lines = append(lines, "Q "+text)
		} else {
			lines = append(lines, g.extended("-", text, "")...)
		}
	}
	g.add(append(lines, "Q [commit|rollback]", "Q set default_transaction_read_only to off")...)
}

// block is a transaction with a savepoint; its steps may be left out one by one.
func (g *generator) block() {
	g.add("Q begin")
	for _, mark := range []string{"Q savepoint a", "Q [savepoint b|release a]", "Q rollback to [a|b]", "Q [commit|rollback]"} {
		for range g.rng.IntN(3) {
			g.step()
		}
		g.add(mark)
	}
}

// leave ends the session in one way or another, and begins the next. What is under way when the client is gone is never committed:
// whether it is executed depends on chance.
func (g *generator) leave() {
	switch g.rng.IntN(5) {
	case 0:
		g.add("X")
	case 1:
		g.add("gone")
	case 2:
		g.add(`Q begin\`, `Q insert into {c}.t values ({20}, 'lost')\`, `Q update prop_rows set v = 0 where who = {who}\`, "gone")
	case 3:
		g.add(`Q set app.x = 'lost'; set role prop_reader; set work_mem = '2MB'\`,
			`Q create temp table tmp (lost int); listen {ch}; prepare q1 as select 'lost'; declare c1 cursor with hold for select 'lost'\`,
			`Q select pg_advisory_lock({k})\`, "gone")
	case 4:
		g.add(`Q begin\`, `Q copy {c}.t from stdin\`, `d 7	lost\`, "gone")
	}
	g.steps[len(g.steps)-1] = append(g.steps[len(g.steps)-1], g.afterwards()...)
}

// afterwards is the beginning of the next session: it must not be left out while the end of the one before is there.
func (g *generator) afterwards() step {
	g.begin()
	last := g.steps[len(g.steps)-1]
	g.steps = g.steps[:len(g.steps)-1]
	return last
}

// portals are executed bit by bit. The unnamed portal is never executed in a failed transaction without a Bind in the same segment:
// when a Query has failed before, a server of version 15 reads memory that it has given back, and goes down with all its sessions.
var portals = [][]string{
	{
		"Q begin", `P - select g, 'r' || g from generate_series(1, 7) g\`, `B p1 -\`, `E p1 2\`, "S", `E p1 [1|2|9]\`, "S",
		"Q select count(*) from {c}.t", `E p1 0\`, `C P p1\`, "S", "Q [commit|rollback]",
	},
	{
		"Q begin", `P - select g from generate_series(1, 5) g\`, `B p1 -\`, `B p2 -\`, `E p1 2\`, `E p2 1\`, `E p1 1\`, "S",
		`E p2 2\`, `E p1 0\`, `E p2 0\`, "S", "Q commit",
	},
	{`P - select g from generate_series(1, 5) g\`, `B p1 -\`, `E p1 2\`, "H", `E p1 2\`, "H", `E p1 2\`, "S", `E p1 1\`, "S"},
	{"Q begin", `P - select g from generate_series(1, 5) g\`, `B p1 -\`, `E p1 1\`, "S", "Q fetch 2 from p1", "Q close p1", `E p1 1\`, "S", "Q rollback"},
	{"Q begin", "Q declare c2 cursor for select g from generate_series(1, 5) g", `D P c2\`, `E c2 2\`, "S", "Q fetch 1 from c2", "Q commit"},
	{`P - insert into {c}.t values ({20}, 'p'), ({20}, 'q') returning id\`, `B - -\`, `E - 1\`, `E - 1\`, "S"},
	{"Q rollback", `P - select id from {c}.t order by id\`, `B - -\`, `E - 1\`, "S", `E - 1\`, "S"},
	{`B p1 s1\`, "S", `E p1 1\`, "S"},
}

// copies are COPY … FROM STDIN, with their data at once or when the server has asked.
var copies = [][]string{
	{`Q copy {c}.u (id) from stdin\`, `d {9}\`, `d {9}\`, "c"},
	{"Q copy {c}.u (id) from stdin", `d {9}\`, "c"},
	{`Q copy {c}.u (id) from stdin\`, `d {9}\`, "f no more"},
	{`Q copy {c}.u (id) from stdin\`, `d {9}\`, `d x\`, `d {9}\`, "c"},
	{`Q select 1; copy prop_rows from stdin; select count(*) from {c}.u\`, `d {who}	{50}\`, "c"},
	{`P - copy {c}.u (id) from stdin\`, `B - -\`, `E - 0\`, `d {9}\`, `c\`, "S"},
	{`P - copy prop_rows from stdin\`, `B - -\`, `E - 0\`, "H", `d {who}	{50}\`, `c\`, "S"},
	{`P - copy {c}.u (id) from stdin\`, `B - -\`, `E - 0\`, `d x\`, `f why\`, "S"},
	{`Q copy {c}.u (id) to stdout; copy {c}.u (id) from stdin\`, `d {9}\`, "c"},
}

// reshape changes a table whose prepared statement the client has had described. It does so outside of transactions: inside, "a
// statement whose table has changed since it was described may return rows of the new shape".
var reshape = []string{
	"Q rollback", `C S s4\`, `P s4 select * from {c}.r\`, `D S s4\`, `B - s4\`, `E - 0\`, "S",
	"Q alter table {c}.r add column n{900} int", `B - s4\`, `E - 0\`, "S", `C S s4\`, "S",
}
