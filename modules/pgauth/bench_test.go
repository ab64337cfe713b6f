package pgauth

import "testing"

// What one login costs: our server side, and our client side with keys (pass-through) and with a password.

func BenchmarkAuthenticate(b *testing.B) {
	keys := Secret{ClientKey: make([]byte, keyLen), ServerKey: make([]byte, keyLen)}
	v := &Verifier{Iterations: DefaultIterations, Salt: make([]byte, saltLen), StoredKey: storedKey(keys.ClientKey), ServerKey: keys.ServerKey}
	b.ReportAllocs()
	for b.Loop() {
		c := &clientExchange{user: "joe", secret: keys}
		x := newServerExchange("joe", v, Terms{MockSeed: testSeed})
		challenge, err := x.challenge(c.start())
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		final, err := c.prove(challenge)
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if _, _, err := x.conclude(final); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkProve(b *testing.B) {
	for name, secret := range map[string]Secret{
		"keys":     {ClientKey: make([]byte, keyLen), ServerKey: make([]byte, keyLen)},
		"password": {Password: "pencil"},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := rfcClient(secret).prove(rfcServerFirst); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParseVerifier(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseVerifier(pencil); err != nil {
			b.Fatal(err)
		}
	}
}
