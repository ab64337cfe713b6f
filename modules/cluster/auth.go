package cluster

import (
	"bytes"
	"sync"

	"github.com/fairwaydb/fairway/modules/pgauth"
)

// AuthMode is how clients prove who they are.
type AuthMode uint8

// The modes.
const (
	AuthQuery AuthMode = iota // verifiers are read from the servers
	AuthUser                  // users are configured
	AuthTrust                 // nobody proves anything
)

// String returns the word of the configuration.
func (m AuthMode) String() string {
	switch m {
	case AuthTrust:
		return "trust"
	case AuthUser:
		return "user"
	case AuthQuery:
	}
	return "query"
}

// Authentication returns the mode in force, AuthQuery before the first claim.
func (c *Cluster) Authentication() AuthMode {
	if s := c.settings.Load(); s != nil {
		return s.Auth
	}
	return AuthQuery
}

// secrets are what logs users in at the servers.
type secrets struct {
	mu struct {
		sync.Mutex
		byUser map[string]pgauth.Secret // of proofs seen: keys only
	}
}

// SetSecret keeps what a client's proof has revealed, to log its user in at the
// servers. The keys are copied.
func (c *Cluster) SetSecret(user string, s pgauth.Secret) {
	c.secrets.mu.Lock()
	defer c.secrets.mu.Unlock()
	if c.secrets.mu.byUser == nil {
		c.secrets.mu.byUser = make(map[string]pgauth.Secret)
	}
	wipe(c.secrets.mu.byUser[user])
	c.secrets.mu.byUser[user] = copySecret(s)
}

// Secret returns what logs the user in at the servers: the configured password
// if there is one, else what [Cluster.SetSecret] was told, else the zero value
// (the servers must trust us). The caller owns the copy.
func (c *Cluster) Secret(user string) pgauth.Secret {
	if s := c.settings.Load(); s != nil {
		if s.Auth == AuthTrust {
			return pgauth.Secret{}
		}
		if u, ok := s.users[user]; ok && u.password != "" {
			return pgauth.Secret{Password: u.password}
		}
	}
	c.secrets.mu.Lock()
	defer c.secrets.mu.Unlock()
	return copySecret(c.secrets.mu.byUser[user])
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
	return pgauth.Secret{Password: s.Password, ClientKey: bytes.Clone(s.ClientKey), ServerKey: bytes.Clone(s.ServerKey)}
}

func wipe(s pgauth.Secret) {
	clear(s.ClientKey)
	clear(s.ServerKey)
}
