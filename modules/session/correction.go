package session

import (
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// correct follows a standby's refusal: the primary runs the request, and next time it does so at once.
func (s *Session) correct(req *request, e *pgwire.Error) {
	s.labels.retries.correction.Inc()
	s.forced = true
	if req.prepare || s.schema.keeper == nil || !s.schema.keeper.Refuse(req.class.Fingerprint) {
		return
	}
	if left, ok := correctionLines.allow(time.Now()); ok {
		s.logger.Info("a statement taken for a read was refused by a replica and ran on the primary, as it will from now on",
			zap.String("cluster", s.cluster.Name()), zap.String("database", s.identity.Database),
			zap.String("fingerprint", fmt.Sprintf("%016x", req.class.Fingerprint)), zap.String("sqlstate", e.Code), zap.Int("lines_left_out", left))
	}
}

// correctionLines limits the lines of correct in the log: a program that puts values into texts may make any number of statements.
var correctionLines = lineLimit{window: time.Minute, most: 20}

// lineLimit allows so many lines in a window of time. It is safe for concurrent use.
type lineLimit struct {
	window time.Duration
	most   int

	mu struct {
		sync.Mutex
		since time.Time
		lines int // in this window
		left  int // out since the last line
	}
}

// allow tells whether a line may be written, and how many were left out since the last one.
func (l *lineLimit) allow(now time.Time) (left int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.mu.since) >= l.window {
		l.mu.since, l.mu.lines = now, 0
	}
	if l.mu.lines >= l.most {
		l.mu.left++
		return 0, false
	}
	l.mu.lines++
	left, l.mu.left = l.mu.left, 0
	return left, true
}
