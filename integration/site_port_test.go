package integration_test

import (
	"net"
	"testing"
)

// TestAddressesAreTheirOwners asks for addresses while others listen and connect: none of them is given to two.
func TestAddressesAreTheirOwners(t *testing.T) {
	taken := make(map[string]bool)
	for range 200 {
		addr, err := freeAddress()
		if err != nil {
			t.Fatal(err)
		}
		other, err := net.Listen("tcp", "127.0.0.1:0") // another server of the tests
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		for _, a := range []string{addr, other.Addr().String()} {
			if taken[a] {
				t.Errorf("%s has two owners", a)
			}
			taken[a] = true
		}
	}
}
