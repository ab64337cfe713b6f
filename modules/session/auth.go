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

// authenticate lets the client prove who it is, as the cluster asks for it.
func (s *Session) authenticate() error {
	if proven, err := s.checkCertificate(); err != nil || proven {
		return err
	}
	if s.cluster.Authentication() != cluster.AuthTrust {
		ctx, stop := context.WithTimeout(context.Background(), verifierTimeout) // bounded by the login's deadline too
		verifier, err := s.cluster.Verifier(ctx, s.identity.User)
		stop()
		if err != nil {
			s.logger.Debug("verifier not available", zap.String("cluster", s.cluster.Name()), zap.String("user", s.identity.User), zap.Error(err))
			return pgwire.Fatalf(pgwire.CodeCannotConnectNow, "the password of user %q can not be checked now", s.identity.User)
		}
		secret, err := pgauth.AuthenticateSCRAM(s.r, s.w, s.identity.User, verifier, pgauth.Terms{Binding: s.channelBinding()})
		if err != nil {
			var e *pgwire.Error
			if errors.As(err, &e) && e.Code == pgwire.CodeInvalidPassword {
				s.cluster.DoubtVerifier(s.identity.User)
			}
			return err
		}
		s.cluster.SetSecret(s.identity.User, secret)
	}
	return nil
}

const verifierTimeout = 10 * time.Second
