package cluster

import (
	"errors"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/fairwaydb/fairway/caddyfile"
)

func init() {
	caddy.RegisterModule(new(Consecutive))
}

// Consecutive is the breaker that opens after a number of failures in a row. It
// is the default.
type Consecutive struct {
	// Threshold is the number of consecutive failures that opens the circuit.
	// Default: 5.
	Threshold int `json:"threshold,omitempty"`

	// RecoveryTimeout is how long the circuit stays open before trial requests
	// are let through; a restarted server gets them at once. Default: 30s.
	RecoveryTimeout caddy.Duration `json:"recovery_timeout,omitempty"`

	// TrialRequests is how many trial requests are let through at most; all must
	// succeed to close the circuit, one failure opens it again. Default: 3.
	TrialRequests int `json:"trial_requests,omitempty"`
}

// The defaults of Consecutive.
const (
	defaultThreshold       = 5
	defaultRecoveryTimeout = 30 * time.Second
	defaultTrialRequests   = 3
)

// CaddyModule returns the Caddy module information.
func (*Consecutive) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "postgres.breakers.consecutive",
		New: func() caddy.Module { return new(Consecutive) },
	}
}

// Validate refuses numbers that make no sense.
func (b *Consecutive) Validate() error {
	switch {
	case b.Threshold < 0:
		return errors.New("threshold is negative: write the number of consecutive failures that opens the circuit")
	case b.RecoveryTimeout < 0:
		return errors.New("recovery_timeout is negative: write how long the circuit stays open")
	case b.TrialRequests < 0:
		return errors.New("trial_requests is negative: write how many trial requests are let through")
	}
	return nil
}

// Judge opens the circuit at the threshold.
func (b *Consecutive) Judge(e Evidence) Verdict {
	if e.Consecutive >= orDefault(b.Threshold, defaultThreshold) {
		return VerdictOpen
	}
	return VerdictStay
}

// Recovery returns the configured recovery.
func (b *Consecutive) Recovery() Recovery {
	return Recovery{
		Timeout: orDefault(time.Duration(b.RecoveryTimeout), defaultRecoveryTimeout),
		Trials:  orDefault(b.TrialRequests, defaultTrialRequests),
	}
}

// UnmarshalCaddyfile sets up the breaker from Caddyfile tokens:
//
//	consecutive {
//		threshold        <number>
//		recovery_timeout <duration>
//		trial_requests   <number>
//	}
func (b *Consecutive) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return b.Options().ParseDirective(d)
}

// Options is the table of the breaker's block.
func (b *Consecutive) Options() caddyfile.Options {
	return caddyfile.Options{
		caddyfile.Int("threshold", &b.Threshold, 1, "<number>", "5", "consecutive failures that open the circuit"),
		span("recovery_timeout", &b.RecoveryTimeout, false, "30s", "how long it stays open before trial requests are let through"),
		caddyfile.Int("trial_requests", &b.TrialRequests, 1, "<number>", "3", "trial requests let through, all of which must succeed"),
	}
}

// orDefault returns v, or the default when v is zero.
func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// Interface guards.
var (
	_ caddy.Module          = (*Consecutive)(nil)
	_ caddy.Validator       = (*Consecutive)(nil)
	_ caddyfile.Unmarshaler = (*Consecutive)(nil)
	_ caddyfile.Tabled      = (*Consecutive)(nil)
	_ Breaker               = (*Consecutive)(nil)
)
