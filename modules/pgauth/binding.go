package pgauth

import (
	"crypto"
	"crypto/x509"
	"strings"
)

const (
	bindingType = "tls-server-end-point"
	boundHeader = "p=" + bindingType + ",," // gs2-header of a message that is bound
)

// EndpointBinding is what binds a login to a TLS connection whose server showed cert: tls-server-end-point of RFC 5929,
// the certificate's hash by the algorithm it is signed with, SHA-256 in place of MD5 and SHA-1. It is nil where there
// is no such hash: Ed25519 and everything that crypto/x509 does not know. PostgreSQL offers channel binding with such
// a certificate and then fails; who gets nil here does without.
// See https://www.postgresql.org/docs/current/sasl-authentication.html.
func EndpointBinding(cert *x509.Certificate) []byte {
	var hash crypto.Hash
	switch cert.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1,
		x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.DSAWithSHA256, x509.ECDSAWithSHA256:
		hash = crypto.SHA256
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		hash = crypto.SHA384
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		hash = crypto.SHA512
	default:
		return nil
	}
	h := hash.New()
	h.Write(cert.Raw)
	return h.Sum(nil)
}

// bindingData is what client-final-message says in base64: the header again, and behind a bound one the binding.
func bindingData(header string, binding []byte) string {
	if !strings.HasPrefix(header, "p") {
		return encode([]byte(header))
	}
	return encode(append([]byte(header), binding...))
}
