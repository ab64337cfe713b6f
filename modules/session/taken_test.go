package session

import "testing"

func TestARefusedNameGivesNoOtherTextToTheStatementsOfOthers(t *testing.T) {
	for name, lose := range map[string]string{
		"in front of it":                        "P - deallocate all\nB - -\nE - 0\n",
		"by code in front of it":                "P - do $$begin execute 'deallocate all'; end$$\nB - -\nE - 0\n",
		"by code before, of which nobody knows": "Q do $$begin execute 'deal' || 'locate all'; end$$\n",
	} {
		t.Run(name, func(t *testing.T) {
			p := narrow(t)
			one, other := dialPeer(t, p.addr), dialPeer(t, p.addr)
			for _, c := range []*peer{one, other} {
				c.answered("P s select 1", "S")
				c.runs("1")
			}
			one.play(lose+"P s select 2\nS", nil)
			other.runs("1")
			fresh := dialPeer(t, p.addr)
			fresh.answered("P s select 1", "S")
			fresh.runs("1")
			fresh.answered("C S s", "P s select 2", "S")
			fresh.runs("2")
		})
	}
}
