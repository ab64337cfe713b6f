package pgtls

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"
)

// Revocations are lists of revoked certificates. They follow their files. It may be used by many goroutines.
type Revocations struct{ follower[*lists] }

// lists are the lists by the name of their issuer, as it is encoded.
type lists struct{ byIssuer map[string][]list }

type list struct {
	*x509.RevocationList
	serials map[string]bool
}

// LoadRevocations reads the files, PEM. failed is that of [LoadKeyPair].
func LoadRevocations(files []string, failed func(error)) (*Revocations, error) {
	r := new(Revocations)
	r.files, r.failed = files, failed
	r.read = func() (*lists, error) { return readLists(files) }
	return r, r.load()
}

func readLists(files []string) (*lists, error) {
	all := &lists{make(map[string][]list)}
	for _, file := range files {
		rest, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read revocation list: %w", err)
		}
		found := false
		for block := new(pem.Block); block != nil; {
			if block, rest = pem.Decode(rest); block == nil || block.Type != "X509 CRL" {
				continue
			}
			parsed, err := x509.ParseRevocationList(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("read revocation list %s: %w", file, err)
			}
			l := list{parsed, make(map[string]bool, len(parsed.RevokedCertificateEntries))}
			for _, entry := range parsed.RevokedCertificateEntries {
				l.serials[entry.SerialNumber.String()] = true
			}
			all.byIssuer[string(parsed.RawIssuer)] = append(all.byIssuer[string(parsed.RawIssuer)], l)
			found = true
		}
		if !found {
			return nil, fmt.Errorf("read revocation list: %s has no list in PEM form (X509 CRL)", file)
		}
	}
	return all, nil
}

// Errors of [Revocations.Check].
var (
	ErrRevoked = errors.New("the certificate is revoked")
	ErrNoList  = errors.New("there is no revocation list in force of the certificate's issuer")
)

// Check returns nil when one of the verified chains has no revoked certificate. As with PostgreSQL each authority of the chain needs
// a list of its own that has not expired: what is not known to be good is refused.
func (r *Revocations) Check(chains [][]*x509.Certificate, now time.Time) error {
	l := r.current()
	err := fmt.Errorf("%w: the certificate is not verified", ErrNoList)
	for _, chain := range chains {
		if err = l.check(chain, now); err == nil {
			return nil
		}
	}
	return err
}

// Expires returns when the first of the lists expires; zero when none does.
func (r *Revocations) Expires() (first time.Time) {
	for _, all := range r.current().byIssuer {
		for _, l := range all {
			if !l.NextUpdate.IsZero() && (first.IsZero() || l.NextUpdate.Before(first)) {
				first = l.NextUpdate
			}
		}
	}
	return first
}

func (l *lists) check(chain []*x509.Certificate, now time.Time) error {
	for i, certificate := range chain {
		issuer := chain[min(i+1, len(chain)-1)] // the last one is its own
		if i > 0 && i == len(chain)-1 {
			break // a root that is trusted cannot be revoked by itself
		}
		if err := l.checkOne(certificate, issuer, now); err != nil {
			return err
		}
	}
	return nil
}

func (l *lists) checkOne(certificate, issuer *x509.Certificate, now time.Time) error {
	known := false
	for _, list := range l.byIssuer[string(certificate.RawIssuer)] {
		if list.CheckSignatureFrom(issuer) != nil {
			continue
		}
		if list.serials[certificate.SerialNumber.String()] {
			return ErrRevoked
		}
		known = known || list.NextUpdate.IsZero() || now.Before(list.NextUpdate)
	}
	if !known {
		return fmt.Errorf("%w: %s", ErrNoList, certificate.Issuer)
	}
	return nil
}
