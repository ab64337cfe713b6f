package pgtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// Authority issues certificates for tests: of servers, of clients, expired and revoked ones. What it writes lies in its directory.
type Authority struct {
	dir         string
	name        string
	certificate *x509.Certificate
	key         crypto.Signer
	serial      atomic.Int64
}

// Certificate says what Issue makes. The zero value is a client's certificate without a name, valid for an hour.
type Certificate struct {
	// Name is the common name of the subject, and the part of the file names before the ending.
	Name string
	// Subject goes before Name.
	Subject *pkix.Name
	// Hosts are the names and addresses of a server.
	Hosts []string
	// NotAfter is when it expires. Default: in an hour.
	NotAfter time.Time
}

// NewAuthority makes an authority of that name; its certificate is <name>.pem in the directory.
func NewAuthority(dir, name string) (*Authority, error) {
	a := &Authority{dir: dir, name: name}
	a.serial.Store(1)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-24 * time.Hour),
		NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err == nil {
		a.certificate, err = x509.ParseCertificate(der)
	}
	if err != nil {
		return nil, fmt.Errorf("make authority: %w", err)
	}
	a.key = key
	return a, writePEM(a.File(), "CERTIFICATE", der)
}

// File is the path of the authority's certificate.
func (a *Authority) File() string { return filepath.Join(a.dir, a.name+".pem") }

// Pool is the authority as what is trusted.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// Issue writes a certificate and its key, readable by their owner only, and returns the paths.
func (a *Authority) Issue(c Certificate) (certificate, key string, err error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.serial.Add(1)), Subject: pkix.Name{CommonName: c.Name},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: c.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if c.Subject != nil {
		template.Subject = *c.Subject
	}
	if c.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	for _, host := range c.Hosts {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", fmt.Errorf("make key: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, private.Public(), a.key)
	if err != nil {
		return "", "", fmt.Errorf("make certificate: %w", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", "", fmt.Errorf("encode key: %w", err)
	}
	base := filepath.Join(a.dir, a.name+"-"+c.Name)
	certificate, key = base+".pem", base+".key"
	if err := writePEM(certificate, "CERTIFICATE", der); err != nil {
		return "", "", err
	}
	return certificate, key, writePEM(key, "PRIVATE KEY", secret)
}

// Revoke writes the list of the revoked certificates, given by their files, and returns its path; none makes an empty list. It
// expires at nextUpdate, in an hour when that is zero.
func (a *Authority) Revoke(nextUpdate time.Time, certificates ...string) (string, error) {
	if nextUpdate.IsZero() {
		nextUpdate = time.Now().Add(time.Hour)
	}
	template := &x509.RevocationList{Number: big.NewInt(a.serial.Add(1)), ThisUpdate: time.Now().Add(-24 * time.Hour), NextUpdate: nextUpdate}
	for _, file := range certificates {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("revoke: %w", err)
		}
		block, _ := pem.Decode(text)
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return "", fmt.Errorf("revoke: %w", err)
		}
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: certificate.SerialNumber, RevocationTime: time.Now().Add(-time.Minute)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, a.certificate, a.key)
	if err != nil {
		return "", fmt.Errorf("make revocation list: %w", err)
	}
	path := filepath.Join(a.dir, a.name+".crl")
	return path, writePEM(path, "X509 CRL", der)
}

func writePEM(path, kind string, der []byte) error {
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		return fmt.Errorf("write certificate: %w", err)
	}
	return nil
}
