package session

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/fairwaydb/fairway/modules/cluster"
	"github.com/fairwaydb/fairway/modules/pgauth"
	"github.com/fairwaydb/fairway/modules/pgwire"
)

// verifierTimeout bounds the wait for what a password is checked with; the login's deadline does so too.
const verifierTimeout = 10 * time.Second

// authenticate lets the client prove who it is, as the cluster asks for it. Nothing is said about the user before the proof.
func (s *Session) authenticate() error {
	if proven, err := s.checkCertificate(); err != nil || proven {
		return err
	}
	if s.cluster.Authentication() == cluster.AuthTrust {
		return nil
	}
	clients := s.cluster.Settings().Clients
	if clients.Method == cluster.MethodPassword && !clients.Cleartext && !s.private() {
		return errNeedsTLS()
	}
	user := s.identity.User
	ctx, stop := context.WithTimeout(context.Background(), verifierTimeout)
	known, err := s.cluster.Credential(ctx, user)
	stop()
	if err != nil {
		s.logger.Debug("verifier not available", zap.String("cluster", s.cluster.Name()), zap.String("user", user), zap.Error(err))
		return pgwire.Fatalf(pgwire.CodeCannotConnectNow, "the password of user \"%s\" can not be checked now", user)
	}
	secret, err := s.prove(known, clients)
	if err != nil {
		var e *pgwire.Error
		if errors.As(err, &e) && e.Code == pgwire.CodeInvalidPassword {
			s.cluster.DoubtVerifier(user)
		}
		return err
	}
	if known.Locked {
		return pgwire.Fatalf(pgwire.CodeInvalidAuthorization, "role \"%s\" is not permitted to log in", user)
	}
	s.cluster.SetSecret(user, secret)
	return nil
}

// prove asks for the password by the method that suits what is kept of it, as PostgreSQL chooses it. Users that do not exist are asked
// as most others are.
func (s *Session) prove(known cluster.Credential, clients cluster.ClientSettings) (pgauth.Secret, error) {
	user := s.identity.User
	terms := pgauth.Terms{
		RequireBinding: clients.Binding == pgauth.BindingRequire,
		MockIterations: known.Usual.Iterations,
	}
	if clients.Binding != pgauth.BindingDisable {
		terms.Binding = s.channelBinding()
	}
	switch {
	case clients.Method == cluster.MethodPassword:
		return pgauth.AuthenticateCleartext(s.r, s.w, user, known.Stored, terms)
	case clients.Method == cluster.MethodMD5 && (known.Stored.MD5 != "" || known.Stored.IsZero() && known.Usual.MD5):
		return pgauth.AuthenticateMD5(s.r, s.w, user, known.Stored.MD5)
	}
	return pgauth.AuthenticateSCRAM(s.r, s.w, user, known.Stored.SCRAM, terms)
}

// private tells whether nobody else reads what the client sends.
func (s *Session) private() bool {
	return s.secure() || s.raw.LocalAddr().Network() == "unix"
}

func errNeedsTLS() error {
	return pgwire.Fatalf(pgwire.CodeInvalidAuthorization, "this server requires TLS: connect with sslmode=require")
}

// truncated is the name of a user or database as a server takes it: cut off within a character if need be.
func truncated(name string) string { return name[:min(len(name), maxName)] }
