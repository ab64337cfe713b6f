package postgres

import (
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/mholt/caddy-l4/layer4"
	_ "github.com/mholt/caddy-l4/modules/l4postgres" // the matcher

	"github.com/fairwaydb/fairway/modules/session"
)

// handle gives one end of a pipe to the handler and returns the other.
func handle(t *testing.T, h *Handler) net.Conn {
	t.Helper()
	client, conn := net.Pipe()
	var done sync.WaitGroup
	done.Go(func() {
		defer conn.Close() // as layer4 does
		if err := h.Handle(layer4.WrapConnection(conn, nil, zap.NewNop()), nil); err != nil {
			t.Errorf("layer4 would log %v", err)
		}
	})
	t.Cleanup(done.Wait)
	t.Cleanup(func() { _ = client.Close() })
	_ = client.SetDeadline(time.Now().Add(10 * time.Second))
	return client
}

func TestAPanicEndsOneConnection(t *testing.T) {
	h := &Handler{Cluster: "main", logger: zap.NewNop()} // never provisioned
	if _, err := handle(t, h).Read(make([]byte, 1)); err == nil {
		t.Error("the connection is open")
	}
	if registry.Lookup("main") != nil {
		t.Error("the panic left a reference")
	}
}

func TestAHandlerWhoseClusterIsGoneRefuses(t *testing.T) {
	gone := registry.Reference("gone")
	h := &Handler{Cluster: "gone", logger: zap.NewNop(), cluster: gone, options: &session.Options{Cluster: gone, Logger: zap.NewNop()}}
	if err := h.Cleanup(); err != nil {
		t.Fatal(err)
	}
	client := handle(t, h)
	client.Write([]byte("\x00\x00\x00\x10\x00\x03\x00\x00user\x00a\x00\x00"))
	reply := make([]byte, 256)
	if n, err := client.Read(reply); err != nil || !strings.Contains(string(reply[:n]), "C57P03\x00") {
		t.Errorf("the reply is %q, %v", reply[:n], err)
	}
}

func TestWhatAMatcherHasReadIsNotLost(t *testing.T) {
	p := newProxy(t)
	p.load(t, strings.Replace(p.config(nobody, ""), "route {", "@pg postgres\n\t\t\troute @pg {", 1))
	if answer, err := knock(p.pg); err != nil || answer != 'N' {
		t.Errorf("a client got %q, %v", answer, err)
	}
}
