package cluster

import (
	"bytes"
	"context"
	"sync"

	"github.com/fairwaydb/fairway/modules/pgauth"
)

// AuthMode is where the passwords of clients are known from.
type AuthMode uint8

// The modes.
const (
	AuthQuery AuthMode = iota // verifiers are read from the servers
	AuthUser                  // users are configured
	AuthFile                  // users are listed in a file
	AuthTrust                 // nobody proves anything
)

// String returns the word of the configuration.
func (m AuthMode) String() string {
	switch m {
	case AuthTrust:
		return "trust"
	case AuthUser:
		return "user"
	case AuthFile:
		return "file"
	case AuthQuery:
	}
	return "query"
}

// AuthMethod is how clients are asked for their passwords, in the words and with
// the meaning of pg_hba.conf, see
// https://www.postgresql.org/docs/current/auth-password.html.
type AuthMethod uint8

// The methods.
const (
	MethodSCRAM    AuthMethod = iota // SCRAM-SHA-256 for everybody
	MethodMD5                        // md5 for those whose password is kept as an md5 hash, SCRAM for all others
	MethodPassword                   // the password itself
)

// methods are the words of the configuration.
var methods = []string{MethodSCRAM.String(), MethodMD5.String(), MethodPassword.String()}

// String returns the word of the configuration.
func (m AuthMethod) String() string {
	switch m {
	case MethodMD5:
		return "md5"
	case MethodPassword:
		return "password"
	case MethodSCRAM:
	}
	return "scram-sha-256"
}

// ClientSettings say how clients are asked for their passwords.
type ClientSettings struct {
	Method AuthMethod

	// Binding says whether proofs of SCRAM are bound to the TLS connection.
	Binding pgauth.BindingMode

	// Cleartext accepts MethodPassword on connections that others can read.
	Cleartext bool
}

// Credential is what is known of a user's password. The zero value is nobody's.
type Credential struct {
	Stored pgauth.Stored

	// Locked is a user who may not log in, which is told only to who has proved the
	// password.
	Locked bool

	// Usual is what the passwords of others are kept as, for those that do not exist:
	// the iteration count of verifiers, and whether md5 hashes are the rule.
	Usual Usual
}

// Usual is what the passwords of a cluster look like: the iteration count of the last
// verifier seen, or md5 hashes as long as there was no verifier. The zero value is
// unknown.
type Usual struct {
	Iterations int
	MD5        bool
}

// usualOf returns what the password adds to what is usual.
func usualOf(s pgauth.Stored, before Usual) Usual {
	switch {
	case s.SCRAM != nil:
		return Usual{Iterations: s.SCRAM.Iterations}
	case s.MD5 != "" && before.Iterations == 0:
		return Usual{MD5: true}
	}
	return before
}

// Authentication returns the mode in force, AuthQuery before the first claim.
func (c *Cluster) Authentication() AuthMode {
	if s := c.settings.Load(); s != nil {
		return s.Auth
	}
	return AuthQuery
}

// Credential returns what to check the user's password with; for a user that does
// not exist the zero value, but for Usual (the exchange is then played to its end all
// the same). With AuthUser it comes from the configuration, with AuthFile from the
// file, with AuthQuery from the servers, the primary first. An error means that
// nobody could be asked.
func (c *Cluster) Credential(ctx context.Context, user string) (Credential, error) {
	s := c.Settings()
	switch s.Auth {
	case AuthUser:
		return Credential{Stored: s.users[user].stored, Usual: s.usual}, nil
	case AuthFile:
		s.file.refresh(c)
		return s.file.credential(user), nil
	case AuthQuery, AuthTrust:
	}
	return c.askCredential(ctx, s, user)
}

// secrets are what logs users in at the servers.
type secrets struct {
	mu struct {
		sync.Mutex
		byUser map[string]pgauth.Secret // of proofs seen
	}
}

// SetSecret keeps what a client's proof has revealed, to log its user in at the
// servers. The keys are copied. Those of the password before stay beside them, for
// servers that have not heard of the change yet.
func (c *Cluster) SetSecret(user string, s pgauth.Secret) {
	c.secrets.mu.Lock()
	defer c.secrets.mu.Unlock()
	if c.secrets.mu.byUser == nil {
		c.secrets.mu.byUser = make(map[string]pgauth.Secret)
	}
	old := c.secrets.mu.byUser[user]
	next := copySecret(s)
	switch {
	case sameKeys(old, s):
		next.Before, old.Before = old.Before, nil
	case len(old.ClientKey) > 0:
		before := copySecret(pgauth.Secret{ClientKey: old.ClientKey, ServerKey: old.ServerKey, Salt: old.Salt, Iterations: old.Iterations})
		next.Before = &before
	}
	wipe(old)
	c.secrets.mu.byUser[user] = next
}

// sameKeys tells whether two secrets belong to the same verifier.
func sameKeys(a, b pgauth.Secret) bool {
	return len(a.ClientKey) > 0 && a.Iterations == b.Iterations && bytes.Equal(a.Salt, b.Salt) && bytes.Equal(a.ClientKey, b.ClientKey)
}

// Secret returns what logs the user in at the servers: the configured password if
// there is one, else what [Cluster.SetSecret] was told, else the configured md5 hash,
// else the zero value (the servers must trust us). The caller owns the copy.
func (c *Cluster) Secret(user string) pgauth.Secret {
	var configured pgauth.Secret
	if s := c.settings.Load(); s != nil {
		if s.Auth == AuthTrust {
			return pgauth.Secret{}
		}
		if configured = s.secret(user); configured.Password != "" {
			return configured
		}
	}
	c.secrets.mu.Lock()
	defer c.secrets.mu.Unlock()
	if proven := c.secrets.mu.byUser[user]; !proven.IsZero() {
		return copySecret(proven)
	}
	return configured
}

// secret returns what is configured and logs the user in without a proof: a password
// or an md5 hash.
func (s *Settings) secret(user string) pgauth.Secret {
	if s.Auth == AuthFile {
		return s.file.secret(user)
	}
	u := s.users[user]
	return pgauth.Secret{Password: u.password, MD5: u.stored.MD5}
}

// forget erases the secret of one user.
func (s *secrets) forget(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wipe(s.mu.byUser[user])
	delete(s.mu.byUser, user)
}

// erase erases them all.
func (s *secrets) erase() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, secret := range s.mu.byUser {
		wipe(secret)
	}
	s.mu.byUser = nil
}

func copySecret(s pgauth.Secret) pgauth.Secret {
	s.ClientKey, s.ServerKey, s.Salt = bytes.Clone(s.ClientKey), bytes.Clone(s.ServerKey), bytes.Clone(s.Salt)
	if s.Before != nil {
		before := copySecret(*s.Before)
		s.Before = &before
	}
	return s
}

func wipe(s pgauth.Secret) {
	clear(s.ClientKey)
	clear(s.ServerKey)
	if s.Before != nil {
		wipe(*s.Before)
	}
}
