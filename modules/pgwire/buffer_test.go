//go:build unix

package pgwire

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"testing"
	"time"
)

// waitInVain reads under a deadline that has nearly passed: as long as it is, the Reader waits.
func waitInVain(t *testing.T, r *Reader, c net.Conn) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(5 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	_, _, err := r.Next()
	if err == nil {
		_, err = r.Body()
	}
	var ne net.Error
	if !errors.As(err, &ne) || !ne.Timeout() {
		t.Fatalf("the read ended with %v, want a timeout", err)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
}

func TestABufferIsHeldOnlyWhileSomethingIsInIt(t *testing.T) {
	ours, peer := sockets(t, "tcp")
	r := NewReader(ours, nil, 0)
	if r.block != nil {
		t.Error("a buffer is held before the first read")
	}
	waitInVain(t, r, ours)
	if hasRaw && r.block != nil {
		t.Error("a buffer is held while the client is silent")
	}
	say := func(p []byte) {
		if _, err := peer.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	say(frame('Q', "one")[:7])
	waitInVain(t, r, ours)
	if r.block == nil {
		t.Fatal("no buffer holds the half of a frame that has come")
	}
	say(frame('Q', "one")[7:])
	body, err := r.Body()
	if err != nil || string(body) != "one" {
		t.Fatalf("Body() = %q, %v", body, err)
	}
	r.Rest()
	if r.block != nil {
		t.Error("Rest() keeps the buffer although only a frame that was read is in it")
	}
	say(join(frame('Q', "two"), frame('S', "")))
	mustNext(t, r, 'Q', 3)
	r.Rest()
	if body, err := r.Body(); err != nil || string(body) != "two" {
		t.Fatalf("Body() = %q, %v: Rest() took a buffer that holds the next frame", body, err)
	}
	mustNext(t, r, 'S', 0)
}

func TestAReaderOfTLSWaitsWithoutABuffer(t *testing.T) {
	raw, wire := sockets(t, "tcp")
	server := tls.Server(wire, &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}})
	client := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
	shaken := make(chan error, 1)
	go func() { shaken <- server.Handshake() }()
	if err := errors.Join(client.Handshake(), <-shaken); err != nil {
		t.Fatal(err)
	}
	r := NewReader(server, nil, 0)
	for range 2 {
		waitInVain(t, r, server)
		if r.block != nil {
			t.Error("a buffer is held while the client is silent")
		}
		if _, err := client.Write(join(frame('Q', filler(300)), frame('S', ""))); err != nil {
			t.Fatal(err)
		}
		mustNext(t, r, 'Q', 300)
		if body, err := r.Body(); err != nil || string(body) != filler(300) {
			t.Fatalf("Body() = %q, %v", body, err)
		}
		mustNext(t, r, 'S', 0)
	}
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{cert}, PrivateKey: key}
}
