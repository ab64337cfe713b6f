package session

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/fairwaydb/fairway/modules/cluster"
)

// program makes a random sequence of statements whose answers depend on nothing but the session that runs them: settings, prepared
// statements, transactions, savepoints, temporary tables and rows of its own.
func program(rng *rand.Rand, who, steps int) []string {
	own := fmt.Sprintf("prop_rows where who = %d", who)
	var lines []string
	add := func(format string, a ...any) {
		lines = append(lines, strings.Split(fmt.Sprintf(format, a...), "\n")...)
	}
	names := 0
	for range steps {
		switch rng.IntN(16) {
		case 0:
			add("Q set app.who = '%d.%d'", who, rng.IntN(100))
		case 1:
			add("Q select coalesce(nullif(current_setting('app.who', true), ''), 'none'), count(*) from %s", own)
		case 2:
			add("Q set work_mem = '%dkB'", 64+rng.IntN(100))
		case 3:
			add("Q reset work_mem\nQ show work_mem")
		case 4:
			add("Q begin")
		case 5:
			add("Q commit")
		case 6:
			add("Q rollback")
		case 7:
			add("Q savepoint a")
		case 8:
			add("Q rollback to a")
		case 9:
			add("Q insert into prop_rows values (%d, %d)", who, rng.IntN(1000))
		case 10:
			add("Q select count(*), sum(v) from %s", own)
		case 11:
			names++
			add("P s%d select %d + count(*) from %s\nB - s%d\nE - 0\nS", names, rng.IntN(5), own, names)
		case 12:
			add("B - s%d\nE - 0\nS", 1+rng.IntN(names+1))
		case 13:
			add("C S s%d\nS", 1+rng.IntN(names+1))
		case 14:
			add("P - select set_config('app.who', $1, false)\nB - - x%d\nE - 0\nS", rng.IntN(100))
		case 15:
			if rng.IntN(4) == 0 {
				add("Q create temp table if not exists mine (a int)\nQ insert into mine values (1)\nQ select count(*) from mine\nQ discard all")
			} else {
				add("P - select count(*), $1::int from %s\nB - - %d\nE - 0\nS", own, rng.IntN(9))
			}
		}
	}
	add("Q rollback")
	return lines
}

func TestEightClientsOnThreeServerConnectionsGetWhatTheyGetAlone(t *testing.T) {
	p := startProxy(t, pg, func(c *cluster.Config, _ *Options) {
		c.Pool = &cluster.PoolConfig{Size: 3, MaxPinned: 1, StatementCache: 4}
	})
	if err := pg.Primary().Exec(t.Context(), "drop table if exists prop_rows; create table prop_rows (who int, v int)"); err != nil {
		t.Fatal(err)
	}
	for round := range 4 {
		var wg sync.WaitGroup
		wants, scripts := make([][][]string, 8), make([]string, 8)
		for who := range 8 {
			seed := uint64(round*8 + who + 1)
			scripts[who] = strings.Join(program(rand.New(rand.NewPCG(seed, 7)), who, 40), "\n")
			direct := dialPeer(t, pg.Primary().Addr())
			wants[who] = direct.play(scripts[who], nil)
			_ = direct.conn.Close()
		}
		if err := pg.Primary().Exec(t.Context(), "truncate prop_rows"); err != nil {
			t.Fatal(err)
		}
		if err := pg.WaitCaughtUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		for who := range 8 {
			client := dialPeer(t, p.addr)
			wg.Go(func() {
				defer client.conn.Close()
				counts := make([]int, len(wants[who]))
				for i, g := range wants[who] {
					counts[i] = len(g)
				}
				got := client.play(scripts[who], counts)
				for i, want := range wants[who] {
					if i >= len(got) || strings.Join(got[i], "\n") != strings.Join(want, "\n") {
						t.Errorf("round %d, client %d, answer %d\nwant %q\ngot  %q\n%s", round, who, i+1, want, got[min(i, len(got)-1)], scripts[who])
						return
					}
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			return
		}
		if err := pg.Primary().Exec(t.Context(), "truncate prop_rows"); err != nil {
			t.Fatal(err)
		}
	}
}
