package session

import (
	"context"
	"net"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/fairwaydb/fairway/modules/pgwire"
	"github.com/fairwaydb/fairway/modules/pool"
)

// A client leaves while its statement runs, and the cancel request for it is on its way when the process ends.
func TestADrainWaitsForCancelRequestsAsLongAsItMay(t *testing.T) {
	for _, tc := range []struct {
		name    string
		answers bool // the server, before the drain is over
	}{{"the server answers", true}, {"the server does not answer", false}} {
		t.Run(tc.name, func(t *testing.T) {
			client, server := net.Pipe()
			defer client.Close()
			asked, answer, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
			conn := pool.NewConn(server, pgwire.NewReader(server, nil, 0), pgwire.NewWriter(server, 0), pool.Identity{}, 1, nil, nil,
				func(ctx context.Context, _ uint32, _ []byte) (err error) {
					close(asked)
					select {
					case <-answer:
					case <-ctx.Done():
						err = ctx.Err()
					}
					ended <- err
					return err
				})
			defer conn.Close()
			s := &Session{reg: newRegistry(), logger: zap.NewNop()}
			s.mu.active = conn.Lease()
			s.shield()
			s.cancel(errCanceled)
			s.unshield()
			<-asked
			ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer stop()
			if tc.answers {
				time.AfterFunc(10*time.Millisecond, func() { close(answer) })
			}
			s.reg.drain(ctx)
			select {
			case err := <-ended:
				if (err == nil) != tc.answers {
					t.Errorf("the cancel request ended with %v", err)
				}
			default:
				t.Error("the drain did not wait for the cancel request")
			}
		})
	}
}
