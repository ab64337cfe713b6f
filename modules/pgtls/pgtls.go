// Package pgtls holds what both ends of the load balancer need of TLS beyond a handshake: certificates and lists that follow their
// files, the check of revocation, and the map from certificates to database users. It makes no connection and logs nothing; cluster
// calls it for the servers, postgres for the listeners.
package pgtls

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"
)

// Protocol is the name that both sides give in a handshake with ALPN, see
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL.
const Protocol = "postgresql"

// LoadAuthorities reads the files, PEM, and returns their certificates together. A file without one is an error.
func LoadAuthorities(files ...string) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read certificates of authorities: %w", err)
		}
		if !pool.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("read certificates of authorities: %s has no certificate in PEM form", file)
		}
	}
	return pool, nil
}

// KeyPair is a certificate with its chain and its key. It follows its files: a renewed certificate is used from the next handshake on.
// It may be used by many goroutines.
type KeyPair struct{ follower[*tls.Certificate] }

// LoadKeyPair reads the files, PEM. Later, what cannot be read leaves the old pair in use and is told to failed, once for each change;
// failed may be nil.
func LoadKeyPair(certificate, key string, failed func(error)) (*KeyPair, error) {
	k := new(KeyPair)
	k.files = []string{certificate, key}
	k.failed = failed
	k.read = func() (*tls.Certificate, error) {
		for i, file := range k.files {
			if _, err := os.ReadFile(file); err != nil { // which of the two, says only this
				return nil, fmt.Errorf("read %s: %w", [...]string{"certificate", "key"}[i], err)
			}
		}
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			return nil, fmt.Errorf("read certificate %s with key %s: %w: write a certificate in PEM form and the key that belongs to it",
				certificate, key, err)
		}
		return &pair, nil
	}
	return k, k.load()
}

// Current returns the pair as the files have it now.
func (k *KeyPair) Current() *tls.Certificate { return k.current() }

// Leaf is the certificate without its chain, as it was loaded last.
func (k *KeyPair) Leaf() *x509.Certificate {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.mu.value.Leaf
}

// follower is a value made of files, made again when they change.
type follower[T any] struct {
	files  []string
	read   func() (T, error)
	failed func(error)

	mu struct {
		sync.Mutex
		value T
		seen  []stamp
	}
}

// stamp is what shows that a file has changed.
type stamp struct {
	modified time.Time
	size     int64
}

func stamps(files []string) []stamp {
	all := make([]stamp, len(files))
	for i, file := range files {
		if info, err := os.Stat(file); err == nil {
			all[i] = stamp{info.ModTime(), info.Size()}
		}
	}
	return all
}

// load makes the first value.
func (f *follower[T]) load() error {
	seen := stamps(f.files)
	value, err := f.read()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.value, f.mu.seen = value, seen
	return err
}

// current returns the value; the lock is not held while files are read, so that two may read the same change.
func (f *follower[T]) current() T {
	seen := stamps(f.files)
	f.mu.Lock()
	value, same := f.mu.value, slices.Equal(seen, f.mu.seen)
	f.mu.seen = seen // also when it cannot be read: once is enough
	f.mu.Unlock()
	if same {
		return value
	}
	changed, err := f.read()
	if err != nil {
		if f.failed != nil {
			f.failed(err)
		}
		return value
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.value = changed
	return changed
}
