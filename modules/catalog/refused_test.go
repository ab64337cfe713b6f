package catalog

import "testing"

func TestRefusedStatementsAreRememberedAndBounded(t *testing.T) {
	var k Keeper
	if k.Refused(1) || k.Refuse(0) || k.Refused(0) {
		t.Error("something is remembered from the start")
	}
	if !k.Refuse(1) || k.Refuse(1) || !k.Refused(1) || k.Refused(2) {
		t.Error("a fingerprint is not remembered once")
	}
	full := make(map[uint64]struct{}, maxRefused)
	for i := range uint64(maxRefused) {
		full[i+1] = struct{}{}
	}
	k.refused.Store(&full)
	if !k.Refuse(maxRefused+1) || !k.Refused(maxRefused+1) {
		t.Error("one more is not remembered")
	}
	if n := len(*k.refused.Load()); n > maxRefused {
		t.Errorf("%d fingerprints are kept", n)
	}
}
