package pool

import (
	"net"
	"testing"

	"github.com/fairwaydb/fairway/modules/pgwire"
)

// stuck is a connection whose writes wait to be let through.
type stuck struct {
	net.Conn
	writing chan struct{} // gets one when a write has begun
	through chan struct{}
}

func (c *stuck) Write(p []byte) (int, error) {
	c.writing <- struct{}{}
	<-c.through
	return c.Conn.Write(p)
}

// Whoever is lent a connection next must not find the writes of somebody else on it.
func TestAConnectionIsNotLentBeforeTheLastWriteHasReturned(t *testing.T) {
	for _, tt := range []struct {
		name  string
		write func(*pgwire.Writer)
	}{
		{"a message that was collected", (*pgwire.Writer).Sync},
		{"a message too large for that", func(w *pgwire.Writer) { w.Raw(make([]byte, 8000)) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := newServer(t)
			s := v.newSet(t, Limits{Size: 1})
			c := acquire(t, s, alice)
			slow := &stuck{Conn: c.nc, writing: make(chan struct{}), through: make(chan struct{})}
			c.W.Reset(slow)
			written := make(chan struct{})
			go func() {
				tt.write(c.W)
				_ = c.W.Flush()
				close(written)
			}()
			<-slow.writing
			c.SetStatus('I')
			c.Release()
			next := acquire(t, s, alice)
			defer next.Release()
			if next == c {
				t.Error("the connection was lent while it was being written to")
			}
			close(slow.through)
			<-written
		})
	}
}
