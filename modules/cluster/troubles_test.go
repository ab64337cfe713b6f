package cluster

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestAFloodOfFailingAuthQueriesDoesNotFloodTheLog(t *testing.T) {
	for name, works := range map[string]func(i int) bool{
		"all fail":                  func(int) bool { return false },
		"those of one user succeed": func(i int) bool { return i%2 == 1 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				core, logs := observer.New(zap.DebugLevel)
				logger := zap.New(core)
				c := NewRegistry(func() *zap.Logger { return logger }).Reference("main")
				defer c.Unreference()
				tick := time.NewTicker(10 * time.Millisecond)
				defer tick.Stop()
				failed := 0
				for i := range 6000 { // a minute
					<-tick.C
					if !works(i) {
						failed++
					}
					c.authWorks(works(i), errors.New("no"))
				}
				const most = int(time.Minute / tellAfter)
				errs, told := logs.FilterMessageSnippet("auth query failed").All(), 0
				for _, e := range errs {
					told += int(e.ContextMap()["failures"].(int64))
				}
				if len(errs) == 0 || len(errs) > most || logs.Len() > 2*most {
					t.Errorf("%d lines, %d of them about failures, want at most %d", logs.Len(), len(errs), most)
				}
				if told == 0 || told > failed || failed-told > failed/most+1 {
					t.Errorf("%d failures were told, there were %d", told, failed)
				}
			})
		})
	}
}
